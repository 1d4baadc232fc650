"""Tokenizers on disk: one `tokenizer.json`, or the vocabulary files of the published models.

Every tokenizer is a `tokenizers.Tokenizer`, or a pair of them for a translator. Files are parsed as
text, JSON or protobuf; pickles are never opened.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
)

from zoo import untrusted
from zoo.tokenizers import added, byt5, options, published, sentencepiece
from zoo.tokenizers.limits import check_ids, check_json
from zoo.tokenizers.settings import (
    ALBERT,
    BERT,
    GENERIC,
    GPT,
    GPT2,
    MARIAN,
    ROBERTA,
    T5,
    WITHOUT_JSON,
    XLNET,
    Settings,
)
from zoo.tokenizers.settings import read as read_settings


@dataclass(frozen=True)
class Sides:
    """The tokenizers of a translator with separate vocabularies for source and target.

    It encodes sources and decodes targets; special tokens have the same ids on both sides.
    """

    source: Tokenizer
    target: Tokenizer

    def get_vocab_size(self) -> int:
        """Return the larger vocabulary size of the two."""
        return max(self.source.get_vocab_size(), self.target.get_vocab_size())

    def encode(self, text: str, **options):
        """Encode a source."""
        return self.source.encode(text, **options)

    def decode(self, ids, **options) -> str:
        """Decode a target."""
        return self.target.decode(ids, **options)

    def token_to_id(self, name: str) -> int | None:
        """Return the id of a special token, or of a token of the target."""
        return self.target.token_to_id(name)


# The names of the token between documents: in vocabularies of words, of GPT-2, of BERT, of GPT.
ENDS = ("</s>", "<|endoftext|>", "[SEP]", "_start_")
# The tokenizer of a model: one for all texts, or one for each side of a translator.
AnyTokenizer = Tokenizer | Sides


def sides(tokenizer: AnyTokenizer) -> Sides:
    """Return the tokenizers for sources and for targets, which are usually the same."""
    return tokenizer if isinstance(tokenizer, Sides) else Sides(tokenizer, tokenizer)


def token_id(tokenizer: AnyTokenizer, name: str) -> int:
    """Return the id of a special token; ValueError if the tokenizer does not have it."""
    number = tokenizer.token_to_id(name)
    if number is None:
        raise ValueError(f"the tokenizer has no {name} token: use one that has it")
    return number


def last_token(tokenizer: AnyTokenizer) -> tuple[str, int]:
    """Return the token with the largest id, which may exceed the number of tokens, and its id."""
    both = sides(tokenizer)
    tokens = (*both.source.get_vocab().items(), *both.target.get_vocab().items())
    return max(tokens, key=lambda token: token[1], default=("", -1))


def special_tokens(folder: str | os.PathLike) -> dict[str, str]:
    """Return the special token of each role, such as "eos_token", in a Hugging Face folder."""
    return read_settings(Path(folder)).names()


def end_of_document(tokenizer: AnyTokenizer, name: str | None = None) -> int:
    """Return the id of the token between documents.

    Args:
      tokenizer: The tokenizer.
      name: The token that is used if the tokenizer has it, before those of `ENDS`.

    Raises:
      ValueError: If the tokenizer has none of them.
    """
    names = ENDS if name is None else (name, *ENDS)
    for candidate in names:
        number = tokenizer.token_to_id(candidate)
        if number is not None:
            return number
    raise ValueError(
        f"the tokenizer has no token that ends a document: use one with {', '.join(names)}"
    )


def load(folder: str | os.PathLike) -> AnyTokenizer:
    """Load the tokenizer of a model folder.

    It is read from `tokenizer.json`; BERT's `vocab.txt`; GPT's and GPT-2's `vocab.json` with
    `merges.txt`, or the names of the released code: `encoder.json` with `vocab.bpe`, and
    `encoder_bpe_40000.json` with `vocab_40000.bpe`; a SentencePiece `spiece.model`; or Marian's
    `source.spm` and `target.spm` with `vocab.json`. ByT5 has no such file: only its class is named.

    The files beside it (`settings.py`) give the class, the special and added tokens, and options.
    Without `do_lower_case`, a BERT vocabulary is cased if any ordinary entry has an upper-case
    letter. A `tokenizer.json` is whole: of the other files, tokens that it lacks are added, and
    options that they give replace those of BERT's normalizer and of byte-level BPE, as in
    transformers; an option of another tokenizer that contradicts it is an error.

    Raises:
      FileNotFoundError: If the folder has none of these files.
      ValueError: If a file cannot be parsed, or asks for what is not supported: it is named.
    """
    folder = Path(folder)
    if folder.is_dir():
        untrusted.check_folder(folder)
    for names, (read, classes) in _READERS.items():
        files = [folder / name for name in names]
        if all(file.exists() for file in files):
            settings = _settings(folder, classes)
            try:
                for file in files:
                    if file.suffix == ".json" and file.name != "tokenizer.json":
                        check_ids(untrusted.read_object(file))
                return read(*files, settings)
            except BaseException as error:
                # The tokenizers library raises bare Exception, and panics, which are no Exception.
                if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                    raise
                named = type(error) is Exception or isinstance(error, ValueError | OSError)
                reason = error if named else "it is damaged"
                raise ValueError(f"{files[0]} cannot be read as a tokenizer: {reason}") from error
    if (settings := read_settings(folder)).cls == byt5.CLASS:  # it has no vocabulary
        return byt5.read(settings)
    expected = ", ".join(" with ".join(names) for names in _READERS)
    raise FileNotFoundError(f"{folder} has no tokenizer: looked for {expected}")


def save(tokenizer: AnyTokenizer, folder: str | os.PathLike) -> None:
    """Write `tokenizer.json` into a folder, atomically."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"tokenizer.json.{os.getpid()}"
    draft.write_text(_json(tokenizer), "utf-8")
    os.replace(draft, folder / "tokenizer.json")


