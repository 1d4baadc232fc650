"""Transfer of a pretrained trunk to a model with a head for a task."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from tokenizers import AddedToken, Tokenizer, processors

from train.data.corpus.pair_corpus import END_OF_TEXT
from zoo import registry, tokenizers
from zoo.checkpoints import hub, model_folder
from zoo.checkpoints.load import (
    Loaded,
    is_published,
    load,
    load_tokenizer,
    own_config,
    saved_class,
)
from zoo.contracts import Composite, StatefulLanguageModel, WordVectorModel
from zoo.direction import is_backward
from zoo.formats import huggingface
from zoo.inference.prompts import require_tokenizer
from zoo.layers import heads
from zoo.layers.taggers import StackedTagger
from zoo.layers.word_vectors import WordVectors
from zoo.models import word2vec
from zoo.models.seq2seq import Seq2SeqClassifier
from zoo.params import flatten, unflatten
from zoo.tokenizers import Sides, end_of_document, published, sides, token_id, units
from zoo.tokenizers.units import UNKNOWN
from zoo.vocabulary import extend_vocabulary, with_tokenizer

MARKS = published.GPT_SPECIALS[1:]  # start, delimiter, extract
# The kinds of task that read a text as a whole, so that it needs special tokens at its ends.
OF_TEXTS = ("classification", "multi-label", "similarity", "multiple-choice")


def load_for_task(
    folder: str | os.PathLike,
    task: str,
    labels: Sequence[str] | None = None,
    *,
    key: chex.PRNGKey | None = None,
    letters: int = 0,
) -> tuple[Loaded, list[str]]:
    """Return a model for a task with the pretrained trunk of a folder.

    Head parameters that are in the folder are kept; the others are initialized at random.

    Args:
      folder: A model folder, ours or Hugging Face's, or a name on the Hub.
      task: A key in TASKS of the architectures.
      labels: The names of the classes. None: those of the folder.
      key: The key for the new parameters. None: jax.random.key(0).
      letters: For taggers on word vectors: the number of features of the letters of a word.

    Returns:
      The model, and the paths of its new parameters.

    Raises:
      ValueError: If the architecture does not support the task, or the folder was fine-tuned with
        other labels.
    """
    key = jax.random.key(0) if key is None else key
    folder = hub.resolve(folder)
    saved_cls = saved_class(folder)
    if issubclass(saved_cls, WordVectors) and task in word2vec.TASKS:
        return _on_vectors(load(folder), word2vec.TASKS[task], labels, key, letters)
    if letters:
        raise ValueError(f"--letters is for taggers on word vectors, not a {saved_cls.__name__}")
    cls = registry.of(saved_cls).TASKS.get(task)
    if cls is None:
        names = [name for name, other in registry.ARCHITECTURES.items() if task in other.TASKS]
        raise ValueError(
            f"{folder} contains a {saved_cls.__name__}; this task needs {', '.join(names)}"
        )
    if task == "text-to-text":  # the whole model is used, without another head
        return load(folder), []
    read = _read_published if is_published(folder) else _read_own
    model, params, new = read(folder, saved_cls, cls, labels, key)
    tokenizer = load_tokenizer(folder, model.config)
    return Loaded(model, jax.tree.map(jnp.asarray, params), tokenizer), new


def _on_vectors(
    loaded: Loaded,
    cls: type[nn.Module],
    labels: Sequence[str] | None,
    key: chex.PRNGKey,
    letters: int,
) -> tuple[Loaded, list[str]]:
    """Return a new model on the vectors of words, and the paths of its new parameters.

    Vocabularies of files often have no entry for unknown words: it gets the mean of all vectors. If
    no word of the vocabulary has an upper-case letter, texts are read in lower case.
    """
    words, x_VD = _table(loaded)
    tokenizer = sides(require_tokenizer(loaded)).source
    if UNKNOWN not in words:
        tokenizer = units.words([*words, UNKNOWN])
        x_VD = np.concatenate([x_VD, x_VD.mean(0, keepdims=True)])
    if all(word == word.lower() for word in words):
        tokenizer = units.lowercased(tokenizer)
    config = word2vec.Config(
        vocab_size=len(x_VD),
        width=x_VD.shape[1],
        labels=tuple(labels or heads.LABELS),
        letters=letters,
    )
    model = cls(config)
    params = flatten(model.init(key, jnp.zeros((1, 8), jnp.int32))["params"])
    new = [path for path in params if path != "trunk/words"]
    params["trunk/words"] = jnp.asarray(x_VD)
    return Loaded(model, unflatten(params), tokenizer), new


def stack_vectors(loaded: Loaded, folder: str, key: chex.PRNGKey) -> tuple[Loaded, list[str]]:
    """Return a tagger with the word vectors of a folder beside those of its trunk.

    Its tokenizer becomes a pair: the first one reads texts, the second has the stacked words.

    Args:
      loaded: A tagger on ELMo or Flair.
      folder: A folder or file of word vectors.
      key: The key for the new parameters, which are all but those of the trunk.

    Returns:
      The model, and the paths of its new parameters.

    Raises:
      ValueError: If the model is no such tagger, or the folder has no word vectors.
    """
    if not isinstance(loaded.model, StackedTagger):
        raise ValueError(
            f"--stack is for taggers on ELMo and Flair, not a {type(loaded.model).__name__}"
        )
    vectors = load(folder)
    if not isinstance(vectors.model, WordVectorModel):
        raise ValueError(f"--stack {folder} holds a {type(vectors.model).__name__}, not vectors")
    _, x_VD = _table(vectors)
    model = type(loaded.model)(replace(loaded.model.config, stacked=x_VD.shape))
    params = flatten(model.init(key, jnp.zeros((1, 8), jnp.int32))["params"])
    trunk = {p: x for p, x in flatten(loaded.params).items() if p.startswith("trunk/")}
    params |= trunk | {"vectors": jnp.asarray(x_VD)}
    both = Sides(*(sides(require_tokenizer(each)).source for each in (loaded, vectors)))
    new = [path for path in params if path not in trunk and path != "vectors"]
    return Loaded(model, unflatten(params), both), new


def _table(loaded: Loaded) -> tuple[list[str], np.ndarray]:
    """Return the entries of the vocabulary of word vectors in order, and their vectors: x_VD."""
    ids = sides(require_tokenizer(loaded)).source.get_vocab()
    words = sorted(ids, key=ids.__getitem__)
    numbers = np.array([ids[word] for word in words])
    return words, loaded.model.word_vectors(loaded.params, words, numbers)


def _read_published(folder, saved_cls, cls, labels, key):
    published = huggingface.read_config(folder)
    format = huggingface.find(published)
    labels = _choose_labels(
        folder, saved_cls is cls and huggingface.published_labels(published), labels
    )
    new, ignore = huggingface.new_head(folder, format, cls, labels)
    config, params = huggingface.read(
        folder, format, cls, labels=labels, new=new, ignore=ignore, key=key
    )
    return cls(config), params, new


def _read_own(folder, saved_cls, cls, labels, key):
    config, params = own_config(folder), model_folder.read(folder)
    labels = _choose_labels(folder, saved_cls is cls and config.labels, labels)
    if isinstance(saved_cls(config), Composite):
        config, params = saved_cls.part(cls, config, params)
    model = cls(replace(config, labels=labels))
    initial = flatten(model.init(key, jnp.zeros((1, 8), jnp.int32))["params"])
    saved = flatten(params)
    if saved_cls is not cls:  # a head of the same name may be for another task
        saved = {p: x for p, x in saved.items() if p in initial and x.shape == initial[p].shape}
    new = [path for path in initial if path not in saved]
    missing = [path for path in new if path.startswith("trunk/")]
    if missing:
        raise ValueError(f"{folder} lacks {', '.join(missing)}, which a {cls.__name__} needs")
    return model, unflatten({path: saved.get(path, initial[path]) for path in initial}), new


def _choose_labels(folder, saved, requested):
    """Return the requested labels, or else those of the trained head, or else the defaults."""
    if saved and requested and list(saved) != list(requested):
        raise ValueError(
            f"{folder} was fine-tuned with the labels {', '.join(saved)}, but the data have "
            f"{', '.join(requested)}: start from the pretrained model"
        )
    return tuple(requested or saved or heads.LABELS)


def mark_texts(loaded: Loaded, key: chex.PRNGKey) -> Loaded:
    """Return a model of texts whose tokenizer adds the special tokens that its model expects."""
    if isinstance(loaded.model, Seq2SeqClassifier):
        return add_end(loaded)
    language_model = registry.of(loaded.model).Model(loaded.model.config)
    is_stateful = isinstance(language_model, StatefulLanguageModel)
    if is_stateful and has_document_token(loaded):
        return begin_documents(loaded)
    return add_marks(loaded, key)


def add_marks(loaded: Loaded, key: chex.PRNGKey) -> Loaded:
    """Return a left-to-right model whose tokenizer adds the special tokens of GPT to its texts.

    Radford et al. 2018, section 3.3: start, text, delimiter, second text, extract; the last token
    attends to the whole sequence. The embeddings of new tokens are initialized at random.
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
    return with_tokenizer(loaded, tokenizer, "random", key)


