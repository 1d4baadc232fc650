"""Similarity of two texts, neither of which is the first: every pair is read in both orders.

Radford et al. 2018, section 3.3, for paraphrases (MRPC, QQP) and degrees of similarity (STS-B). The
hidden states of both orders are added before a linear layer without a bias, which is the same as
adding its logits.

C classes
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from train.data.examples.multi_label import LabelledText
from train.data.examples.tables import TextExample
from train.finetuning.tasks.classification import Classification, Regression, TextTask
from train.finetuning.tasks.task import LabelledRow, Target, Task, outputs
from zoo.checkpoints.load import Loaded
from zoo.inference.classify import both_orders
from zoo.inference.prompts import require_tokenizer
from zoo.tokenizers import sides


@dataclass(frozen=True, kw_only=True)
class BothOrders(TextTask):
    """What both tasks of similarity share: a labelled row has one row of tokens for each order."""

    head: str = "similarity"

    def _merged(self, output: jax.Array) -> jax.Array:
        return output.sum(-2)

    def _rows(
        self, loaded: Loaded, example: TextExample | LabelledText, target: Target, max_length: int
    ) -> list[LabelledRow]:
        if self.stride is not None:
            raise ValueError("--both-orders reads whole pairs: leave out --stride")
        source = sides(require_tokenizer(loaded)).source
        rows = both_orders(source, example.text, example.pair, max_length=max_length)
        return [LabelledRow(rows, target)]

    def _logits(
        self, loaded: Loaded, rows: Sequence[Sequence[LabelledRow]], batch_size: int
    ) -> list[np.ndarray]:
        return [logits_2C.sum(0) for (logits_2C,) in outputs(loaded, rows, batch_size)]


@dataclass(frozen=True, kw_only=True)
class SimilarityClasses(BothOrders, Classification):
    """Classification of pairs, such as paraphrase or not."""


@dataclass(frozen=True, kw_only=True)
class SimilarityDegree(BothOrders, Regression):
    """Regression for pairs: how similar they are."""


def in_both_orders(task: Task) -> Task:
    """Return a task that reads each pair in both orders.

    Raises:
      ValueError: If the task is neither classification nor regression.
    """
    if type(task) is Classification:
        return SimilarityClasses()
    if type(task) is Regression:
        return SimilarityDegree()
    raise ValueError("--both-orders needs --task classification or regression: leave it out")
