"""The folders of T5 1.0 and of T5 1.1, which share a model_type, and those of mT5."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from zoo.formats.huggingface.format import Field, Format, nested, our_activation
from zoo.models import t5, t5_v1_1


def _attention(ours: str, theirs: str) -> dict:
    inputs = {"query": "q", "key": "k", "value": "v"}
    rows = {
        f"{ours}/{name}/kernel": (f"{theirs}.{letter}.weight", "DHK -> (HK)D")
        for name, letter in inputs.items()
    }
    return rows | {f"{ours}/output/kernel": (f"{theirs}.o.weight", "HKD -> D(HK)")}


ENCODER = {
    "attention_norm/scale": "0.layer_norm.weight",
    **_attention("attention", "0.SelfAttention"),
    "mlp_norm/scale": "1.layer_norm.weight",
}
DECODER = {
    "attention_norm/scale": "0.layer_norm.weight",
    **_attention("attention", "0.SelfAttention"),
    "source_norm/scale": "1.layer_norm.weight",
    **_attention("source_attention", "1.EncDecAttention"),
    "mlp_norm/scale": "2.layer_norm.weight",
}
FEED_FORWARD = {
    "mlp/up/kernel": ("DenseReluDense.wi.weight", "DF -> FD"),
    "mlp/down/kernel": ("DenseReluDense.wo.weight", "FD -> DF"),
}
GATED = {
    "mlp/gate/kernel": ("DenseReluDense.wi_0.weight", "DF -> FD"),
    "mlp/up/kernel": ("DenseReluDense.wi_1.weight", "DF -> FD"),
    "mlp/down/kernel": ("DenseReluDense.wo.weight", "FD -> DF"),
}
BIAS = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"


def _weights(feed_forward: dict) -> dict:
    encoder, decoder = "encoder.block.{}.layer", "decoder.block.{}.layer"
    return {
        "trunk/token_embedding/embedding": "shared.weight",
        "trunk/encoder_bias/table": f"encoder.{BIAS}",
        **nested(ENCODER, "trunk/encoder_{}", encoder),
        **nested(feed_forward, "trunk/encoder_{}", f"{encoder}.1"),
        "trunk/encoder_norm/scale": "encoder.final_layer_norm.weight",
        "trunk/decoder_bias/table": f"decoder.{BIAS}",
        **nested(DECODER, "trunk/decoder_{}", decoder),
        **nested(feed_forward, "trunk/decoder_{}", f"{decoder}.2"),
        "trunk/decoder_norm/scale": "decoder.final_layer_norm.weight",
    }


class T5Format(Format):
    """T5's format; the defaults of absent fields are those of the small size.

    In published folders "tie_word_embeddings": false means that the head has a table of its own and
    that its input is not scaled. transformers 5 always writes true there: its
    "scale_decoder_outputs" is the scale, and a head is untied if the folder has a table for it.
    """

    def reads(self, published: Mapping[str, Any]) -> bool:
        """Return whether the feed-forward has no gate."""
        return not str(published.get("feed_forward_proj", "relu")).startswith("gated")

    def to_config(self, published: Mapping[str, Any]) -> t5.Config:
        """Return our Config; the decoder is as deep as the encoder unless config.json sets it."""
        layers = published.get("num_layers", self.fields["num_layers"][1])
        tied = published.get("tie_word_embeddings")
        derived = {
            "num_decoder_layers": published.get("num_decoder_layers") or layers,
            "scale_decoder_outputs": published.get("scale_decoder_outputs", tied),
        }
        return super().to_config({**published, **derived})

    def fit(self, config: t5.Config, tensors: Mapping[str, np.ndarray]) -> t5.Config:
        """Return the config, whose head is untied if the folder has another table for it."""
        if not any(name.startswith("decoder.") for name in tensors):  # an encoder has no head
            return config
        is_untied = HEAD in tensors and not (
            TABLE in tensors and np.array_equal(tensors[HEAD], tensors[TABLE])
        )
        return replace(config, output_table="untied" if is_untied else "tied")


class GatedFormat(T5Format):
    """The format of version 1.1, which has a gate; its "gated-gelu" is the tanh form."""

    def reads(self, published: Mapping[str, Any]) -> bool:
        """Return whether the feed-forward has a gate."""
        return not super().reads(published)

    def activation(self, theirs: str) -> str:
        """Return our name of an activation; raise ValueError if it is not supported."""
        return "gelu_tanh" if theirs == "gated-gelu" else our_activation(theirs[len("gated-") :])

    def published_activation(self, ours: str) -> str:
        """Return the published name of an activation."""
        names = {"gelu_tanh": "gelu", "gelu": "gelu_python"}
        return "gated-" + names.get(ours, ours)


class MT5Format(GatedFormat):
    """mT5's format; transformers 5 scales no head of it, whatever config.json says."""

    def reads(self, published: Mapping[str, Any]) -> bool:
        """Return whether the feed-forward has a gate, the default."""
        return super().reads({"feed_forward_proj": "gated-gelu", **published})

    def to_config(self, published: Mapping[str, Any]) -> t5.Config:
        """Return our Config."""
        return super().to_config({**published, "scale_decoder_outputs": False})


