"""The attention weights of any model with attention, by token and by word, and attention rollout.

B batch  L length of a text or source  T length of a target  H heads  M number of keys
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from tokenizers import Encoding

from zoo import registry
from zoo.checkpoints.load import Loaded
from zoo.contracts import Architecture, EncoderDecoder
from zoo.direction import is_backward
from zoo.inference.batching import check_rows, in_reading_order, select
from zoo.inference.hidden_states import trunk_output, with_trunk
from zoo.inference.prompts import check_text, encode_source, require_tokenizer
from zoo.inference.translate import end_of, translate
from zoo.tokenizers import sides

# What attends: a text to itself, each side of an encoder-decoder to itself, its output to the
# source.
Side = Literal["text", "encoder", "decoder", "source"]
# Fields of the configs of models with attention: its heads, or the score of a recurrent decoder.
ATTENTION_FIELDS = ("num_heads", "score")
ROLLOUT = "rollout"  # the name of the maps of attention rollout


class Word(NamedTuple):
    """A word of a text, and how many tokens it has."""

    text: str
    num_tokens: int


class Attention(NamedTuple):
    """The attention weights of one layer.

    Attributes:
      name: The path of the layer.
      weights: [H, rows, columns]: how much each row attends to each column.
      rows: The tokens that attend.
      columns: The tokens that are attended to.
      row_words: The words that the rows are tokens of; empty if unknown.
      column_words: The words that the columns are tokens of; empty if unknown.
      side: What attends: a text to itself ("text"), the "encoder" or the "decoder" to itself, or
        the decoder to the "source".
    """

    name: str
    weights: np.ndarray
    rows: list[str]
    columns: list[str]
    row_words: Sequence[Word] = ()
    column_words: Sequence[Word] = ()
    side: Side = "text"

    def by_word(self) -> "Attention":
        """Return the attention between words, or itself if the words are not known.

        The weights of a word are summed over its tokens as columns, and averaged as rows.
        """
        if not self.row_words or not self.column_words:
            return self
        row_starts, row_sizes = _starts(self.row_words)
        column_starts, _ = _starts(self.column_words)
        weights = np.add.reduceat(self.weights, column_starts, axis=2)
        weights = np.add.reduceat(weights, row_starts, axis=1) / row_sizes[:, None]
        rows, columns = ([word.text for word in w] for w in (self.row_words, self.column_words))
        return Attention(self.name, weights, rows, columns, side=self.side)


def attention(loaded: Loaded, text: str, target: str | None = None) -> list[Attention]:
    """Return all attention weights of a model on a text, layer by layer.

    A text is read with the special tokens that its tokenizer adds. Of ELECTRA's two networks, the
    discriminator is used; of XLNet's two streams, the content stream, which reads the whole text.
    A row of an encoder-decoder's target is labeled with the token that it predicts.

    Args:
      loaded: A model with attention, and its tokenizer.
      text: The text, or the source of an encoder-decoder.
      target: The output of an encoder-decoder. None: its own, by greedy search.

    Raises:
      ValueError: If the model has no attention, the text is empty or longer than the model
        supports, or a target is given to a model without a decoder.
    """
    _check_has_attention(loaded)
    check_text(text)
    if isinstance(loaded.model, EncoderDecoder):
        return _of_pair(loaded, text, target)
    if target is not None:
        raise ValueError(
            f"{type(loaded.model).__name__} has no decoder, so it reads one text: leave out the "
            "target"
        )
    return _of_text(loaded, text)


def attention_rollout(layers: Sequence[Attention]) -> list[Attention]:
    """Return the attention of the last layer to the input: attention rollout.

    Abnar and Zuidema 2020, https://arxiv.org/abs/2005.00928, section 3: half of each token is
    passed on by the residual connection and the other half by the mean of the heads, so a layer
    mixes its inputs by (W + I) / 2, and the layers multiply.

    Args:
      layers: The result of `attention`.

    Returns:
      One map per side that attends to itself, its weights [1, L, L]; none for the attention to a
      source, which passes nothing on.
    """
    maps = []
    for side in dict.fromkeys(layer.side for layer in layers if layer.side != "source"):
        own = [layer for layer in layers if layer.side == side]
        identity_LL = np.eye(len(own[0].rows))
        mixed_LL = identity_LL
        for layer in own:
            mixed_LL = (layer.weights.mean(0) + identity_LL) / 2 @ mixed_LL
        maps.append(own[-1]._replace(name=ROLLOUT, weights=mixed_LL[None]))
    return maps


def with_attention() -> list[str]:
    """Return the names of the architectures that have attention."""
    return [name for name in registry.architectures() if _has_attention(registry.named(name))]


def _has_attention(architecture: Architecture) -> bool:
    return any(field.name in ATTENTION_FIELDS for field in fields(architecture.Config))


def _check_has_attention(loaded: Loaded) -> None:
    if not _has_attention(registry.of(loaded.model)):
        raise ValueError(
            f"{type(loaded.model).__name__} has no attention: use a model of one of "
            f"{', '.join(with_attention())}"
        )


def _of_text(loaded: Loaded, text: str) -> list[Attention]:
    """Return the attention of a text to itself."""
    encoding = sides(require_tokenizer(loaded)).source.encode(text)
    if all(encoding.special_tokens_mask):
        raise ValueError("the text is empty: there is nothing to attend to")
    model, params = with_trunk(loaded)
    row = select(encoding, range(len(encoding.ids)))
    check_rows([row], model)
    (ordered,) = in_reading_order(model, [row])
    tokens_BL, segments_BL = jnp.array([ordered.tokens]), jnp.array([ordered.segments])
    _, state = model.apply(
        {"params": params},
        *(tokens_BL, segments_BL, jnp.ones_like(tokens_BL)),
        method=trunk_output,
        mutable=["intermediates"],
    )
    tokens, words = encoding.tokens, _words(encoding, text)
    flip = -1 if is_backward(model.config) else 1
    return [
        Attention(name, weights[:, ::flip, ::flip], tokens, tokens, words, words)
        for name, weights in _sown(state)
    ]


def _of_pair(loaded: Loaded, source: str, target: str | None) -> list[Attention]:
    """Return the attention within a source, within its target, and of the target to the source."""
    model, params, _ = loaded
    end, tokenizers = end_of(loaded), sides(require_tokenizer(loaded))
    source_ids = encode_source(tokenizers.source, source, end)
    if target is None:
        target = translate(loaded, source, beams=1)
    encodings = [
        tokenizer.encode(text, add_special_tokens=False)
        for tokenizer, text in ((tokenizers.source, source), (tokenizers.target, target))
    ]
    target_ids = [*encodings[1].ids, end]
    start = model.start_token
    _, state = model.apply(
        {"params": params},
        jnp.array([source_ids]),
        jnp.array([[start, *target_ids[:-1]]]),
        mutable=["intermediates"],
    )
    source_tokens = [tokenizers.source.id_to_token(i) or "" for i in source_ids]
    first, *target_tokens = (tokenizers.target.id_to_token(i) or "" for i in (start, *target_ids))
    shifted_tokens = [first, *target_tokens[:-1]]
    axes: dict[Side, tuple[list[str], list[str]]] = {
        "encoder": (source_tokens, source_tokens),
        "decoder": (target_tokens, shifted_tokens),
        "source": (target_tokens, source_tokens),
    }
    source_words, target_words = map(_words, encodings, (source, target))
    end_word = Word(target_tokens[-1], 1)  # on both sides
    column_words, row_words = [*source_words, end_word], [*target_words, end_word]
    words: dict[Side, tuple[list[Word], list[Word]]] = {
        "encoder": (column_words, column_words),
        "decoder": (row_words, [Word(first, 1), *target_words]),
        "source": (row_words, column_words),
    }
    return [
        Attention(name, weights, *axes[side], *words[side], side)
        for name, weights in _sown(state)
        for side in [_side(name)]
    ]


def _words(encoding: Encoding, text: str) -> list[Word]:
    """Return the words of a text in order; every token belongs to one of them.

    A token continues a word if the tokenizer assigns it to that word, and it either begins between
    two letters or digits (so that 2026-11-23 has separate parts) or shares characters with the
    previous token. A special token that the tokenizer adds is a word of its own.
    """
    words: list[Word] = []
    start_of_word = end_of_word = 0
    before: int | None = -1  # the word of the previous token; -1: it is no part of the text
    tokens = zip(
        encoding.tokens,
        encoding.offsets,
        encoding.word_ids,
        encoding.special_tokens_mask,
        strict=True,
    )
    for token, (start, end), word, special in tokens:
        if special:
            words.append(Word(token, 1))
            before = -1
            continue
        between = start > 0 and text[start - 1].isalnum() and text[start : start + 1].isalnum()
        if words and word == before and (between or start == end or start < end_of_word):
            end_of_word = max(end, end_of_word)
            shown = text[start_of_word:end_of_word].strip() or words[-1].text
            words[-1] = Word(shown, words[-1].num_tokens + 1)
        else:
            start_of_word, end_of_word = start, end
            words.append(Word(text[start:end].strip() or token, 1))
        before = word
    return words


def _starts(words: Sequence[Word]) -> tuple[np.ndarray, np.ndarray]:
    """Return the index of the first token of each word, and its number of tokens."""
    sizes = np.array([word.num_tokens for word in words])
    return np.cumsum(sizes) - sizes, sizes


def _side(name: str) -> Side:
    """Return what attends in an encoder-decoder, from the name of a layer."""
    if "encoder" in name:
        return "encoder"
    return "decoder" if name.endswith("/attention") else "source"


def _sown(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the path of each layer and its sown attention weights, [H, L or T, M].

    A block that is called again, as in ALBERT, has the number of the call behind its name.
    """
    for name in sorted(tree, key=_by_number):
        if isinstance(tree[name], dict):
            yield from _sown(tree[name], (*path, name))
        elif name == "attention":  # blocks sow their hidden states too
            part = "/".join(name for name in path if name not in ("intermediates", "trunk", "mix"))
            for number, weights in enumerate(tree[name]):
                _, H, *_, M = weights.shape  # [1, H, T, M], of a recurrent decoder [1, 1, T, 1, M]
                shown = f"{part}, call {number + 1}" if len(tree[name]) > 1 else part
                yield shown, np.asarray(weights, np.float32).reshape(H, -1, M)


def _by_number(name: str) -> tuple[str, int]:
    """Return a sort key that orders layers by their numbers."""
    stem, _, number = name.rpartition("_")
    return (stem, int(number)) if number.isdigit() else (name, -1)
