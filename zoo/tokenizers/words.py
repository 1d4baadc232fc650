"""Whole words that are added to a trained tokenizer, each as one token.

A word is found in a text after normalization, so casing and accents count as for any other text,
and only where letters or digits do not continue it: "covid" is not found in "covids". Scripts that
are written without spaces have no such border. All other text is tokenized as before.
"""

import json
import re
from collections.abc import Sequence

from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers

from zoo.tokenizers import units
from zoo.tokenizers.folder import AnyTokenizer, Sides
from zoo.tokenizers.published import END_OF_WORD

# Thai, Lao, Myanmar, Khmer, kana, CJK.
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")


def known_words(tokenizer: AnyTokenizer, words: Sequence[str]) -> list[str]:
    """Return the words that are one token already, other than the unknown one."""
    if isinstance(tokenizer, Sides):
        on_target = set(known_words(tokenizer.target, words))
        return [word for word in known_words(tokenizer.source, words) if word in on_target]
    unknown = unknown_id(tokenizer)
    ids = {word: _encode(tokenizer, word) for word in words}
    return [word for word in words if len(ids[word]) == 1 and ids[word][0] != unknown]


def whole_words(tokenizer: Tokenizer) -> dict[int, str]:
    """Return the words that are one token where they stand between spaces: id -> word.

    Punctuation needs no space before it. Special tokens are no words, and neither are pieces that
    continue a word.
    """
    added = tokenizer.get_added_tokens_decoder().items()
    special = {id for id, token in added if token.special}
    # A token after another one is decoded with a space if it begins a word, whatever marks that.
    before = _encode(tokenizer, "a")[-1]
    ids = [id for id in sorted(tokenizer.get_vocab().values()) if id not in special]
    start = tokenizer.decode([before], skip_special_tokens=False)
    texts = tokenizer.decode_batch([[before, id] for id in ids], skip_special_tokens=False)
    words = {}
    for id, text in zip(ids, texts, strict=True):
        rest = text.removeprefix(start)
        word = rest.removeprefix(" ")
        begins = rest != word or not re.search(r"\w", word)
        if begins and word and not re.search(r"\s", word):
            words[id] = word
    return words


def add_words(tokenizer: AnyTokenizer, words: Sequence[str]) -> AnyTokenizer:
    """Return a copy of a tokenizer that encodes each word as one token, with ids after all others.

    Words that are one token already are left out. With separate tokenizers for source and target,
    both get the words.

    Raises:
      ValueError: If a word is empty or contains white space, or if the tokenizer does not find it
        in a text, because its normalizer changes it.
    """
    wrong = [word for word in words if not word or re.search(r"\s", word)]
    if wrong:
        raise ValueError(f"{wrong[0]!r} cannot be added to a vocabulary: use words without spaces")
    if isinstance(tokenizer, Sides):
        known = set(known_words(tokenizer, words))
        new = [word for word in words if word not in known]
        return Sides(*(_added(side, new) for side in (tokenizer.source, tokenizer.target)))
    known = set(known_words(tokenizer, words))
    return _added(tokenizer, [word for word in words if word not in known])


def _added(tokenizer: Tokenizer, words: Sequence[str]) -> Tokenizer:
    if units.reads_words(tokenizer):
        # An added token would also be found between the punctuation of other words.
        content = json.loads(tokenizer.to_str())
        ids, size = content["model"]["vocab"], tokenizer.get_vocab_size()
        ids.update({word: size + number for number, word in enumerate(words)})
        return Tokenizer.from_str(json.dumps(content))
    copy = Tokenizer.from_str(tokenizer.to_str())
    contents = list(dict.fromkeys(_content(tokenizer, word) for word in words))
    copy.add_tokens(
        [
            AddedToken(content, normalized=True, single_word=not UNSPACED.search(content))
            for content in contents
        ]
    )
    _decode_words(copy, contents)
    unknown = unknown_id(copy)
    for word in words:
        ids = _encode(copy, word)
        if len(ids) != 1 or ids[0] == unknown:
            raise ValueError(
                f"{word!r} cannot be added to the vocabulary: the tokenizer still reads it as "
                f"{' '.join(map(repr, copy.encode(word, add_special_tokens=False).tokens))}"
            )
    return copy


def _content(tokenizer: Tokenizer, word: str) -> str:
    """Return a word as the vocabulary has it: normalized, as far as that leaves it one word."""
    normalizer = tokenizer.normalizer
    normalized = normalizer.normalize_str(word).strip() if normalizer else word
    return normalized if normalized and not re.search(r"\s", normalized) else word


def _decode_words(tokenizer: Tokenizer, contents: Sequence[str]) -> None:
    """Let the decoder write the words as they are, with a space before them where it belongs."""
    decoder = tokenizer.decoder
    if decoder is None:
        return
    kinds = _kinds(json.loads(tokenizer.to_str())["decoder"])
    if "ByteLevel" in kinds:
        # This decoder takes letters such as Å for bytes.
        written = {content: _as_bytes(content) for content in contents}
    elif "Metaspace" in kinds:
        # This decoder knows a space by its mark.
        written = {word: word if UNSPACED.search(word) else f"▁{word}" for word in contents}
    elif "BPEDecoder" in kinds:
        # This decoder knows the end of a word by its mark.
        written = {word: f"{word}{END_OF_WORD}" for word in contents}
    else:
        return
    steps = [
        decoders.Replace(Regex(f"^{re.escape(content)}$"), as_piece)
        for content, as_piece in written.items()
        if content != as_piece
    ]
    if steps:
        tokenizer.decoder = decoders.Sequence([*steps, decoder])


def _as_bytes(word: str) -> str:
    """Return a word in the letters that stand for bytes in a byte-level vocabulary."""
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return whole.pre_tokenize_str(word)[0][0]


def _kinds(decoder: dict) -> set[str]:
    return {decoder["type"]}.union(*(_kinds(part) for part in decoder.get("decoders", ())))


def _encode(tokenizer: Tokenizer, word: str) -> list[int]:
    return tokenizer.encode(word, add_special_tokens=False).ids


def known_id(tokenizer: Tokenizer, word: str) -> int | None:
    """Return the id of an entry of a vocabulary, or of the word in lower case; None: neither."""
    id = tokenizer.token_to_id(word)
    return tokenizer.token_to_id(word.lower()) if id is None else id


def unknown_id(tokenizer: Tokenizer) -> int | None:
    """Return the id of the unknown token, or None."""
    model = json.loads(tokenizer.to_str())["model"]
    if model.get("unk_id") is not None:
        return model["unk_id"]
    name = model.get("unk_token")
    return None if name is None else tokenizer.token_to_id(name)
