"""One example of a recipe before and after corruption, from a small part of its built-in text.

B batch  L length  P predictions
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import singledispatch
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from train.data.sources.source import Source
from train.objectives.both_directions import BothDirections
from train.objectives.causal import Causal
from train.objectives.causal_sound import CausalSound
from train.objectives.glove import WeightedLeastSquares
from train.objectives.masked import MaskedLanguageModeling
from train.objectives.next_sentence import NextSentence
from train.objectives.objective import Objective
from train.objectives.permutation import Permutation
from train.objectives.replaced_token import ReplacedToken
from train.objectives.sentence_order import SentenceOrder
from train.objectives.sequence_to_sequence import SequenceToSequence
from train.objectives.span_corruption import SpanCorruption
from train.objectives.word_vectors import CBOW, WordPrediction
from train.pretraining import corpus
from train.recipes.ngram import NGramRecipe
from train.recipes.recipe import Recipe, with_fields
from train.recipes.word_vectors import WordVectorRecipe
from train.reporting.examples import Cell, Example, Kind, Line, Matrix
from zoo import tokenizers
from zoo.tokenizers import AnyTokenizer

# Enough text and entries for an example; those of a run take minutes to learn.
NUM_TEXTS, NUM_PAIRS, VOCABULARY = 60, 400, 1000
WORDS = 20_000  # entries of a vocabulary of words, which is only counted
WORDS_OF_ROW = 1000
MIN_LENGTH, MAX_LENGTH = 12, 256
NUM_PAIRS_SHOWN = 10  # of GloVe

Arrays = dict[str, Any]  # a row, or what an objective makes of it, as NumPy arrays


def example(recipe: Recipe, length: int, seed: int = 0) -> Example:
    """Return an example of a recipe, corrupted as in training.

    Args:
      recipe: The recipe.
      length: Tokens of the example, where the recipe is not for pairs.
      seed: Chooses the example and the corruption.

    Raises:
      ValueError: If the length is out of range.
    """
    if not MIN_LENGTH <= length <= MAX_LENGTH:
        raise ValueError(f"--length must be from {MIN_LENGTH} to {MAX_LENGTH}, not {length}")
    recipe, tokenizer, row = _row(recipe, length, seed)
    objective = recipe.objective(tokenizer)
    corrupt = jax.jit(type(objective).corrupt)
    corrupted = jax.tree.map(np.asarray, corrupt(objective, jax.random.key(seed), row))
    return _show(objective, tokenizer, row, corrupted)


def of_counts(recipe: NGramRecipe, length: int) -> Example:
    """Return an example of an n-gram model: the n-grams that end at the words of a text."""
    words = next(iter(recipe.builtin_source().documents())).split()[:length]
    n = min(recipe.order, len(words))
    cells = [Cell(word, "plain" if i < n - 1 else "target") for i, word in enumerate(words)]
    context = [Cell(word, "context") for word in words[: n - 1]]
    counted = [Line(f"{n}-gram", [*context, Cell(words[n - 1], "target")])]
    notes = [
        f"Every n-gram of up to {recipe.order} {recipe.units}s is counted, so nothing is "
        f"corrupted: the counts of {recipe.estimator} are the model."
    ]
    return Example([[Line("text", cells)], counted], notes)


def _row(recipe: Recipe, length: int, seed: int) -> tuple[Recipe, AnyTokenizer, Arrays]:
    """Return a row of training with a tokenizer of its own, as arrays, and the recipe of both."""
    source = recipe.builtin_source()
    if source.kind != "sound":
        most = WORDS if isinstance(recipe, WordVectorRecipe) else VOCABULARY
        source = _First(source, NUM_PAIRS if source.kind == "pairs" else NUM_TEXTS)
        recipe = with_fields(recipe, vocab_size=min(recipe.config.vocab_size, most))
    if source.kind != "pairs":
        if isinstance(recipe, WordVectorRecipe):  # most words of a row are left out
            length = WORDS_OF_ROW
        recipe = with_fields(recipe, length=min(length, recipe.length))
    tokenizer = corpus.tokenizer(recipe, source)
    text = corpus.corpus(recipe, source, tokenizer)
    recipe = recipe.for_text(tokenizer, text)
    batch = recipe.batches(tokenizer).train(text, 1, recipe.seed)(seed)
    return recipe, tokenizer, jax.tree.map(lambda x: np.asarray(x)[0], batch)


@dataclass(frozen=True)
class _First(Source):
    """The first documents of a source."""

    source: Source
    count: int

    @property
    def kind(self) -> str:  # type: ignore[override]  # that of the source
        return self.source.kind

    @property
    def fingerprint(self) -> str:
        return f"{self.source.fingerprint}, the first {self.count}"

    def documents(self) -> Iterator[str]:
        return islice(self.source.documents(), self.count)


# One function per objective


@singledispatch
def _show(objective: Objective, tokenizer: AnyTokenizer, row: Arrays, after: Arrays) -> Example:
    """Return the example of a row; `after` is what the objective made of it."""
    raise ValueError(f"{type(objective).__name__} has no example to show")


@_show.register
def _causal(objective: Causal, tokenizer: AnyTokenizer, row: Arrays, after: Arrays) -> Example:
    note = "Each token is predicted from those before it in its document; nothing is corrupted."
    return Example([_next_tokens(tokenizer, after, "")], [note])


@_show.register
def _sound(objective: CausalSound, tokenizer: AnyTokenizer, row: Arrays, after: Arrays) -> Example:
    note = "Each level of the waveform, 0 to 255, is predicted from those before it."
    levels = [
        Line("input", [Cell(str(x)) for x in after["tokens"]]),
        Line("target", [Cell(str(x), "target") for x in after["targets"]]),
    ]
    return Example([levels], [note])


@_show.register
def _both(
    objective: BothDirections, tokenizer: AnyTokenizer, row: Arrays, after: Arrays
) -> Example:
    forward, backward = after["weights"]["token"]
    groups = [
        _next_tokens(tokenizer, after | {"weights": {"token": forward}}, ""),
        _next_tokens(tokenizer, after | {"weights": {"token": backward}}, "backward_"),
    ]
    note = "One model reads the text, the other reads it reversed; each has a state of its own."
    return Example(groups, [note])


@_show.register
def _masked(
    objective: MaskedLanguageModeling, tokenizer: AnyTokenizer, row: Arrays, after: Arrays
) -> Example:
    used = after["weights"]["masked"] > 0
    chosen = {int(i) for i in after["predictions"][used]}
    names = _names(tokenizer, objective.specials)
    lines = [
        _line("text", names(row["tokens"]), chosen, "target"),
        _after("input", names, row["tokens"], after["tokens"], chosen, objective.mask),
    ]
    real = int(row["mask"].sum())
    notes = [
        f"{len(chosen)} of {real} tokens are predicted, {objective.rate:.0%}: most become the "
        "mask, a tenth a random token, a tenth stay."
    ]
    return Example([_upto(lines, real)], notes)


@_show.register
def _next_sentence(
    objective: NextSentence, tokenizer: AnyTokenizer, row: Arrays, after: Arrays
) -> Example:
    label = "B is from elsewhere" if row["next"] else "B follows A"
    return _pair(_masked(objective, tokenizer, row, after), row, f"next sentence: {label}.")


@_show.register
def _sentence_order(
    objective: SentenceOrder, tokenizer: AnyTokenizer, row: Arrays, after: Arrays
) -> Example:
    label = "A and B are swapped" if row["order"] else "A and B are in order"
    return _pair(_masked(objective, tokenizer, row, after), row, f"sentence order: {label}.")


@_show.register
def _replaced(
    objective: ReplacedToken, tokenizer: AnyTokenizer, row: Arrays, after: Arrays
) -> Example:
    used = after["weights"]["masked"] > 0
    places = after["predictions"][used]
    chosen = {int(i) for i in places}
    names = _names(tokenizer, objective.specials)
    drawn = row["tokens"].copy()
    # Before the first step, all tokens are about equally likely to the generator.
    drawn[places] = np.random.default_rng(0).integers(0, tokenizer.get_vocab_size(), len(places))
    labels = [
        Cell("replaced", "target") if new != old else Cell("original")
        for new, old in zip(drawn, row["tokens"], strict=True)
    ]
    lines = [
        _line("text", names(row["tokens"]), chosen, "target"),
        _after("generator reads", names, row["tokens"], after["hidden"], chosen, objective.mask),
        _after("discriminator reads", names, row["tokens"], drawn, chosen, objective.mask),
        Line("it predicts", labels),
    ]
    note = "The generator is untrained here, so it writes any token; while it learns, better ones."
    return Example([_upto(lines, int(row["mask"].sum()))], [note])


@_show.register
def _permutation(
    objective: Permutation, tokenizer: AnyTokenizer, row: Arrays, after: Arrays
) -> Example:
    used = after["weights"]["token"] > 0
    chosen = {int(i) for i in after["predictions"][used]}
    names = _names(tokenizer, (objective.sep, objective.cls))
    cells = names(row["tokens"])
    visible = ~after["blocked"] & row["mask"]
    # A target attends to all targets before it in the order, so it sees more, the later it is.
    order = sorted(chosen, key=lambda i: (i >= objective.reuse, int(visible[i].sum())))
    place = {position: str(number) for number, position in enumerate(order, 1)}
    numbers = [
        Cell(place.get(i, ""), "target" if i in chosen else "plain") for i in range(len(cells))
    ]
    lines = [_line("text", cells, chosen, "target"), Line("order", numbers)]
    notes = [
        f"{len(chosen)} of {int(row['mask'].sum())} tokens are predicted in the order of the "
        f"numbers, each from the context and the targets before it.",
        f"The first {objective.reuse} tokens are the memory of the next row and do not attend to "
        "the others.",
    ]
    words = [cell.text for cell in cells]
    return Example([lines], notes, Matrix("mask of the query stream", words, visible))


@_show.register
def _spans(
    objective: SpanCorruption, tokenizer: AnyTokenizer, row: Arrays, after: Arrays
) -> Example:
    num_inputs = int(after["documents"].sum())
    num_targets = int(after["weights"]["token"].sum())
    inputs, targets = after["tokens"][:num_inputs], after["targets"][:num_targets]
    sentinels = objective.first_sentinel - np.arange(num_targets)
    starts = np.flatnonzero(np.isin(targets, sentinels))
    sizes = np.diff([*starts, num_targets - 1]) - 1  # the last target ends the text
    removed: set[int] = set()
    position = number = 0
    for token in inputs:
        if token in sentinels:
            removed.update(range(position, position + int(sizes[number])))
            position += int(sizes[number])
            number += 1
        else:
            position += 1
    real = int(row["mask"].sum())
    names = _names(tokenizer, (objective.end,))
    mark = lambda ids: {i for i, token in enumerate(ids) if token in sentinels}
    shifted = after["decoder_inputs"][:num_targets]
    groups = [
        [_line("text", names(row["tokens"][:real]), removed, "masked")],
        [_line("encoder reads", names(inputs), mark(inputs), "masked")],
        [
            _line("decoder reads", names(shifted), mark(shifted), "masked"),
            _line("and predicts", names(targets), set(range(num_targets)), "target"),
        ],
    ]
    note = (
        f"{len(removed)} of {real} tokens are removed in {len(starts)} spans; a sentinel stands "
        "for each."
    )
    return Example(groups, [note])


@_show.register
def _pairs_of_texts(
    objective: SequenceToSequence, tokenizer: AnyTokenizer, row: Arrays, after: Arrays
) -> Example:
    num_source, num_target = int(after["documents"].sum()), int(after["weights"]["token"].sum())
    specials = (objective.start, objective.end)
    both = tokenizers.sides(tokenizer)
    source, target = (_names(side, specials) for side in (both.source, both.target))
    groups = [
        [Line("source", source(after["tokens"][:num_source]))],
        [
            Line("decoder reads", target(after["inputs"][:num_target])),
            _line(
                "and predicts",
                target(after["targets"][:num_target]),
                set(range(num_target)),
                "target",
            ),
        ],
    ]
    note = "Teacher forcing: each token is predicted from the source and the true tokens before it."
    return Example(groups, [note])


@_show.register
def _words(
    objective: WordPrediction, tokenizer: AnyTokenizer, row: Arrays, after: Arrays
) -> Example:
    batch = jax.tree.map(lambda x: np.asarray(x)[None], after)
    numbers = range(int(objective.num_blocks(batch)))
    blocks = [objective.block(batch, jnp.asarray(number)) for number in numbers]
    best = max(range(len(blocks)), key=lambda i: float(blocks[i]["context"].sum(-1).max()))
    block = blocks[best]
    words_M, pairs_NM = np.asarray(block["words"])[0], np.asarray(block["context"])[0]
    lines_M = row["lines"][best * objective.block_size :][: len(words_M)]  # -1: no word
    number = int(pairs_NM.sum(-1).argmax())
    center, context = number + objective.window, {int(i) for i in np.flatnonzero(pairs_NM[number])}
    first, last = center - 2 * objective.window, center + 2 * objective.window
    shown = range(max(0, first), min(len(words_M), last + 1))
    names = _names(tokenizer, ())
    is_cbow = isinstance(objective.inputs, CBOW)
    kind: dict[int, Kind] = dict.fromkeys(context, "context" if is_cbow else "target")
    kind[center] = "target" if is_cbow else "context"
    cells = [Cell(cell.text, kind.get(i, "plain")) for i, cell in enumerate(names(words_M))]
    groups = [[Line("text", [cells[i] for i in shown if lines_M[i] >= 0])]]
    if "negatives" in block:
        negatives = names(np.asarray(block["negatives"])[0][: _num_negatives(objective)])
        groups.append([Line("negatives", [Cell(cell.text, "random") for cell in negatives])])
    what = (
        "The mean of the words around it predicts a word"
        if is_cbow
        else "A word predicts each of the words around it"
    )
    how = (
        "against negatives drawn at random"
        if "negatives" in block
        else "as a path through a tree of all words"
    )
    notes = [f"{what}, {how}."]
    if "subwords" in block:
        notes.append("A word is the mean of its own row and those of its character n-grams.")
    return Example(groups, notes)


def _num_negatives(objective: WordPrediction) -> int:
    """Return how many negatives a pair is weighed against."""
    return int(getattr(objective.outputs, "negatives", 5))


@_show.register
def _counts(
    objective: WeightedLeastSquares, tokenizer: AnyTokenizer, row: Arrays, after: Arrays
) -> Example:
    names = _names(tokenizer, ())
    shown = slice(0, min(NUM_PAIRS_SHOWN, int(row["size"])))
    lines = [
        Line("word", names(row["first"][shown])),
        Line("context", [Cell(cell.text, "context") for cell in names(row["second"][shown])]),
        Line("count", [Cell(f"{count:.2f}", "target") for count in row["count"][shown]]),
    ]
    note = "The product of two vectors and their biases predict the logarithm of a count."
    return Example([lines], [note])


# Parts of examples


def _names(tokenizer: AnyTokenizer, specials: Sequence[int]) -> Any:
    """Return a function from ids to cells, in which special tokens are marked."""
    source = tokenizers.sides(tokenizer).source

    def names(ids: np.ndarray) -> list[Cell]:
        return [
            Cell(source.id_to_token(int(i)) or "", "special" if int(i) in specials else "plain")
            for i in ids
        ]

    return names


def _next_tokens(tokenizer: AnyTokenizer, after: Arrays, prefix: str) -> list[Line]:
    """Return the inputs and targets of a window of a language model."""
    names = _names(tokenizer, ())
    weights = after["weights"]["token"]
    targets = names(after[f"{prefix}targets"])
    predicted = {i for i, weight in enumerate(weights) if weight > 0}
    name = prefix.replace("_", " ")
    return [
        Line(f"{name}input", names(after[f"{prefix}tokens"])),
        _line(f"{name}target", targets, predicted, "target"),
    ]


def _line(name: str, cells: Sequence[Cell], marked: set[int], kind: Kind) -> Line:
    """Return a line in which the cells at some places are of a kind."""
    return Line(
        name, [cell._replace(kind=kind) if i in marked else cell for i, cell in enumerate(cells)]
    )


def _after(
    name: str, names: Any, before: np.ndarray, after: np.ndarray, chosen: set[int], mask: int
) -> Line:
    """Return what the network reads, with what was done to each chosen token."""
    cells = list(names(after))
    for i in chosen:
        same = before[i] == after[i]
        kind: Kind = "masked" if after[i] == mask else "kept" if same else "random"
        cells[i] = cells[i]._replace(kind=kind)
    return Line(name, cells)


def _pair(shown: Example, row: Arrays, label: str) -> Example:
    """Return the example of two segments, with a line that says which is which."""
    (lines,) = shown.groups
    count = len(lines[0].cells)
    segments = [
        Cell("AB"[min(int(x), 1)], "second" if x else "plain") for x in row["segments"][:count]
    ]
    return shown._replace(
        groups=[[*lines, Line("segment", segments)]],
        notes=[*shown.notes, label[0].upper() + label[1:]],
    )


def _upto(lines: Sequence[Line], count: int) -> list[Line]:
    """Return lines without the padding behind the first cells."""
    return [Line(line.name, line.cells[:count]) for line in lines]
