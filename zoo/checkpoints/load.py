"""Load a model folder, ours or Hugging Face's, and export one."""

from pathlib import Path

import jax
import jax.numpy as jnp

from zoo import registry, tokenizers
from zoo.checkpoints import model_folder
from zoo.formats import huggingface
from zoo.params import abstract, flatten

# Names that older model folders have.
RENAMED = {"marian": "transformer", "t5v1_1": "t5_v1_1"}


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
        config, params = architecture.Config(**own_config(folder)), model_folder.read(folder)
        if made is not held and hasattr(architecture, "part"):
            config, params = architecture.part(params, made, config)
        _check_shapes(folder, made(config), params)
    return made(config), jax.tree.map(jnp.asarray, params), words_of(folder, config)


def held_in(folder):
    """The architecture of a model folder, and the class that it holds."""
    if (folder / "config.json").exists():
        fields = huggingface.read_config(folder)
        architecture = _architecture(fields.get("model_type"))
        if hasattr(architecture, "variant"):  # of several releases under one model_type
            architecture = registry.ARCHITECTURES[architecture.variant(fields)]
        named = next(iter(fields.get("architectures", ())), None)
        return architecture, architecture.MODELS.get(
            named, next(iter(architecture.MODELS.values()))
        )
    manifest = model_folder.manifest(folder)
    architecture = _architecture(manifest["architecture"])
    return architecture, _cls(architecture, manifest["class"]) or architecture.Model


def own_config(folder) -> dict:
    """The fields of the config in model.json, as they were before JSON made lists of tuples."""
    fields = model_folder.manifest(folder)["config"]
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}


def words_of(folder, config):
    """The tokenizer of a folder, or None; ValueError where it has more words than the model."""
    try:
        words = tokenizers.load(folder)
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
    held = registry.named(registry.name_of(model))
    if type(model) not in held.MODELS.values():
        return export(folder, out, next(iter(held.MODELS.values())).__name__)
    fields = {}
    if words is not None:
        tokenizers.save(words, out)
        normalizer = tokenizers.sides(words).source.normalizer
        if hasattr(normalizer, "lowercase"):  # else transformers would lower-case by itself
            fields["do_lower_case"] = normalizer.lowercase
    huggingface.write(out, held, model.config, params, fields, type(model))


def _architecture(name: str):
    return registry.named(RENAMED.get(name, name))


def _cls(architecture, name: str | None):
    classes = {cls.__name__: cls for cls in (architecture.Model, *architecture.MODELS.values())}
    if name is not None and name not in classes:
        raise ValueError(f"there is no class {name!r} here, but {', '.join(classes)}")
    return classes.get(name)


def _check_shapes(folder, model, params) -> None:
    wanted = {p: x.shape for p, x in flatten(abstract(model)).items()}
    found = {p: x.shape for p, x in flatten(params).items()}
    wrong = [
        f"{path} has shape {found.get(path)}, not {wanted.get(path)}"
        for path in sorted(wanted.keys() | found.keys())
        if wanted.get(path) != found.get(path)
    ]
    if wrong:
        raise ValueError(f"{folder} does not fit its own config: " + "; ".join(wrong))
