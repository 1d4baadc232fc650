"""Starts a model for a task from one that was pretrained: the same trunk, another head."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import AddedToken, Tokenizer, processors

import zoo
from zoo import registry
from zoo.checkpoints import model_folder
from zoo.checkpoints.load import held_in, own_config, words_of
from zoo.formats import huggingface
from zoo.layers import heads
from zoo.params import flatten, unflatten

MARKS = ("<start>", "<delimiter>", "<extract>")
STD = 0.02


class Start(NamedTuple):
    """A model to be fine-tuned, its parameters and tokenizer, and which parameters are new."""

    model: Any
    params: dict
    tokenizer: Tokenizer | None
    new: list[str]


def start(folder, task: str, labels=None, *, key) -> Start:
    """The model for a task, a name in TASKS, on the trunk that a folder holds.

    What of the head the folder holds too is kept, the rest is drawn from `key`. `labels` name the
    classes; None: as the folder has them. Raises ValueError for an architecture that cannot do the
    task, and for a folder that was fine-tuned to other labels.
    """
    folder = Path(folder)
    architecture, held = held_in(folder)
    cls = getattr(architecture, "TASKS", {}).get(task)
    if cls is None:
        able = [
            n for n, found in registry.ARCHITECTURES.items() if task in getattr(found, "TASKS", {})
        ]
        raise ValueError(f"{folder} holds a {held.__name__}; this task needs {', '.join(able)}")
    if task == "rewrite":  # the whole model writes, and has no other head
        return Start(*zoo.load(folder), [])
    read = _of_published if (folder / "config.json").exists() else _of_ours
    model, params, new = read(folder, architecture, held, cls, labels, key)
    return Start(model, jax.tree.map(jnp.asarray, params), words_of(folder, model.config), new)


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
    """The labels to take, of those that a trained head has, if there is one, and those wanted."""
    if held and wanted and list(held) != list(wanted):
        raise ValueError(
            f"{folder} was fine-tuned to the labels {', '.join(held)}, the data have "
            f"{', '.join(wanted)}: start from the model it was made of"
        )
    return tuple(wanted or held or heads.LABELS)


def marked(made: Start, key) -> Start:
    """A model that reads from left to right, with the marks of GPT around its texts.

    Radford et al. 2018, section 3.3: start, text, delimiter, other text, extract, where the last
    token has seen everything. The marks are three more words, whose vectors are drawn.
    """
    words = Tokenizer.from_str(made.tokenizer.to_str())
    words.add_special_tokens([AddedToken(mark, normalized=False) for mark in MARKS])
    begin, between, end = MARKS
    words.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {between} $B {end}",
        special_tokens=[(mark, words.token_to_id(mark)) for mark in MARKS],
    )
    config = made.model.config
    table_VD = np.asarray(made.params["trunk"]["token_embedding"]["embedding"])
    more = max(0, words.get_vocab_size() - config.vocab_size)
    drawn_VD = STD * jax.random.normal(key, (more, table_VD.shape[1]))
    embedding = {"embedding": jnp.concatenate([table_VD, drawn_VD])}
    params = made.params | {"trunk": made.params["trunk"] | {"token_embedding": embedding}}
    model = type(made.model)(replace(config, vocab_size=config.vocab_size + more))
    return Start(model, params, words, made.new)
