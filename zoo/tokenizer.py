"""Tokenizers on disk: one `tokenizer.json`, or the vocabulary files of the published models.

Everything is a `tokenizers.Tokenizer`. Files are read as text, JSON or protobuf; a pickle is never
opened.
"""

import hashlib
import json
import os
import re
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from zoo import sentencepiece

# The special tokens of each family, in the order of their ids in a vocabulary trained from scratch.
BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
GPT2_SPECIALS = ("<|endoftext|>",)
ROBERTA_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")  # the last has the last id
ALBERT_SPECIALS = ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")
T5_SPECIALS = ("<pad>", "</s>", "<unk>")
SENTINELS = 100  # of T5, counted down from the last id
XLNET_SPECIALS = (
    *("<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>"),
    "<eop>",
)


def load(folder) -> Tokenizer:
    """The tokenizer in a model folder.

    Looks for `tokenizer.json`; BERT's `vocab.txt`; GPT-2's `vocab.json` with `merges.txt`, or
    `encoder.json` with `vocab.bpe`; a SentencePiece `spiece.model`. `tokenizer_config.json` may say
    `do_lower_case` (BERT, XLNet) and `keep_accents` (XLNet). Where it does not, a BERT vocabulary
    is cased if any entry that is not special has an upper-case letter.

    Raises FileNotFoundError when there is none of these, ValueError when one cannot be read.
    """
    folder = Path(folder)
    for names, read in _READERS.items():
        files = [folder / name for name in names]
        if all(file.exists() for file in files):
            try:
                return read(*files, _config(folder))
            except Exception as error:  # the tokenizers library raises bare Exception
                raise ValueError(f"{files[0]} cannot be read as a tokenizer: {error}") from error
    wanted = ", ".join(" with ".join(names) for names in _READERS)
    raise FileNotFoundError(f"{folder} has no tokenizer: looked for {wanted}")


def save(tokenizer: Tokenizer, folder) -> None:
    """Writes `tokenizer.json` into a folder, whole or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"tokenizer.json.{os.getpid()}"
    draft.write_text(tokenizer.to_str(pretty=True), "utf-8")
    os.replace(draft, folder / "tokenizer.json")


def fingerprint(tokenizer: Tokenizer) -> str:
    """A sha256 that two tokenizers share when they turn every text into the same ids."""
    content = json.loads(tokenizer.to_str())
    del content["truncation"], content["padding"]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def ordinary(tokenizer: Tokenizer) -> Tokenizer:
    """A copy that reads the names of special tokens in a text as ordinary characters.

    A unigram model would still find `<cls>` among its pieces; so each such name is split after its
    first character.
    """
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.encode_special_tokens = True
    special = [token.content for token in copy.get_added_tokens_decoder().values() if token.special]
    if isinstance(copy.model, models.Unigram) and special:
        names = "|".join(f"{re.escape(name[0])}(?={re.escape(name[1:])})" for name in special)
        split = pre_tokenizers.Split(Regex(names), "merged_with_previous")
        steps = [copy.pre_tokenizer] if copy.pre_tokenizer else []
        copy.pre_tokenizer = pre_tokenizers.Sequence([*steps, split])
    return copy


def wordpiece(model: models.Model, lowercase: bool) -> Tokenizer:
    """BERT's tokenizer around a WordPiece model (Devlin et al. 2018)."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def byte_level(model: models.Model) -> Tokenizer:
    """GPT-2's tokenizer around a byte-pair model (Radford et al. 2019)."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def unigram(model: models.Model, normalizer: normalizers.Normalizer) -> Tokenizer:
    """SentencePiece's word splitting around a unigram model (Kudo and Richardson 2018)."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return tokenizer


def xlnet_cleaning(lowercase: bool = False, keep_accents: bool = False) -> list:
    """What XLNet does to a text before SentencePiece sees it (its `preprocess_text`).

    That also squeezes spaces (`remove_space`); here splitting at white space does, in any case.
    """
    steps = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if not keep_accents:
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    return [*steps, normalizers.Lowercase()] if lowercase else steps


def add_bert_specials(tokenizer: Tokenizer) -> None:
    """Marks BERT's special tokens, and lays out `[CLS] A [SEP] B [SEP]`, types 0 and 1."""
    _add_specials(tokenizer, BERT_SPECIALS)
    _as_bert(tokenizer)


def _as_bert(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )


