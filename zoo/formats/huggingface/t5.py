"""T5's folders, of version 1.0 and of version 1.1, which share a model_type."""

from collections.abc import Mapping
from typing import Any

from zoo.formats.huggingface.format import Field, Format, nested
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
    """T5's format; the defaults of absent fields are those of the small size."""

    def reads(self, published: Mapping[str, Any]) -> bool:
        """Return whether the feed-forward has no gate."""
        return not published.get("feed_forward_proj", "relu").startswith("gated")

    def to_config(self, published: Mapping[str, Any]) -> t5.Config:
        """Return our Config; the decoder is as deep as the encoder unless config.json sets it."""
        layers = published.get("num_layers", 6)
        depth = published.get("num_decoder_layers") or layers
        return super().to_config({**published, "num_decoder_layers": depth})


class T5v11Format(T5Format):
    """The format of version 1.1, which has a gate.

    In published folders "tie_word_embeddings": false also means that the head's input is not
    scaled. transformers 5 always writes true there; its "scale_decoder_outputs" is the scale.
    """

    def reads(self, published: Mapping[str, Any]) -> bool:
        """Return whether the feed-forward has a gate."""
        return not super().reads(published)

    def to_config(self, published: Mapping[str, Any]) -> t5.Config:
        """Return our Config; raise ValueError if there is a head whose input is scaled."""
        has_head = published.get("architectures") != ["T5EncoderModel"]
        if has_head and published.get(
            "scale_decoder_outputs", published.get("tie_word_embeddings", True)
        ):
            raise ValueError(
                "config.json has a gated T5 with a scaled head, which zoo does not support"
            )
        # transformers' "gated-gelu" is the tanh form.
        gate = published["feed_forward_proj"]
        gate = "gelu_new" if gate == "gated-gelu" else gate
        return super().to_config({**published, "feed_forward_proj": gate})

    def describe(self, config: t5_v1_1.Config) -> dict[str, Any]:
        """Return the fields of config.json."""
        return super().describe(config) | {"feed_forward_proj": "gated-gelu"}


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
}
CONSTANTS = {"decoder_start_token_id": t5.START}
TIED = dict.fromkeys(
    ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"), "shared.weight"
)
IGNORED = (r"EncDecAttention\.relative_attention_bias\.weight$",)  # released, but never used
TOKENIZER = {
    "tokenizer_class": "T5Tokenizer",
    "extra_ids": 100,
    "eos_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
}

FORMAT = T5Format(
    model_type="t5",
    config_class=t5.Config,
    classes={"T5ForConditionalGeneration": t5.T5LM, "T5EncoderModel": t5.T5Encoder},
    fields=FIELDS,
    constants=CONSTANTS | {"tie_word_embeddings": True, "scale_decoder_outputs": True},
    weights=_weights(FEED_FORWARD),
    tied=TIED | {"lm_head.weight": "shared.weight"},
    ignored=IGNORED,
    tokenizer=TOKENIZER,
)
FORMAT_V1_1 = T5v11Format(
    model_type="t5",
    config_class=t5_v1_1.Config,
    classes={
        "T5ForConditionalGeneration": t5_v1_1.T5v11LM,
        "T5EncoderModel": t5_v1_1.T5v11Encoder,
    },
    fields=FIELDS,
    constants=CONSTANTS | {"scale_decoder_outputs": False},
    weights=_weights(GATED) | {"head/embedding": "lm_head.weight"},
    tied=TIED,
    ignored=IGNORED,
    tokenizer=TOKENIZER,
)