def _json(tokenizer: AnyTokenizer) -> str:
    if isinstance(tokenizer, Sides):
        return f'{{"source": {_json(tokenizer.source)}, "target": {_json(tokenizer.target)}}}'
    return tokenizer.to_str(pretty=True)


def fingerprint(tokenizer: AnyTokenizer) -> str:
    """Return a SHA-256 that is equal for tokenizers that encode every text in the same way."""
    if isinstance(tokenizer, Sides):
        both = fingerprint(tokenizer.source) + fingerprint(tokenizer.target)
        return hashlib.sha256(both.encode()).hexdigest()
    content = json.loads(tokenizer.to_str())
    del content["truncation"], content["padding"]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def ordinary(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy that encodes the names of special tokens in a text as ordinary characters.

    A unigram model would still find `<cls>` among its pieces, so each name is split after its first
    character.
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


def _settings(folder: Path, classes: tuple[str, ...]) -> Settings:
    """Return what the files beside a vocabulary say, which one of the classes can read."""
    settings = read_settings(folder)
    if settings.cls in WITHOUT_JSON or (classes and settings.cls not in (None, *classes)):
        if settings.cls in GENERIC:
            raise ValueError(
                f"{folder} has a {settings.cls} but no tokenizer.json: save one with transformers"
            )
        raise ValueError(
            f"{folder} has a {settings.cls}, which zoo cannot read"
            + (f" from these files: expected {' or '.join(classes)}" if classes else "")
        )
    if classes and settings.usual not in classes:  # the files are those of another class
        return replace(settings, usual=None)
    return settings


def _read_json(file: Path, settings: Settings) -> AnyTokenizer:
    content = untrusted.read_object(file)
    check_json(content)
    if content.keys() == {"source", "target"}:
        return Sides(*(Tokenizer.from_str(json.dumps(content[side])) for side in content))
    tokenizer = Tokenizer.from_file(str(file))
    # Published files store the truncation and padding settings of the process that saved them.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    added.check_json_ids(tokenizer, content)
    options.apply(tokenizer, content, settings)
    added.add_to_json(tokenizer, settings)
    return tokenizer


def _read_marian(source: Path, target: Path, vocabulary: Path, settings: Settings) -> Sides:
    """Read Marian's tokenizers: one SentencePiece model per side, one vocabulary of ids for both.

    Letters that a side lacks are encoded as pieces of the other side. transformers does so only if
    a whole run of them is one piece, and otherwise encodes the run as unknown.
    """
    ids = untrusted.read_object(vocabulary)
    if sorted(ids.values()) != list(range(len(ids))):
        raise ValueError(f"the ids of {vocabulary.name} are not 0 to {len(ids) - 1}")
    codes = [text for text in ids if re.fullmatch(">>.+<<", text)]  # target languages
    tokenizers = []
    for file in (source, target):
        model = sentencepiece.read(file.read_bytes())
        scores = dict(zip((p.text for p in model.pieces), sentencepiece.scores(model), strict=True))
        letters, lowest = {text for text in scores if len(text) == 1}, min(scores.values())
        own, pieces = {*scores, *published.T5_SPECIALS, *codes}, []
        for text in sorted(ids, key=ids.__getitem__):
            # Words contain no spaces, so a piece that starts with a space never matches a text.
            unreachable = text not in own and not letters.isdisjoint(text)
            pieces.append((f" {text}" if unreachable else text, scores.get(text, lowest)))
        charsmap = [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
        side = models.Unigram(pieces, unk_id=ids["<unk>"], byte_fallback=False)
        tokenizers.append(published.unigram(side, normalizers.Sequence(charsmap)))
        tokenizers[-1].decoder = decoders.Sequence(
            [decoders.Strip(" ", 1, 0), tokenizers[-1].decoder]
        )
        published.add_specials(tokenizers[-1], published.T5_SPECIALS)
        tokenizers[-1].add_tokens([AddedToken(code, normalized=False) for code in codes])
    return Sides(*tokenizers)


# The files of a tokenizer -> how they are read, and the classes that have them; (): any class.
_READERS: dict[tuple[str, ...], tuple[Callable[..., AnyTokenizer], tuple[str, ...]]] = {
    ("tokenizer.json",): (_read_json, ()),
    ("vocab.txt",): (published.read_bert, BERT),
    ("vocab.json", "merges.txt"): (published.read_bpe, (*ROBERTA, GPT2, GPT)),
    ("encoder.json", "vocab.bpe"): (published.read_bpe, (*ROBERTA, GPT2)),
    ("encoder_bpe_40000.json", "vocab_40000.bpe"): (published.read_gpt, (GPT,)),
    ("spiece.model",): (published.read_sentencepiece, (ALBERT, XLNET, T5)),
    ("source.spm", "target.spm", "vocab.json"): (_read_marian, (MARIAN,)),
}
# What `load` reads: the first of these files that are all there, and the settings beside them.
FILES = tuple(_READERS)
SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
