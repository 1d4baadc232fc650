"""Zoo, an epoch of word vectors: batches and steps as `zoo pretrain` makes them."""

import tempfile
from dataclasses import replace
from pathlib import Path

import jax

import zoo
from tests.speed.competitor import Run, serve
from tests.speed.gensim_words import BUCKETS
from tests.speed.work import Work, lines
from train.data.sources import text
from train.devices.malloc import keep_freed_memory
from train.pretraining.run import prepare
from train.recipes import fasttext, word2vec


def build(work: Work, _folder: Path, _variant: str) -> tuple[dict, Run]:
    keep_freed_memory()  # as `zoo pretrain` does
    *subwords, context = work.model.split(" ")
    if subwords:
        recipe = fasttext.recipe("fasttext-tiny", context=context)
        config = replace(recipe.config, buckets=BUCKETS)
    else:
        rate = 0.025 if context == "skip-gram" else 0.05
        recipe = word2vec.recipe("word2vec-tiny", context=context, schedule=word2vec.falling(rate))
        config = recipe.config
    config = replace(config, vocab_size=2 * work.vocab_size, width=work.width)
    source = text.strings(["\n".join(map(" ".join, lines(work)))])
    with tempfile.TemporaryDirectory() as out:
        run_parts = prepare(replace(recipe, config=config, min_count=1), source, out, dev=source)
    steps_per_epoch = run_parts.recipe.steps / run_parts.recipe.epochs
    place, state, done = run_parts.placement, run_parts.placement.init(), 0

    def run(steps: int) -> None:
        nonlocal state, done
        first, done = done, done + round(steps * steps_per_epoch)
        for number, batch in enumerate(run_parts.train_batches.prefetched(first), first):
            if number == done:
                break
            state, _ = place.step(state, place.put(batch))
        jax.block_until_ready(state)

    words = int((run_parts.recipe.counts > 0).sum())
    parameters = (2 * words + (BUCKETS if subwords else 0)) * work.width
    return {"parameters": parameters, "versions": {"zoo": zoo.__version__}}, run


if __name__ == "__main__":
    serve(build)
