"""DistilBERT (Sanh et al. 2019), "a distilled version of BERT".

https://arxiv.org/abs/1910.01108
A BERT of half the layers, which starts from six of a trained BERT's twelve and learns to believe
what that one believes. New against BERT: neither segments nor a pooler, hence no next sentence.

Departures: training drops out the output of attention, as BERT's does; the released code keeps it.
Dropout is all that differs, so the block is BERT's.

B batch  L length  D width  V vocabulary  P predictions
"""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import linen as nn

from zoo.formats.huggingface import LINEAR, nested
from zoo.layers import attention, heads, sharding
from zoo.layers.blocks import PostNormBlock
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import Embedding, Scores
from zoo.layers.feed_forward import gelu
from zoo.layers.linear import Dense
from zoo.layers.norm import Norm


@dataclass(frozen=True)
class Config:
    """The sizes of a DistilBERT; the defaults are the uncased base model."""

    vocab_size: int = 30522
    max_length: int = 512
    num_layers: int = 6
    num_heads: int = 12
    width: int = 768
    mlp_width: int = 3072
    head_width: int = 64
    dropout: float = 0.1
    labels: tuple[str, ...] = heads.LABELS


SIZES = {
    "distilbert-tiny": Config(4096, 128, 2, 4, 256, 1024, dropout=0.0),  # 2,731,776
    "distilbert-base-uncased": Config(),  # 66,985,530
    "distilbert-base-cased": Config(28996),  # 65,812,036
    "distilbert-base-multilingual-cased": Config(119547),  # 135,445,755
}

EPSILON = 1e-12
STD = 0.02
CLASS_DROPOUT = 0.2  # in front of the classes, whatever the rate elsewhere


class MaskedHead(nn.Module):
    """What each position believes its token to be: x_BPD, and the tokens' table_VD, to Scores."""

    width: int
    vocab_size: int

    @nn.compact
    def __call__(self, x_BPD, table_VD):
        init = nn.initializers.normal(STD)
        x_BPD = gelu(Dense(self.width, init, name="dense")(x_BPD))
        bias_V = self.param("bias", nn.initializers.zeros, (self.vocab_size,))
        return Scores(Norm(EPSILON, name="norm")(x_BPD), table_VD, bias_V)


class DistilBert(nn.Module):
    """The trunk: tokens_BL -> x_BLD.

    `documents_BL`: 0 for padding, else the number of the document, from 1; a mask of ones and zeros
    is one document a row.
    """

    config: Config

    def setup(self):
        c = self.config
        init = nn.initializers.normal(STD)
        self.token_embedding = Embedding(c.vocab_size, c.width, init)
        self.position_embedding = Embedding(c.max_length, c.width, init)
        self.embedding_norm = Norm(EPSILON)
        self.embedding_dropout = Dropout(c.dropout)
        self.blocks = [
            PostNormBlock(
                num_heads=c.num_heads,
                head_width=c.head_width,
                width=c.width,
                mlp_width=c.mlp_width,
                dropout=c.dropout,
                activation=gelu,
                epsilon=EPSILON,
                kernel_init=init,
            )
            for _ in range(c.num_layers)
        ]

    def __call__(self, tokens_BL, documents_BL=None, *, train: bool = False):
        positions_BL, mask = jnp.arange(tokens_BL.shape[1])[None], None
        if documents_BL is not None:
            positions_BL = attention.positions(documents_BL)
            mask = attention.same_document(documents_BL)
        x_BLD = self.token_embedding(tokens_BL)
        x_BLD = self.embedding_norm(x_BLD + self.position_embedding(positions_BL))
        x_BLD = self.embedding_dropout(x_BLD, train=train)
        for block in self.blocks:
            x_BLD = block(x_BLD, mask, train=train)
        return x_BLD

    def read(self, tokens_BL, segments_BL, documents_BL, *, train: bool = False):
        """The same for a head, whose segments it does not know."""
        return self(tokens_BL, documents_BL, train=train)


class DistilBertClassifier(heads.OnTrunk):
    """The trunk and the classes of a text or of a pair, from its [CLS]."""

    trunk_class = DistilBert
    pool = staticmethod(heads.first)

    def setup(self):
        super().setup()
        self.pre_classifier, self.dropout = (
            Dense(self.config.width, heads.INIT),
            Dropout(CLASS_DROPOUT),
        )
        self.classes = Dense(len(self.config.labels), heads.INIT)

    def head(self, x_BD, *, train: bool = False):
        """The scores of the classes: logits_BC."""
        x_BD = nn.relu(self.pre_classifier(x_BD))
        return self.classes(self.dropout(x_BD, train=train))


class DistilBertQuestion(heads.Question):
    """The trunk and the span of an answer, whose input it drops out."""

    trunk_class = DistilBert

    def setup(self):
        super().setup()
        self.dropout = Dropout(self.config.dropout)

    def head(self, x_BLD, *, train: bool = False):
        """How well the answer starts at each token, and ends there: logits_BL2."""
        return super().head(self.dropout(x_BLD, train=train))


