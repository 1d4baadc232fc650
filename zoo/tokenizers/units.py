"""Tokenizers without a model of sub-words: a token is a word or a character of the text.

The vocabulary is a list of texts, in the order of their ids. `UNKNOWN` stands for every text that
is not in it, and `END` begins and ends a document; no text is encoded as `END`. Nothing is added to
the vocabulary: without `UNKNOWN`, as in most files of word vectors, a text with another word is
refused when it is encoded.
"""

from collections.abc import Callable, Sequence

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

UNKNOWN, END = "<unk>", "</s>"
LINE_END = "<eos>"  # in a vocabulary of words: the end of a line


def words(vocabulary: Sequence[str]) -> Tokenizer:
    """Return a tokenizer whose tokens are the words of a text: what stands between white space.

    If the vocabulary has `LINE_END`, every line ends with that token; otherwise the end of a line
    is white space. A decoded text begins with a space, so that it continues the text before it.
    """
    tokenizer = _tokenizer(vocabulary)
    if LINE_END in vocabulary:
        tokenizer.normalizer = normalizers.Replace("\n", f" {LINE_END} ")
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(Regex(f"^{LINE_END}$"), "\n"),
            decoders.Replace(Regex("^(?!\n)"), " "),
            decoders.Fuse(),
            decoders.Replace("\n ", "\n"),
        ]
    )
    return tokenizer


def characters(vocabulary: Sequence[str]) -> Tokenizer:
    """Return a tokenizer whose tokens are the characters (Unicode code points) of a text."""
    tokenizer = _tokenizer(vocabulary)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def reads_words(tokenizer: Tokenizer) -> bool:
    """Return whether the tokens of a tokenizer are the words between white space."""
    return isinstance(tokenizer.model, models.WordLevel) and isinstance(
        tokenizer.pre_tokenizer, pre_tokenizers.WhitespaceSplit
    )


def lowercased(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy of a tokenizer that reads texts in lower case."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    before = [] if copy.normalizer is None else [copy.normalizer]
    copy.normalizer = normalizers.Sequence([normalizers.Lowercase(), *before])
    return copy


def _tokenizer(vocabulary: Sequence[str]) -> Tokenizer:
    ids = {text: number for number, text in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(ids, UNKNOWN))
    tokenizer.add_special_tokens([text for text in (UNKNOWN, END) if text in ids])
    return tokenizer


# What a token can be -> the tokenizer of a vocabulary.
UNITS: dict[str, Callable[[Sequence[str]], Tokenizer]] = {"word": words, "character": characters}
