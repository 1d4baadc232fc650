"""The vocabulary of words or characters of a text.

The rule: `<unk>` has the id 0 and `</s>`, which begins and ends a document, the id 1. Then come the
words or characters of the text, the most frequent first, and in alphabetical order where they are
equally frequent. What occurs fewer than `min_count` times is read as `<unk>`. All of the
training text counts, with the part of it that is held out, as for other tokenizers; the words of a
text to evaluate on (`--dev`) do not.
"""

import re
from collections import Counter
from collections.abc import Iterable

from zoo.tokenizers import Tokenizer
from zoo.tokenizers.units import END, LINE_END, UNITS, UNKNOWN

# What stands between white space, as the tokenizer has it: to it, these four are no white space.
_WORD = re.compile(r"(?:\S|[\x1c-\x1f])+")
RESERVED = (END, "<s>")


def tokenizer(
    texts: Iterable[str], units: str, min_count: int = 1, vocab_size: int | None = None
) -> Tokenizer:
    """Return the tokenizer of the words or characters of some texts.

    Args:
      texts: The texts.
      units: A name in `zoo.tokenizers.units.UNITS`.
      min_count: How often a word must occur.
      vocab_size: The most entries, with <unk> and </s>. None: all.

    Raises:
      ValueError: If fewer than two words remain, or a text has a word that is reserved.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        if units == "character":
            counts.update(text)
        else:
            counts.update(_WORD.findall(text))
            counts[LINE_END] += text.count("\n")
    for name in RESERVED if units == "word" else ():
        if counts[name]:
            raise ValueError(
                f"the text contains {name}, which begins and ends a document: remove it, and give "
                "the string between documents with --separator"
            )
    specials = [UNKNOWN, END]
    for name in (*specials, *RESERVED):
        counts.pop(name, None)
    distinct = sum(count > 0 for text, count in counts.items() if text != LINE_END)
    frequent = [text for text, count in counts.items() if count >= max(min_count, 1)]
    frequent.sort(key=lambda text: (-counts[text], text))
    most = len(frequent) if vocab_size is None else max(vocab_size - len(specials), 0)
    kept = frequent[:most]
    remaining = len([text for text in kept if text != LINE_END])
    if remaining < 2:
        reason = f"the text has {distinct} distinct {units}{'' if distinct == 1 else 's'}"
        if distinct > remaining:
            limit = "--vocab-size" if len(frequent) > len(kept) else "--min-count"
            reason += f", of which {limit} leaves {remaining}"
        raise ValueError(f"{reason}: a model needs at least 2")
    return UNITS[units]([*specials, *kept])
