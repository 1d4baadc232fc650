"""GPT-2's folders; kernels are stored inputs first, where torch.nn.Linear stores outputs first."""

from collections.abc import Mapping
from typing import Any

from zoo.formats.huggingface.format import (
    LINEAR,
    NORM,
    TASK_HEADS,
    Format,
    Tokenizer,
    classifiers,
    nested,
)
from zoo.models import gpt2

LAYER = {
    **nested(NORM, "attention_norm", "ln_1"),
    # One tensor holds query, key and value.
    "attention/query/kernel": ("attn.c_attn.weight[1/3]", "DHK -> D(HK)"),
    "attention/query/bias": ("attn.c_attn.bias[1/3]", "HK -> (HK)"),
    "attention/key/kernel": ("attn.c_attn.weight[2/3]", "DHK -> D(HK)"),
    "attention/key/bias": ("attn.c_attn.bias[2/3]", "HK -> (HK)"),
    "attention/value/kernel": ("attn.c_attn.weight[3/3]", "DHK -> D(HK)"),
    "attention/value/bias": ("attn.c_attn.bias[3/3]", "HK -> (HK)"),
    "attention/output/kernel": ("attn.c_proj.weight", "HKD -> (HK)D"),
    "attention/output/bias": "attn.c_proj.bias",
    **nested(NORM, "mlp_norm", "ln_2"),
    "mlp/up/kernel": "mlp.c_fc.weight",
    "mlp/up/bias": "mlp.c_fc.bias",
    "mlp/down/kernel": "mlp.c_proj.weight",
    "mlp/down/bias": "mlp.c_proj.bias",
}

# The head for choices, which reads the last token unless its position is an input.
CHOICE = nested(LINEAR, "choice", "multiple_choice_head.summary")
SUMMARY = {
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "summary_proj_to_labels": True,
    "summary_activation": None,
    "summary_first_dropout": gpt2.CHOICE_DROPOUT,
}


class GPT2Format(Format):
    """GPT-2's format, with a feed-forward of four times the width unless config.json sets it."""

    def to_config(self, published: Mapping[str, Any]) -> gpt2.Config:
        """Return our Config."""
        width = published.get("n_embd", 768)
        return super().to_config({**published, "n_inner": published.get("n_inner") or 4 * width})

    def special_ids(self, config: gpt2.Config, tokenizer: Tokenizer | None) -> dict[str, int]:
        """Return the id of <|endoftext|>, the last one; transformers would expect 50256."""
        last = {name: config.vocab_size - 1 for name in ("bos_token_id", "eos_token_id")}
        return last | super().special_ids(config, tokenizer)


FORMAT = GPT2Format(
    model_type="gpt2",
    config_class=gpt2.Config,
    classes={
        "GPT2LMHeadModel": gpt2.GPT2LM,
        **classifiers("GPT2ForSequenceClassification", gpt2.GPT2Classifier, gpt2.GPT2MultiLabel),
        "GPT2ForTokenClassification": gpt2.GPT2Tagger,
        "GPT2ForQuestionAnswering": gpt2.GPT2Question,
        "GPT2DoubleHeadsModel": gpt2.GPT2MultipleChoice,
        "GPT2Model": gpt2.GPT2Trunk,
    },
    # Defaults of absent fields: the smallest size.
    fields={
        "vocab_size": ("vocab_size", 50257),
        "max_length": ("n_positions", 1024),
        "num_layers": ("n_layer", 12),
        "num_heads": ("n_head", 12),
        "width": ("n_embd", 768),
        "mlp_width": ("n_inner", 3072),
        "dropout": (("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.1),
        "activation": ("activation_function", "gelu_new"),
        "epsilon": ("layer_norm_epsilon", 1e-5),
        "init_std": ("initializer_range", 0.02),
        "output_table": ("tie_word_embeddings", True),
    },
    constants={
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        **SUMMARY,
    },
    nullable=("n_inner",),
    weights={
        "trunk/token_embedding/embedding": "transformer.wte.weight",
        "trunk/position_embedding/embedding": "transformer.wpe.weight",
        **nested(LAYER, "trunk/blocks_{}", "transformer.h.{}"),
        **nested(NORM, "trunk/norm", "transformer.ln_f"),
        "score/kernel": ("score.weight", "DC -> CD"),
        **TASK_HEADS,
        **CHOICE,
    },
    prefix="transformer.",
    tied={"lm_head.weight": "transformer.wte.weight"},
    untied={"output_table/embedding": "lm_head.weight"},
    ignored=(r"\.attn\.(masked_)?bias$",),  # the causal mask, stored as a buffer by old versions
    tokenizer={
        "tokenizer_class": "GPT2Tokenizer",
        "bos_token": "<|endoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
    },
)
