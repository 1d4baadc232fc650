"""Translation with any encoder-decoder."""

from collections.abc import Iterator, Sequence
from typing import Unpack, overload

from zoo.checkpoints.load import Loaded
from zoo.contracts import EncoderDecoder
from zoo.inference.beam_search import beam_search_ids, check_beams, max_target
from zoo.inference.constraints import Rules, check_integer
from zoo.inference.continuation import word_ids
from zoo.inference.generate import generate_ids
from zoo.inference.length_buckets import bucket, merged
from zoo.inference.prompts import (
    ENDS,
    UNLIMITED,
    as_list,
    encode_source,
    end_token,
    require_tokenizer,
)
from zoo.tokenizers import AnyTokenizer, sides


@overload
def translate(
    loaded: Loaded,
    text: str,
    *,
    beams: int = 4,
    length_penalty: float = 1.0,
    batch_size: int = 32,
    bad_words: str | Sequence[str] = ...,
    **rules: Unpack[Rules],
) -> str: ...


@overload
def translate(
    loaded: Loaded,
    text: list[str],
    *,
    beams: int = 4,
    length_penalty: float = 1.0,
    batch_size: int = 32,
    bad_words: str | Sequence[str] = ...,
    **rules: Unpack[Rules],
) -> list[str]: ...


def translate(
    loaded: Loaded,
    text: str | list[str],
    *,
    beams: int = 4,
    length_penalty: float = 1.0,
    batch_size: int = 32,
    bad_words: str | Sequence[str] = (),
    **rules: Unpack[Rules],
) -> str | list[str]:
    """Return the translation of a text, or those of a list of texts.

    Args:
      loaded: An encoder-decoder with its tokenizer.
      text: A text or a list of texts; texts in one length bucket are translated together.
      beams: The beam width; 1 is greedy.
      length_penalty: Above 1: longer translations. Below 1: shorter ones.
      batch_size: Number of texts to translate at once.
      bad_words: As in `generate`.
      **rules: `min_new_tokens`, `repetition_penalty`, `no_repeat_ngram_size` and
        `suppress_tokens`, as in `generate`.

    Raises:
      ValueError: If a text is empty, the model is not an encoder-decoder, or an option is out of
        range.
    """
    model, params, _ = loaded
    end, tokenizer = end_of(loaded), require_tokenizer(loaded)
    check_beams(model, beams)
    check_integer("batch_size", batch_size, 1)
    bad_words_ids = word_ids(tokenizer, bad_words)
    texts = as_list(text)
    sources = [encode_source(sides(tokenizer).source, source, end) for source in texts]
    targets: dict[int, list[int]] = {}
    lengths = [bucket(len(source), UNLIMITED) for source in sources]
    if beams == 1:  # a batch that is not full takes as long as a full one
        lengths = merged(lengths, batch_size)
    for indices in _batches(lengths, batch_size):
        prompts = [sources[index] for index in indices]
        # All batches have the same number of rows, so that they share compiled programs.
        prompts += prompts[-1:] * (min(batch_size, len(texts)) - len(indices))
        sizes = [max_target(len(prompt)) for prompt in prompts]
        size = max(sizes)
        if beams == 1:
            generated = generate_ids(
                model,
                params,
                prompts,
                max_new_tokens=size,
                end=end,
                bad_words_ids=bad_words_ids,
                temperature=0,
                **rules,
            )
            # As many tokens as each text alone may have.
            generated = [ids[:most] for ids, most in zip(generated, sizes, strict=True)]
        else:
            best = beam_search_ids(
                model,
                params,
                prompts,
                max_new_tokens=size,
                end=end,
                beams=beams,
                length_penalty=length_penalty,
                bad_words_ids=bad_words_ids,
                **rules,
            )
            generated = [row[0][0] for row in best]
        targets |= dict(zip(indices, generated, strict=False))
    ids = [targets[index] for index in range(len(texts))]
    translations = [tokenizer.decode(target, skip_special_tokens=False) for target in ids]
    return translations[0] if isinstance(text, str) else translations


def _batches(buckets: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Yield indices of texts in one length bucket, up to `batch_size` at a time."""
    for length in sorted(set(buckets)):
        indices = [index for index, other in enumerate(buckets) if other == length]
        for start in range(0, len(indices), batch_size):
            yield indices[start : start + batch_size]


def end_of(loaded: Loaded) -> int:
    """Return the token that ends a text; raise ValueError if the model does not translate."""
    if not isinstance(loaded.model, EncoderDecoder):
        raise ValueError(f"{type(loaded.model).__name__} has no encoder: use generate instead")
    return end_id(require_tokenizer(loaded))


def end_id(tokenizer: AnyTokenizer) -> int:
    """Return the token that ends a text; raise ValueError if the tokenizer has none."""
    end = end_token(tokenizer)
    if end is None:
        raise ValueError(f"the tokenizer has no token that ends a text: none of {', '.join(ENDS)}")
    return end
