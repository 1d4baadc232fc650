"""Zoo: language models from the n-gram to ELECTRA, one readable file each, on JAX and Flax Linen.

Array names end in their shape: x_BLD has the axes batch, length, width. The letters, everywhere:

    B batch   L length   M memory (keys') length   D width   H heads   K head width
    F feed-forward width   V vocabulary   E embedding width   P predictions   C classes
    S segments   N negatives                         digits are literal: mask_B1LM, next_B2
"""

import difflib
from pathlib import Path

import jax
import jax.numpy as jnp

from zoo import bert, checkpoint, gpt2, huggingface, tokenizer, xlnet

__version__ = "0.1.0"

# By the name that config.json and model.json know them by.
ARCHITECTURES = {"bert": bert, "gpt2": gpt2, "xlnet": xlnet}


def sizes() -> dict:
    """Every named size: name -> Config."""
    return {
        name: size
        for architecture in ARCHITECTURES.values()
        for name, size in architecture.SIZES.items()
    }


def create(size: str, key):
    """A new model of a named size, its weights drawn from a key: (model, params)."""
    for architecture in ARCHITECTURES.values():
        if size in architecture.SIZES:
            model = architecture.Model(architecture.SIZES[size])
            return model, model.init(key, jnp.zeros((1, 8), jnp.int32))["params"]
    near = difflib.get_close_matches(size, sizes(), n=1)
    raise ValueError(f"unknown size {size!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


def load(folder, *, new=(), ignore=(), key=None):
    """Loads a model folder, ours or Hugging Face's: (model, params, tokenizer).

    Every parameter must be found and every tensor used, else ValueError says which is not. `new`
    names the parameters, by the beginning of their path, that a published folder may lack and that
    are then drawn from `key`; `ignore` the published tensors, by the beginning of their name, to
    leave out. The tokenizer is None where the folder has none. Nothing is downloaded.
    """
    folder = Path(folder)
    if (folder / "config.json").exists():
        kind = huggingface.read_config(folder).get("model_type")
        architecture = _architecture(folder, kind)
        config, params = huggingface.read(folder, architecture, new=new, ignore=ignore, key=key)
    else:
        manifest = checkpoint.manifest(folder)
        architecture = _architecture(folder, manifest["architecture"])
        config = architecture.Config(**manifest["config"])
        params = checkpoint.read(folder)
        _check_shapes(folder, architecture.Model(config), params)
    try:
        words = tokenizer.load(folder)
    except FileNotFoundError:
        words = None
    if words is not None and words.get_vocab_size() > config.vocab_size:
        count = words.get_vocab_size()
        raise ValueError(
            f"{folder}: the tokenizer has {count} words, the model {config.vocab_size}"
        )
    return architecture.Model(config), jax.tree.map(jnp.asarray, params), words


def export(folder, out) -> None:
    """Writes a model folder as a Hugging Face folder, which transformers loads."""
    model, params, words = load(folder)
    fields = {}
    if words is not None:
        tokenizer.save(words, out)
        if hasattr(words.normalizer, "lowercase"):  # else transformers would lower-case by itself
            fields["do_lower_case"] = words.normalizer.lowercase
    huggingface.write(out, ARCHITECTURES[architecture(model)], model.config, params, fields)


def architecture(model) -> str:
    """The name of a model's architecture."""
    return next(name for name, a in ARCHITECTURES.items() if isinstance(model, a.Model))


def _architecture(folder, name):
    if name not in ARCHITECTURES:
        raise ValueError(
            f"{folder} holds a {name!r}; the zoo has {', '.join(sorted(ARCHITECTURES))}"
        )
    return ARCHITECTURES[name]


def _check_shapes(folder, model, params) -> None:
    wanted = {p: x.shape for p, x in huggingface.flatten(huggingface.abstract(model)).items()}
    found = {p: x.shape for p, x in huggingface.flatten(params).items()}
    wrong = [
        f"{path} has shape {found.get(path)}, not {wanted.get(path)}"
        for path in sorted(wanted.keys() | found.keys())
        if wanted.get(path) != found.get(path)
    ]
    if wrong:
        raise ValueError(f"{folder} does not fit its own config: " + "; ".join(wrong))