FIELDS: dict[str, Field] = {
    "vocab_size": ("vocab_size", 32128),
    "max_length": ("n_positions", 512),
    "num_layers": ("num_layers", 6),
    "num_heads": ("num_heads", 8),
    "width": ("d_model", 512),
    "mlp_width": ("d_ff", 2048),
    "head_width": ("d_kv", 64),
    "dropout": ("dropout_rate", 0.1),
    "num_decoder_layers": ("num_decoder_layers", 6),
    "num_buckets": ("relative_attention_num_buckets", 32),
    "max_distance": ("relative_attention_max_distance", 128),
    "activation": ("feed_forward_proj", "relu"),
    "epsilon": ("layer_norm_epsilon", 1e-6),
    "head_exponent": (("scale_decoder_outputs", "tie_word_embeddings"), True),
}
MT5_FIELDS = FIELDS | {
    "vocab_size": ("vocab_size", 250112),
    "num_layers": ("num_layers", 8),
    "num_heads": ("num_heads", 6),
    "mlp_width": ("d_ff", 1024),
    "num_decoder_layers": ("num_decoder_layers", 8),
    "activation": ("feed_forward_proj", "gated-gelu"),
}
CONSTANTS = {"decoder_start_token_id": t5.START}
TABLE, HEAD = "shared.weight", "lm_head.weight"
TIED = dict.fromkeys(("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", HEAD), TABLE)
UNTIED = {"head/embedding": HEAD}
IGNORED = (r"EncDecAttention\.relative_attention_bias\.weight$",)  # released, but never used
TOKENIZER = {
    "tokenizer_class": "T5Tokenizer",
    "extra_ids": 100,
    "eos_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
}
# What the three formats have in common.
SHARED: dict[str, Any] = {
    "constants": CONSTANTS,
    "unpublished": ("output_table",),
    "nullable": ("num_decoder_layers",),
    "tied": TIED,
    "untied": UNTIED,
    "ignored": IGNORED,
    "tokenizer": TOKENIZER,
}

FORMAT = T5Format(
    model_type="t5",
    config_class=t5.Config,
    classes={"T5ForConditionalGeneration": t5.T5LM, "T5EncoderModel": t5.T5Encoder},
    fields=FIELDS,
    weights=_weights(FEED_FORWARD),
    **SHARED,
)
FORMAT_V1_1 = GatedFormat(
    model_type="t5",
    config_class=t5_v1_1.Config,
    classes={
        "T5ForConditionalGeneration": t5_v1_1.T5v11LM,
        "T5EncoderModel": t5_v1_1.T5v11Encoder,
    },
    fields=FIELDS,
    weights=_weights(GATED),
    **SHARED,
)
# mT5 is a T5 1.1 with another vocabulary, and is written as one.
FORMAT_MT5 = MT5Format(
    model_type="mt5",
    config_class=t5_v1_1.Config,
    classes={
        "MT5ForConditionalGeneration": t5_v1_1.T5v11LM,
        "MT5EncoderModel": t5_v1_1.T5v11Encoder,
    },
    fields=MT5_FIELDS,
    weights=_weights(GATED),
    **SHARED,
)
