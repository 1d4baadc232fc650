"""Tagging of the words of a sentence, with a fine-tuned model.

The tag of a word is that of its first token (Devlin et al. 2018, section 5.3,
https://arxiv.org/abs/1810.04805).

L length  C classes
"""

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from tokenizers import pre_tokenizers

from zoo.checkpoints.load import Loaded
from zoo.inference.batching import check_task, outputs, softmax
from zoo.inference.prompts import as_list
from zoo.inference.words import Piece, read_words
from zoo.layers import crf
from zoo.layers.taggers import CRFTagger

OUTSIDE = "O"  # the BIO label of a word outside of entities
SPANS = re.compile(r"O|[BIMELSU]-.+")  # IOB1, IOB2, IOE, IOBES and BILOU


class Tag(NamedTuple):
    """A word, its predicted label and the label's probability, and where it is in the text.

    It has the characters from `start` to before `end`.
    """

    word: str
    label: str
    probability: float
    start: int
    end: int


class Entity(NamedTuple):
    """A name in a text, its type, the mean probability of its tags, and where it is in the text.

    It has the characters from `start` to before `end`.
    """

    text: str
    label: str
    probability: float
    start: int
    end: int


def tag(loaded: Loaded, text: str | Sequence[str]) -> list[Tag]:
    """Return the tag of every word of a sentence.

    Args:
      loaded: A fine-tuned tagger with its tokenizer.
      text: A sentence, to be split at blanks and around punctuation, or a list of words. Characters
        of a list are counted as if there were one blank between words.

    Raises:
      ValueError: If there are no words, a word is too long, or the model is not a tagger.
    """
    model, params, _ = loaded
    check_tagger(loaded)
    spans = split(text) if isinstance(text, str) else _joined(as_list(text))
    words = [word for word, _ in spans]
    if not words:
        raise ValueError("the text is empty: there is nothing to tag")
    parts = read_words(loaded, words, model.config.max_length)
    logits = outputs(model, params, [piece.row for piece in parts])
    tags = best_tags(model.config.labels, words, parts, logits)
    return [
        tag._replace(start=start, end=end)
        for tag, (_, (start, end)) in zip(tags, spans, strict=True)
    ]


def entities(loaded: Loaded, text: str | Sequence[str]) -> list[Entity]:
    """Return the entities of a sentence, from the tags of its words, such as B-LOC, I-LOC and O.

    An entity starts at a B, S or U, behind an E, L, S or U, and at a tag that follows no tag of its
    type, as in the evaluation of CoNLL 2000. These are the tags of IOB1, IOB2, IOBES and BILOU.

    Args:
      loaded: A fine-tuned tagger with its tokenizer.
      text: As in `tag`.

    Raises:
      ValueError: As `tag`, or if the labels of the model do not mark spans.
    """
    check_tagger(loaded)
    other = [label for label in loaded.model.config.labels if not SPANS.fullmatch(label)]
    if other:
        raise ValueError(
            f"the model has the label {other[0]!r}, but entities need labels such as B-LOC, I-LOC "
            "and O: use zoo.tag for the tag of every word"
        )
    joined = text if isinstance(text, str) else " ".join(text)
    return group_entities(tag(loaded, text), joined)


def group_entities(tags: Sequence[Tag], text: str) -> list[Entity]:
    """Return the entities of the tags of the words of a text."""
    groups: list[list[Tag]] = []
    previous = OUTSIDE
    for word in tags:
        if word.label != OUTSIDE:
            is_start = word.label[0] in "BSU" or previous[0] in "ELSU"
            if is_start or previous[2:] != word.label[2:]:
                groups.append([])
            groups[-1].append(word)
        previous = word.label
    return [
        Entity(
            text[words[0].start : words[-1].end],
            words[0].label[2:],
            float(np.mean([word.probability for word in words])),
            words[0].start,
            words[-1].end,
        )
        for words in groups
    ]


def check_tagger(loaded: Loaded) -> None:
    """Raise ValueError if a model does not tag words, by themselves or as a chain."""
    kind = "crf-tagging" if isinstance(loaded.model, CRFTagger) else "tagging"
    check_task(loaded, kind)


def split(text: str) -> list[tuple[str, tuple[int, int]]]:
    """Return the words of a text and their characters; each punctuation mark is a word."""
    return pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text)


def _joined(words: Sequence[str]) -> list[tuple[str, tuple[int, int]]]:
    """Return the words and their characters in a text with one blank between words."""
    ends = [end - 1 for end in accumulate(len(word) + 1 for word in words)]
    return [(word, (end - len(word), end)) for word, end in zip(words, ends, strict=True)]


def best_tags(
    labels: Sequence[str],
    words: Sequence[str],
    pieces: Sequence[Piece],
    logits: Sequence[np.ndarray],
) -> list[Tag]:
    """Return the best tag of every word, from the outputs of the pieces.

    They are logits [L, C], or the potentials of a chain of tags, [L, C, C].

    A word that is in no piece is tagged "O", or with the first label if there is no "O", with a
    probability of 0. Characters are counted as if there were one blank between words.
    """
    default = OUTSIDE if OUTSIDE in labels else labels[0]
    tags = [Tag(word, default, 0.0, *span) for word, span in _joined(words)]
    for piece, output in zip(pieces, logits, strict=True):
        chosen_W, probabilities_WC = _predict(output[np.array(piece.positions)])
        for number, label, probability_C in zip(
            piece.words, chosen_W, probabilities_WC, strict=True
        ):
            probability = float(probability_C[label])
            tags[number] = tags[number]._replace(label=labels[label], probability=probability)
    return tags


def _predict(output: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the label of every word, [W], and the probabilities of all labels, [W, C].

    The output is that of the words: logits [W, C], or the potentials of a chain, [W, C, C], whose
    best sequence is not always that of the most probable labels.
    """
    if output.ndim == 3:
        return crf.best_tags(output), crf.marginals(output)
    probabilities_WC = softmax(output)
    return probabilities_WC.argmax(-1), probabilities_WC
