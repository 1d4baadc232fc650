"""XLNet's folders."""

from collections.abc import Mapping
from typing import Any

from zoo.formats.huggingface.format import LINEAR, NORM, TASK_HEADS, Format, classifiers, nested
from zoo.models import xlnet

LAYER = {
    "attention/query/kernel": "rel_attn.q",
    "attention/key/kernel": "rel_attn.k",
    "attention/value/kernel": "rel_attn.v",
    "attention/position/kernel": "rel_attn.r",
    "attention/output/kernel": ("rel_attn.o", "HKD -> DHK"),
    "attention/content_bias": "rel_attn.r_w_bias",
    "attention/position_bias": "rel_attn.r_r_bias",
    "attention/segment_bias": "rel_attn.r_s_bias",
    "attention/segment_embedding": "rel_attn.seg_embed",
    **nested(NORM, "attention_norm", "rel_attn.layer_norm"),
    **nested(LINEAR, "mlp/up", "ff.layer_1"),
    **nested(LINEAR, "mlp/down", "ff.layer_2"),
    **nested(NORM, "mlp_norm", "ff.layer_norm"),
}


class XLNetFormat(Format):
    """XLNet's format; the head width is width / heads unless config.json sets it."""

    def to_config(self, published: Mapping[str, Any]) -> xlnet.Config:
        """Return our Config."""
        width, heads = published.get("d_model", 1024), published.get("n_head", 16)
        return super().to_config({**published, "d_head": published.get("d_head") or width // heads})


FORMAT = XLNetFormat(
    model_type="xlnet",
    config_class=xlnet.Config,
    classes={
        "XLNetLMHeadModel": xlnet.XLNetLM,
        **classifiers(
            "XLNetForSequenceClassification", xlnet.XLNetClassifier, xlnet.XLNetMultiLabel
        ),
        "XLNetForTokenClassification": xlnet.XLNetTagger,
        "XLNetForQuestionAnsweringSimple": xlnet.XLNetQuestion,
        "XLNetForMultipleChoice": xlnet.XLNetMultipleChoice,
        "XLNetModel": xlnet.XLNetTrunk,
    },
    # Defaults of absent fields: the large size.
    fields={
        "vocab_size": ("vocab_size", 32000),
        "num_layers": ("n_layer", 24),
        "num_heads": ("n_head", 16),
        "width": ("d_model", 1024),
        "mlp_width": ("d_inner", 4096),
        "head_width": ("d_head", 64),
        "dropout": ("dropout", 0.1),
        "activation": ("ff_activation", "gelu"),
        "epsilon": ("layer_norm_eps", 1e-12),
        "init_std": ("initializer_range", 0.02),
    },
    constants={
        "summary_type": "last",
        "summary_activation": "tanh",
        "summary_last_dropout": xlnet.CLASS_DROPOUT,
        "untie_r": True,
        "attn_type": "bi",
        "bi_data": False,
        "clamp_len": -1,
        "same_length": False,
        "tie_word_embeddings": True,
    },
    unpublished=("max_length",),
    nullable=("d_head",),
    weights={
        "trunk/token_embedding/embedding": "transformer.word_embedding.weight",
        "trunk/query_start": "transformer.mask_emb",
        **nested(LAYER, "trunk/blocks_{}", "transformer.layer.{}"),
        "head_bias": "lm_loss.bias",
        **nested(LINEAR, "summary", "sequence_summary.summary"),
        **nested(LINEAR, "projection", "logits_proj"),
        **TASK_HEADS,
    },
    prefix="transformer.",
    tied={"lm_loss.weight": "transformer.word_embedding.weight"},
    tokenizer={
        "tokenizer_class": "XLNetTokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "sep_token": "<sep>",
        "pad_token": "<pad>",
        "cls_token": "<cls>",
        "mask_token": "<mask>",
        "padding_side": "left",
    },
)
