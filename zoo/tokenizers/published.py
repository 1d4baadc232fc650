"""The tokenizers of the published models: their special tokens, components and files.

Files are parsed as text, JSON or protobuf.
"""

import re
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
from zoo.tokenizers import sentencepiece

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


def add_bert_specials(tokenizer: Tokenizer) -> None:
    """Add BERT's special tokens and the template `[CLS] A [SEP] B [SEP]`, segments 0 and 1."""
    add_specials(tokenizer, BERT_SPECIALS)
    _as_bert(tokenizer)


def _as_bert(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )


def add_roberta_specials(tokenizer: Tokenizer) -> None:
    """Add RoBERTa's special tokens and the template `<s> A </s></s> B </s>`, all segment 0."""
    add_specials(tokenizer, ROBERTA_SPECIALS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s>:0 $A:0 </s>:0",
        pair="<s>:0 $A:0 </s>:0 </s>:0 $B:0 </s>:0",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("<s>", "</s>")],
    )


def add_albert_specials(tokenizer: Tokenizer) -> None:
    """Add ALBERT's special tokens, with BERT's template."""
    add_specials(tokenizer, ALBERT_SPECIALS)
    _as_bert(tokenizer)


def add_t5_specials(tokenizer: Tokenizer) -> None:
    """Add T5's special tokens and its sentinels, `<extra_id_0>` last; `</s>` ends a text."""
    add_specials(tokenizer, T5_SPECIALS)
    names = [f"<extra_id_{number}>" for number in reversed(range(SENTINELS))]
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in names])
    end = ("</s>", tokenizer.token_to_id("</s>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A:0 </s>:0", pair="$A:0 </s>:0 $B:0 </s>:0", special_tokens=[end]
    )


def add_xlnet_specials(tokenizer: Tokenizer) -> None:
    """Add XLNet's special tokens and the template `A <sep> B <sep> <cls>`, segments 0, 1, 2."""
    add_specials(tokenizer, XLNET_SPECIALS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A:0 <sep>:0 <cls>:2",
        pair="$A:0 <sep>:0 $B:1 <sep>:1 <cls>:2",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("<sep>", "<cls>")],
    )


def add_specials(tokenizer: Tokenizer, names) -> None:
    """Mark the names that the vocabulary has as special tokens.

    A `<mask>` token includes the space before it.
    """
    present = [name for name in names if tokenizer.token_to_id(name) is not None]
    tokenizer.add_special_tokens(
        [AddedToken(name, lstrip=name == "<mask>", normalized=False) for name in present]
    )


def read_bert(file: Path, config: dict) -> Tokenizer:
    """Read BERT's `vocab.txt`; raise ValueError if a special token is missing."""
    vocabulary = models.WordPiece.read_file(str(file))
    missing = sorted({"[UNK]", "[CLS]", "[SEP]"} - set(vocabulary))
    if missing:
        raise ValueError(f"the vocabulary lacks {', '.join(missing)}")
    special = re.compile(r"\[[A-Za-z0-9]+\]")
    cased = any(word != word.lower() for word in vocabulary if not special.fullmatch(word))
    lowercase = config.get("do_lower_case", not cased)
    tokenizer = wordpiece(models.WordPiece(vocabulary, unk_token="[UNK]"), lowercase)
    add_bert_specials(tokenizer)
    return tokenizer


def read_gpt(vocabulary: Path, merges: Path, config: dict) -> Tokenizer:
    """Read GPT's BPE; raise ValueError if the vocabulary has no unknown token."""
    unknown = GPT_SPECIALS[0]
    model = models.BPE.from_file(
        str(vocabulary), str(merges), unk_token=unknown, end_of_word_suffix=END_OF_WORD
    )
    tokenizer = end_of_word(model)
    if tokenizer.token_to_id(unknown) is None:
        raise ValueError(f"the vocabulary lacks {unknown}")
    add_specials(tokenizer, GPT_SPECIALS)
    return tokenizer


def read_bpe(vocabulary: Path, merges: Path, config: dict) -> Tokenizer:
    """Read a BPE: GPT's if its words end in `</w>`, otherwise a byte-level one.

    A byte-level BPE is RoBERTa's if it has `<s>` and `<mask>`, otherwise GPT-2's.
    """
    names = untrusted.read_object(vocabulary)
    if any(name.endswith(END_OF_WORD) for name in names):
        return read_gpt(vocabulary, merges, config)
    tokenizer = byte_level(models.BPE.from_file(str(vocabulary), str(merges)))
    if {"<s>", "<mask>"} <= set(tokenizer.get_vocab()):
        add_roberta_specials(tokenizer)
    else:
        add_specials(tokenizer, GPT2_SPECIALS)
    return tokenizer


def read_sentencepiece(file: Path, config: dict) -> Tokenizer:
    """Read a SentencePiece model of XLNet, ALBERT or T5, or a bare one.

    XLNet and ALBERT are recognized by their special tokens, T5 by its config.
    """
    model = sentencepiece.read(file.read_bytes())
    charsmap = [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
    names = {piece.text for piece in model.pieces}
    is_xlnet, is_albert = {"<cls>", "<sep>"} <= names, {"[CLS]", "[SEP]"} <= names
    if not (is_xlnet or is_albert):
        tokenizer = unigram(_unigram_model(model, {}), normalizers.Sequence(charsmap))
        special = (sentencepiece.UNKNOWN, sentencepiece.CONTROL)
        add_specials(tokenizer, [piece.text for piece in model.pieces if piece.type in special])
        if config.get("extra_ids") == SENTINELS or config.get("tokenizer_class") == "T5Tokenizer":
            add_t5_specials(tokenizer)
        return tokenizer
    # XLNet always splits a comma off a number, so these pieces get a score that is never chosen.
    number_comma = {piece.text: -100.0 for piece in model.pieces if re.search(r"\d,$", piece.text)}
    lowercase = config.get("do_lower_case", is_albert)
    cleaning = xlnet_cleaning(lowercase, config.get("keep_accents", False))
    tokenizer = unigram(
        _unigram_model(model, number_comma), normalizers.Sequence([*cleaning, *charsmap])
    )
    (add_xlnet_specials if is_xlnet else add_albert_specials)(tokenizer)
    return tokenizer


def _unigram_model(model: sentencepiece.Model, penalty: dict) -> models.Unigram:
    scores = [
        (piece.text, score + penalty.get(piece.text, 0.0))
        for piece, score in zip(model.pieces, sentencepiece.scores(model), strict=True)
    ]
    return models.Unigram(scores, unk_id=model.unknown, byte_fallback=False)
