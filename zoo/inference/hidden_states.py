"""Hidden states of texts: one vector per token, from the trunk of a model or from a block within.

B batch  L length  D width
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from zoo import registry
from zoo.checkpoints.load import Loaded
from zoo.contracts import Composite, Encoder, EncoderDecoder
from zoo.inference.batching import Row, batches, check_rows, in_reading_order, in_text_order
from zoo.layers.taggers import ScalarMix
from zoo.params import call

Layer = int | Literal["mix"] | None


def hidden_states(
    loaded: Loaded, rows: Sequence[Row], layer: Layer = None, batch_size: int = 32
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the index of each row and the hidden states of its tokens, [L, D]; short rows first.

    Args:
      loaded: A model with an encoder: a trunk with `read`, or an encoder-decoder with one vector
        per token. Of ELECTRA's two networks, the discriminator is used.
      rows: The tokens of each text.
      layer: The block whose output is returned; 0: the embeddings; -1 or None: the output of the
        trunk, after its last norm. As the `hidden_states` of transformers. "mix": the mix of all
        layers that a tagger on ELMo has learned.
      batch_size: How many rows are read at a time.

    Raises:
      ValueError: If the model has no encoder, does not offer the layer, or as in `check_rows`.
    """
    model, params = with_trunk(loaded)
    check_rows(rows, model)
    rows = in_reading_order(model, rows)
    for indices, batch in batches(rows, batch_size, model.config.max_length):
        x_BLD = np.asarray(_apply(model, layer, params, *batch))
        for index, x_LD in zip(indices, x_BLD, strict=False):
            yield index, in_text_order(model, x_LD[: len(rows[index].tokens)])


def with_trunk(loaded: Loaded) -> tuple[nn.Module, dict]:
    """Return a model whose trunk `trunk_output` can call, and its parameters."""
    model, params, _ = loaded
    if isinstance(model, Composite):
        part = next(cls for cls in registry.of(model).MODELS if cls is not type(model))
        config, params = model.part(part, model.config, params)
        model = part(config)
    if not isinstance(model, Encoder | EncoderDecoder):
        trunk = isinstance(model, nn.Module) and getattr(
            model.bind({"params": params}), "trunk", None
        )
        if not isinstance(trunk, Encoder):
            raise ValueError(_no_encoder(model))
    return model, params


@partial(jax.jit, static_argnums=(0, 1))
def _apply(
    model: nn.Module,
    layer: Layer,
    params: chex.ArrayTree,
    tokens_BL: jax.Array,
    segments_BL: jax.Array,
    document_ids_BL: jax.Array,
) -> jax.Array:
    """Return x_BLD of a batch; compiled once per model, layer and shape."""
    inputs = tokens_BL, segments_BL, document_ids_BL
    variables = {"params": params}
    x_BLD, sown = model.apply(variables, *inputs, method=trunk_output, mutable=["intermediates"])
    if not isinstance(x_BLD, jax.Array):  # such as the states of a recurrent encoder
        raise ValueError(_no_encoder(model))
    if layer is None or layer == -1:
        return x_BLD
    of_trunk = sown.get("intermediates", {})
    of_trunk = of_trunk.get("trunk", of_trunk)
    states = of_trunk.get("hidden_states") or of_trunk.get("encoder_hidden_states")
    if states is None:
        raise ValueError(
            f"{type(model).__name__} offers the hidden states of its last layer only: leave out "
            "the layer"
        )
    if layer == "mix":
        if "mix" not in params:
            raise ValueError(
                f"{type(model).__name__} has learned no mix of its layers: fine-tune ELMo with "
                "--task tagging, or use the number of a layer"
            )
        mix = ScalarMix(len(states))
        return call(mix, params["mix"], jnp.concatenate(states, -1))
    last = len(states) - 1
    if not -last - 1 <= layer <= last:
        raise ValueError(
            f"the model has no layer {layer}: use 0, the embeddings, to {last}, or -1, the last"
        )
    # The last block is followed by a norm in some trunks. XLNet has two streams, content first.
    state = states[layer] if layer % len(states) < last else x_BLD
    return state[0] if isinstance(state, tuple) else state


def trunk_output(
    model: Any,
    tokens_BL: jax.Array,
    segments_BL: jax.Array | None,
    document_ids_BL: jax.Array | None,
) -> Any:
    """Return what the trunk of a model, or its encoder, makes of a batch; x_BLD for most."""
    if isinstance(model, EncoderDecoder):
        return model.encode(tokens_BL, document_ids_BL)
    trunk = model if isinstance(model, Encoder) else model.trunk
    return trunk.read(tokens_BL, segments_BL, document_ids_BL)


def _no_encoder(model: object) -> str:
    return (
        f"{type(model).__name__} has no encoder with one vector per token: use a model such as "
        "BERT, GPT-2, T5 or an LSTM"
    )
