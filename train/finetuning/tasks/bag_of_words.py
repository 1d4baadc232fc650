"""Classification of a text as a bag of words, by the classifier of fastText."""

from collections.abc import Sequence
from dataclasses import dataclass

from train.data.examples.multi_label import LabelledText
from train.data.examples.tables import TextExample
from train.finetuning.tasks.classification import Classification
from train.finetuning.tasks.task import LabelledRow, Target
from zoo.checkpoints.load import Loaded
from zoo.inference.classify import classify


@dataclass(frozen=True, kw_only=True)
class LabelOfBag(Classification):
    """Classification whose examples have no rows of tokens: the texts themselves are classified."""

    def predict(
        self,
        loaded: Loaded,
        examples: Sequence[TextExample],
        rows: Sequence[Sequence[LabelledRow]],
        batch_size: int,
    ) -> list[dict[str, float]]:
        return classify(loaded, [example.text for example in examples])

    def _rows(
        self,
        loaded: Loaded,
        example: TextExample | LabelledText,
        target: Target,
        max_length: int,
    ) -> list[LabelledRow]:
        if example.pair is not None or self.stride is not None:
            raise ValueError(
                "fastText reads single texts of any length: leave out --stride and second texts"
            )
        return []
