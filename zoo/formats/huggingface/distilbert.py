"""DistilBERT's folders."""

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
from zoo.models import distilbert

EMBEDDINGS = {
    "token_embedding/embedding": "word_embeddings.weight",
    "position_embedding/embedding": "position_embeddings.weight",
    **nested(NORM, "embedding_norm", "LayerNorm"),
}
LAYER = {
    **nested(HEADS_IN, "attention/query", "attention.q_lin"),
    **nested(HEADS_IN, "attention/key", "attention.k_lin"),
    **nested(HEADS_IN, "attention/value", "attention.v_lin"),
    **nested(HEADS_OUT, "attention/output", "attention.out_lin"),
    **nested(NORM, "attention_norm", "sa_layer_norm"),
    **nested(LINEAR, "mlp/up", "ffn.lin1"),
    **nested(LINEAR, "mlp/down", "ffn.lin2"),
    **nested(NORM, "mlp_norm", "output_layer_norm"),
}

FORMAT = Format(
    model_type="distilbert",
    config_class=distilbert.Config,
    classes={
        "DistilBertForMaskedLM": distilbert.DistilBertLM,
        **classifiers(
            "DistilBertForSequenceClassification",
            distilbert.DistilBertClassifier,
            distilbert.DistilBertMultiLabel,
        ),
        "DistilBertForTokenClassification": distilbert.DistilBertTagger,
        "DistilBertForQuestionAnswering": distilbert.DistilBertQuestion,
        "DistilBertForMultipleChoice": distilbert.DistilBertMultipleChoice,
        "DistilBertModel": distilbert.DistilBertTrunk,
    },
    # Defaults of absent fields: the uncased base model.
    fields={
        "vocab_size": ("vocab_size", 30522),
        "max_length": ("max_position_embeddings", 512),
        "num_layers": ("n_layers", 6),
        "num_heads": ("n_heads", 12),
        "width": ("dim", 768),
        "mlp_width": ("hidden_dim", 3072),
        "dropout": (("dropout", "attention_dropout", "qa_dropout"), 0.1),
        "activation": ("activation", "gelu"),
        "init_std": ("initializer_range", 0.02),
        "output_table": ("tie_word_embeddings", True),
    },
    constants={"seq_classif_dropout": distilbert.CLASS_DROPOUT},
    weights={
        **nested(EMBEDDINGS, "trunk", "distilbert.embeddings"),
        **nested(LAYER, "trunk/blocks_{}", "distilbert.transformer.layer.{}"),
        **nested(LINEAR, "masked_head/dense", "vocab_transform"),
        **nested(NORM, "masked_head/norm", "vocab_layer_norm"),
        "masked_head/bias": "vocab_projector.bias",
        **nested(LINEAR, "pre_classifier", "pre_classifier"),
        **TASK_HEADS,
    },
    prefix="distilbert.",
    tied={"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"},
    untied={"output_table/embedding": "vocab_projector.weight"},
    ignored=(r"embeddings\.position_ids$",),  # a counter, stored as a buffer by old versions
    tokenizer={
        "tokenizer_class": "DistilBertTokenizer",
        "do_lower_case": True,
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "mask_token": "[MASK]",
    },
)
