"""gensim, an epoch of word vectors by two workers, as its documentation trains them."""

from pathlib import Path

import gensim
from gensim.models import FastText, Word2Vec

from tests.speed.competitor import Run, serve
from tests.speed.work import Work, lines

BUCKETS = 50_000


def build(work: Work, _folder: Path, _variant: str) -> tuple[dict, Run]:
    texts = lines(work)
    *subwords, context = work.model.split(" ")
    settings = dict(vector_size=work.width, window=5, min_count=1, negative=5, workers=2, seed=1)
    settings |= dict(
        sg=int(context == "skip-gram"), alpha=0.025 if context == "skip-gram" else 0.05
    )
    model = FastText(**settings, bucket=BUCKETS, sample=1e-4) if subwords else Word2Vec(**settings)
    model.build_vocab(texts)

    def run(steps: int) -> None:
        model.train(texts, total_examples=len(texts), epochs=steps)

    rows = BUCKETS if subwords else 0
    parameters = (2 * len(model.wv) + rows) * work.width
    return {"parameters": parameters, "versions": {"gensim": gensim.__version__}}, run


if __name__ == "__main__":
    serve(build)
