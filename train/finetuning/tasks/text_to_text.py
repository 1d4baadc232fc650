"""Text to text: translations, summaries, answers (Raffel et al. 2019, section 2.4).

B batch  T length of the target
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp

from train.data.examples import tfds
from train.data.examples.tables import KNOWN, Examples, TextExample
from train.data.sources import parallel_text
from train.finetuning.tasks.task import IGNORED, Apply, LabelledRow, Labels
from train.metrics import translation
from train.objectives.cross_entropy import cross_entropy, smoothed_cross_entropy
from train.objectives.objective import Term
from zoo.checkpoints.load import Loaded
from zoo.contracts import EncoderDecoder
from zoo.inference import translate
from zoo.inference.batching import Row
from zoo.inference.prompts import encode_source, require_tokenizer
from zoo.layers.embedding import UnprojectedLogits
from zoo.tokenizers import sides

COLUMNS = {*parallel_text.FIELDS, *itertools.chain(*KNOWN.values())}  # names of columns


@dataclass(frozen=True)
class TextToText:
    """Generation of a target text, which is the label of an example; a prediction is a text."""

    roles: ClassVar[tuple[str, ...]] = ("text", "label")

    head: str = "text-to-text"
    metric: str = "rougeL"
    label_smoothing: float = 0.0

    def read(
        self, path: Path, columns: Mapping[str, str], skipped: list[str] | None = None
    ) -> Examples:
        """Return the pairs of a .tsv with two columns and no header, or of a .jsonl."""
        if "group" in columns:
            raise ValueError("--group does not work with --task text-to-text: use --dev FILE")
        if columns and columns.keys() != {"text", "label"}:
            raise ValueError("use --columns text=NAME label=NAME with --task text-to-text, or none")
        fields = (columns["text"], columns["label"]) if columns else None
        source = parallel_text.table(path, fields, skipped)
        texts = list(source.documents())
        if texts and {text.strip().lower() for text in texts[:2]} <= COLUMNS:
            raise ValueError(
                f"{path} starts with the names of columns, {texts[0]} and {texts[1]}: remove that "
                "line, and put the source of each pair before its target"
            )
        pairs = zip(texts[::2], texts[1::2], strict=True)
        return Examples(tuple(TextExample(source, None, target) for source, target in pairs))

    def read_tfds(self, name: str, split: str, columns: Mapping[str, str]) -> Examples:
        examples, notes = tfds.read_texts(name, split, columns)
        return Examples(tuple(example._replace(pair=None) for example in examples), notes)

    def classes(self, example: TextExample) -> tuple[str, ...]:
        return ()

    def labels(self, examples: Sequence[TextExample], names: Sequence[str]) -> Labels:
        return ()

    def rows(
        self, loaded: Loaded, example: TextExample, labels: Labels, max_length: int
    ) -> list[LabelledRow]:
        """Return one row: the text with its end token, and the target; both may be truncated."""
        tokenizer = require_tokenizer(loaded)
        both, end = sides(tokenizer), translate.end_id(tokenizer)
        source = encode_source(both.source, example.text, end)
        target = encode_source(both.target, example.label or "", end)
        tokens = [*source[: max_length - 1], end]
        truncated = sum(max(0, len(side) - max_length) for side in (source, target))
        return [LabelledRow(Row(tokens, [0] * len(tokens), truncated), target[:max_length])]

    def forward(
        self, model: EncoderDecoder, apply: Apply, batch: Mapping[str, jax.Array]
    ) -> UnprojectedLogits:
        """Return the prediction of every target token, with teacher forcing."""
        previous_BT = jnp.maximum(batch["targets"], 0)[:, :-1]
        inputs_BT = jnp.pad(previous_BT, ((0, 0), (1, 0)), constant_values=model.start_token)
        return apply(batch["tokens"], inputs_BT, batch["documents"], method="unprojected")

    def weights(self, row: Mapping[str, jax.Array]) -> jax.Array:
        return jnp.float32(row["targets"] != IGNORED)

    def loss(
        self, output: UnprojectedLogits, batch: Mapping[str, jax.Array], weights: jax.Array
    ) -> Term:
        """Return the cross-entropy of targets_BT."""
        targets_BT = jnp.maximum(batch["targets"], 0)
        if self.label_smoothing:
            return smoothed_cross_entropy(output, targets_BT, weights, self.label_smoothing)
        return cross_entropy(output, targets_BT, weights)

    def predict(
        self,
        loaded: Loaded,
        examples: Sequence[TextExample],
        rows: Sequence[Sequence[LabelledRow]],
        batch_size: int,
    ) -> list[str]:
        """Return greedy predictions, as in the evaluation of T5 (section 3.1.2)."""
        texts = [example.text for example in examples]
        return translate.translate(loaded, texts, beams=1, batch_size=batch_size)

    def score(
        self, examples: Sequence[TextExample], predictions: Sequence[str], labels: Labels
    ) -> dict[str, float]:
        return translation.score(predictions, [example.label or "" for example in examples])

    def to_json(self, example: TextExample, prediction: str) -> dict:
        return {"text": example.text, "target": example.label, "prediction": prediction}