def add_roberta_specials(tokenizer: Tokenizer) -> None:
    """Marks RoBERTa's special tokens, and lays out `<s> A </s></s> B </s>`, all of type 0."""
    _add_specials(tokenizer, ROBERTA_SPECIALS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s>:0 $A:0 </s>:0",
        pair="<s>:0 $A:0 </s>:0 </s>:0 $B:0 </s>:0",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("<s>", "</s>")],
    )


def add_albert_specials(tokenizer: Tokenizer) -> None:
    """Marks ALBERT's special tokens, laid out as BERT's."""
    _add_specials(tokenizer, ALBERT_SPECIALS)
    _as_bert(tokenizer)


def add_t5_specials(tokenizer: Tokenizer) -> None:
    """Marks T5's special tokens and adds the sentinels, `<extra_id_0>` last; `</s>` ends a text."""
    _add_specials(tokenizer, T5_SPECIALS)
    names = [f"<extra_id_{number}>" for number in reversed(range(SENTINELS))]
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in names])
    end = ("</s>", tokenizer.token_to_id("</s>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A:0 </s>:0", pair="$A:0 </s>:0 $B:0 </s>:0", special_tokens=[end]
    )


def add_xlnet_specials(tokenizer: Tokenizer) -> None:
    """Marks XLNet's special tokens, and lays out `A <sep> B <sep> <cls>`, types 0, 1 and 2."""
    _add_specials(tokenizer, XLNET_SPECIALS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A:0 <sep>:0 <cls>:2",
        pair="$A:0 <sep>:0 $B:1 <sep>:1 <cls>:2",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("<sep>", "<cls>")],
    )


def _add_specials(tokenizer: Tokenizer, names) -> None:
    """Marks those of the names that the vocabulary has. A mask takes the space before it along."""
    known = [name for name in names if tokenizer.token_to_id(name) is not None]
    tokenizer.add_special_tokens(
        [AddedToken(name, lstrip=name == "<mask>", normalized=False) for name in known]
    )


def _config(folder: Path) -> dict:
    file = folder / "tokenizer_config.json"
    return json.loads(file.read_text("utf-8")) if file.exists() else {}


def _read_json(file: Path, config: dict) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(file))
    # Published files carry the cutting and padding of whoever saved them last.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _read_bert(file: Path, config: dict) -> Tokenizer:
    vocabulary = models.WordPiece.read_file(str(file))
    missing = sorted({"[UNK]", "[CLS]", "[SEP]"} - set(vocabulary))
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    special = re.compile(r"\[[A-Za-z0-9]+\]")
    cased = any(word != word.lower() for word in vocabulary if not special.fullmatch(word))
    lowercase = config.get("do_lower_case", not cased)
    tokenizer = wordpiece(models.WordPiece(vocabulary, unk_token="[UNK]"), lowercase)
    add_bert_specials(tokenizer)
    return tokenizer


def _read_gpt2(vocabulary: Path, merges: Path, config: dict) -> Tokenizer:
    """A byte-level BPE: RoBERTa's where it has `<s>` and `<mask>`, otherwise GPT-2's."""
    tokenizer = byte_level(models.BPE.from_file(str(vocabulary), str(merges)))
    if {"<s>", "<mask>"} <= set(tokenizer.get_vocab()):
        add_roberta_specials(tokenizer)
    else:
        _add_specials(tokenizer, GPT2_SPECIALS)
    return tokenizer


def _read_sentencepiece(file: Path, config: dict) -> Tokenizer:
    """A SentencePiece model: XLNet's and ALBERT's by their special tokens, T5's by its config,
    otherwise the bare model."""
    model = sentencepiece.read(file.read_bytes())
    charsmap = [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
    names = {piece.text for piece in model.pieces}
    is_xlnet, is_albert = {"<cls>", "<sep>"} <= names, {"[CLS]", "[SEP]"} <= names
    if not (is_xlnet or is_albert):
        tokenizer = unigram(_unigram_model(model, {}), normalizers.Sequence(charsmap))
        special = (sentencepiece.UNKNOWN, sentencepiece.CONTROL)
        _add_specials(tokenizer, [piece.text for piece in model.pieces if piece.type in special])
        if config.get("extra_ids") == SENTINELS or config.get("tokenizer_class") == "T5Tokenizer":
            add_t5_specials(tokenizer)
        return tokenizer
    # XLNet splits a comma off a number, whatever the model learned; so such a piece never pays.
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


_READERS = {
    ("tokenizer.json",): _read_json,
    ("vocab.txt",): _read_bert,
    ("vocab.json", "merges.txt"): _read_gpt2,
    ("encoder.json", "vocab.bpe"): _read_gpt2,
    ("spiece.model",): _read_sentencepiece,
}
