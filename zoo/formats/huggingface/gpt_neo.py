"""GPT-Neo's folders. GPT-3 itself was never released and has no Hugging Face format."""

from collections.abc import Mapping
from typing import Any

from zoo.formats.huggingface.format import (
    HEADS_OUT,
    LINEAR,
    NORM,
    TASK_HEADS,
    Format,
    Tokenizer,
    classifiers,
    nested,
)
from zoo.models import gpt_neo

LAYER = {
    **nested(NORM, "attention_norm", "ln_1"),
    "attention/query/kernel": ("attn.attention.q_proj.weight", "DHK -> (HK)D"),
    "attention/key/kernel": ("attn.attention.k_proj.weight", "DHK -> (HK)D"),
    "attention/value/kernel": ("attn.attention.v_proj.weight", "DHK -> (HK)D"),
    **nested(HEADS_OUT, "attention/output", "attn.attention.out_proj"),
    **nested(NORM, "mlp_norm", "ln_2"),
    **nested(LINEAR, "mlp/up", "mlp.c_fc"),
    **nested(LINEAR, "mlp/down", "mlp.c_proj"),
}


def attention_types(num_layers: int) -> list:
    """Return global (dense) and local (banded) blocks in turn, in the form of config.json."""
    pairs = [[["global", "local"], num_layers // 2]] if num_layers > 1 else []
    return pairs + ([[["global"], 1]] if num_layers % 2 else [])


class GPTNeoFormat(Format):
    """GPT-Neo's format, with a feed-forward of four times the width unless config.json sets it.

    Folders whose global and local blocks do not alternate are rejected, as `describe` is compared.
    """

    def to_config(self, published: Mapping[str, Any]) -> gpt_neo.Config:
        """Return our Config."""
        mlp_width = published.get("intermediate_size") or 4 * published.get("hidden_size", 2048)
        return super().to_config({**published, "intermediate_size": mlp_width})

    def describe(self, config: gpt_neo.Config) -> dict[str, Any]:
        """Return the fields of config.json without a check."""
        return super().describe(config) | {"attention_types": attention_types(config.num_layers)}

    def special_ids(self, config: gpt_neo.Config, tokenizer: Tokenizer | None) -> dict[str, int]:
        """Return the id of <|endoftext|>, the last one; transformers would expect 50256."""
        last = {name: config.vocab_size - 1 for name in ("bos_token_id", "eos_token_id")}
        return last | super().special_ids(config, tokenizer)


FORMAT = GPTNeoFormat(
    model_type="gpt_neo",
    config_class=gpt_neo.Config,
    classes={
        "GPTNeoForCausalLM": gpt_neo.GPTNeoLM,
        **classifiers(
            "GPTNeoForSequenceClassification", gpt_neo.GPTNeoClassifier, gpt_neo.GPTNeoMultiLabel
        ),
        "GPTNeoForTokenClassification": gpt_neo.GPTNeoTagger,
        "GPTNeoForQuestionAnswering": gpt_neo.GPTNeoQuestion,
        "GPTNeoModel": gpt_neo.GPTNeoTrunk,
    },
    # Defaults of absent fields: GPT-Neo 1.3B.
    fields={
        "vocab_size": ("vocab_size", 50257),
        "max_length": ("max_position_embeddings", 2048),
        "num_layers": ("num_layers", 24),
        "num_heads": ("num_heads", 16),
        "width": ("hidden_size", 2048),
        "mlp_width": ("intermediate_size", 8192),
        "dropout": (("resid_dropout", "embed_dropout", "attention_dropout"), 0.0),
        "activation": ("activation_function", "gelu_new"),
        "epsilon": ("layer_norm_epsilon", 1e-5),
        "init_std": ("initializer_range", 0.02),
        "window": ("window_size", 256),
    },
    constants={"tie_word_embeddings": True},
    nullable=("intermediate_size",),
    weights={
        "trunk/token_embedding/embedding": "transformer.wte.weight",
        "trunk/position_embedding/embedding": "transformer.wpe.weight",
        **nested(LAYER, "trunk/blocks_{}", "transformer.h.{}"),
        **nested(NORM, "trunk/norm", "transformer.ln_f"),
        "score/kernel": ("score.weight", "DC -> CD"),
        **TASK_HEADS,
    },
    prefix="transformer.",
    tied={"lm_head.weight": "transformer.wte.weight"},
    # The causal mask, stored as a buffer by old versions.
    ignored=(r"\.attn\.attention\.(masked_)?bias$",),
    tokenizer={
        "tokenizer_class": "GPT2Tokenizer",
        "bos_token": "<|endoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
    },
)
