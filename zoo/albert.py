"""ALBERT (Lan et al. 2019), "A Lite BERT for Self-supervised Learning of Language Representations".

https://arxiv.org/abs/1909.11942
A BERT of few parameters. New against it: all layers, or all of a group, are one and the same block;
tokens have narrow vectors, which one map widens; and the second task is to tell whether two
segments stand in their order or were swapped.

Departures: gelu is the tanh form, as in the released code. Its last dropout of a block, which
transformers leaves out, is here; that of transformers before the order head is not. Vectors are
widened even where they are as wide as the layers, as in transformers.

B batch  L length  D width  E embedding width  V vocabulary  P predictions
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo import attention, layers
from zoo.attention import PostNormBlock
from zoo.layers import Dense, Dropout, Embedding, Norm, Scores


@dataclass(frozen=True)
class Config:
    """The sizes of an ALBERT; the defaults are the base model of version 1."""

    vocab_size: int = 30000
    max_length: int = 512
    num_layers: int = 12
    num_heads: int = 12
    width: int = 768
    mlp_width: int = 3072
    head_width: int = 64
    dropout: float = 0.1
    num_segments: int = 2
    embed_width: int = 128
    num_groups: int = 1  # of layers that share their weights


SIZES = {
    "albert-tiny": Config(4096, 128, 4, 4, 256, 1024, dropout=0.0, embed_width=64),  # 1,163,970
    "albert-base-v1": Config(),  # 11,813,810
    "albert-large-v1": Config(30000, 512, 24, 16, 1024, 4096),  # 17,847,474
    "albert-xlarge-v1": Config(30000, 512, 24, 16, 2048, 8192, 128),  # 59,021,490
    "albert-xxlarge-v1": Config(30000, 512, 12, 64, 4096, 16384, dropout=0.0),  # 223,158,450
    "albert-base-v2": Config(dropout=0.0),  # 11,813,810
    "albert-large-v2": Config(30000, 512, 24, 16, 1024, 4096, dropout=0.0),  # 17,847,474
    "albert-xlarge-v2": Config(30000, 512, 24, 16, 2048, 8192, 128, 0.0),  # 59,021,490
    "albert-xxlarge-v2": Config(30000, 512, 12, 64, 4096, 16384, dropout=0.0),  # 223,158,450
}

EPSILON = 1e-12
STD = 0.02  # before the tails beyond two of it are cut off


class Output(NamedTuple):
    """What pretraining asks for: each token, and whether A and B stand in order (0) or not (1)."""

    logits_BLV: jax.Array
    order_B2: jax.Array


class Pooler(nn.Module):
    """One vector a text, from that of its first token: x_BLD -> x_BD."""

    width: int

    @nn.compact
    def __call__(self, x_BLD):
        init = nn.initializers.truncated_normal(STD)
        return jnp.tanh(Dense(self.width, init, name="dense")(x_BLD[:, 0]))


class MaskedHead(nn.Module):
    """What each position believes its token to be: x_BPD, and the tokens' table_VE, to Scores."""

    embed_width: int
    vocab_size: int

    @nn.compact
    def __call__(self, x_BPD, table_VE):
        init = nn.initializers.truncated_normal(STD)
        x_BPE = layers.gelu_tanh(Dense(self.embed_width, init, name="dense")(x_BPD))
        bias_V = self.param("bias", nn.initializers.zeros, (self.vocab_size,))
        return Scores(Norm(EPSILON, name="norm")(x_BPE), table_VE, bias_V)


