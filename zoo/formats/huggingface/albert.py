"""ALBERT's folders."""

from zoo.formats.huggingface import bert
from zoo.formats.huggingface.format import (
    HEADS_IN,
    HEADS_OUT,
    LINEAR,
    NORM,
    TASK_HEADS,
    Format,
    classifiers,
    nested,
)
from zoo.models import albert

LAYER = {
    **nested(HEADS_IN, "attention/query", "attention.query"),
    **nested(HEADS_IN, "attention/key", "attention.key"),
    **nested(HEADS_IN, "attention/value", "attention.value"),
    **nested(HEADS_OUT, "attention/output", "attention.dense"),
    **nested(NORM, "attention_norm", "attention.LayerNorm"),
    **nested(LINEAR, "mlp/up", "ffn"),
    **nested(LINEAR, "mlp/down", "ffn_output"),
    **nested(NORM, "mlp_norm", "full_layer_layer_norm"),
}


class AlbertFormat(Format):
    """ALBERT's format; blocks are numbered within their group."""

    def layer(self, config: albert.Config, number: int) -> str:
        """Return the number of the group and that of the block in it."""
        group, block = divmod(number, config.group_blocks)
        return f"{group}.albert_layers.{block}"


FORMAT = AlbertFormat(
    model_type="albert",
    config_class=albert.Config,
    classes={
        "AlbertForPreTraining": albert.AlbertPretraining,
        "AlbertForMaskedLM": albert.AlbertLM,
        **classifiers(
            "AlbertForSequenceClassification", albert.AlbertClassifier, albert.AlbertMultiLabel
        ),
        "AlbertForTokenClassification": albert.AlbertTagger,
        "AlbertForQuestionAnswering": albert.AlbertQuestion,
        "AlbertForMultipleChoice": albert.AlbertMultipleChoice,
        "AlbertModel": albert.AlbertTrunk,
    },
    # Defaults of absent fields: xxlarge of version 2.
    fields=bert.FIELDS
    | {
        "vocab_size": ("vocab_size", 30000),
        "num_heads": ("num_attention_heads", 64),
        "width": ("hidden_size", 4096),
        "mlp_width": ("intermediate_size", 16384),
        "dropout": (("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0),
        "embed_width": ("embedding_size", 128),
        "num_groups": ("num_hidden_groups", 1),
        "group_blocks": ("inner_group_num", 1),
        "activation": ("hidden_act", "gelu_new"),
    },
    constants=bert.CONSTANTS | {"classifier_dropout_prob": albert.CLASS_DROPOUT},
    weights={
        **nested(bert.EMBEDDINGS, "trunk", "albert.embeddings"),
        **nested(LINEAR, "trunk/project", "albert.encoder.embedding_hidden_mapping_in"),
        **nested(LAYER, "trunk/blocks_{}", "albert.encoder.albert_layer_groups.{}"),
        **nested(LINEAR, "pooler/dense", "albert.pooler"),
        **nested(LINEAR, "masked_head/dense", "predictions.dense"),
        **nested(NORM, "masked_head/norm", "predictions.LayerNorm"),
        "masked_head/bias": "predictions.bias",
        **nested(LINEAR, "order_head", "sop_classifier.classifier"),
        **TASK_HEADS,
    },
    prefix="albert.",
    tied={
        "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
        "predictions.decoder.bias": "predictions.bias",
    },
    untied={
        "output_table/embedding": "predictions.decoder.weight",
        "masked_head/bias": "predictions.decoder.bias",
    },
    # Published AlbertForMaskedLM weights include an unused pooler.
    ignored=(bert.COUNTERS, r"^predictions\.bias$", r"^albert\.pooler\."),
    tokenizer={
        "tokenizer_class": "AlbertTokenizer",
        "do_lower_case": True,
        "unk_token": "<unk>",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "pad_token": "<pad>",
        "mask_token": "[MASK]",
    },
)
