"""Zoo: language models from the n-gram to ELECTRA, one readable file each, on JAX and Flax Linen.

Array names end in their shape: x_BLD has the axes batch, length, width. The letters, everywhere:

    B batch   L length   M memory (keys') length   D width   H heads   K head width
    F feed-forward width   V vocabulary   E embedding width   P predictions   C classes
    S segments   N negatives   T target length   G gates
    digits are literal: mask_B1LM, next_B2
"""

import difflib
from pathlib import Path

import jax
import jax.numpy as jnp

from zoo import (
    albert,
    bahdanau,
    bert,
    checkpoint,
    distilbert,
    electra,
    gpt2,
    huggingface,
    luong,
    resnet,
    rnn,
    roberta,
    seq2seq,
    t5,
    t5v11,
    tokenizer,
    transformer,
    xlnet,
)

__version__ = "0.1.0"

# By the name that config.json and model.json know them by.
ARCHITECTURES = {
    "rnn": rnn,
    "seq2seq": seq2seq,
    "bahdanau": bahdanau,
    "luong": luong,
    "marian": transformer,
    "bert": bert,
    "gpt2": gpt2,
    "xlnet": xlnet,
    "roberta": roberta,
    "distilbert": distilbert,
    "albert": albert,
    "electra": electra,
    "t5": t5,
    "t5v1_1": t5v11,
    "resnet": resnet,
}


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


def load(folder, *, cls=None, new=(), ignore=(), key=None):
    """Loads a model folder, ours or Hugging Face's: (model, params, tokenizer).

    `cls` names the class to load it as, such as "ElectraGenerator"; None: what the folder holds.
    Every parameter must be found and every tensor used, else ValueError says which is not. `new`
    names the parameters, by the beginning of their path, that a published folder may lack and that
    are then drawn from `key`; `ignore` the published tensors, by the beginning of their name, to
    leave out. The tokenizer is None where the folder has none. Nothing is downloaded.
    """
    folder = Path(folder)
    architecture, held = held_in(folder)
    made = _cls(architecture, cls) or held
    if (folder / "config.json").exists():
        if made not in architecture.MODELS.values():
            raise ValueError(f"{folder}: no published folder holds a whole {made.__name__}")
        config, params = huggingface.read(
            folder, architecture, made, new=new, ignore=ignore, key=key
        )
    else:
        config, params = architecture.Config(**own_config(folder)), checkpoint.read(folder)
        if made is not held and hasattr(architecture, "part"):
            config, params = architecture.part(params, made, config)
        _check_shapes(folder, made(config), params)
    return made(config), jax.tree.map(jnp.asarray, params), words_of(folder, config)


def held_in(folder):
    """The architecture of a model folder, and the class that it holds."""
    if (folder / "config.json").exists():
        fields = huggingface.read_config(folder)
        architecture = _architecture(folder, fields.get("model_type"))
        if hasattr(architecture, "variant"):  # of several releases under one model_type
            architecture = ARCHITECTURES[architecture.variant(fields)]
        named = next(iter(fields.get("architectures", ())), None)
        return architecture, architecture.MODELS.get(
            named, next(iter(architecture.MODELS.values()))
        )
    manifest = checkpoint.manifest(folder)
    architecture = _architecture(folder, manifest["architecture"])
    return architecture, _cls(architecture, manifest["class"]) or architecture.Model


def own_config(folder) -> dict:
    """The fields of the config in model.json, as they were before JSON made lists of tuples."""
    fields = checkpoint.manifest(folder)["config"]
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}


def words_of(folder, config):
    """The tokenizer of a folder, or None; ValueError where it has more words than the model."""
    try:
        words = tokenizer.load(folder)
    except FileNotFoundError:
        words = None
    if words is not None and words.get_vocab_size() > config.vocab_size:
        count = words.get_vocab_size()
        raise ValueError(
            f"{folder}: the tokenizer has {count} words, the model {config.vocab_size}"
        )
    return words


def export(folder, out, cls=None) -> None:
    """Writes a model folder as a Hugging Face folder, which transformers loads.

    `cls` as in `load`; of a model that has no published form as a whole, None takes the first of
    its parts.
    """
    model, params, words = load(folder, cls=cls)
    held = ARCHITECTURES[architecture(model)]
    if type(model) not in held.MODELS.values():
        return export(folder, out, next(iter(held.MODELS.values())).__name__)
    fields = {}
    if words is not None:
        tokenizer.save(words, out)
        normalizer = tokenizer.sides(words).source.normalizer
        if hasattr(normalizer, "lowercase"):  # else transformers would lower-case by itself
            fields["do_lower_case"] = normalizer.lowercase
    huggingface.write(out, held, model.config, params, fields, type(model))


def architecture(model) -> str:
    """The name of a model's architecture."""
    classes = {name: (a.Model, *a.MODELS.values()) for name, a in ARCHITECTURES.items()}
    return next(name for name, held in classes.items() if isinstance(model, held))


def _architecture(folder, name):
    if name not in ARCHITECTURES:
        raise ValueError(
            f"{folder} holds a {name!r}; the zoo has {', '.join(sorted(ARCHITECTURES))}"
        )
    return ARCHITECTURES[name]


def _cls(architecture, name: str | None):
    classes = {cls.__name__: cls for cls in (architecture.Model, *architecture.MODELS.values())}
    if name is not None and name not in classes:
        raise ValueError(f"there is no class {name!r} here, but {', '.join(classes)}")
    return classes.get(name)


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
