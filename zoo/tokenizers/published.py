"""The tokenizers of the published models: their special tokens, components and files.

Files are parsed as text, JSON or protobuf.
"""

import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from zoo import untrusted
from zoo.tokenizers import added, sentencepiece
from zoo.tokenizers.settings import ALBERT, BERT, GPT, GPT2, ROBERTA, T5, XLNET, Settings

PLAIN = Settings()  # no files beside the vocabulary

# The special tokens of each family, in the order of their ids in a vocabulary trained from scratch.
BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# GPT's, of which the published vocabulary has only the first; fine-tuning adds the others.
GPT_SPECIALS = ("<unk>", "_start_", "_delimiter_", "_classify_")
GPT2_SPECIALS = ("<|endoftext|>",)
ROBERTA_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")  # <mask> has the last id
ALBERT_SPECIALS = ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")
T5_SPECIALS = ("<pad>", "</s>", "<unk>")
END_OF_WORD = "</w>"  # ends the last piece of a word in GPT's vocabulary
SENTINELS = 100  # T5's sentinels, numbered down from the last id
XLNET_SPECIALS = (
    *("<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>"),
    "<eop>",
)


def wordpiece(model: models.Model, lowercase: bool) -> Tokenizer:
    """Return BERT's tokenizer for a WordPiece model (Devlin et al. 2018)."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def end_of_word(model: models.Model) -> Tokenizer:
    """Return GPT's tokenizer for a byte-pair model whose words end in `</w>`, in lower case.

    Radford et al. 2018 split words with spaCy after ftfy had cleaned the text; like transformers,
    we clean and split as BERT does.
    """
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.BPEDecoder(suffix=END_OF_WORD)
    return tokenizer


def byte_level(model: models.Model) -> Tokenizer:
    """Return GPT-2's tokenizer for a byte-pair model (Radford et al. 2019)."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def unigram(model: models.Model, normalizer: normalizers.Normalizer) -> Tokenizer:
    """Return SentencePiece's word splitting for a unigram model (Kudo and Richardson 2018)."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return tokenizer


def xlnet_cleaning(
    lowercase: bool = False, keep_accents: bool = False
) -> list[normalizers.Normalizer]:
    """Return XLNet's cleaning of a text before SentencePiece (its `preprocess_text`).

    XLNet also removes repeated spaces (`remove_space`); here splitting at white space has the same
    effect.
    """
    steps: list[normalizers.Normalizer] = [
        normalizers.Replace("``", '"'),
        normalizers.Replace("''", '"'),
    ]
    if not keep_accents:
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    return [*steps, normalizers.Lowercase()] if lowercase else steps


def add_bert_specials(tokenizer: Tokenizer, settings: Settings = PLAIN) -> None:
    """Add BERT's special tokens and the template `[CLS] A [SEP] B [SEP]`, segments 0 and 1."""
    add_specials(tokenizer, BERT_SPECIALS, settings.replaced(BERT[0]))
    _as_bert(tokenizer, settings.names(BERT[0]))


def _as_bert(tokenizer: Tokenizer, names: Mapping[str, str]) -> None:
    cls, sep = names["cls_token"], names["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=_with_ids(tokenizer, cls, sep),
    )


def add_roberta_specials(tokenizer: Tokenizer, settings: Settings = PLAIN) -> None:
    """Add RoBERTa's special tokens and the template `<s> A </s></s> B </s>`, all segment 0."""
    add_specials(tokenizer, ROBERTA_SPECIALS, settings.replaced(ROBERTA[0]))
    names = settings.names(ROBERTA[0])
    cls, sep = names["cls_token"], names["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 {sep}:0 $B:0 {sep}:0",
        special_tokens=_with_ids(tokenizer, cls, sep),
    )


def add_albert_specials(tokenizer: Tokenizer, settings: Settings = PLAIN) -> None:
    """Add ALBERT's special tokens, with BERT's template."""
    add_specials(tokenizer, ALBERT_SPECIALS)
    _as_bert(tokenizer, settings.names(ALBERT))


def add_t5_specials(
    tokenizer: Tokenizer, settings: Settings = PLAIN, sentinels: int = SENTINELS
) -> None:
    """Add T5's special tokens and its sentinels, `<extra_id_0>` last; `</s>` ends a text."""
    add_sentinels(tokenizer, settings, sentinels)
    add_specials(tokenizer, T5_SPECIALS)
    end = settings.names(T5)["eos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A:0 {end}:0",
        pair=f"$A:0 {end}:0 $B:0 {end}:0",
        special_tokens=_with_ids(tokenizer, end),
    )