class DistilBertLM(nn.Module):
    """The trunk and its masked head."""

    config: Config

    def setup(self):
        c = self.config
        self.trunk = DistilBert(c)
        self.masked_head = MaskedHead(c.width, c.vocab_size)

    def masked_scores(self, x_BPD):
        """What these states believe of their tokens: Scores."""
        return self.masked_head(x_BPD, self.trunk.token_embedding.embedding)

    def scores(self, tokens_BL, documents_BL, predictions_BP, *, train: bool = False):
        """Scores of the tokens at the positions `predictions_BP`."""
        x_BLD = self.trunk(tokens_BL, documents_BL, train=train)
        x_BPD = jnp.take_along_axis(x_BLD, predictions_BP[..., None], axis=1)
        return self.masked_scores(x_BPD)

    def __call__(self, tokens_BL, documents_BL=None, *, train: bool = False):
        """Every token: logits_BLV."""
        x_BLD = self.trunk(tokens_BL, documents_BL, train=train)
        return self.masked_scores(x_BLD).logits()

    def fill(self, tokens_BL, segments_BL, gaps_BP):
        """The words that fit the gaps, where the tokens have [MASK]: logits_BPV."""
        return self.scores(tokens_BL, None, gaps_BP).logits()


Model = DistilBertLM
DistilBertTagger = heads.tagger(DistilBert)
TASKS = {
    "classification": DistilBertClassifier,
    "tagging": DistilBertTagger,
    "question-answering": DistilBertQuestion,
}
MODELS = {
    "DistilBertForMaskedLM": DistilBertLM,
    "DistilBertForSequenceClassification": DistilBertClassifier,
    "DistilBertForTokenClassification": DistilBertTagger,
    "DistilBertForQuestionAnswering": DistilBertQuestion,
}
GROUPS = (r"trunk/\w*embedding", r"trunk/blocks_(\d+)/", "")
PREFIX = "distilbert."
LAYER = "distilbert.transformer.layer.{}"
WEIGHTS = {
    "trunk/token_embedding/embedding": "distilbert.embeddings.word_embeddings.weight",
    "trunk/position_embedding/embedding": "distilbert.embeddings.position_embeddings.weight",
    "trunk/embedding_norm/scale": "distilbert.embeddings.LayerNorm.weight",
    "trunk/embedding_norm/bias": "distilbert.embeddings.LayerNorm.bias",
    "trunk/blocks_{}/attention/query/kernel": (f"{LAYER}.attention.q_lin.weight", "DHK -> (HK)D"),
    "trunk/blocks_{}/attention/query/bias": (f"{LAYER}.attention.q_lin.bias", "HK -> (HK)"),
    "trunk/blocks_{}/attention/key/kernel": (f"{LAYER}.attention.k_lin.weight", "DHK -> (HK)D"),
    "trunk/blocks_{}/attention/key/bias": (f"{LAYER}.attention.k_lin.bias", "HK -> (HK)"),
    "trunk/blocks_{}/attention/value/kernel": (f"{LAYER}.attention.v_lin.weight", "DHK -> (HK)D"),
    "trunk/blocks_{}/attention/value/bias": (f"{LAYER}.attention.v_lin.bias", "HK -> (HK)"),
    "trunk/blocks_{}/attention/output/kernel": (
        f"{LAYER}.attention.out_lin.weight",
        "HKD -> D(HK)",
    ),
    "trunk/blocks_{}/attention/output/bias": f"{LAYER}.attention.out_lin.bias",
    "trunk/blocks_{}/attention_norm/scale": f"{LAYER}.sa_layer_norm.weight",
    "trunk/blocks_{}/attention_norm/bias": f"{LAYER}.sa_layer_norm.bias",
    "trunk/blocks_{}/mlp/up/kernel": (f"{LAYER}.ffn.lin1.weight", "DF -> FD"),
    "trunk/blocks_{}/mlp/up/bias": f"{LAYER}.ffn.lin1.bias",
    "trunk/blocks_{}/mlp/down/kernel": (f"{LAYER}.ffn.lin2.weight", "FD -> DF"),
    "trunk/blocks_{}/mlp/down/bias": f"{LAYER}.ffn.lin2.bias",
    "trunk/blocks_{}/mlp_norm/scale": f"{LAYER}.output_layer_norm.weight",
    "trunk/blocks_{}/mlp_norm/bias": f"{LAYER}.output_layer_norm.bias",
    **nested(LINEAR, "masked_head/dense", "vocab_transform"),
    "masked_head/norm/scale": "vocab_layer_norm.weight",
    "masked_head/norm/bias": "vocab_layer_norm.bias",
    "masked_head/bias": "vocab_projector.bias",
    **nested(LINEAR, "pre_classifier", "pre_classifier"),
    **heads.WEIGHTS,
}
TIED = {"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"}
IGNORED = (r"embeddings\.position_ids$",)  # a counter, kept as a buffer by old versions
TOKENIZER = {
    "tokenizer_class": "DistilBertTokenizer",
    "do_lower_case": True,
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "mask_token": "[MASK]",
}
AXES = sharding.AXES


def published(c: Config) -> dict:
    """The fields of config.json."""
    return {
        "model_type": "distilbert",
        "vocab_size": c.vocab_size,
        "max_position_embeddings": c.max_length,
        "n_layers": c.num_layers,
        "n_heads": c.num_heads,
        "dim": c.width,
        "hidden_dim": c.mlp_width,
        "dropout": c.dropout,
        "attention_dropout": c.dropout,
        "qa_dropout": c.dropout,
        "seq_classif_dropout": CLASS_DROPOUT,
        "activation": "gelu",
        "tie_word_embeddings": True,
    }


def from_published(fields: dict) -> Config:
    """The config of a config.json, whose absent fields mean the uncased base model."""
    width, num_heads = fields.get("dim", 768), fields.get("n_heads", 12)
    return Config(
        vocab_size=fields.get("vocab_size", 30522),
        max_length=fields.get("max_position_embeddings", 512),
        num_layers=fields.get("n_layers", 6),
        num_heads=num_heads,
        width=width,
        mlp_width=fields.get("hidden_dim", 3072),
        head_width=width // num_heads,
        dropout=fields.get("dropout", 0.1),
    )
