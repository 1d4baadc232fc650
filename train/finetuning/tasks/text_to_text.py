"""Another text for every text: translations, summaries, answers (Raffel et al. 2019, section 2.4).

B batch  T length of the target
"""

import jax.numpy as jnp

from train.data.examples.tables import Examples, Text
from train.data.sources import parallel_text
from train.finetuning.tasks.task import PADDING, Made, Task
from train.metrics import translation
from train.objectives.cross_entropy import cross_entropy
from zoo.inference import translate
from zoo.inference.batching import Row
from zoo.inference.prompts import encode_source
from zoo.tokenizers import sides


def _read(path, columns) -> Examples:
    """Pairs as a translator learns from: a .tsv of two columns, or a .jsonl."""
    fields = (columns["text"], columns["label"]) if columns else None
    documents = list(parallel_text.table(path, fields).documents())
    pairs = zip(documents[::2], documents[1::2], strict=True)
    return Examples(tuple(Text(source, None, target) for source, target in pairs))


def _rows(tokenizer, example, labels, length, training) -> list[Made]:
    """The text and its end; of the target, which is longer than `length`, the beginning."""
    both, end = sides(tokenizer), translate.end_id(tokenizer)
    texts = ((both.source, example.text), (both.target, example.label))
    source, target = (encode_source(words, text, end) for words, text in texts)
    kept = [*source[: length - 1], end]
    left_out = sum(max(0, len(side) - length) for side in (source, target))
    return [Made(Row(kept, [0] * len(kept), left_out), target[:length])]


def _ask(model, apply, batch):
    """What is believed of every token of the target, from those before it."""
    before_BT = jnp.maximum(batch["targets"], 0)[:, :-1]
    inputs_BT = jnp.pad(before_BT, ((0, 0), (1, 0)), constant_values=model.start_token)
    return apply(batch["tokens"], inputs_BT, batch["documents"], method="scores")


def _loss(scores, targets_BT, documents_BL):
    weights_BT = jnp.float32(targets_BT != PADDING)
    return cross_entropy(scores, jnp.maximum(targets_BT, 0), weights_BT).loss, weights_BT.sum()


def _say(model, params, tokenizer, examples, rows_a_batch) -> list[str]:
    """The likeliest word each time, as T5 is measured (section 3.1.2)."""
    texts = [example.text for example in examples]
    return translate.translate(model, params, tokenizer, texts, beams=1, rows=rows_a_batch)


def _score(examples, predictions, labels) -> dict:
    return translation.score(predictions, [example.label for example in examples])


def _written(example, prediction) -> dict:
    return {"text": example.text, "target": example.label, "prediction": prediction}


REWRITE = Task(
    head="rewrite",
    read=_read,
    prepared="texts",
    labels=lambda examples: None,
    rows=_rows,
    loss=_loss,
    answer=None,
    score=_score,
    chosen="rougeL",
    written=_written,
    ask=_ask,
    say=_say,
)