def add_sentinels(tokenizer: Tokenizer, settings: Settings, sentinels: int) -> None:
    """Add T5's sentinels, whose ids come before those of other added tokens."""
    names = [f"<extra_id_{number}>" for number in reversed(range(sentinels))]
    declared = added.declared(settings)
    tokenizer.add_special_tokens(
        [declared.get(name, AddedToken(name, normalized=False)) for name in names]
    )


def add_xlnet_specials(tokenizer: Tokenizer, settings: Settings = PLAIN) -> None:
    """Add XLNet's special tokens and the template `A <sep> B <sep> <cls>`, segments 0, 1, 2."""
    add_specials(tokenizer, XLNET_SPECIALS)
    names = settings.names(XLNET)
    cls, sep = names["cls_token"], names["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A:0 {sep}:0 {cls}:2",
        pair=f"$A:0 {sep}:0 $B:1 {sep}:1 {cls}:2",
        special_tokens=_with_ids(tokenizer, sep, cls),
    )


def add_specials(
    tokenizer: Tokenizer, names: Iterable[str], replaced: AbstractSet[str] = frozenset()
) -> None:
    """Mark the names that the vocabulary has as special tokens, except replaced ones.

    A `<mask>` token includes the space before it.
    """
    present = [name for name in names if tokenizer.token_to_id(name) is not None]
    tokenizer.add_special_tokens(
        [
            AddedToken(name, lstrip=name == "<mask>", normalized=False)
            for name in present
            if name not in replaced
        ]
    )


def _with_ids(tokenizer: Tokenizer, *names: str) -> list[tuple[str, int]]:
    """Return special tokens with their ids; ValueError if the vocabulary lacks one."""
    ids = {name: tokenizer.token_to_id(name) for name in names}
    missing = sorted(name for name, id in ids.items() if id is None)
    if missing:
        raise ValueError(f"the vocabulary lacks {', '.join(missing)}")
    return [(name, id) for name, id in ids.items() if id is not None]


def _add_ends(tokenizer: Tokenizer, settings: Settings, cls: str) -> None:
    """Let the tokenizer begin and end a text with tokens if the folder asks for it."""
    names = settings.names(cls)
    before, after = (
        names.get(f"{end}_token") if settings.flag(f"add_{end}_token", False) else None
        for end in ("bos", "eos")
    )
    if before or after:
        single, pair = (
            " ".join(
                f"{part}:{segment}" for part in (before, f"${letter}", after) if part is not None
            )
            for letter, segment in (("A", 0), ("B", 1))
        )
        tokenizer.post_processor = processors.TemplateProcessing(
            single=single,
            pair=f"{single} {pair}",
            special_tokens=_with_ids(tokenizer, *filter(None, (before, after))),
        )


def read_bert(file: Path, settings: Settings) -> Tokenizer:
    """Read BERT's `vocab.txt`; raise ValueError if a special token is missing."""
    vocabulary = models.WordPiece.read_file(str(file))
    unknown = settings.names(BERT[0])["unk_token"]
    if unknown not in vocabulary:
        raise ValueError(f"the vocabulary lacks {unknown}")
    special = re.compile(r"\[[A-Za-z0-9]+\]")
    cased = any(word != word.lower() for word in vocabulary if not special.fullmatch(word))
    tokenizer = wordpiece(models.WordPiece(vocabulary, unk_token=unknown), not cased)
    tokenizer.normalizer = bert_normalizer(settings, tokenizer.normalizer)
    added.add(tokenizer, settings, max(vocabulary.values()) + 1 - len(vocabulary))
    add_bert_specials(tokenizer, settings)
    return tokenizer


def bert_normalizer(
    settings: Settings, default: normalizers.BertNormalizer
) -> normalizers.BertNormalizer:
    """Return BERT's normalizer with the options that a folder gives, and else those of another."""
    strip = settings.given("strip_accents")
    return normalizers.BertNormalizer(
        clean_text=default.clean_text,
        handle_chinese_chars=settings.flag("tokenize_chinese_chars", default.handle_chinese_chars),
        strip_accents=default.strip_accents if strip is None else strip,
        lowercase=settings.flag("do_lower_case", default.lowercase),
    )


def read_gpt(vocabulary: Path, merges: Path, settings: Settings) -> Tokenizer:
    """Read GPT's BPE; raise ValueError if the vocabulary has no unknown token."""
    unknown = settings.names(GPT)["unk_token"]
    model = models.BPE.from_file(
        str(vocabulary), str(merges), unk_token=unknown, end_of_word_suffix=END_OF_WORD
    )
    tokenizer = end_of_word(model)
    _with_ids(tokenizer, unknown)
    added.add(tokenizer, settings)
    add_specials(tokenizer, GPT_SPECIALS, settings.replaced(GPT))
    _add_ends(tokenizer, settings, GPT)
    return tokenizer


