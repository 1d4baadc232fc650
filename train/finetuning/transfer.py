"""Starts a model for a task from one that was pretrained: the same trunk, another head."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import AddedToken, Tokenizer, processors

from zoo import registry
from zoo.checkpoints import model_folder
from zoo.checkpoints.load import held_class, is_published, load, load_tokenizer, own_config
from zoo.contracts import Composite
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
    held = held_class(folder)
    cls = registry.of(held).TASKS.get(task)
    if cls is None:
        able = [name for name, known in registry.ARCHITECTURES.items() if task in known.TASKS]
        raise ValueError(f"{folder} holds a {held.__name__}; this task needs {', '.join(able)}")
    if task == "rewrite":  # the whole model writes, and has no other head
        return Start(*load(folder), [])
    read = _of_published if is_published(folder) else _of_ours
    model, params, new = read(folder, held, cls, labels, key)
    tokenizer = load_tokenizer(folder, model.config)
    return Start(model, jax.tree.map(jnp.asarray, params), tokenizer, new)


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
