"""Tokenizers on disk: one `tokenizer.json`, or the vocabulary files of the published models.

Everything is a `tokenizers.Tokenizer`, or two of them for the sides of a translator. Files are read
as text, JSON or protobuf; a pickle is never opened.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
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

from zoo.tokenizers import published, sentencepiece


@dataclass(frozen=True)
class Sides:
    """The tokenizers of a translator whose source and target have a vocabulary each.

    It reads sources and writes targets; its special tokens have the same ids on both sides.
    """

    source: Tokenizer
    target: Tokenizer

    def get_vocab_size(self) -> int:
        """The larger of both."""
        return max(self.source.get_vocab_size(), self.target.get_vocab_size())

    def encode(self, text: str, **options):
        """Reads a source."""
        return self.source.encode(text, **options)

    def decode(self, ids, **options) -> str:
        """Writes a target."""
        return self.target.decode(ids, **options)

    def token_to_id(self, name: str) -> int | None:
        """The id of a special token, or of a word of the target."""
        return self.target.token_to_id(name)


# The tokenizer of a model: one for all texts, or one for each side of a pair.
AnyTokenizer = Tokenizer | Sides


def sides(tokenizer: AnyTokenizer) -> Sides:
    """What reads sources and what reads targets, which mostly are one."""
    return tokenizer if isinstance(tokenizer, Sides) else Sides(tokenizer, tokenizer)


def token_id(tokenizer: AnyTokenizer, name: str) -> int:
    """Return the id of a special token; ValueError if the tokenizer does not have it."""
    number = tokenizer.token_to_id(name)
    if number is None:
        raise ValueError(f"the tokenizer has no {name} token: use a tokenizer that has it")
    return number


def load(folder: str | os.PathLike) -> AnyTokenizer:
    """The tokenizer in a model folder.

    Looks for `tokenizer.json`; BERT's `vocab.txt`; GPT-2's `vocab.json` with `merges.txt`, or
    `encoder.json` with `vocab.bpe`; a SentencePiece `spiece.model`; Marian's `source.spm` and
    `target.spm` with `vocab.json`. `tokenizer_config.json` may say `do_lower_case` (BERT, XLNet)
    and `keep_accents` (XLNet). Where it does not, a BERT vocabulary is cased if any entry that is
    not special has an upper-case letter.

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


def save(tokenizer: AnyTokenizer, folder: str | os.PathLike) -> None:
    """Writes `tokenizer.json` into a folder, whole or not at all."""
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
    """A sha256 that two tokenizers share when they turn every text into the same ids."""
    if isinstance(tokenizer, Sides):
        both = fingerprint(tokenizer.source) + fingerprint(tokenizer.target)
        return hashlib.sha256(both.encode()).hexdigest()
    content = json.loads(tokenizer.to_str())
    del content["truncation"], content["padding"]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def lowercase(tokenizer: AnyTokenizer) -> bool | None:
    """Return whether BERT's normalizer lower-cases; None for a tokenizer that has another one."""
    normalizer = sides(tokenizer).source.normalizer
    return normalizer.lowercase if isinstance(normalizer, normalizers.BertNormalizer) else None


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


def _config(folder: Path) -> dict:
    file = folder / "tokenizer_config.json"
    return json.loads(file.read_text("utf-8")) if file.exists() else {}


def _read_json(file: Path, config: dict) -> AnyTokenizer:
    content = json.loads(file.read_text("utf-8"))
    if content.keys() == {"source", "target"}:
        return Sides(*(Tokenizer.from_str(json.dumps(content[side])) for side in content))
    tokenizer = Tokenizer.from_file(str(file))
    # Published files carry the cutting and padding of whoever saved them last.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _read_marian(source: Path, target: Path, vocabulary: Path, config: dict) -> Sides:
    """Marian's: a SentencePiece model a side, whose pieces have their ids in one vocabulary.

    Letters that a side does not know are read as pieces of the other side. transformers does so
    only where a whole run of them is one piece, and else takes the run as unknown.
    """
    ids = json.loads(vocabulary.read_text("utf-8"))
    if sorted(ids.values()) != list(range(len(ids))):
        raise ValueError(f"the ids of {vocabulary.name} are not 0 to {len(ids) - 1}")
    codes = [text for text in ids if re.fullmatch(">>.+<<", text)]  # of languages to translate to
    found = []
    for file in (source, target):
        model = sentencepiece.read(file.read_bytes())
        scores = dict(zip((p.text for p in model.pieces), sentencepiece.scores(model), strict=True))
        letters, least = {text for text in scores if len(text) == 1}, min(scores.values())
        kept, pieces = {*scores, *published.T5_SPECIALS, *codes}, []
        for text in sorted(ids, key=ids.get):
            # No word has a space, so with one before it a piece is never found in a text.
            hidden = text not in kept and not letters.isdisjoint(text)
            pieces.append((f" {text}" if hidden else text, scores.get(text, least)))
        charsmap = [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
        side = models.Unigram(pieces, unk_id=ids["<unk>"], byte_fallback=False)
        found.append(published.unigram(side, normalizers.Sequence(charsmap)))
        found[-1].decoder = decoders.Sequence([decoders.Strip(" ", 1, 0), found[-1].decoder])
        published.add_specials(found[-1], published.T5_SPECIALS)
        found[-1].add_tokens([AddedToken(code, normalized=False) for code in codes])
    return Sides(*found)


_READERS: dict[tuple[str, ...], Callable[..., AnyTokenizer]] = {
    ("tokenizer.json",): _read_json,
    ("vocab.txt",): published.read_bert,
    ("vocab.json", "merges.txt"): published.read_gpt2,
    ("encoder.json", "vocab.bpe"): published.read_gpt2,
    ("spiece.model",): published.read_sentencepiece,
    ("source.spm", "target.spm", "vocab.json"): _read_marian,
}
