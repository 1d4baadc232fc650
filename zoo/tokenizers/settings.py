"""The files beside a vocabulary: the class of a tokenizer, its options and its added tokens.

They are read as transformers 5 reads them. Added tokens are those of `added_tokens_decoder` in
`tokenizer_config.json`; without it, those of `added_tokens.json`, and `special_tokens_map.json`
replaces the special tokens of `tokenizer_config.json`. The class is that of `tokenizer_config.json`
or `config.json`; without one, the usual class of the model_type.

Not read, because they do not change the ids of a text: how texts are padded and truncated
(`model_max_length`, `padding_side`, `truncation_side`; a command does so by the length of the
model), how ids are decoded, chat templates, and what no class of transformers 5 reads (`legacy`,
`remove_space`, `use_fast`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from zoo import untrusted

BERT = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer")
ROBERTA = ("RobertaTokenizer", "BartTokenizer")
GPT2, GPT = "GPT2Tokenizer", "OpenAIGPTTokenizer"
ALBERT, XLNET, T5, MARIAN = "AlbertTokenizer", "XLNetTokenizer", "T5Tokenizer", "MarianTokenizer"
# Classes that leave everything to tokenizer.json.
GENERIC = ("PreTrainedTokenizerFast", "PreTrainedTokenizer", "TokenizersBackend")
# Classes that ignore a tokenizer.json.
WITHOUT_JSON = ("BertJapaneseTokenizer", "BertweetTokenizer", "PhobertTokenizer")
# model_type of config.json -> the class of a tokenizer that names none.
_USUAL = {
    **dict.fromkeys(("bert", "distilbert", "electra"), BERT[0]),
    **dict.fromkeys(("gpt2", "gpt_neo"), GPT2),
    **dict.fromkeys(("t5", "mt5"), T5),
    **{"roberta": ROBERTA[0], "openai-gpt": GPT, "albert": ALBERT, "xlnet": XLNET},
    "marian": MARIAN,
}
_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token")
ROLES = (*_ROLES, "mask_token")
# Class -> the names of its special tokens, in the order of ROLES.
_NAMES: dict[str, tuple[str | None, ...]] = {
    **dict.fromkeys(BERT, (None, None, "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]")),
    **dict.fromkeys(ROBERTA, ("<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>")),
    GPT2: ("<|endoftext|>", "<|endoftext|>", "<|endoftext|>"),
    GPT: (None, None, "<unk>"),
    ALBERT: ("[CLS]", "[SEP]", "<unk>", "[SEP]", "<pad>", "[CLS]", "[MASK]"),
    XLNET: ("<s>", "</s>", "<unk>", "<sep>", "<pad>", "<cls>", "<mask>"),
    T5: (None, "</s>", "<unk>", None, "<pad>"),
    MARIAN: (None, "</s>", "<unk>", None, "<pad>"),
}
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True)
class Settings:
    """What the files beside a vocabulary say.

    Attributes:
      folder: The folder.
      cls: The class of transformers that the folder names, without "Fast", or None.
      usual: The usual class of the model_type, or None.
      options: The fields of `tokenizer_config.json`.
      special: The special token of each role that the folder names, such as "cls_token".
      extra: Further special tokens.
      added: Added tokens by id.
    """

    folder: Path = Path()
    cls: str | None = None
    usual: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    special: Mapping[str, AddedToken] = field(default_factory=dict)
    extra: tuple[AddedToken, ...] = ()
    added: Mapping[int, AddedToken] = field(default_factory=dict)

    def given(self, name: str) -> bool | None:
        """Return an option that is true or false, or None if the folder does not give it."""
        value = self.options.get(name)
        if value is not None and not isinstance(value, bool):
            raise ValueError(f"{self._where()}: {name} is {value!r:.40}, expected true or false")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """Return an option that is true or false, which has a default."""
        value = self.given(name)
        return default if value is None else value

    def number(self, name: str, default: int) -> int:
        """Return an option that is a number from 0 to 100,000."""
        value = self.options.get(name)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 100_000:
            raise ValueError(f"{self._where()}: {name} is {value!r:.40}, expected a count")
        return value

    def names(self, cls: str | None = None) -> dict[str, str]:
        """Return the special token of each role: the one that the folder names, or the class's.

        Args:
          cls: The class; None: that of the folder, or the usual one of its model_type.
        """
        named = {role: token.content for role, token in self.special.items()}
        return _names(cls or self.cls or self.usual) | named

    def replaced(self, cls: str) -> set[str]:
        """Return the special tokens of a class in whose roles the folder names other tokens."""
        return {*_names(cls).values()} - {*self.names(cls).values()}

    def refuse(self, name: str, reason: str) -> None:
        """Raise ValueError for an option that is not supported."""
        value = json.dumps(self.options.get(name), ensure_ascii=False)
        raise ValueError(f"{self._where()}: {name} = {value:.80} is not supported: {reason}")

    def _where(self) -> Path:
        return self.folder / "tokenizer_config.json"


def read(folder: Path) -> Settings:
    """Return what the files beside the vocabulary of a folder say.

    Raises:
      ValueError: If a file cannot be parsed, has a field of the wrong type, or asks for what is not
        supported: `never_split`, `do_basic_tokenize: false`, `split_special_tokens` or sampled
        segmentations.
    """
    config = folder / "tokenizer_config.json"
    options, published = _object(config), _object(folder / "config.json")
    special, extra = _special(config, options)
    added: dict[int, AddedToken] = {}
    if options.get("added_tokens_decoder") is not None:
        decoder = options["added_tokens_decoder"]
        if not isinstance(decoder, dict):
            raise ValueError(f"{config}: added_tokens_decoder is not an object of ids and tokens")
        for id, value in decoder.items():
            if not id.isdecimal() or len(id) > 10:
                raise ValueError(f"{config}: added_tokens_decoder has the id {id!r:.40}")
            added[int(id)] = _token(config, f"added_tokens_decoder[{id}]", value)
    else:
        map_file, added_file = folder / "special_tokens_map.json", folder / "added_tokens.json"
        special_of_map, extra_of_map = _special(map_file, _object(map_file))
        special, extra = special | special_of_map, (*extra, *extra_of_map)
        names = {token.content for token in (*special.values(), *extra)}
        for text, id in _object(added_file).items():
            if not isinstance(id, int) or isinstance(id, bool) or id < 0:
                raise ValueError(f"{added_file}: the id of {text!r:.40} is {id!r:.40}")
            if id in added:
                raise ValueError(
                    f"{added_file}: {added[id].content!r} and {text!r} have the same id {id}"
                )
            if not text:
                raise ValueError(f"{added_file}: an added token is empty")
            added[id] = AddedToken(text, special=text in names, normalized=text not in names)
    by_name = {token.content: token for token in added.values()}
    special = {role: special[role] for role in ROLES if role in special}  # the order of their ids
    special = {role: by_name.get(token.content, token) for role, token in special.items()}
    extra = tuple(by_name.get(token.content, token) for token in extra)
    for token in (*special.values(), *extra):
        token.special = True
    cls, usual = options.get("tokenizer_class"), published.get("model_type")
    cls = published.get("tokenizer_class") if cls is None else cls
    if cls is not None and not isinstance(cls, str):
        raise ValueError(f"{config}: tokenizer_class is {cls!r:.40}, expected a name")
    usual = _USUAL.get(usual) if isinstance(usual, str) else None
    cls = cls.removesuffix("Fast") if cls and cls not in GENERIC else cls
    settings = Settings(folder, cls, usual, options, special, extra, added)
    _check(settings)
    return settings


def _names(cls: str | None) -> dict[str, str]:
    names = zip(ROLES, _NAMES.get(cls or "", ()), strict=False)
    return {role: name for role, name in names if name}


def _check(settings: Settings) -> None:
    """Raise ValueError if an option asks for what is not supported."""
    if settings.flag("split_special_tokens", False):
        settings.refuse("split_special_tokens", "remove it, and quote special tokens in texts")
    if not settings.flag("do_basic_tokenize", True):
        settings.refuse("do_basic_tokenize", "texts are split at spaces and punctuation; remove it")
    known = {token.content for token in (*settings.special.values(), *settings.added.values())}
    if set(_texts(settings, "never_split")) - known:
        settings.refuse("never_split", "add its words to added_tokens.json instead")
    if settings.options.get("sp_model_kwargs"):
        settings.refuse("sp_model_kwargs", "a text has one segmentation, the best; remove it")


def _texts(settings: Settings, name: str) -> Sequence[str]:
    value = settings.options.get(name) or ()
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{settings.folder / 'tokenizer_config.json'}: {name} is not a list")
    return value


def _special(file: Path, fields: Mapping) -> tuple[dict[str, AddedToken], tuple[AddedToken, ...]]:
    """Return the special tokens by role, and further ones."""
    special = {
        role: _token(file, role, fields[role], special=True)
        for role in ROLES
        if fields.get(role) is not None
    }
    further = []
    for name, value in fields.items():
        if name.endswith("_token") and isinstance(value, str | dict) and name not in ROLES:
            further.append(_token(file, name, value, special=True))
    extra = fields.get("extra_special_tokens") or fields.get("additional_special_tokens") or ()
    if isinstance(extra, dict):
        extra = list(extra.values())
    if not isinstance(extra, list | tuple):
        raise ValueError(f"{file}: additional_special_tokens is not a list of tokens")
    further += [_token(file, "additional_special_tokens", value, special=True) for value in extra]
    return special, tuple(further)


def _token(file: Path, name: str, value: Any, special: bool = False) -> AddedToken:
    """Return a token that is written as a text, or as an object with its text and its flags."""
    if isinstance(value, str) and value:
        return AddedToken(value, special=True, normalized=False, lstrip=value == "<mask>")
    content = value.get("content") if isinstance(value, dict) else None
    flags = {key: value[key] for key in _FLAGS if key in value} if content else {}
    if not content or not isinstance(content, str):
        raise ValueError(f"{file}: {name} is {value!r:.40}, expected a token")
    wrong = [key for key, flag in flags.items() if not isinstance(flag, bool)]
    if wrong:
        raise ValueError(f"{file}: {wrong[0]} of {name} is {flags[wrong[0]]!r:.40}, expected true")
    return AddedToken(content, **(flags | ({"special": True} if special else {})))


def _object(file: Path) -> dict[str, Any]:
    """Return the fields of a JSON file, or none if there is no file."""
    return untrusted.read_object(file) if file.exists() else {}
