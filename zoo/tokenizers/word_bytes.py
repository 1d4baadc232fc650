"""Words as rows of bytes, as ELMo reads them.

A row has 50 ids: the mark that begins a word, up to 48 bytes of UTF-8, the mark that ends it, and
padding. The marks of a sentence are rows too. Ids are those of the released models, which shift
all of them by one, so that 0 is left for tokens that pad a row of tokens.

W words  C characters of a word, which are bytes
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

LENGTH = 50
NUM_IDS = 262  # 0, 256 bytes, and the five below
BEGIN_SENTENCE, END_SENTENCE, BEGIN_WORD, END_WORD, PADDING = 257, 258, 259, 260, 261
MOST_BYTES = LENGTH - 2


def spell(words: Sequence[str]) -> np.ndarray:
    """Return the ids of words: int32 [W, 50]; bytes after the 48th are left out."""
    rows = [[byte + 1 for byte in word.encode()[:MOST_BYTES]] for word in words]
    return _rows(rows)


def spell_sentence(words: Sequence[str]) -> np.ndarray:
    """Return the ids of the words of a sentence between the two marks of it: int32 [W + 2, 50]."""
    marks = _rows([[BEGIN_SENTENCE], [END_SENTENCE]])
    return np.concatenate([marks[:1], spell(words), marks[1:]])


def spell_vocabulary(words: Sequence[str], begin: str, end: str) -> np.ndarray:
    """Return the ids of the entries of a vocabulary: int32 [V, 50].

    Args:
      words: The entries, in the order of their ids.
      begin: The entry that is read as the begin of a sentence.
      end: The entry that is read as the end of a sentence.
    """
    marks = {begin: [BEGIN_SENTENCE], end: [END_SENTENCE]}
    spelled = [marks.get(word, [byte + 1 for byte in word.encode()[:MOST_BYTES]]) for word in words]
    return _rows(spelled)


def is_mark(ids_BLC: Any) -> Any:
    """Return which rows are marks of a sentence, or padding, and no words: bool [B, L]."""
    first_BL = ids_BLC[..., 1]
    return (first_BL == BEGIN_SENTENCE) | (first_BL == END_SENTENCE) | (first_BL == 0)


def truncated(words: Sequence[str]) -> list[str]:
    """Return the words that have more bytes than a row holds, so that they are truncated."""
    return [word for word in words if len(word.encode()) > MOST_BYTES]


def _rows(spelled: Sequence[Sequence[int]]) -> np.ndarray:
    ids_WC = np.full((len(spelled), LENGTH), PADDING, np.int32)
    for row_C, ids in zip(ids_WC, spelled, strict=True):
        row_C[: len(ids) + 2] = [BEGIN_WORD, *ids, END_WORD]
    return ids_WC
