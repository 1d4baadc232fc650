"""In-context learning: a label for a text, given a few labelled texts in the prompt.

Brown et al. 2020, https://arxiv.org/abs/2005.14165, section 2: the model is not trained; it reads
the examples, then the text, and the label that it would continue with is the prediction. Models
prefer some labels whatever the text is, so the probabilities are divided by those after a text
without content, and normalized (contextual calibration, Zhao et al. 2021,
https://arxiv.org/abs/2102.09690).

N texts  C labels
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from zoo.checkpoints.load import Loaded
from zoo.contracts import EncoderDecoder, LanguageModel, PermutationLanguageModel
from zoo.direction import is_backward
from zoo.inference.batching import softmax
from zoo.inference.prompts import check_text, require_tokenizer
from zoo.inference.score import Reading, reader, score_readings
from zoo.tokenizers import ordinary, sides

SENTENCE = "Text: {text}\nLabel: {label}"
PAIR = "First: {text}\nSecond: {pair}\nLabel: {label}"
BETWEEN = "\n\n"  # stands between the examples
WITHOUT_CONTENT = ("N/A", "[MASK]", "")  # Zhao et al. 2021, section 5


class Shot(NamedTuple):
    """A text, or two, with its label; in a text to predict the label is not used."""

    text: str
    label: str = ""
    pair: str | None = None


class Prediction(NamedTuple):
    """The probabilities of the labels of each text, plain and calibrated: [N, C]."""

    plain_NC: np.ndarray
    calibrated_NC: np.ndarray


def prompt(
    loaded: Loaded,
    text: str,
    labels: Sequence[str] | Mapping[str, str],
    *,
    shots: Sequence[Shot] = (),
    pair: str | None = None,
    template: str | None = None,
) -> dict[str, float]:
    """Return the labels of a text and their calibrated probabilities, most probable first.

    Args:
      loaded: A causal language model with its tokenizer.
      text: The text.
      labels: The labels, or the words that stand for each in the prompt.
      shots: Labelled texts that the model reads first.
      pair: The second text, for tasks on pairs.
      template: How an example is written, with "{text}", "{pair}" if there is one, and "{label}"
        at the end.

    Raises:
      ValueError: If the prompt is too long, two labels have the same tokens, the template lacks a
        field, or the model does not predict next tokens.
    """
    (p_C,) = predict(loaded, [Shot(text, "", pair)], labels, shots, template).calibrated_NC
    return {list(labels)[i]: float(p_C[i]) for i in np.argsort(-p_C, kind="stable")}


def predict(
    loaded: Loaded,
    texts: Sequence[Shot],
    labels: Sequence[str] | Mapping[str, str],
    shots: Sequence[Shot] = (),
    template: str | None = None,
    batch_size: int = 32,
) -> Prediction:
    """Return the probabilities of the labels of texts; the arguments are those of `prompt`."""
    _check_model(loaded)
    words = dict(labels) if isinstance(labels, Mapping) else {label: label for label in labels}
    template = template or (SENTENCE if texts[0].pair is None else PAIR)
    _check_template(template, texts[0])
    for shot in shots:
        if shot.label not in words:
            raise ValueError(
                f"an example has the label {shot.label!r}, which is none of {', '.join(words)}"
            )
    label_ids = _label_ids(loaded, template, words)
    without = [Shot(nothing, "", texts[0].pair and nothing) for nothing in WITHOUT_CONTENT]
    # The last token of the label is predicted, not read.
    longest = loaded.model.config.max_length - max(map(len, label_ids)) + 1
    read, readings = reader(loaded), []
    for shot in [*texts, *without]:
        context = _context(read, shot, words, shots, template, longest)
        for ids in label_ids:
            whole = [*context.context, *ids]
            readings.append(Reading(whole, whole[1:], [""] * (len(whole) - 1)))
    scored = score_readings(loaded, readings, batch_size)
    lengths = [len(ids) for ids in label_ids] * (len(texts) + len(without))
    totals = [sum(values[-n:]) for (_, values), n in zip(scored, lengths, strict=True)]
    p_NC = softmax(np.array(totals).reshape(-1, len(words)))
    plain_NC, prior_C = p_NC[: len(texts)], p_NC[len(texts) :].mean(0)
    ratio_NC = plain_NC / prior_C
    return Prediction(plain_NC, ratio_NC / ratio_NC.sum(-1, keepdims=True))


def _check_model(loaded: Loaded) -> None:
    model = loaded.model
    continues = isinstance(model, LanguageModel | PermutationLanguageModel)
    if not continues or isinstance(model, EncoderDecoder) or is_backward(model.config):
        raise ValueError(
            f"this {type(model).__name__} does not continue a text, so it cannot be prompted: use "
            "a causal language model that reads forward"
        )


def _check_template(template: str, text: Shot) -> None:
    """Raise ValueError unless a template has the fields of a text, and ends with the label."""
    fields = ["{text}"] if text.pair is None else ["{text}", "{pair}"]
    if missing := [field for field in fields if field not in template]:
        raise ValueError(f"the template {template!r} has no {missing[0]}")
    if not template.endswith("{label}") or template.count("{label}") != 1:
        raise ValueError(f"the template {template!r} must end with {{label}}, and have it once")


def _fill(template: str, shot: Shot, label: str) -> str:
    """Return an example as it is written; braces in its texts stay as they are."""
    check_text(shot.text)
    parts = {"{text}": shot.text, "{pair}": shot.pair or "", "{label}": label}
    pieces, rest = [], template
    while found := [name for name in parts if name in rest]:
        name = min(found, key=rest.index)
        before, _, rest = rest.partition(name)
        pieces += [before, parts[name]]
    return "".join([*pieces, rest])


def _label_ids(loaded: Loaded, template: str, words: Mapping[str, str]) -> list[list[int]]:
    """Return the tokens of each label, with the space before it; they must differ."""
    if len(words) < 2:
        raise ValueError("give two or more labels to choose from")
    tokenizer = ordinary(sides(require_tokenizer(loaded)).source)
    before = template.removesuffix("{label}")
    space = before[len(before.rstrip(" ")) :]
    label_ids: list[list[int]] = []
    for label, word in words.items():
        ids = tokenizer.encode(space + word, add_special_tokens=False).ids
        if not ids:
            raise ValueError(f"the label {label!r} has no tokens: give it another word")
        if ids in label_ids:
            same = list(words)[label_ids.index(ids)]
            raise ValueError(
                f"the labels {same!r} and {label!r} have the same tokens, so the model cannot "
                "choose between them: give them other words"
            )
        label_ids.append(ids)
    return label_ids


def _context(
    read: Callable[[str], Reading],
    text: Shot,
    words: Mapping[str, str],
    shots: Sequence[Shot],
    template: str,
    longest: int,
) -> Reading:
    """Return the prompt of a text, up to its label.

    Raises:
      ValueError: If it has more than `longest` tokens; the message has the number of shots that
        fit.
    """

    def context(count: int) -> Reading:
        examples = [_fill(template, shot, words[shot.label]) for shot in shots[:count]]
        last = _fill(template, text, "").rstrip(" ")
        return read(BETWEEN.join([*examples, last]))

    reading = context(len(shots))
    length = len(reading.context)
    if length <= longest:
        return reading
    counts = range(len(shots) - 1, -1, -1)
    fitting = next((n for n in counts if len(context(n).context) <= longest), None)
    advice = "the text alone is too long" if fitting is None else f"{fitting} examples fit"
    raise ValueError(
        f"the prompt of {len(shots)} examples and the text {text.text!r:.40} has {length} tokens, "
        f"but the model has room for {longest} before the label: {advice}"
    )
