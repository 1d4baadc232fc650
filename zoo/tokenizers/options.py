"""Options of `tokenizer_config.json` that a `tokenizer.json` holds in a form of its own.

transformers builds the tokenizers of its classes anew, with these options. BERT's normalizer and
the prefix space of byte-level BPE follow them here too; other contradictions are refused.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tokenizers import Tokenizer, normalizers, pre_tokenizers

from zoo.tokenizers.published import bert_normalizer
from zoo.tokenizers.settings import ALBERT, BERT, GENERIC, GPT2, ROBERTA, T5, XLNET, Settings


def apply(tokenizer: Tokenizer, content: Mapping[str, Any], settings: Settings) -> None:
    """Give a tokenizer that was read from `tokenizer.json` the options of its folder.

    Args:
      tokenizer: The tokenizer; changed.
      content: The content of the file.
      settings: What the files beside it say.

    Raises:
      ValueError: If an option contradicts it and cannot be given to it.
    """
    cls = settings.cls or settings.usual
    if cls in GENERIC:
        return
    if isinstance(tokenizer.normalizer, normalizers.BertNormalizer) and cls in (None, *BERT):
        tokenizer.normalizer = bert_normalizer(settings, tokenizer.normalizer)
        return
    normalizer, pre_tokenizer = (
        {step["type"]: step for step in steps(content.get(part))}
        for part in ("normalizer", "pre_tokenizer")
    )
    if cls in (ALBERT, XLNET, *BERT):
        _compare(settings, "do_lower_case", "Lowercase" in normalizer)
    if cls in (ALBERT, XLNET):
        _compare(settings, "keep_accents", "StripAccents" not in normalizer)
    if cls in (GPT2, *ROBERTA):
        prefix = settings.given("add_prefix_space")
        if prefix is not None and isinstance(tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel):
            tokenizer.pre_tokenizer.add_prefix_space = prefix
        elif "ByteLevel" in pre_tokenizer:
            _compare(settings, "add_prefix_space", pre_tokenizer["ByteLevel"]["add_prefix_space"])
    if cls in (ALBERT, XLNET, T5) and "Metaspace" in pre_tokenizer:
        scheme = pre_tokenizer["Metaspace"].get("prepend_scheme", "always")
        _compare(settings, "add_prefix_space", scheme != "never")


def _compare(settings: Settings, option: str, actual: bool) -> None:
    if settings.flag(option, actual) != actual:
        settings.refuse(option, "tokenizer.json contradicts it; correct one of them")


def steps(part: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """Return the steps of a normalizer or pre-tokenizer, which may be nested, in their order."""
    if part is not None:
        inner = part.get("normalizers", part.get("pretokenizers"))
        yield from [part] if inner is None else (step for x in inner for step in steps(x))
