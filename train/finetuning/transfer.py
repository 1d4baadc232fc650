"""Transfer of a pretrained trunk to a model with a head for a task."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import AddedToken, Tokenizer, processors

from zoo import registry
from zoo.checkpoints import model_folder
from zoo.checkpoints.load import (
    Loaded,
    held_class,
    is_published,
    load,
    load_tokenizer,
    own_config,
)
from zoo.contracts import Composite
from zoo.formats import huggingface
from zoo.layers import heads
from zoo.params import flatten, unflatten
from zoo.tokenizers import token_id

MARKS = ("<start>", "<delimiter>", "<extract>")
STD = 0.02


def load_for_task(
    folder: str | os.PathLike,
    task: str,
    labels: Sequence[str] | None = None,
    *,
    key: chex.PRNGKey | None = None,
) -> tuple[Loaded, list[str]]:
    """Return the model for a task on the pretrained trunk of a folder.

    Head parameters that are in the folder are kept; the others are initialized at random.

    Args:
      folder: A model folder, ours or Hugging Face's.
      task: A key in TASKS of the architectures.
      labels: The names of the classes. None: those of the folder.
      key: The key for the new parameters.

    Returns:
      The model, and the paths of its new parameters.

    Raises:
      ValueError: If the architecture does not support the task, or the folder was fine-tuned with
        other labels.
    """
    folder = Path(folder)
    held = held_class(folder)
    cls = registry.of(held).TASKS.get(task)
    if cls is None:
        names = [name for name, other in registry.ARCHITECTURES.items() if task in other.TASKS]
        raise ValueError(f"{folder} holds a {held.__name__}; this task needs {', '.join(names)}")
    if task == "text-to-text":  # the whole model is used, without another head
        return load(folder), []
    read = _of_published if is_published(folder) else _of_ours
    model, params, new = read(folder, held, cls, labels, key)
    tokenizer = load_tokenizer(folder, model.config)
    return Loaded(model, jax.tree.map(jnp.asarray, params), tokenizer), new


def _of_published(folder, held, cls, labels, key):
    published = huggingface.read_config(folder)
    known = huggingface.find(published)
    labels = _agreed(folder, held is cls and huggingface.published_labels(published), labels)
    new, ignore = huggingface.new_head(folder, known, cls, labels)
    config, params = huggingface.read(
        folder, known, cls, labels=labels, new=new, ignore=ignore, key=key
    )
    return cls(config), params, new


def _of_ours(folder, held, cls, labels, key):
    config, params = own_config(folder), model_folder.read(folder)
    labels = _agreed(folder, held is cls and config.labels, labels)
    if isinstance(held(config), Composite):
        config, params = held.part(cls, config, params)
    model = cls(replace(config, labels=labels))
    initial = flatten(model.init(key, jnp.zeros((1, 8), jnp.int32))["params"])
    saved = flatten(params)
    if held is not cls:  # a head of the same name may be for something else
        saved = {p: x for p, x in saved.items() if p in initial and x.shape == initial[p].shape}
    new = [path for path in initial if path not in saved]
    missing = [path for path in new if path.startswith("trunk/")]
    if missing:
        raise ValueError(f"{folder} lacks {', '.join(missing)}, which a {cls.__name__} needs")
    return model, unflatten({path: saved.get(path, initial[path]) for path in initial}), new


def _agreed(folder, held, wanted):
    """Return the wanted labels, else those of the trained head, else the default labels."""
    if held and wanted and list(held) != list(wanted):
        raise ValueError(
            f"{folder} was fine-tuned with the labels {', '.join(held)}, but the data have "
            f"{', '.join(wanted)}: start from the pretrained model"
        )
    return tuple(wanted or held or heads.LABELS)


def add_marks(loaded: Loaded, key: chex.PRNGKey) -> Loaded:
    """Return a left-to-right model whose tokenizer adds the special tokens of GPT to its texts.

    Radford et al. 2018, section 3.3: start, text, delimiter, second text, extract; the last token
    attends to the whole sequence. The embeddings of the three new tokens are initialized at random.
    """
    if not isinstance(loaded.tokenizer, Tokenizer):
        raise ValueError("the model folder has no tokenizer to add special tokens to")
    tokenizer = Tokenizer.from_str(loaded.tokenizer.to_str())
    tokenizer.add_special_tokens([AddedToken(mark, normalized=False) for mark in MARKS])
    start, delimiter, extract = MARKS
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {extract}",
        pair=f"{start} $A {delimiter} $B {extract}",
        special_tokens=[(mark, token_id(tokenizer, mark)) for mark in MARKS],
    )
    config = loaded.model.config
    table_VD = np.asarray(loaded.params["trunk"]["token_embedding"]["embedding"])
    num_new = max(0, tokenizer.get_vocab_size() - config.vocab_size)
    new_VD = STD * jax.random.normal(key, (num_new, table_VD.shape[1]))
    embedding = {"embedding": jnp.concatenate([table_VD, new_VD])}
    params = loaded.params | {"trunk": loaded.params["trunk"] | {"token_embedding": embedding}}
    model = type(loaded.model)(replace(config, vocab_size=config.vocab_size + num_new))
    return Loaded(model, params, tokenizer)
