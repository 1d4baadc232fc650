"""The weights to start from, where zoo's own models say what there is to draw.

    python -m tests.speed.zoo_weights WORK FOLDER       write them as Hugging Face folders

A model of one network is the folder itself; ELECTRA's two lie in `generator` and `discriminator`,
those of distillation in `student` and `teacher`.
"""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from tests.speed.work import DROPOUT, Work, draw_weights
from zoo import registry
from zoo.formats import huggingface
from zoo.models import electra
from zoo.params import abstract, flatten, unflatten

NAMES = {"rnn": "lstm-lm-tiny", "transformer": "transformer-tiny", "t5_v1_1": "t5-v1_1-small"}


def sizes(work: Work, name: str, config) -> dict:
    """The fields of a config that a work decides."""
    shared = ("vocab_size", "max_length", "num_heads", "width", "mlp_width")
    found = {field: getattr(work, field) for field in shared if hasattr(config, field)}
    if name == "rnn":
        return found | {"num_layers": work.num_layers, "embed_width": work.width}
    if name == "electra":  # its tiny size has a generator that only knows frequencies
        return found | {
            "num_layers": work.num_layers,
            "head_width": work.width // work.num_heads,
            "embed_width": work.embed_width,
            "generator_layers": work.num_layers,
            "generator_heads": work.narrow // 64,
            "generator_width": work.narrow,
            "generator_mlp_width": 4 * work.narrow,
        }
    if name in ("transformer", "t5_v1_1"):
        layers = {"num_layers": work.num_layers, "num_decoder_layers": work.num_layers}
        return found | layers | {"head_width": work.width // work.num_heads}
    return found


def draw(work: Work, name: str, seed: int = 0):
    """A model of the sizes of a work and random weights: wide, so that no part is idle."""
    architecture = registry.named(name)
    config = architecture.SIZES[NAMES.get(name, f"{name}-tiny")]
    cls = architecture.TASKS["classification"] if work.kind == "finetune" else architecture.Model
    model = cls(replace(config, dropout=DROPOUT, **sizes(work, name, config)))
    random, weights = np.random.default_rng(seed), {}
    for path, leaf in flatten(abstract(model)).items():
        spread = 0.1 if leaf.ndim == 1 or "bias" in path else 0.05
        if re.search("token_embedding", path) and name == "t5":
            spread = 1.0  # its head scales down
        centre = 1.0 if path.endswith("scale") else 0.0
        weights[path] = jnp.asarray(draw_weights(random, centre, spread, leaf.shape))
    return model, unflatten(weights)


def teacher(work: Work):
    """The teacher of a distillation: the BERT, and its weights."""
    return draw(work, "bert", seed=1)


def write(work: Work, folder: Path) -> None:
    """Writes what transformers starts from."""
    model, params = draw(work, work.model)
    if work.model == "electra":
        for name, cls in (
            ("generator", electra.ElectraGenerator),
            ("discriminator", electra.ElectraDiscriminator),
        ):
            config, part = type(model).part(cls, model.config, params)
            _write(folder / name, cls(config), part)
    elif work.model == "distilbert":
        _write(folder / "student", model, params)
        _write(folder / "teacher", *teacher(work))
    elif work.model == "rnn":
        _write_recurrent(folder, flatten(params))
    else:
        _write(folder, model, params)


def _write(folder: Path, model, params) -> None:
    huggingface.write(folder, huggingface.find_class(type(model)), model, params)


def _write_recurrent(folder: Path, params: dict) -> None:
    """Writes an LSTM as PyTorch's own example names it, whose gates are below one another."""
    tensors = {
        "encoder.weight": params["trunk/token_embedding/embedding"],
        "decoder.weight": params["head/embedding"],
        "decoder.bias": params["head/bias"],
    }
    for n in range(sum(path.endswith("input/kernel") for path in params)):
        for name, part in (("ih", "input"), ("hh", "recurrent")):
            path = f"trunk/stack/layers_{n}/{part}"
            kernel_GDE = params[f"{path}/kernel"].transpose(1, 2, 0)
            tensors[f"rnn.weight_{name}_l{n}"] = kernel_GDE.reshape(-1, kernel_GDE.shape[-1])
            tensors[f"rnn.bias_{name}_l{n}"] = params[f"{path}/bias"].reshape(-1)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: np.array(x) for name, x in tensors.items()}, folder / "model.safetensors")


if __name__ == "__main__":
    write(Work(**json.loads(sys.argv[1])), Path(sys.argv[2]))
