"""Zoo, a translator's greedy decoding or beam search: one compiled loop over a static cache."""

from pathlib import Path

import jax

import zoo
from tests.speed.competitor import Run, serve
from tests.speed.work import END, Work, tokens
from zoo.inference.beam_search import beam_search_ids
from zoo.inference.generate import generate_ids


def build(work: Work, folder: Path, _: str) -> tuple[dict, Run]:
    model, params, _ = zoo.load(folder)
    prompts = tokens(work, work.prompt, seed=0).tolist()
    settings = {"max_new_tokens": work.new_tokens, "end": END}

    def write() -> list:
        if work.beams == 1:
            return generate_ids(model, params, prompts, temperature=0, **settings)
        found = beam_search_ids(model, params, prompts, beams=work.beams, **settings)
        return [text for ((text, _),) in found]

    def run(times: int) -> list:
        for _ in range(times):
            new = write()
        return new

    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    versions = {"zoo": zoo.__version__, "jax": jax.__version__}
    return {"parameters": parameters, "versions": versions}, run


if __name__ == "__main__":
    serve(build)
