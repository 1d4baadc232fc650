"""Translation with any encoder-decoder, and its attention weights.

B batch  L length of the source  T length of the target  H heads  M length of what is attended to
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

import jax.numpy as jnp
import numpy as np

from zoo.checkpoints.load import Loaded
from zoo.contracts import EncoderDecoder
from zoo.inference.beam_search import beam_search_ids, check_beams, max_target
from zoo.inference.generate import generate_ids
from zoo.inference.length_buckets import bucket
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
) -> str: ...


@overload
def translate(
    loaded: Loaded,
    text: list[str],
    *,
    beams: int = 4,
    length_penalty: float = 1.0,
    batch_size: int = 32,
) -> list[str]: ...


def translate(
    loaded: Loaded,
    text: str | list[str],
    *,
    beams: int = 4,
    length_penalty: float = 1.0,
    batch_size: int = 32,
) -> str | list[str]:
    """Return the translation of a text, or of each of many.

    Args:
      loaded: An encoder-decoder with its tokenizer.
      text: A text or a list of texts; texts in one length bucket are translated together.
      beams: The beam width; 1 is greedy.
      length_penalty: Above 1: longer translations. Below 1: shorter ones.
      batch_size: Number of texts to translate at once.

    Raises:
      ValueError: If a text is empty, or the model is not an encoder-decoder.
    """
    model, params, _ = loaded
    end, tokenizer = _end_of(loaded), require_tokenizer(loaded)
    check_beams(model, beams)
    texts = as_list(text)
    sources = [encode_source(sides(tokenizer).source, source, end) for source in texts]
    targets: dict[int, list[int]] = {}
    for indices in _batches([bucket(len(source), UNLIMITED) for source in sources], batch_size):
        prompts = [sources[index] for index in indices]
        # All batches have the same number of rows, so that they share compiled programs.
        prompts += prompts[-1:] * (min(batch_size, len(texts)) - len(indices))
        size = max_target(len(prompts[0]))
        if beams == 1:
            generated = generate_ids(
                model, params, prompts, max_new_tokens=size, end=end, temperature=0
            )
        else:
            best = beam_search_ids(
                model,
                params,
                prompts,
                max_new_tokens=size,
                end=end,
                beams=beams,
                length_penalty=length_penalty,
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


class Attention(NamedTuple):
    """Attention weights [H, rows, columns], and the tokens of rows and columns."""

    name: str
    weights: np.ndarray
    rows: list[str]
    columns: list[str]


def attention(loaded: Loaded, source: str, target: str) -> list[Attention]:
    """Return all attention weights of an encoder-decoder, layer by layer.

    A row of the target is labeled with the token that it predicts.

    Raises:
      ValueError: If the model has no attention.
    """
    model, params, _ = loaded
    end, tokenizers = _end_of(loaded), sides(require_tokenizer(loaded))
    source_ids, target_ids = (
        encode_source(tokenizers.source, source, end),
        encode_source(tokenizers.target, target, end),
    )
    start = model.start_token
    _, state = model.apply(
        {"params": params},
        jnp.array([source_ids]),
        jnp.array([[start, *target_ids[:-1]]]),
        mutable=["intermediates"],
    )
    if not state:
        raise ValueError(
            f"{type(model).__name__} encodes the source into a single vector, so there is no "
            "attention to draw"
        )
    source_tokens = [tokenizers.source.id_to_token(i) or "" for i in source_ids]
    first, *target_tokens = (tokenizers.target.id_to_token(i) or "" for i in (start, *target_ids))
    shifted_tokens = [first, *target_tokens[:-1]]
    axes = {
        "encoder": (source_tokens, source_tokens),
        "decoder": (target_tokens, shifted_tokens),
        "source": (target_tokens, source_tokens),
    }
    return [Attention(name, weights, *axes[side(name)]) for name, weights in _sown(state)]


def side(name: str) -> str:
    """Return which side attends, from the name of a layer: encoder, decoder or source.

    "source" is the attention of the decoder to the source.
    """
    if "encoder" in name:
        return "encoder"
    return "decoder" if name.endswith("/attention") else "source"


def _sown(tree, path=()):
    """Yield the path of each layer and its sown attention weights, [H, T, M]."""
    for name in sorted(tree, key=_by_number):
        if isinstance(tree[name], dict):
            yield from _sown(tree[name], (*path, name))
        elif name == "attention":  # blocks sow their hidden states too
            (weights,) = tree[name]  # [1, H, T, M], of a recurrent decoder [1, 1, T, 1, M]
            _, H, *_, M = weights.shape
            part = "/".join(name for name in path if name not in ("intermediates", "trunk", "mix"))
            yield part, np.asarray(weights).reshape(H, -1, M)


def _by_number(name: str):
    """Return a sort key that orders layers by their numbers."""
    stem, _, number = name.rpartition("_")
    return (stem, int(number)) if number.isdigit() else (name, -1)


def _end_of(loaded: Loaded) -> int:
    """Return the token that ends a text; raise ValueError if the model does not translate."""
    if not isinstance(loaded.model, EncoderDecoder):
        raise ValueError(f"{type(loaded.model).__name__} has no encoder: use zoo.generate instead")
    return end_id(require_tokenizer(loaded))


def end_id(tokenizer: AnyTokenizer) -> int:
    """Return the token that ends a text; raise ValueError if the tokenizer has none."""
    end = end_token(tokenizer)
    if end is None:
        raise ValueError(f"the tokenizer has no token that ends a text: none of {', '.join(ENDS)}")
    return end
