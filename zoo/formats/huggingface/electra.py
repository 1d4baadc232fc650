"""ELECTRA's folders: a discriminator or a generator, each on its own."""

from zoo.formats.huggingface import bert, roberta
from zoo.formats.huggingface.format import LINEAR, NORM, TASK_HEADS, Format, classifiers, nested
from zoo.models import electra

# transformers has no model with both networks, so it ignores these fields.
GENERATOR = ("generator_layers", "generator_heads", "generator_width", "generator_mlp_width")
DEFAULTS = electra.Config()

FORMAT = Format(
    model_type="electra",
    config_class=electra.Config,
    classes={
        "ElectraForPreTraining": electra.ElectraDiscriminator,
        "ElectraForMaskedLM": electra.ElectraGenerator,
        **classifiers(
            "ElectraForSequenceClassification", electra.ElectraClassifier, electra.ElectraMultiLabel
        ),
        "ElectraForTokenClassification": electra.ElectraTagger,
        "ElectraForQuestionAnswering": electra.ElectraQuestion,
        "ElectraForMultipleChoice": electra.ElectraMultipleChoice,
        "ElectraModel": electra.ElectraTrunk,
    },
    # Defaults of absent fields: the small discriminator.
    fields=bert.FIELDS
    | {
        "num_heads": ("num_attention_heads", 4),
        "width": ("hidden_size", 256),
        "mlp_width": ("intermediate_size", 1024),
        "embed_width": ("embedding_size", 128),
        **{name: (name, getattr(DEFAULTS, name)) for name in GENERATOR},
    },
    constants=bert.CONSTANTS
    | {
        "summary_type": "first",
        "summary_use_proj": True,
        "summary_activation": "gelu",
        "summary_last_dropout": electra.SUMMARY_DROPOUT,
    },
    weights={
        **nested(bert.EMBEDDINGS, "trunk/embeddings", "electra.embeddings"),
        **nested(bert.LAYER, "trunk/blocks_{}", "electra.encoder.layer.{}"),
        **nested(LINEAR, "trunk/project", "electra.embeddings_project"),
        **nested(LINEAR, "masked_head/dense", "generator_predictions.dense"),
        **nested(NORM, "masked_head/norm", "generator_predictions.LayerNorm"),
        "masked_head/bias": "generator_lm_head.bias",
        **nested(LINEAR, "replaced_head/dense", "discriminator_predictions.dense"),
        **nested(LINEAR, "replaced_head/score", "discriminator_predictions.dense_prediction"),
        **nested(LINEAR, "summary", "sequence_summary.summary"),
        **roberta.TWO_LAYERS,
        **TASK_HEADS,
    },
    prefix="electra.",
    tied={"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"},
    untied={"output_table/embedding": "generator_lm_head.weight"},
    ignored=(bert.COUNTERS,),
    tokenizer=bert.TOKENIZER,
)
