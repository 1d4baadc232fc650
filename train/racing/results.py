"""What a finished entrant of a race has achieved: its curve, its last figures and a sample."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import zoo
from train.counting.evaluate import Evaluation
from train.data.batches.full_sentences import row_bounds
from train.data.corpus.corpus import Corpus
from train.racing.measure import Cost
from train.reporting.progress import read_log
from zoo.inference.fill_mask import fill_mask
from zoo.inference.score import score
from zoo.tokenizers import Tokenizer, ordinary

SAMPLE_TOKENS, TEMPERATURE = 40, 0.8
# Of the held-out text, for the pseudo-perplexity: every token of a row is masked once.
ROWS, ROW_LENGTH = 24, 96
# The additions and multiplications of each distinct n-gram: its continuations are counted, the
# discount is subtracted, the rest divided by the total, and the probability of the shorter n-gram
# is multiplied by the back-off weight and added.
OPERATIONS_PER_NGRAM = 5


class HeldOut(NamedTuple):
    """The held-out text of a race.

    Attributes:
      corpus: Its tokens, without any between documents.
      bytes: Its size in UTF-8.
      words: How many words it has, the end of each line included.
    """

    corpus: Corpus
    bytes: int
    words: int


def held_out(corpus: Corpus, tokenizer: Tokenizer) -> HeldOut:
    """Return the held-out text with its words: what stands between white space, and line ends."""
    ids = corpus.read(corpus.start, corpus.stop).tolist()
    text = tokenizer.decode(ids, skip_special_tokens=False)
    return HeldOut(corpus, corpus.num_bytes, len(text.split()) + text.count("\n"))


def word_perplexity(bits_per_byte: float, text: HeldOut) -> float:
    """Return the perplexity per word: the bits of the text, shared by its words."""
    return 2 ** min(bits_per_byte * text.bytes / max(text.words, 1), 1000)


def counted(
    orders: Mapping[int, Evaluation], tokens: int, seconds: Mapping[int, float]
) -> dict[str, Any]:
    """Return the result of the n-gram model, with a point of the curve for each order.

    The operations of an order are an addition per token for the counts of every length, and
    `OPERATIONS_PER_NGRAM` for each distinct n-gram. Sorting takes most of the seconds and has none.

    Args:
      orders: The evaluation of each order.
      tokens: The number of tokens that were counted.
      seconds: The time that counting and estimating each order took.
    """
    curve = []
    for order, evaluation in orders.items():
        distinct = sum(row.ngrams for row in evaluation.orders)
        flop = order * tokens + OPERATIONS_PER_NGRAM * distinct
        curve.append(
            {
                "order": order,
                "parameters": distinct,
                "flop": float(flop),
                "seconds": seconds[order],
                "bits_per_byte": evaluation.metrics["bits_per_byte"],
            }
        )
    last = curve[-1]
    return {
        **{name: last[name] for name in ("parameters", "flop", "seconds", "bits_per_byte")},
        "tokens": tokens,
        "curve": curve,
    }


def trained(
    folder: Path, cost: Cost, steps: int, tokens_per_step: int, tokens_per_byte: float
) -> dict[str, Any]:
    """Return the result of a network from the log of its run.

    Args:
      folder: Its model folder.
      cost: What it costs.
      steps: How many steps it was trained for.
      tokens_per_step: Tokens per step.
      tokens_per_byte: Tokens per byte of the held-out text, for losses of masked tokens.
    """
    events = read_log(folder)
    seconds = seconds_by_step(events, steps, tokens_per_step, cost.step_seconds)
    curve = []
    for event in events:
        if event["kind"] == "held_out" and 0 < event["step"] <= steps:
            loss = event.get("masked_loss", event["loss"])
            bits = event.get("bits_per_byte", loss * tokens_per_byte / math.log(2))
            step = event["step"]
            curve.append(
                {
                    "step": step,
                    "flop": step * cost.step_flop,
                    "seconds": float(seconds[step]),
                    "bits_per_byte": bits,
                }
            )
    last = curve[-1]
    return {
        "parameters": cost.parameters,
        **{name: last[name] for name in ("flop", "seconds", "bits_per_byte")},
        "steps": steps,
        "tokens": steps * tokens_per_step,
        "curve": curve,
    }


def seconds_by_step(
    events: Sequence[Mapping[str, Any]], steps: int, tokens_per_step: int, usual: float
) -> np.ndarray:
    """Return the seconds of training until each step, without compilation and evaluations.

    Args:
      events: The lines of a log.
      steps: The number of steps.
      tokens_per_step: Tokens per step.
      usual: The seconds of a step where the log has no speed.
    """
    at = [0]
    took = [usual]
    for event in events:
        if event["kind"] == "train" and event.get("tokens_per_second"):
            at.append(event["step"])
            took.append(tokens_per_step / event["tokens_per_second"])
    # The steps up to a report have its speed; those before the first one, which are compiled, too.
    of_step = np.array(took)[np.minimum(np.searchsorted(at, np.arange(1, steps + 1)), len(at) - 1)]
    return np.concatenate([[0.0], np.cumsum(of_step)])


def pseudo_bits_per_byte(loaded: zoo.Loaded, text: HeldOut, seed: int) -> float:
    """Return the pseudo-log-likelihood of a sample of the held-out text, in bits per byte.

    Each token is masked and predicted from all others of its row (Salazar et al. 2019).
    """
    corpus = text.corpus
    bounds = row_bounds(corpus, ROW_LENGTH)
    rows = np.random.default_rng(seed).permutation(len(bounds) - 1)[:ROWS]
    tokenizer: Any = loaded.tokenizer
    read = [corpus.read(*bounds[row : row + 2].tolist()).tolist() for row in np.sort(rows)]
    texts = [words for words in map(tokenizer.decode, read) if words]
    plain = loaded._replace(tokenizer=ordinary(tokenizer))
    total = sum(one.total for one in score(plain, texts, masked="token", batch_size=64))
    return -total / math.log(2) / sum(len(words.encode()) for words in texts)


def sample(loaded: zoo.Loaded, prompt: str, panel: str, seed: int) -> str:
    """Return a prompt continued by a model, or with the words that a masked model fills in."""
    if panel == "causal":
        options: Any = {"max_new_tokens": SAMPLE_TOKENS, "temperature": TEMPERATURE, "seed": seed}
        return prompt + zoo.generate(loaded, prompt, **options)
    text = f"{prompt} [MASK] of the [MASK] was [MASK] ."
    tokenizer: Any = loaded.tokenizer
    for (piece, _), *_ in fill_mask(loaded, text):
        word = tokenizer.decoder.decode([piece]).strip()
        text = text.replace("[MASK]", f"[{word}]", 1)
    return text