def has_document_token(loaded: Loaded) -> bool:
    """Return whether the tokenizer of a model has a token that begins documents."""
    tokenizer = sides(require_tokenizer(loaded)).source
    return any(tokenizer.token_to_id(name) is not None for name in tokenizers.ENDS)


def begin_documents(loaded: Loaded) -> Loaded:
    """Return a recurrent model whose texts begin with the token that began documents before.

    So its first state is one that pretraining knows; a second text begins with that token too. A
    backward model reads the token first as well, so it stands at the end.
    """
    tokenizer = Tokenizer.from_str(sides(require_tokenizer(loaded)).source.to_str())
    end = end_of_document(tokenizer)
    mark = tokenizer.id_to_token(end)
    backward = is_backward(loaded.model.config)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {mark}" if backward else f"{mark} $A",
        pair=f"$A {mark} $B {mark}" if backward else f"{mark} $A {mark} $B",
        special_tokens=[(mark, end)],
    )
    return loaded._replace(tokenizer=tokenizer)


def add_end(loaded: Loaded) -> Loaded:
    """Return an encoder whose tokenizer ends its texts with the token that ended its sources."""
    tokenizer = Tokenizer.from_str(sides(require_tokenizer(loaded)).source.to_str())
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END_OF_TEXT}",
        pair=f"$A {END_OF_TEXT} $B {END_OF_TEXT}",
        special_tokens=[(END_OF_TEXT, token_id(tokenizer, END_OF_TEXT))],
    )
    return loaded._replace(tokenizer=tokenizer)


def add_words(loaded: Loaded, file: str | os.PathLike) -> tuple[Loaded, list[str]]:
    """Return a model whose vocabulary has the words of a file, one per line, and notes on them."""
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"--add-tokens {path}: no such file")
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"--add-tokens {path} is not UTF-8 at byte {error.start}") from None
    words = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not words:
        raise ValueError(f"--add-tokens {path} has no words: write one per line")
    assert loaded.tokenizer is not None, "checked when the model was loaded"
    known = set(tokenizers.known_words(loaded.tokenizer, words))
    extended = extend_vocabulary(loaded, [word for word in words if word not in known])
    notes = [f"{len(words) - len(known)} of {len(words)} words were added to the vocabulary"]
    if known:
        notes.append(f"already in the vocabulary: {', '.join(sorted(known))}")
    return extended, notes