def read_bpe(vocabulary: Path, merges: Path, settings: Settings) -> Tokenizer:
    """Read a BPE: GPT's if its words end in `</w>`, otherwise a byte-level one.

    Without a class, a byte-level BPE is RoBERTa's if it has `<s>` and `<mask>`, otherwise GPT-2's.
    """
    names = untrusted.read_object(vocabulary)
    is_gpt = any(name.endswith(END_OF_WORD) for name in names)
    if settings.cls and is_gpt != (settings.cls == GPT):
        kind = "words that end" if is_gpt else "no words that end"
        raise ValueError(f"tokenizer_class is {settings.cls}, but it has {kind} in {END_OF_WORD}")
    if is_gpt:
        return read_gpt(vocabulary, merges, settings)
    tokenizer = byte_level(models.BPE.from_file(str(vocabulary), str(merges)))
    if settings.flag("add_prefix_space", False):
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    added.add(tokenizer, settings)
    cls = settings.cls or settings.usual
    if cls in ROBERTA or (cls is None and {"<s>", "<mask>"} <= set(tokenizer.get_vocab())):
        add_roberta_specials(tokenizer, settings)
    else:
        add_specials(tokenizer, GPT2_SPECIALS, settings.replaced(GPT2))
        _add_ends(tokenizer, settings, GPT2)
    return tokenizer


def read_sentencepiece(file: Path, settings: Settings) -> Tokenizer:
    """Read a SentencePiece model of XLNet, ALBERT or T5, or a bare one.

    Without a class, XLNet and ALBERT are recognized by their special tokens, and T5 by the option
    `extra_ids`.
    """
    model = sentencepiece.read(file.read_bytes())
    charsmap = [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
    cls = settings.cls or settings.usual or _sentencepiece_class(model, settings)
    if cls not in (XLNET, ALBERT):
        return _read_t5(model, normalizers.Sequence(charsmap), settings, cls)
    # XLNet always splits a comma off a number, so these pieces get a score that is never chosen.
    number_comma = {piece.text: -100.0 for piece in model.pieces if re.search(r"\d,$", piece.text)}
    lowercase = settings.flag("do_lower_case", cls == ALBERT)
    cleaning = xlnet_cleaning(lowercase, settings.flag("keep_accents", False))
    tokenizer = unigram(
        _unigram_model(model, number_comma), normalizers.Sequence([*cleaning, *charsmap])
    )
    if not settings.flag("add_prefix_space", True):
        if cls == XLNET:
            settings.refuse("add_prefix_space", "XLNet's words begin with a space; remove it")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="never")]
        )
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    for option in ("add_bos_token", "add_eos_token"):
        if settings.given(option) is not None and cls == ALBERT:
            settings.refuse(option, "ALBERT's texts are between [CLS] and [SEP]; remove it")
    added.add(tokenizer, settings)
    (add_xlnet_specials if cls == XLNET else add_albert_specials)(tokenizer, settings)
    return tokenizer


def _read_t5(
    model: sentencepiece.Model,
    cleaning: normalizers.Normalizer,
    settings: Settings,
    cls: str | None,
) -> Tokenizer:
    tokenizer = unigram(_unigram_model(model, {}), cleaning)
    special = (sentencepiece.UNKNOWN, sentencepiece.CONTROL)
    names = [piece.text for piece in model.pieces if piece.type in special]
    if cls != T5:
        added.add(tokenizer, settings)
        add_specials(tokenizer, names)
        return tokenizer
    if not settings.flag("add_prefix_space", True):
        settings.refuse("add_prefix_space", "T5's words begin with a space; remove it")
    sentinels = settings.number("extra_ids", SENTINELS)
    stated = sum("<extra_id_" in token.content for token in settings.extra)
    if stated not in (0, sentinels):
        settings.refuse("extra_ids", f"the folder names {stated} sentinels as special tokens")
    add_sentinels(tokenizer, settings, sentinels)
    added.add(tokenizer, settings)
    add_specials(tokenizer, names)
    add_t5_specials(tokenizer, settings, sentinels)
    return tokenizer


def _sentencepiece_class(model: sentencepiece.Model, settings: Settings) -> str | None:
    names = {piece.text for piece in model.pieces}
    if {"<cls>", "<sep>"} <= names:
        return XLNET
    if {"[CLS]", "[SEP]"} <= names:
        return ALBERT
    return T5 if settings.options.get("extra_ids") is not None else None


def _unigram_model(model: sentencepiece.Model, penalty: dict) -> models.Unigram:
    scores = [
        (piece.text, score + penalty.get(piece.text, 0.0))
        for piece, score in zip(model.pieces, sentencepiece.scores(model), strict=True)
    ]
    return models.Unigram(scores, unk_id=model.unknown, byte_fallback=False)
