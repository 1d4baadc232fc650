"""Evaluation of a language model in context, with no, one or a few labelled texts in the prompt."""

from collections.abc import Mapping, Sequence

import numpy as np

from train.data.examples.tables import TextExample
from train.metrics import tasks
from zoo.checkpoints.load import Loaded
from zoo.inference.in_context import Shot, predict


def label_words(settings: Sequence[str], train: Sequence[TextExample]) -> dict[str, str]:
    """Return the word of every label, from settings such as "0=negative"; by default the label.

    Raises:
      ValueError: If a setting is not of a label of the examples.
    """
    labels = sorted({example.label for example in train if example.label is not None})
    words = dict(setting.partition("=")[::2] for setting in settings)
    for label, word in words.items():
        if label not in labels or not word:
            raise ValueError(
                f"--labels {label}: use LABEL=WORD, where LABEL is one of {', '.join(labels)}"
            )
    return {label: words.get(label, label) for label in labels}


def evaluate(
    loaded: Loaded,
    train: Sequence[TextExample],
    test: Sequence[TextExample],
    words: Mapping[str, str],
    *,
    shots: int,
    seed: int,
    template: str | None = None,
    batch_size: int = 32,
) -> dict[str, float]:
    """Return the accuracy on test examples, plain and calibrated.

    Args:
      loaded: A causal language model.
      train: The examples to draw shots from.
      test: The examples to predict.
      words: The word for each label.
      shots: The number of examples in the prompt.
      seed: Draws them.
      template: How an example is written. None: the default of its task.
      batch_size: Prompts per batch.

    Raises:
      ValueError: If there are fewer training examples than shots, or a prompt does not fit.
    """
    if not 0 <= shots <= len(train):
        raise ValueError(f"{shots} shots are not in the {len(train)} examples of --train")
    drawn = np.random.default_rng(seed).permutation(len(train))[:shots]
    examples = [_shot(train[i]) for i in drawn]
    texts = [_shot(example) for example in test]
    prediction = predict(loaded, texts, words, examples, template, batch_size)
    labels = list(words)
    gold = [labels.index(text.label) for text in texts]
    results = {"plain": prediction.plain_NC, "calibrated": prediction.calibrated_NC}
    return {
        name: tasks.classification(gold, p_NC.argmax(-1).tolist(), tuple(labels))["accuracy"]
        for name, p_NC in results.items()
    }


def _shot(example: TextExample) -> Shot:
    return Shot(example.text, example.label or "", example.pair)
