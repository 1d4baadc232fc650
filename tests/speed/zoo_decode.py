"""Zoo, greedy decoding: `generate`, one compiled loop over a static cache."""

from pathlib import Path

import jax

import zoo
from tests.speed.competitor import Run, serve
from tests.speed.work import Work, tokens
from train.step import cast
from zoo.inference.generate import generate_ids


def build(work: Work, folder: Path, _: str) -> tuple[dict, Run]:
    model, params, _ = zoo.load(folder)
    params = cast(params, work.dtype)
    prompts = tokens(work, work.prompt, seed=0).tolist()

    def run(times: int) -> list:
        for _ in range(times):
            new = generate_ids(
                model, params, prompts, max_new_tokens=work.new_tokens, temperature=0
            )
        return new

    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    versions = {"zoo": zoo.__version__, "jax": jax.__version__}
    return {"parameters": parameters, "versions": versions}, run


if __name__ == "__main__":
    serve(build)
