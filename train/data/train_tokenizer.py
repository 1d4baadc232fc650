"""Trains tokenizers from texts: byte-level BPE, WordPiece and unigram models.

`texts` are strings that can be read more than once. The same texts give the same tokenizer,
whatever the number of threads.
"""

import json
from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from zoo.tokenizers import AnyTokenizer, Sides, published, token_id

# A rarer character is unknown; BERT's vocabularies hold about as many.
ALPHABET = 1000


def byte_level_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train GPT-2's tokenizer: bytes and merges, then `<|endoftext|>` as the last id.

    Raises ValueError where the texts give fewer than `vocab_size` entries.
    """
    tokenizer = published.byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(published.GPT2_SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(list(published.GPT2_SPECIALS))
    return _exactly(vocab_size, tokenizer)


def roberta(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train RoBERTa's: `<s>`, `<pad>`, `</s>`, `<unk>`, then bytes and merges, then `<mask>`.

    Raises ValueError where the texts give fewer than `vocab_size` entries.
    """
    *first, last = published.ROBERTA_SPECIALS
    tokenizer = published.byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=first,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([last])
    published.add_roberta_specials(tokenizer)
    return _exactly(vocab_size, tokenizer)


def wordpiece(texts: Iterable[str], vocab_size: int, lowercase: bool = True) -> Tokenizer:
    """Train BERT's: `[PAD]` is 0, then `[UNK]`, `[CLS]`, `[SEP]`, `[MASK]`, then the pieces.

    Raises ValueError where the texts give fewer than `vocab_size` entries.
    """
    draft = published.wordpiece(models.WordPiece(unk_token="[UNK]"), lowercase)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(draft.normalizer.normalize_str(text))
    found = sorted((char for char in counts if not char.isspace()), key=lambda c: (-counts[c], c))
    alphabet = sorted(found[:ALPHABET])
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        # The trainer numbers the characters inside words as it meets them, in an order that changes
        # from run to run, and breaks ties by number; so they are numbered beforehand.
        special_tokens=[*published.BERT_SPECIALS, *(f"##{char}" for char in alphabet)],
        show_progress=False,
    )
    draft.train_from_iterator(texts, trainer)
    model = models.WordPiece(draft.get_vocab(), unk_token="[UNK]")
    tokenizer = published.wordpiece(model, lowercase)
    published.add_bert_specials(tokenizer)
    return _exactly(vocab_size, tokenizer)


def unigram(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train XLNet's: a cased unigram model with XLNet's nine special tokens as ids 0 to 8.

    Raises ValueError where the texts give fewer than `vocab_size` entries.
    """
    cleaning = [*published.xlnet_cleaning(), normalizers.NFKC()]
    tokenizer = _unigram(texts, vocab_size, published.XLNET_SPECIALS, cleaning)
    published.add_xlnet_specials(tokenizer)
    return tokenizer


def albert(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train ALBERT's: lower-cased unigram; `<pad>` is 0, `<unk>` 1, then `[CLS]` and the others.

    Raises ValueError where the texts give fewer than `vocab_size` entries.
    """
    cleaning = [*published.xlnet_cleaning(lowercase=True), normalizers.NFKC()]
    tokenizer = _unigram(texts, vocab_size, published.ALBERT_SPECIALS, cleaning)
    published.add_albert_specials(tokenizer)
    return tokenizer


def t5(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train T5's cased unigram model; `<pad>` is 0, then `</s>`, `<unk>`; 100 sentinels come last.

    The vocabulary is as large as fits below the next multiple of 128 with the sentinels, as the
    published 32,100 of 32,128. Raises ValueError where the texts give fewer entries.
    """
    size = vocab_size - published.SENTINELS - 28
    tokenizer = _unigram(texts, size, published.T5_SPECIALS, [normalizers.NFKC()])
    published.add_t5_specials(tokenizer)
    return tokenizer


def pairs(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a translator's cased unigram model for both sides; `<pad>` is 0, then `</s>`, `<unk>`.

    Raises ValueError where the texts give fewer than `vocab_size` entries.
    """
    return _unigram(texts, vocab_size, published.T5_SPECIALS, [normalizers.NFKC()])


def separate(texts: Iterable[str], vocab_size: int) -> Sides:
    """Train one tokenizer on the sources and one on the targets, which alternate in the texts."""
    texts = list(texts)
    return Sides(pairs(texts[::2], vocab_size), pairs(texts[1::2], vocab_size))


def special_ids(tokenizer: AnyTokenizer) -> tuple[int, int, int]:
    """Return the ids of the tokens that open a text, end it, and mask a token.

    Raises:
      ValueError: If the tokenizer has no such tokens.
    """
    families = (("[CLS]", "[SEP]", "[MASK]"), ("<s>", "</s>", "<mask>"))
    for names in families:
        if all(tokenizer.token_to_id(name) is not None for name in names):
            cls, sep, mask = (token_id(tokenizer, name) for name in names)
            return cls, sep, mask
    raise ValueError(
        "the tokenizer has no mask token: it needs [CLS], [SEP], [MASK], or <s>, </s>, <mask>"
    )


def _unigram(texts: Iterable[str], vocab_size: int, specials, cleaning) -> Tokenizer:
    cleaning = normalizers.Sequence(cleaning)
    draft = published.unigram(models.Unigram(), cleaning)
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size,
        special_tokens=list(specials),
        unk_token="<unk>",
        show_progress=False,
    )
    draft.train_from_iterator(texts, trainer)
    pieces = json.loads(draft.to_str())["model"]["vocab"]
    words = [*((name, 0.0) for name in specials), *_settled(pieces[len(specials) :])]
    model = models.Unigram(words, unk_id=specials.index("<unk>"))
    return _exactly(vocab_size, published.unigram(model, cleaning))


def _settled(pieces: list) -> list[tuple[str, float]]:
    """The pieces of a unigram model without what changes from run to run.

    The trainer adds up its sums in the order of a hash table, which moves the last bits of a score.
    Characters that it must keep but that earned nothing it puts below the rest, a ten-thousandth
    apart, in that same order; here they go by the alphabet.
    """
    lowest = min((score for _, score in pieces), default=0.0)
    unearned = {
        text: score
        for text, score in pieces
        if len(text) == 1 and abs((score - lowest) * 1e4 - round((score - lowest) * 1e4)) < 1e-4
    }
    settled = dict(zip(sorted(unearned), sorted(unearned.values(), reverse=True), strict=True))
    scores = [(text, round(settled.get(text, score), 4)) for text, score in pieces]
    return sorted(scores, key=lambda piece: (-piece[1], piece[0]))


def _exactly(vocab_size: int, tokenizer: Tokenizer) -> Tokenizer:
    size = tokenizer.get_vocab_size()
    if size != vocab_size:
        raise ValueError(
            f"the text gives a vocabulary of {size}, not {vocab_size}: "
            "give more text, or ask for another size"
        )
    return tokenizer
