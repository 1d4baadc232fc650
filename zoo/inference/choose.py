"""Multiple choice: the most plausible ending of a text, with a fine-tuned model.

Zellers et al. 2018 (SWAG), https://arxiv.org/abs/1808.05326; Devlin et al. 2018, section 4.4.

C choices
"""

import warnings
from collections.abc import Sequence

import numpy as np

from zoo.checkpoints.load import Loaded
from zoo.inference.batching import check_task, outputs, softmax
from zoo.inference.classify import encode


def choose(loaded: Loaded, context: str, endings: Sequence[str]) -> dict[str, float]:
    """Return the endings of a text and their probabilities, most probable first.

    Warns if texts are truncated.

    Args:
      loaded: A model fine-tuned for multiple choice, with its tokenizer.
      context: The text, or a question.
      endings: Two or more endings or answers.

    Raises:
      ValueError: If a text is empty, there are fewer than two endings or two equal ones, or the
        model is not for multiple choice.
    """
    model, params, _ = loaded
    tokenizer = check_task(loaded, "multiple-choice")
    if isinstance(endings, str) or len(set(endings)) < max(2, len(endings)):
        raise ValueError("give two or more different endings to choose from")
    max_length = model.config.max_length
    rows = [encode(tokenizer, context, ending, max_length=max_length) for ending in endings]
    if any(row.truncated for row in rows):
        warnings.warn(
            f"texts and endings are longer than the {max_length} tokens that the model supports: "
            "they were truncated",
            stacklevel=2,
        )
    probability_C = softmax(np.array(outputs(model, params, rows)))
    order = np.argsort(-probability_C, kind="stable")
    return {endings[number]: float(probability_C[number]) for number in order}
