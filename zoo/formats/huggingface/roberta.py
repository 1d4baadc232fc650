"""RoBERTa's folders."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from zoo.formats.huggingface import bert
from zoo.formats.huggingface.format import LINEAR, NORM, TASK_HEADS, Format, classifiers, nested
from zoo.models import roberta

# The two-layer classifier, which ELECTRA shares.
TWO_LAYERS = {
    **nested(LINEAR, "dense", "classifier.dense"),
    **nested(LINEAR, "projection", "classifier.out_proj"),
}


class RobertaFormat(Format):
    """RoBERTa's format; its positions start after the padding id."""

    def to_config(self, published: Mapping[str, Any]) -> roberta.Config:
        """Return our Config, with the maximum length of a text."""
        config = super().to_config(published)
        return dataclasses.replace(config, max_length=config.max_length - roberta.PADDING - 1)

    def describe(self, config: roberta.Config) -> dict[str, Any]:
        """Return the fields of config.json."""
        positions = config.max_length + roberta.PADDING + 1
        return super().describe(dataclasses.replace(config, max_length=positions))


FORMAT = RobertaFormat(
    model_type="roberta",
    config_class=roberta.Config,
    classes={
        "RobertaForMaskedLM": roberta.RobertaLM,
        **classifiers(
            "RobertaForSequenceClassification", roberta.RobertaClassifier, roberta.RobertaMultiLabel
        ),
        "RobertaForTokenClassification": roberta.RobertaTagger,
        "RobertaForQuestionAnswering": roberta.RobertaQuestion,
        "RobertaForMultipleChoice": roberta.RobertaMultipleChoice,
        "RobertaModel": roberta.RobertaTrunk,
    },
    fields=bert.FIELDS
    | {
        "vocab_size": ("vocab_size", 50265),
        "max_length": ("max_position_embeddings", 514),
        "epsilon": ("layer_norm_eps", 1e-5),
        "init_std": ("initializer_range", 0.02),
    },
    constants=bert.CONSTANTS
    | {
        "bos_token_id": 0,
        "pad_token_id": roberta.PADDING,
        "eos_token_id": 2,
    },
    weights={
        **nested(bert.EMBEDDINGS, "trunk", "roberta.embeddings"),
        **nested(bert.LAYER, "trunk/blocks_{}", "roberta.encoder.layer.{}"),
        **nested(LINEAR, "masked_head/dense", "lm_head.dense"),
        **nested(NORM, "masked_head/norm", "lm_head.layer_norm"),
        "masked_head/bias": "lm_head.bias",
        **nested(LINEAR, "pooler/dense", "roberta.pooler.dense"),
        **TWO_LAYERS,
        **TASK_HEADS,
    },
    prefix="roberta.",
    tied={
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
    untied={
        "output_table/embedding": "lm_head.decoder.weight",
        "masked_head/bias": "lm_head.decoder.bias",
    },
    # Old versions also store a pooler that was never trained.
    ignored=(bert.COUNTERS, r"^lm_head\.bias$", r"^roberta\.pooler\."),
    tokenizer={
        "tokenizer_class": "RobertaTokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    },
)
