"""Training of tokenizers: byte-level BPE, WordPiece and unigram models.

`texts` must allow more than one iteration. The same texts always give the same tokenizer, with any
number of threads.
"""

import json
from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from zoo.tokenizers import AnyTokenizer, Sides, published, token_id

# The number of characters in a WordPiece alphabet, about that of BERT's vocabularies. Rarer
# characters become unknown tokens.
ALPHABET = 1000
GPT_ALPHABET = 238  # as many as the published vocabulary of GPT has


def byte_level_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a tokenizer like GPT-2's: bytes and merges, then `<|endoftext|>` as the last id.

    Raises:
      ValueError: If the texts yield fewer than `vocab_size` entries.
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


def end_of_word_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a lower-cased tokenizer like GPT's, whose words end in `</w>`.

    The ids are `<unk>`, the characters, the same at the end of a word, the merges, and `_start_`.

    Raises:
      ValueError: If the texts yield fewer than `vocab_size` entries.
    """
    unknown, start, *_ = published.GPT_SPECIALS
    suffix = published.END_OF_WORD
    draft = published.end_of_word(models.BPE(unk_token=unknown, end_of_word_suffix=suffix))
    alphabet = _alphabet(texts, draft, GPT_ALPHABET)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        end_of_word_suffix=suffix,
        # As for WordPiece, the trainer would assign these ids in an order that changes.
        special_tokens=[unknown, *alphabet, *(f"{char}{suffix}" for char in alphabet)],
        show_progress=False,
    )
    draft.train_from_iterator(texts, trainer)
    trained = json.loads(draft.to_str())["model"]
    model = models.BPE(
        trained["vocab"],
        [tuple(merge) for merge in trained["merges"]],
        unk_token=unknown,
        end_of_word_suffix=suffix,
    )
    tokenizer = published.end_of_word(model)
    tokenizer.add_special_tokens([unknown, start])
    return _exactly(vocab_size, tokenizer)


def roberta(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a tokenizer like RoBERTa's.

    The ids are `<s>`, `<pad>`, `</s>`, `<unk>`, then bytes and merges, then `<mask>`.

    Raises:
      ValueError: If the texts yield fewer than `vocab_size` entries.
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
    """Train a WordPiece tokenizer like BERT's.

    The ids are `[PAD]`, `[UNK]`, `[CLS]`, `[SEP]`, `[MASK]`, then the pieces.

    Raises:
      ValueError: If the texts yield fewer than `vocab_size` entries.
    """
    draft = published.wordpiece(models.WordPiece(unk_token="[UNK]"), lowercase)
    alphabet = _alphabet(texts, draft, ALPHABET)
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        # The trainer assigns ids to word-internal characters in an order that changes from run to
        # run, and breaks ties by id. Assigning the ids here makes the result deterministic.
        special_tokens=[*published.BERT_SPECIALS, *(f"##{char}" for char in alphabet)],
        show_progress=False,
    )
    draft.train_from_iterator(texts, trainer)
    model = models.WordPiece(draft.get_vocab(), unk_token="[UNK]")
    tokenizer = published.wordpiece(model, lowercase)
    published.add_bert_specials(tokenizer)
    return _exactly(vocab_size, tokenizer)


def unigram(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a cased unigram tokenizer like XLNet's, with its nine special tokens as ids 0 to 8.

    Raises:
      ValueError: If the texts yield fewer than `vocab_size` entries.
    """
    cleaning = [*published.xlnet_cleaning(), normalizers.NFKC()]
    tokenizer = _unigram(texts, vocab_size, published.XLNET_SPECIALS, cleaning)
    published.add_xlnet_specials(tokenizer)
    return tokenizer


def albert(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a lower-cased unigram tokenizer like ALBERT's.

    The ids start with `<pad>`, `<unk>`, `[CLS]` and the other special tokens.

    Raises:
      ValueError: If the texts yield fewer than `vocab_size` entries.
    """
    cleaning = [*published.xlnet_cleaning(lowercase=True), normalizers.NFKC()]
    tokenizer = _unigram(texts, vocab_size, published.ALBERT_SPECIALS, cleaning)
    published.add_albert_specials(tokenizer)
    return tokenizer


def t5(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a cased unigram tokenizer like T5's.

    The ids start with `<pad>`, `</s>`, `<unk>` and end with 100 sentinels. The model's vocabulary
    is padded to a multiple of 128, so the last 28 ids are unused, like 32,100 to 32,127 in the
    published vocabulary.

    Raises:
      ValueError: If the texts yield fewer entries.
    """
    size = vocab_size - published.SENTINELS - 28
    tokenizer = _unigram(texts, size, published.T5_SPECIALS, [normalizers.NFKC()])
    published.add_t5_specials(tokenizer)
    return tokenizer


def pairs(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a cased unigram tokenizer for both sides of a translator.

    The ids start with `<pad>`, `</s>`, `<unk>`.

    Raises:
      ValueError: If the texts yield fewer than `vocab_size` entries.
    """
    return _unigram(texts, vocab_size, published.T5_SPECIALS, [normalizers.NFKC()])


def separate(texts: Iterable[str], vocab_size: int) -> Sides:
    """Train one tokenizer on the sources and one on the targets, which alternate in `texts`."""
    texts = list(texts)
    return Sides(pairs(texts[::2], vocab_size), pairs(texts[1::2], vocab_size))


def special_ids(tokenizer: AnyTokenizer) -> tuple[int, int, int]:
    """Return the ids of the start, end and mask tokens.

    Raises:
      ValueError: If the tokenizer does not have them.
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
    words = [*((name, 0.0) for name in specials), *_deterministic_scores(pieces[len(specials) :])]
    model = models.Unigram(words, unk_id=specials.index("<unk>"))
    return _exactly(vocab_size, published.unigram(model, cleaning))


def _deterministic_scores(pieces: list) -> list[tuple[str, float]]:
    """Return the pieces of a unigram model with deterministic scores.

    The trainer sums in hash-table order, which changes the last bits of a score from run to run.
    Required characters without a score of their own get the lowest scores, 0.0001 apart, in the
    same order. This function rounds all scores and sorts those characters alphabetically.
    """
    lowest = min((score for _, score in pieces), default=0.0)
    unscored = {
        text: score
        for text, score in pieces
        if len(text) == 1 and abs((score - lowest) * 1e4 - round((score - lowest) * 1e4)) < 1e-4
    }
    new_scores = dict(zip(sorted(unscored), sorted(unscored.values(), reverse=True), strict=True))
    scores = [(text, round(new_scores.get(text, score), 4)) for text, score in pieces]
    return sorted(scores, key=lambda piece: (-piece[1], piece[0]))


def _alphabet(texts: Iterable[str], tokenizer: Tokenizer, size: int) -> list[str]:
    """Return the most frequent characters of normalized texts, sorted."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(tokenizer.normalizer.normalize_str(text))
    chars = sorted((char for char in counts if not char.isspace()), key=lambda c: (-counts[c], c))
    return sorted(chars[:size])


def _exactly(vocab_size: int, tokenizer: Tokenizer) -> Tokenizer:
    size = tokenizer.get_vocab_size()
    if size != vocab_size:
        raise ValueError(
            f"the text yields a vocabulary of {size}, not {vocab_size}: "
            "give more text, or use another --vocab-size"
        )
    return tokenizer
