"""A table of every published class: how transformers builds and calls it, and what to compare."""

import dataclasses

import jax
import numpy as np

V, B, L, T = 97, 4, 20, 12
SOURCE_L = 50  # length of a source: longer than T5's largest distance
LABELS = ("bad", "middling", "good")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One class of transformers.

    Attributes:
      published: Its name.
      ours: The name of our class.
      config: The fields of its config that differ from the defaults.
      inputs: The inputs of ours besides the tokens; "documents" is the attention mask of theirs.
      outputs: Their names of our outputs, in our order; the two of QA are stacked in ours.
      hidden: Our modules whose outputs are their hidden states, without the embeddings, by the
        names of their outputs.
      left: Which rows of the batch are padded on the left: "last", "all" or "none".
      positions: Whether padding shifts its positions unless they are inputs.
      sizes: Published sizes whose parameters are counted.
      padding: The padding id.
      variant: Distinguishes rows of one class.
    """

    published: str
    ours: str
    config: dict
    inputs: tuple[str, ...]
    outputs: tuple[str, ...] = ("logits",)
    hidden: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    left: str = "none"
    positions: bool = False
    sizes: tuple[str, ...] = ()
    padding: int = 0
    variant: str = ""

    @property
    def name(self) -> str:
        return f"{self.published}-{self.variant}" if self.variant else self.published


def blocks(count: int) -> dict:
    return {"hidden_states": tuple(f"blocks_{i}" for i in range(count))}


BERT = {
    "vocab_size": V,
    "max_position_embeddings": 32,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 112,
}
ROBERTA = BERT | {"max_position_embeddings": 34, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
# Two groups of blocks, and embeddings narrower than the layers.
ALBERT = BERT | {"num_hidden_layers": 4, "num_hidden_groups": 2, "embedding_size": 20}
ALBERT |= {"classifier_dropout_prob": 0.0}
ELECTRA = BERT | {"embedding_size": 20}
DISTIL = {"vocab_size": V, "max_position_embeddings": 32}
DISTIL |= {"dim": 48, "n_layers": 3, "n_heads": 4, "hidden_dim": 112}
GPT = {"vocab_size": V, "n_positions": 32, "n_embd": 48, "n_layer": 3, "n_head": 4}
GPT |= {"pad_token_id": 0}
GPT2 = {"vocab_size": V, "n_positions": 32, "n_embd": 48, "n_layer": 3, "n_head": 4}
GPT2 |= {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
GPT_NEO = {"vocab_size": V, "max_position_embeddings": 32, "hidden_size": 48, "num_heads": 4}
GPT_NEO |= {"num_layers": 3, "attention_types": [[["global", "local"], 1], [["global"], 1]]}
GPT_NEO |= {"window_size": 4, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
XLNET = {"vocab_size": V, "d_model": 48, "n_layer": 3, "n_head": 4, "d_inner": 80}
XLNET |= {"untie_r": True, "reuse_len": 5, "mem_len": 8}
T5 = {
    "vocab_size": V,
    "d_model": 48,
    "d_kv": 10,
    "d_ff": 112,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 5,
    "relative_attention_num_buckets": 16,
    "relative_attention_max_distance": 40,
    "decoder_start_token_id": 0,
}
T5_V1_1 = T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
MARIAN = {
    "vocab_size": V,
    "max_position_embeddings": 64,
    "d_model": 48,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 112,
    "decoder_ffn_dim": 112,
    "scale_embedding": True,
    "forced_eos_token_id": None,
    "dropout": 0.0,
}
# Marian's own ids for start and end, and T5's.
MARIANS = {
    "swish": {"decoder_start_token_id": 96, "pad_token_id": 96, "eos_token_id": 0},
    "relu": {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1},
}

PAIR = ("segments", "documents")
TEXT = ("documents",)
SOURCE = ("targets", "documents")
SIDES = {  # the last hidden state of a T5 stack is the output of its norm
    "t5": {
        "encoder_hidden_states": ("encoder_0", "encoder_1", "encoder_norm"),
        "decoder_hidden_states": ("decoder_0", "decoder_norm"),
    },
    "marian": {
        "encoder_hidden_states": ("encoder_0", "encoder_1", "encoder_2"),
        "decoder_hidden_states": ("decoder_0", "decoder_1"),
    },
}

MODELS = (
    Row(
        published="OpenAIGPTLMHeadModel",
        ours="GPTLM",
        config=GPT,
        inputs=TEXT,
        left="last",
        positions=True,
        hidden=blocks(3),
        sizes=("gpt-tiny", "gpt"),
    ),
    Row(
        published="GPT2LMHeadModel",
        ours="GPT2LM",
        config=GPT2,
        inputs=TEXT,
        left="last",
        positions=True,
        hidden={"hidden_states": ("blocks_0", "blocks_1", "norm")},
        sizes=("gpt2-tiny", "gpt2"),
    ),
    Row(
        published="GPTNeoForCausalLM",
        ours="GPTNeoLM",
        config=GPT_NEO,
        inputs=TEXT,
        left="last",
        positions=True,
        hidden={"hidden_states": ("blocks_0", "blocks_1", "norm")},
        sizes=("gpt-neo-125m", "gpt-neo-2.7b"),
    ),
    Row(
        published="BertForPreTraining",
        ours="BertPretraining",
        config=BERT,
        inputs=PAIR,
        outputs=("prediction_logits", "seq_relationship_logits"),
        left="last",
        positions=True,
        hidden=blocks(3),
        sizes=("bert-tiny", "bert-L2-H128-uncased", "bert-large-cased"),
    ),
    Row(
        published="BertForMaskedLM",
        ours="BertLM",
        config=BERT,
        inputs=PAIR,
        left="last",
        positions=True,
    ),
    Row(
        published="BertForNextSentencePrediction",
        ours="BertNextSentence",
        config=BERT,
        inputs=PAIR,
        left="last",
        positions=True,
    ),
    Row(
        published="AlbertForPreTraining",
        ours="AlbertPretraining",
        config=ALBERT,
        inputs=PAIR,
        outputs=("prediction_logits", "sop_logits"),
        left="last",
        positions=True,
        hidden=blocks(2),
        sizes=("albert-tiny",),
    ),
    Row(
        published="AlbertForMaskedLM",
        ours="AlbertLM",
        config=ALBERT,
        inputs=PAIR,
        left="last",
        positions=True,
        sizes=("albert-tiny", "albert-base-v2", "albert-xlarge-v1", "albert-xxlarge-v1"),
    ),
    Row(
        published="ElectraForPreTraining",
        ours="ElectraDiscriminator",
        config=ELECTRA,
        inputs=PAIR,
        left="last",
        positions=True,
        hidden=blocks(3),
    ),
    Row(
        published="ElectraForPreTraining",
        ours="ElectraDiscriminator",
        config=ELECTRA | {"embedding_size": 48},
        inputs=PAIR,
        left="last",
        positions=True,
        hidden=blocks(3),
        variant="wide",
    ),
    Row(
        published="ElectraForMaskedLM",
        ours="ElectraGenerator",
        config=ELECTRA,
        inputs=PAIR,
        left="last",
        positions=True,
        hidden=blocks(3),
    ),
    Row(
        published="RobertaForMaskedLM",
        ours="RobertaLM",
        config=ROBERTA,
        inputs=TEXT,
        left="last",
        hidden=blocks(3),
        padding=1,  # it derives positions from this id, regardless of the mask
        sizes=("roberta-tiny", "roberta-base", "roberta-large"),
    ),
    Row(
        published="DistilBertForMaskedLM",
        ours="DistilBertLM",
        config=DISTIL,
        inputs=TEXT,
        hidden=blocks(3),
        sizes=("distilbert-tiny", "distilbert-base-uncased"),
    ),
    Row(
        published="XLNetLMHeadModel",
        ours="XLNetLM",
        config=XLNET,
        inputs=PAIR,
        left="last",
        hidden=blocks(3),
    ),
    Row(
        published="T5ForConditionalGeneration",
        ours="T5LM",
        config=T5,
        inputs=SOURCE,
        hidden=SIDES["t5"],
        sizes=("t5-tiny", "t5-3b"),
    ),
    Row(
        published="T5ForConditionalGeneration",
        ours="T5v11LM",
        config=T5_V1_1,
        inputs=SOURCE,
        hidden=SIDES["t5"],
        sizes=("t5-v1_1-small",),
        variant="v1_1",
    ),
    *(
        Row(
            published="MarianMTModel",
            ours="TransformerLM",
            config=MARIAN | ids | {"activation_function": activation},
            inputs=SOURCE,
            hidden=SIDES["marian"],
            padding=ids["pad_token_id"],
            variant=activation,
        )
        for activation, ids in MARIANS.items()
    ),
)

HEADS = {
    "Text": ("ForSequenceClassification", ("logits",)),
    "Token": ("ForTokenClassification", ("logits",)),
    "Span": ("ForQuestionAnswering", ("start_logits", "end_logits")),
}
FAMILIES = {
    "Bert": (BERT | {"num_hidden_layers": 2}, PAIR),
    "Roberta": (ROBERTA | {"num_hidden_layers": 2}, TEXT),
    "Albert": (
        BERT | {"num_hidden_layers": 2, "embedding_size": 24, "hidden_act": "gelu_new"},
        PAIR,
    ),
    "Electra": (BERT | {"num_hidden_layers": 2, "embedding_size": 24}, PAIR),
    "DistilBert": (DISTIL | {"n_layers": 2}, TEXT),
    "XLNet": (XLNET | {"n_layer": 2}, PAIR),
    "GPT2": (GPT2 | {"n_layer": 2}, TEXT),
    "GPTNeo": (GPT_NEO | {"num_layers": 2, "attention_types": [[["global", "local"], 1]]}, TEXT),
}


def _heads(family: str, config: dict, inputs: tuple[str, ...]):
    for kind, (suffix, outputs) in HEADS.items():
        labels = {
            "id2label": dict(enumerate(LABELS)),
            "label2id": {n: i for i, n in enumerate(LABELS)},
        }
        simple = "Simple" if (family, kind) == ("XLNet", "Span") else ""
        yield Row(
            published=f"{family}{suffix}{simple}",
            ours={"Text": "Classifier", "Token": "Tagger", "Span": "Question"}[kind],
            config=config | ({} if kind == "Span" else labels),
            inputs=inputs,
            outputs=outputs,
            # transformers classifies by the last column, so XLNet's texts must end there.
            left="all" if (family, kind) == ("XLNet", "Text") else "none",
            padding=1 if family == "Roberta" else 0,
        )


TASKS = (
    next(_heads("OpenAIGPT", GPT | {"n_layer": 2}, TEXT)),  # transformers has no others
    *(row for family, (c, i) in FAMILIES.items() for row in _heads(family, c, i)),
)
ROWS = {row.name: row for row in (*MODELS, *TASKS)}


def batch(row: Row) -> dict[str, np.ndarray]:
    """Return tokens, segments, documents (a 0/1 mask) and targets of four padded rows."""
    random, length, lengths = np.random.default_rng(0), L, (20, 13, 5, 9)
    if "targets" in row.inputs:
        length, lengths = SOURCE_L, (50, 33, 5, 1)
    lengths_B1, boundary_B1 = np.array(lengths)[:, None], np.array([[9], [4], [2], [3]])
    position_BL = np.broadcast_to(np.arange(length), (B, length))
    if row.left != "none":
        first = 3 if row.left == "last" else 0
        left_padded = np.array([[i >= first] for i in range(B)])
        position_BL = position_BL - np.where(left_padded, length - lengths_B1, 0)
    document_ids_BL = ((position_BL >= 0) & (position_BL < lengths_B1)).astype(np.int64)
    tokens_BL = np.where(document_ids_BL, random.integers(2, V - 1, (B, length)), row.padding)
    target_BT = (np.arange(T) < np.array([[7], [12], [1], [10]])).astype(np.int64)
    return {
        "tokens": tokens_BL,
        "segments": (position_BL >= boundary_B1).astype(np.int64),
        "documents": document_ids_BL,
        "positions": np.maximum(position_BL, 0),
        "targets": np.where(target_BT, random.integers(2, V - 1, (B, T)), row.padding),
        "written": target_BT,
    }


def our_inputs(row: Row, batch: dict) -> dict:
    """Return the arguments of our model, by name."""
    start = row.config.get("decoder_start_token_id", 0)
    targets_BT = np.pad(batch["targets"], ((0, 0), (1, 0)), constant_values=start)[:, :-1]
    arrays = {
        "segments": ("segments_BL", batch["segments"]),
        "documents": ("document_ids_BL", batch["documents"]),
        "targets": ("targets_BT", targets_BT),
    }
    arguments = {"tokens_BL": batch["tokens"]} | dict(arrays[name] for name in row.inputs)
    return jax.tree.map(lambda x: x.astype(np.int32), arguments)
