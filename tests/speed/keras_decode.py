"""KerasHub on JAX, greedy decoding: `generate`, which it compiles whole."""

from pathlib import Path

import jax
import keras
import keras_hub
import numpy as np

from tests.speed import keras_model
from tests.speed.competitor import Run, serve
from tests.speed.work import Work, tokens


def build(work: Work, folder: Path, _: str) -> tuple[dict, Run]:
    model = keras_model.gpt2(work, folder)
    model.compile(sampler="greedy")
    prompt = tokens(work, work.prompt, seed=0)
    room = np.zeros((work.rows, work.new_tokens), np.int32)
    inputs = {
        "token_ids": np.concatenate([prompt, room], axis=1),
        "padding_mask": np.concatenate([np.ones_like(prompt), room], axis=1),
    }

    def run(times: int) -> list:
        for _ in range(times):
            ids = model.generate(inputs, stop_token_ids=None)["token_ids"]
        return ids[:, work.prompt :].tolist()

    parameters = sum(variable.value.size for variable in model.trainable_variables)
    versions = {"keras-hub": keras_hub.__version__, "keras": keras.__version__}
    versions["jax (KerasHub)"] = jax.__version__
    return {"parameters": parameters, "versions": versions}, run


if __name__ == "__main__":
    serve(build)