class Albert(nn.Module):
    """The trunk: tokens_BL -> x_BLD. Without segments, all is segment 0.

    `documents_BL`: 0 for padding, else the number of the document, from 1; a mask of ones and zeros
    is one document a row.
    """

    config: Config

    def setup(self):
        c = self.config
        init = nn.initializers.truncated_normal(STD)
        self.token_embedding = Embedding(c.vocab_size, c.embed_width, init)
        self.position_embedding = Embedding(c.max_length, c.embed_width, init)
        self.segment_embedding = Embedding(c.num_segments, c.embed_width, init)
        self.embedding_norm = Norm(EPSILON)
        self.embedding_dropout = Dropout(c.dropout)
        self.project = Dense(c.width, init)
        self.blocks = [
            PostNormBlock(
                num_heads=c.num_heads,
                head_width=c.head_width,
                width=c.width,
                mlp_width=c.mlp_width,
                dropout=c.dropout,
                activation=layers.gelu_tanh,
                epsilon=EPSILON,
                kernel_init=init,
            )
            for _ in range(c.num_groups)
        ]

    def __call__(self, tokens_BL, segments_BL=None, documents_BL=None, *, train: bool = False):
        c = self.config
        positions_BL, mask = jnp.arange(tokens_BL.shape[1])[None], None
        if documents_BL is not None:
            positions_BL = attention.positions(documents_BL)
            mask = attention.same_document(documents_BL)
        if segments_BL is None:
            segments_BL = jnp.zeros_like(tokens_BL)
        x_BLE = self.token_embedding(tokens_BL) + self.segment_embedding(segments_BL)
        x_BLE = self.embedding_norm(x_BLE + self.position_embedding(positions_BL))
        x_BLD = self.project(self.embedding_dropout(x_BLE, train=train))
        for i in range(c.num_layers):
            x_BLD = self.blocks[i * c.num_groups // c.num_layers](x_BLD, mask, train=train)
        return x_BLD


class AlbertLM(nn.Module):
    """The trunk and the head for masked tokens alone."""

    config: Config

    def setup(self):
        self.trunk = Albert(self.config)
        self.masked_head = MaskedHead(self.config.embed_width, self.config.vocab_size)

    def masked_scores(self, x_BPD):
        """What these states believe of their tokens: Scores."""
        return self.masked_head(x_BPD, self.trunk.token_embedding.embedding)

    def scores(self, tokens_BL, segments_BL, documents_BL, predictions_BP, *, train: bool = False):
        """Scores of the tokens at the positions `predictions_BP`."""
        x_BLD = self.trunk(tokens_BL, segments_BL, documents_BL, train=train)
        return self.masked_scores(jnp.take_along_axis(x_BLD, predictions_BP[..., None], axis=1))

    def __call__(self, tokens_BL, segments_BL=None, documents_BL=None, *, train: bool = False):
        """Every token: logits_BLV."""
        x_BLD = self.trunk(tokens_BL, segments_BL, documents_BL, train=train)
        return self.masked_scores(x_BLD).logits()

    def fill(self, tokens_BL, segments_BL, gaps_BP):
        """The words that fit the gaps, where the tokens have [MASK]: logits_BPV."""
        return self.scores(tokens_BL, segments_BL, None, gaps_BP).logits()


class AlbertPretraining(nn.Module):
    """The trunk and the two heads of pretraining."""

    config: Config

    def setup(self):
        c = self.config
        self.trunk = Albert(c)
        self.pooler = Pooler(c.width)
        self.masked_head = MaskedHead(c.embed_width, c.vocab_size)
        self.order_head = Dense(2, nn.initializers.truncated_normal(STD))

    def masked_scores(self, x_BPD):
        """What these states believe of their tokens: Scores."""
        return self.masked_head(x_BPD, self.trunk.token_embedding.embedding)

    def scores(self, tokens_BL, segments_BL, documents_BL, predictions_BP, *, train: bool = False):
        """Scores of the tokens at the positions `predictions_BP`, and order_B2."""
        x_BLD = self.trunk(tokens_BL, segments_BL, documents_BL, train=train)
        x_BPD = jnp.take_along_axis(x_BLD, predictions_BP[..., None], axis=1)
        return self._heads(x_BPD, x_BLD)

    def __call__(self, tokens_BL, segments_BL=None, documents_BL=None, *, train: bool = False):
        """Every token and the order of the segments: Output."""
        x_BLD = self.trunk(tokens_BL, segments_BL, documents_BL, train=train)
        scores, order_B2 = self._heads(x_BLD, x_BLD)
        return Output(scores.logits(), order_B2)

    def fill(self, tokens_BL, segments_BL, gaps_BP):
        """The words that fit the gaps, where the tokens have [MASK]: logits_BPV."""
        return self.scores(tokens_BL, segments_BL, None, gaps_BP)[0].logits()

    def _heads(self, x_BPD, x_BLD):
        return self.masked_scores(x_BPD), self.order_head(self.pooler(x_BLD))


Model = AlbertPretraining
MODELS = {"AlbertForPreTraining": AlbertPretraining, "AlbertForMaskedLM": AlbertLM}
PREFIX = "albert."
LAYER = "albert.encoder.albert_layer_groups.{}.albert_layers.0"
WEIGHTS = {
    "trunk/token_embedding/embedding": "albert.embeddings.word_embeddings.weight",
    "trunk/position_embedding/embedding": "albert.embeddings.position_embeddings.weight",
    "trunk/segment_embedding/embedding": "albert.embeddings.token_type_embeddings.weight",
    "trunk/embedding_norm/scale": "albert.embeddings.LayerNorm.weight",
    "trunk/embedding_norm/bias": "albert.embeddings.LayerNorm.bias",
    "trunk/project/kernel": ("albert.encoder.embedding_hidden_mapping_in.weight", "ED -> DE"),
    "trunk/project/bias": "albert.encoder.embedding_hidden_mapping_in.bias",
    "trunk/blocks_{}/attention/query/kernel": (f"{LAYER}.attention.query.weight", "DHK -> (HK)D"),
    "trunk/blocks_{}/attention/query/bias": (f"{LAYER}.attention.query.bias", "HK -> (HK)"),
    "trunk/blocks_{}/attention/key/kernel": (f"{LAYER}.attention.key.weight", "DHK -> (HK)D"),
    "trunk/blocks_{}/attention/key/bias": (f"{LAYER}.attention.key.bias", "HK -> (HK)"),
    "trunk/blocks_{}/attention/value/kernel": (f"{LAYER}.attention.value.weight", "DHK -> (HK)D"),
    "trunk/blocks_{}/attention/value/bias": (f"{LAYER}.attention.value.bias", "HK -> (HK)"),
    "trunk/blocks_{}/attention/output/kernel": (f"{LAYER}.attention.dense.weight", "HKD -> D(HK)"),
    "trunk/blocks_{}/attention/output/bias": f"{LAYER}.attention.dense.bias",
    "trunk/blocks_{}/attention_norm/scale": f"{LAYER}.attention.LayerNorm.weight",
    "trunk/blocks_{}/attention_norm/bias": f"{LAYER}.attention.LayerNorm.bias",
    "trunk/blocks_{}/mlp/up/kernel": (f"{LAYER}.ffn.weight", "DF -> FD"),
    "trunk/blocks_{}/mlp/up/bias": f"{LAYER}.ffn.bias",
    "trunk/blocks_{}/mlp/down/kernel": (f"{LAYER}.ffn_output.weight", "FD -> DF"),
    "trunk/blocks_{}/mlp/down/bias": f"{LAYER}.ffn_output.bias",
    "trunk/blocks_{}/mlp_norm/scale": f"{LAYER}.full_layer_layer_norm.weight",
    "trunk/blocks_{}/mlp_norm/bias": f"{LAYER}.full_layer_layer_norm.bias",
    "pooler/dense/kernel": ("albert.pooler.weight", "DE -> ED"),
    "pooler/dense/bias": "albert.pooler.bias",
    "masked_head/dense/kernel": ("predictions.dense.weight", "DE -> ED"),
    "masked_head/dense/bias": "predictions.dense.bias",
    "masked_head/norm/scale": "predictions.LayerNorm.weight",
    "masked_head/norm/bias": "predictions.LayerNorm.bias",
    "masked_head/bias": "predictions.bias",
    "order_head/kernel": ("sop_classifier.classifier.weight", "DC -> CD"),
    "order_head/bias": "sop_classifier.classifier.bias",
}
TIED = {
    "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
    "predictions.decoder.bias": "predictions.bias",
}
# Counters, kept as buffers by old versions; a pooler, kept by the releases of AlbertForMaskedLM.
IGNORED = (r"embeddings\.(position|token_type)_ids$", r"^albert\.pooler\.")
TOKENIZER = {
    "tokenizer_class": "AlbertTokenizer",
    "do_lower_case": True,
    "unk_token": "<unk>",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "<pad>",
    "mask_token": "[MASK]",
}
AXES = ((r"project/kernel$", (None, "fsdp")), *layers.AXES)


def published(c: Config) -> dict:
    """The fields of config.json."""
    return {
        "model_type": "albert",
        "vocab_size": c.vocab_size,
        "max_position_embeddings": c.max_length,
        "num_hidden_layers": c.num_layers,
        "num_hidden_groups": c.num_groups,
        "inner_group_num": 1,
        "num_attention_heads": c.num_heads,
        "embedding_size": c.embed_width,
        "hidden_size": c.width,
        "intermediate_size": c.mlp_width,
        "type_vocab_size": c.num_segments,
        "hidden_dropout_prob": c.dropout,
        "attention_probs_dropout_prob": c.dropout,
        "classifier_dropout_prob": 0.1,  # in every release, whatever the dropout of the trunk
        "hidden_act": "gelu_new",
        "layer_norm_eps": EPSILON,
        "position_embedding_type": "absolute",
        "tie_word_embeddings": True,
    }


def from_published(fields: dict) -> Config:
    """The config of a config.json, whose absent fields mean xxlarge of version 2."""
    width, num_heads = fields.get("hidden_size", 4096), fields.get("num_attention_heads", 64)
    return Config(
        vocab_size=fields.get("vocab_size", 30000),
        max_length=fields.get("max_position_embeddings", 512),
        num_layers=fields.get("num_hidden_layers", 12),
        num_heads=num_heads,
        width=width,
        mlp_width=fields.get("intermediate_size", 16384),
        head_width=width // num_heads,
        dropout=fields.get("hidden_dropout_prob", 0.0),
        num_segments=fields.get("type_vocab_size", 2),
        embed_width=fields.get("embedding_size", 128),
        num_groups=fields.get("num_hidden_groups", 1),
    )
