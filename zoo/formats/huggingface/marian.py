"""The Transformer's folders, those of Marian's translators (Junczys-Dowmunt et al. 2018)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from zoo.formats.huggingface.format import HEADS_IN, HEADS_OUT, LINEAR, NORM, Format, nested
from zoo.models import transformer


def _attention(ours: str, theirs: str) -> dict:
    return {
        **nested(HEADS_IN, f"{ours}/query", f"{theirs}.q_proj"),
        **nested(HEADS_IN, f"{ours}/key", f"{theirs}.k_proj"),
        **nested(HEADS_IN, f"{ours}/value", f"{theirs}.v_proj"),
        **nested(HEADS_OUT, f"{ours}/output", f"{theirs}.out_proj"),
        **nested(NORM, f"{ours}_norm", f"{theirs}_layer_norm"),
    }


LAYER = {
    **_attention("attention", "self_attn"),
    **nested(LINEAR, "mlp/up", "fc1"),
    **nested(LINEAR, "mlp/down", "fc2"),
    **nested(NORM, "mlp_norm", "final_layer_norm"),
}
SOURCE = _attention("source_attention", "encoder_attn")
TABLE, HEAD = "model.shared.weight", "lm_head.weight"
SIDES = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight")


class MarianFormat(Format):
    """Marian's format; the start token of a target is never generated."""

    def to_config(self, published: Mapping[str, Any]) -> transformer.Config:
        """Return our Config, whose decoder has sizes of its own only if they differ."""
        config = super().to_config(published)
        heads, mlp_width = config.decoder_heads, config.decoder_mlp_width
        return replace(
            config,
            decoder_heads=None if heads == config.num_heads else heads,
            decoder_mlp_width=None if mlp_width == config.mlp_width else mlp_width,
        )

    def describe(self, config: transformer.Config) -> dict[str, Any]:
        """Return the fields of config.json."""
        heads, _, _, mlp_width = transformer.decoder_sizes(config)
        own = replace(config, decoder_heads=heads, decoder_mlp_width=mlp_width)
        return super().describe(own) | {"bad_words_ids": [[config.start]]}

    def buffers(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return copies of the table of both sides, which transformers 5 unties with the head."""
        return dict.fromkeys(SIDES, tensors[TABLE]) if HEAD in tensors else {}


FORMAT = MarianFormat(
    model_type="marian",
    config_class=transformer.Config,
    classes={"MarianMTModel": transformer.TransformerLM},
    # Defaults of absent fields in transformers.
    fields={
        "vocab_size": (("vocab_size", "decoder_vocab_size"), 58101),
        "max_length": ("max_position_embeddings", 1024),
        "num_layers": ("encoder_layers", 12),
        "num_heads": ("encoder_attention_heads", 16),
        "width": ("d_model", 1024),
        "mlp_width": ("encoder_ffn_dim", 4096),
        "dropout": (("dropout", "attention_dropout"), 0.1),
        "num_decoder_layers": ("decoder_layers", 12),
        "start": (("decoder_start_token_id", "pad_token_id"), 58100),
        "activation": ("activation_function", "gelu"),
        "end": (("eos_token_id", "forced_eos_token_id"), 0),
        "output_table": ("tie_word_embeddings", True),
        "embedding_exponent": ("scale_embedding", False),
        "decoder_heads": ("decoder_attention_heads", 16),
        "decoder_mlp_width": ("decoder_ffn_dim", 4096),
    },
    constants={
        "share_encoder_decoder_embeddings": True,
        "static_position_embeddings": True,
        "is_encoder_decoder": True,
        "normalize_before": False,
        "normalize_embedding": False,
        "add_final_layer_norm": False,
    },
    weights={
        "trunk/token_embedding/embedding": TABLE,
        "bias": "final_logits_bias",
        **nested(LAYER, "trunk/encoder_{}", "model.encoder.layers.{}"),
        **nested(LAYER | SOURCE, "trunk/decoder_{}", "model.decoder.layers.{}"),
    },
    prefix="model.",
    tied=dict.fromkeys((*SIDES, HEAD), TABLE),
    untied={"output_table/embedding": HEAD},
    ignored=(r"embed_positions\.weight$",),  # sinusoids, in folders of old versions
    tokenizer={
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
    },
)
