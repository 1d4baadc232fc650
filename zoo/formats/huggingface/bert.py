"""BERT's folders."""

from zoo.formats.huggingface.format import (
    HEADS_IN,
    HEADS_OUT,
    LINEAR,
    NORM,
    TASK_HEADS,
    Field,
    Format,
    classifiers,
    nested,
)
from zoo.models import bert

# Shared by BERT, RoBERTa and ELECTRA.
EMBEDDINGS = {
    "token_embedding/embedding": "word_embeddings.weight",
    "position_embedding/embedding": "position_embeddings.weight",
    "segment_embedding/embedding": "token_type_embeddings.weight",
    **nested(NORM, "embedding_norm", "LayerNorm"),
}
LAYER = {
    **nested(HEADS_IN, "attention/query", "attention.self.query"),
    **nested(HEADS_IN, "attention/key", "attention.self.key"),
    **nested(HEADS_IN, "attention/value", "attention.self.value"),
    **nested(HEADS_OUT, "attention/output", "attention.output.dense"),
    **nested(NORM, "attention_norm", "attention.output.LayerNorm"),
    **nested(LINEAR, "mlp/up", "intermediate.dense"),
    **nested(LINEAR, "mlp/down", "output.dense"),
    **nested(NORM, "mlp_norm", "output.LayerNorm"),
}
# Defaults of absent fields: the uncased base model.
FIELDS: dict[str, Field] = {
    "vocab_size": ("vocab_size", 30522),
    "max_length": ("max_position_embeddings", 512),
    "num_layers": ("num_hidden_layers", 12),
    "num_heads": ("num_attention_heads", 12),
    "width": ("hidden_size", 768),
    "mlp_width": ("intermediate_size", 3072),
    "dropout": (("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.1),
    "num_segments": ("type_vocab_size", 2),
    "activation": ("hidden_act", "gelu"),
    "epsilon": ("layer_norm_eps", 1e-12),
    "init_std": ("initializer_range", 0.02),
    "output_table": ("tie_word_embeddings", True),
}
CONSTANTS = {"position_embedding_type": "absolute", "is_decoder": False}
COUNTERS = r"embeddings\.(position|token_type)_ids$"  # stored as buffers by old versions
TOKENIZER = {
    "tokenizer_class": "BertTokenizer",
    "do_lower_case": True,
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "mask_token": "[MASK]",
}

FORMAT = Format(
    model_type="bert",
    config_class=bert.Config,
    classes={
        "BertForPreTraining": bert.BertPretraining,
        "BertForMaskedLM": bert.BertLM,
        "BertForNextSentencePrediction": bert.BertNextSentence,
        **classifiers("BertForSequenceClassification", bert.BertClassifier, bert.BertMultiLabel),
        "BertForTokenClassification": bert.BertTagger,
        "BertForQuestionAnswering": bert.BertQuestion,
        "BertForMultipleChoice": bert.BertMultipleChoice,
        "BertModel": bert.BertTrunk,
    },
    fields=FIELDS,
    constants=CONSTANTS,
    weights={
        **nested(EMBEDDINGS, "trunk", "bert.embeddings"),
        **nested(LAYER, "trunk/blocks_{}", "bert.encoder.layer.{}"),
        **nested(LINEAR, "pooler/dense", "bert.pooler.dense"),
        **nested(LINEAR, "masked_head/dense", "cls.predictions.transform.dense"),
        **nested(NORM, "masked_head/norm", "cls.predictions.transform.LayerNorm"),
        "masked_head/bias": "cls.predictions.bias",
        **nested(LINEAR, "next_head", "cls.seq_relationship"),
        **TASK_HEADS,
    },
    prefix="bert.",
    tied={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    # An untied head has its own bias; transformers stores the other one without using it.
    untied={
        "output_table/embedding": "cls.predictions.decoder.weight",
        "masked_head/bias": "cls.predictions.decoder.bias",
    },
    ignored=(COUNTERS, r"^cls\.predictions\.bias$"),
    tokenizer=TOKENIZER,
)
