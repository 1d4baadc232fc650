"""ByT5's tokenizer (Xue et al. 2021), https://arxiv.org/abs/2105.13626: the bytes of a text.

It has no vocabulary file. The ids are those of transformers' ByT5Tokenizer: three special tokens,
then the 256 bytes, then the sentinels.
"""

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from zoo.tokenizers.settings import Settings

CLASS = "ByT5Tokenizer"
SPECIALS = ("<pad>", "</s>", "<unk>")
SENTINELS = 125


def byte_letters() -> list[str]:
    """Return the letter that a byte-level tokenizer has for each byte, in the order of the bytes.

    Visible characters of Latin-1 stand for themselves, the other bytes for letters from U+0100 on.
    """
    visible = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = iter(range(256, 512))
    return [chr(byte if byte in visible else next(hidden)) for byte in range(256)]


def read(settings: Settings) -> Tokenizer:
    """Return the tokenizer that the files of a folder name.

    transformers 5 writes that there are no `extra_ids`, and lists the sentinels instead.
    """
    stated = sum("<extra_id_" in token.content for token in settings.extra)
    return build(stated or settings.number("extra_ids", SENTINELS))


def build(sentinels: int = SENTINELS) -> Tokenizer:
    """Return the tokenizer, with some number of sentinels, `<extra_id_0>` and so on."""
    names = [f"<extra_id_{number}>" for number in range(sentinels)]
    entries = [*SPECIALS, *byte_letters(), *names]
    model = models.BPE({name: id for id, name in enumerate(entries)}, [], unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    end = [("</s>", SPECIALS.index("</s>"))]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=end
    )
    tokenizer.add_special_tokens(
        [
            *(AddedToken(name, lstrip=True, rstrip=True, normalized=False) for name in SPECIALS),
            *(AddedToken(name, normalized=False) for name in names),
        ]
    )
    return tokenizer
