"""GPT's folders; the layers are named as those of GPT-2."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from zoo.formats.huggingface.format import Format, classifiers, nested
from zoo.formats.huggingface.gpt2 import CHOICE, LAYER, SUMMARY
from zoo.models import gpt

ACTIVATIONS = ("relu", "silu", "gelu", "swish")


class GPTFormat(Format):
    """GPT's format; the feed-forward always has four times the width."""

    def to_config(self, published: Mapping[str, Any]) -> gpt.Config:
        """Return our Config."""
        config = super().to_config(published)
        return replace(config, mlp_width=4 * config.width)

    def activation(self, theirs: str) -> str:
        """Return our name of an activation; "gelu" means the tanh approximation."""
        if theirs not in ACTIVATIONS:
            supported = ", ".join(ACTIVATIONS)
            raise ValueError(f"{theirs!r:.60}; GPT has {supported}")
        return "gelu_tanh" if theirs == "gelu" else theirs

    def published_activation(self, ours: str) -> str:
        """Return the published name of an activation."""
        return "gelu" if ours == "gelu_tanh" else ours


FORMAT = GPTFormat(
    model_type="openai-gpt",
    config_class=gpt.Config,
    classes={
        "OpenAIGPTLMHeadModel": gpt.GPTLM,
        **classifiers("OpenAIGPTForSequenceClassification", gpt.GPTClassifier, gpt.GPTMultiLabel),
        "OpenAIGPTDoubleHeadsModel": gpt.GPTMultipleChoice,
        "OpenAIGPTModel": gpt.GPTTrunk,
    },
    fields={
        "vocab_size": ("vocab_size", 40478),
        "max_length": ("n_positions", 512),
        "num_layers": ("n_layer", 12),
        "num_heads": ("n_head", 12),
        "width": ("n_embd", 768),
        "dropout": (("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.1),
        "activation": ("afn", "gelu"),
        "epsilon": ("layer_norm_epsilon", 1e-5),
        "init_std": ("initializer_range", 0.02),
    },
    constants={"tie_word_embeddings": True, **SUMMARY},
    weights={
        "trunk/token_embedding/embedding": "transformer.tokens_embed.weight",
        "trunk/position_embedding/embedding": "transformer.positions_embed.weight",
        **nested(LAYER, "trunk/blocks_{}", "transformer.h.{}"),
        "score/kernel": ("score.weight", "DC -> CD"),
        **CHOICE,
    },
    prefix="transformer.",
    tied={"lm_head.weight": "transformer.tokens_embed.weight"},
    # Buffers of old versions: the causal mask and the positions.
    ignored=(r"\.attn\.bias$", r"position_ids$"),
    tokenizer={"tokenizer_class": "OpenAIGPTTokenizer", "unk_token": "<unk>"},
)
