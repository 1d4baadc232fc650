"""Transfer of a pretrained trunk to a model for a task, which has another head."""

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

    Parameters of the head that the folder has too are kept, the others are initialized.

    Args:
      folder: A model folder, ours or Hugging Face's.
      task: A key of TASKS of the architectures.
      labels: The names of the classes. None: those of the folder.
      key: For the new parameters.

    Returns:
      The model, and the paths of its new parameters.

    Raises:
      ValueError: If the architecture does not support the task, or the folder was fine-tuned to
        other labels.
    """
    folder = Path(folder)
    held = held_class(folder)
    cls = registry.of(held).TASKS.get(task)
    if cls is None:
        able = [name for name, known in registry.ARCHITECTURES.items() if task in known.TASKS]
        raise ValueError(f"{folder} holds a {held.__name__}; this task needs {', '.join(able)}")
    if task == "text-to-text":  # the whole model generates, and has no other head
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
    drawn = flatten(model.init(key, jnp.zeros((1, 8), jnp.int32))["params"])
    found = flatten(params)
    new = [path for path in drawn if path not in found]
    lost = [path for path in new if path.startswith("trunk/")]
    if lost:
        raise ValueError(f"{folder} lacks {', '.join(lost)}, which a {cls.__name__} needs")
    return model, unflatten({path: found.get(path, drawn[path]) for path in drawn}), new


def _agreed(folder, held, wanted):
    """Return the labels, of those that a trained head has, if there is one, and those wanted."""
    if held and wanted and list(held) != list(wanted):
        raise ValueError(
            f"{folder} was fine-tuned to the labels {', '.join(held)}, the data have "
            f"{', '.join(wanted)}: start from the model it was made of"
        )
    return tuple(wanted or held or heads.LABELS)


def add_marks(loaded: Loaded, key: chex.PRNGKey) -> Loaded:
    """Return a left-to-right model with GPT's special tokens around its texts.

    Radford et al. 2018, section 3.3: start, text, delimiter, other text, extract, where the last
    token attends to everything. They are three more tokens, whose embeddings are initialized.
    """
    if not isinstance(loaded.tokenizer, Tokenizer):
        raise ValueError("the model folder has no tokenizer of its texts to add special tokens to")
    words = Tokenizer.from_str(loaded.tokenizer.to_str())
    words.add_special_tokens([AddedToken(mark, normalized=False) for mark in MARKS])
    begin, between, end = MARKS
    words.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {between} $B {end}",
        special_tokens=[(mark, token_id(words, mark)) for mark in MARKS],
    )
    config = loaded.model.config
    table_VD = np.asarray(loaded.params["trunk"]["token_embedding"]["embedding"])
    more = max(0, words.get_vocab_size() - config.vocab_size)
    drawn_VD = STD * jax.random.normal(key, (more, table_VD.shape[1]))
    embedding = {"embedding": jnp.concatenate([table_VD, drawn_VD])}
    params = loaded.params | {"trunk": loaded.params["trunk"] | {"token_embedding": embedding}}
    model = type(loaded.model)(replace(config, vocab_size=config.vocab_size + more))
    return Loaded(model, params, words)
