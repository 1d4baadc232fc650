"""Transfer of a pretrained trunk to a model for a task, which has another head."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from tokenizers import AddedToken, Tokenizer, processors

import zoo
from zoo import registry
from zoo.checkpoints import model_folder
from zoo.checkpoints.load import held_in, own_config, words_of
from zoo.formats import huggingface
from zoo.layers import heads
from zoo.params import flatten, unflatten

# The special tokens of GPT, and the standard deviation of their initial embeddings.
MARKS = ("<start>", "<delimiter>", "<extract>")
STD = 0.02


class LoadedModel(NamedTuple):
    """A model for a task, its parameters and tokenizer, and the paths of its new parameters."""

    model: nn.Module
    params: chex.ArrayTree
    tokenizer: Tokenizer | None
    new_paths: Sequence[str] = ()

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The names of the classes; None for a model that generates text."""
        return getattr(self.model.config, "labels", None)


def load_for_task(
    folder: str | Path,
    task: str,
    labels: Sequence[str] | None = None,
    *,
    key: chex.PRNGKey | None = None,
) -> LoadedModel:
    """Return the model for a task on the pretrained trunk of a folder.

    Parameters of the head that the folder has too are kept, the others are initialized.

    Args:
      folder: A model folder, ours or Hugging Face's.
      task: A key of TASKS of the architectures.
      labels: The names of the classes. None: those of the folder.
      key: For the new parameters.

    Raises:
      ValueError: If the architecture does not support the task, or the folder was fine-tuned to
        other labels.
    """
    folder = Path(folder)
    architecture, held = held_in(folder)
    cls = getattr(architecture, "TASKS", {}).get(task)
    if cls is None:
        able = [
            n for n, found in registry.ARCHITECTURES.items() if task in getattr(found, "TASKS", {})
        ]
        raise ValueError(f"{folder} holds a {held.__name__}; this task needs {', '.join(able)}")
    if task == "text-to-text":  # the whole model generates, and has no other head
        return LoadedModel(*zoo.load(folder))
    read = _of_published if (folder / "config.json").exists() else _of_ours
    model, params, new = read(folder, architecture, held, cls, labels, key)
    params = jax.tree.map(jnp.asarray, params)
    return LoadedModel(model, params, words_of(folder, model.config), new)


def _of_published(folder, architecture, held, cls, labels, key):
    known = huggingface.published_labels(huggingface.read_config(folder))
    labels = _agreed(folder, held is cls and known, labels)
    new, ignore = huggingface.other_heads(folder, architecture, cls, labels)
    config, params = huggingface.read(
        folder, architecture, cls, labels=labels, new=new, ignore=ignore, key=key
    )
    return cls(config), params, new


def _of_ours(folder, architecture, held, cls, labels, key):
    config, params = architecture.Config(**own_config(folder)), model_folder.read(folder)
    labels = _agreed(folder, held is cls and config.labels, labels)
    if held is architecture.Model and hasattr(architecture, "part"):
        config, params = architecture.part(params, cls, config)
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


def add_marks(loaded: LoadedModel, key: chex.PRNGKey) -> LoadedModel:
    """Return a left-to-right model with GPT's special tokens around its texts.

    Radford et al. 2018, section 3.3: start, text, delimiter, other text, extract, where the last
    token attends to everything. They are three more tokens, whose embeddings are initialized.
    """
    words = Tokenizer.from_str(loaded.tokenizer.to_str())
    words.add_special_tokens([AddedToken(mark, normalized=False) for mark in MARKS])
    begin, between, end = MARKS
    words.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {between} $B {end}",
        special_tokens=[(mark, words.token_to_id(mark)) for mark in MARKS],
    )
    config = loaded.model.config
    table_VD = np.asarray(loaded.params["trunk"]["token_embedding"]["embedding"])
    more = max(0, words.get_vocab_size() - config.vocab_size)
    drawn_VD = STD * jax.random.normal(key, (more, table_VD.shape[1]))
    embedding = {"embedding": jnp.concatenate([table_VD, drawn_VD])}
    params = loaded.params | {"trunk": loaded.params["trunk"] | {"token_embedding": embedding}}
    model = type(loaded.model)(replace(config, vocab_size=config.vocab_size + more))
    return LoadedModel(model, params, words, loaded.new_paths)
