"""The `tokenizer_config.json` of an exported tokenizer, so that transformers gives the same ids.

transformers builds the tokenizer of a class anew: of a `tokenizer.json` it takes only the
vocabulary and the added tokens. A tokenizer that its class would build otherwise, such as one with
another normalization, gets the class that leaves everything to `tokenizer.json`.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from tokenizers import Tokenizer, models, normalizers

from zoo.tokenizers import published
from zoo.tokenizers.options import steps
from zoo.tokenizers.settings import (
    ALBERT,
    BERT,
    GENERIC,
    GPT,
    GPT2,
    ROBERTA,
    ROLES,
    T5,
    XLNET,
    Settings,
)

_TEMPLATES: dict[str, Callable[[Tokenizer], None]] = {
    **dict.fromkeys(BERT, published.add_bert_specials),
    ROBERTA[0]: published.add_roberta_specials,
    ALBERT: published.add_albert_specials,
    XLNET: published.add_xlnet_specials,
}
_UNKNOWN = {ALBERT: 1, XLNET: 0, T5: 2}  # the ids of the unknown token that transformers expects
_WITH_SEGMENTS = (BERT[0], ALBERT, XLNET)


def config(tokenizer: Tokenizer, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `tokenizer_config.json`.

    Args:
      tokenizer: The tokenizer.
      fields: Those of the architecture: the class and its special tokens.
    """
    special = {t.content for t in tokenizer.get_added_tokens_decoder().values() if t.special}
    fields = {k: v for k, v in fields.items() if k not in ROLES or v in special}
    cls = fields.get("tokenizer_class", GENERIC[0])
    names = {name for name in Settings().names(cls).values() if name}
    options = _options(tokenizer, cls) if names <= special else None
    if options is not None and _has_template(tokenizer, cls):
        return {**fields, **options}
    fields = {k: v for k, v in fields.items() if k not in ("do_lower_case", "extra_ids")}
    if cls not in _WITH_SEGMENTS:
        fields["model_input_names"] = ["input_ids", "attention_mask"]
    return {**fields, "tokenizer_class": GENERIC[0]}


def _options(tokenizer: Tokenizer, cls: str) -> dict[str, Any] | None:
    """Return the options for which a class builds the steps of a tokenizer; None: there are none.

    The last step of SentencePiece's normalization, `Precompiled`, is taken from tokenizer.json.
    """
    content = json.loads(tokenizer.to_str())
    normalizer, splitter = (list(steps(content[part])) for part in ("normalizer", "pre_tokenizer"))
    if cls in (*BERT, GPT):
        bert = tokenizer.normalizer
        if not isinstance(bert, normalizers.BertNormalizer) or not bert.clean_text:
            return None
        if splitter != [{"type": "BertPreTokenizer"}]:
            return None
        options = {
            "do_lower_case": bert.lowercase,
            "strip_accents": bert.strip_accents,
            "tokenize_chinese_chars": bert.handle_chinese_chars,
        }
        if cls == GPT:
            return {} if tuple(options.values()) == (True, None, True) else None
        usual = {"strip_accents": None, "tokenize_chinese_chars": True}
        return {k: v for k, v in options.items() if k not in usual or v != usual[k]}
    if cls in (GPT2, *ROBERTA):
        if normalizer or len(splitter) != 1 or splitter[0]["type"] != "ByteLevel":
            return None
        prefix = splitter[0]["add_prefix_space"]
        return ({"add_prefix_space": True} if prefix else {}) if splitter[0]["use_regex"] else None
    if cls not in (ALBERT, XLNET, T5) or content["model"].get("unk_id") != _UNKNOWN[cls]:
        return None
    kinds = {step["type"] for step in normalizer}
    lowercase, accents = "Lowercase" in kinds, "StripAccents" not in kinds
    cleaning = normalizers.Sequence(published.xlnet_cleaning(lowercase, accents))
    built = json.loads(published.unigram(models.Unigram(), cleaning).to_str())
    if splitter != list(steps(built["pre_tokenizer"])):
        return None
    if normalizer and normalizer[-1]["type"] == "Precompiled":
        normalizer.pop()
    if cls == T5:
        sentinels = sum("<extra_id_" in token["content"] for token in content["added_tokens"])
        return None if normalizer else {"extra_ids": sentinels}
    if normalizer != list(steps(built["normalizer"])):
        return None
    if cls == XLNET:  # transformers strips accents in any case
        return None if accents else {"do_lower_case": lowercase}
    return {"do_lower_case": lowercase, **({"keep_accents": True} if accents else {})}


def _has_template(tokenizer: Tokenizer, cls: str) -> bool:
    """Return whether a tokenizer adds the special tokens to a text that a class adds."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    if cls == T5:
        published.add_t5_specials(copy, sentinels=0)
    elif cls in _TEMPLATES:
        _TEMPLATES[cls](copy)
    ends = [
        [(e.ids, e.type_ids) for e in (t.encode(""), t.encode("", ""))] for t in (tokenizer, copy)
    ]
    return ends[0] == ends[1]
