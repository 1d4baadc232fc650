"""The vectors of words in Flair, and the ids that it needs."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from tests import shapes, tiny
from tests.wide import relative
from zoo.contracts import DirectionsModel, Encoder, LanguageModel, Speller
from zoo.models import flair
from zoo.params import abstract
from zoo.tokenizers import units

ROW = tiny.TABLE["flair"]
TRUNK = flair.Flair(ROW.config)
PARAMS = tiny.wide(ROW.model)
LETTERS = ["<unk>", "</s>", "\n", " ", *"abcdefghijklmnopqrstuvwxyz"]
TOKENIZER = units.characters(LETTERS)
WORDS = ["ab", "cde", "f"]
TOLERANCE = 1e-5


@jax.jit
def run(tokens_BL, document_ids_BL):
    return TRUNK.apply({"params": PARAMS["trunk"]}, tokens_BL, document_ids_BL)


def vectors(words) -> np.ndarray:
    """Return the vectors of words alone in a row of 16 characters."""
    tokens_L, positions = TRUNK.spell(TOKENIZER, words)
    padded = np.pad(tokens_L, (0, 16 - len(tokens_L)))[None]
    return np.asarray(run(padded, (np.arange(16) < len(tokens_L))[None].astype(int)))[0, positions]


def test_it_keeps_to_the_contracts():
    assert isinstance(ROW.model, DirectionsModel)
    assert isinstance(ROW.model, LanguageModel)
    assert isinstance(ROW.model, Speller)
    assert isinstance(TRUNK, Encoder)
    assert isinstance(TRUNK, Speller)


def test_words_are_spelled_between_blanks_after_a_line_end():
    tokens_L, positions = ROW.model.spell(TOKENIZER, ["ab", "é", "c"])
    assert TOKENIZER.decode(list(tokens_L), skip_special_tokens=False) == "\nab <unk> c "
    assert tokens_L.dtype == np.int32
    assert positions == [3, 5, 7]
    assert all(tokens_L[position] == flair.BLANK for position in positions)


def test_another_vocabulary_is_one_line():
    with pytest.raises(
        ValueError, match=r"^the tokenizer has the ids 3 and 2 .* of a Flair model$"
    ):
        ROW.model.spell(units.characters(["<unk>", "</s>", " ", "\n", "a"]), ["a"])


def test_an_odd_width_is_one_line():
    with pytest.raises(ValueError, match=r"^the width of both directions must be even, not 25"):
        abstract(flair.FlairLM(replace(ROW.config, width=25)))


def test_the_forward_half_has_read_the_word_and_the_backward_half_too():
    before = vectors(WORDS)
    for changed, forward, backward in (
        (["xb", "cde", "f"], [1, 1, 1], [1, 0, 0]),
        (["ab", "cxe", "f"], [0, 1, 1], [1, 1, 0]),
        (["ab", "cde", "x"], [0, 0, 1], [1, 1, 1]),
    ):
        moved = np.abs(vectors(changed) - before).reshape(3, 2, -1).max(-1) > 1e-6
        assert (moved == np.stack([forward, backward], 1)).all()


def test_padding_changes_nothing():
    tokens_L, positions = TRUNK.spell(TOKENIZER, WORDS)
    row = np.full((2, 16), 3)
    row[0, 2 : 2 + len(tokens_L)], row[1, 5 : 5 + len(tokens_L)] = tokens_L, tokens_L
    ids = np.zeros((2, 16), int)
    ids[0, 2 : 2 + len(tokens_L)], ids[1, 5 : 5 + len(tokens_L)] = 1, 1
    x_BLD = np.asarray(run(row, ids))
    assert np.isfinite(x_BLD).all()
    for number, start in enumerate((2, 5)):
        assert relative(x_BLD[number, start + np.array(positions)], vectors(WORDS)) < TOLERANCE


def test_shapes_of_the_trunk_agree_with_names():
    with shapes.checked() as places:
        jax.eval_shape(lambda: TRUNK.apply({"params": PARAMS["trunk"]}, tiny.TOKENS))
    assert "flair.py:Flair.__call__:right_BLD" in places


def test_the_ends_of_documents_are_seen_through_padding():
    first, last = flair.document_ends(np.array([[0, 1, 1, 0, 2, 3, 0, 3, 0]]))
    assert np.flatnonzero(first).tolist() == [1, 4, 5]
    assert np.flatnonzero(last).tolist() == [2, 4, 7]
