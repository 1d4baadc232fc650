"""Estimators: from counts to the probabilities and back-off weights of an n-gram model.

c(hw) is how often the token w followed the context h, c(h) its sum over w, N+(h) the number of
distinct w, h' the context without its first token, V the vocabulary, with the token that ends a
document and <unk>. An interpolated estimator is

    p(w | h) = m(hw) / t(h) + gamma(h) p(w | h')        gamma(h) = 1 - sum of m(hw) / t(h) over w

down to p(w | no context), whose lower order is uniform, 1 / |V|. What pruned n-grams had is part of
gamma, as in KenLM, so every distribution sums to one with and without pruning.

    modified-kneser-ney   m = a - D(a), t = sum of a. The adjusted count a is c in the highest order
                          and for n-grams that begin a document, else the number of distinct tokens
                          before the n-gram. D is one of three numbers, for a = 1, 2 and more
                          (Chen and Goodman 1999, section 3.3)
    kneser-ney            the same with one discount per order (Kneser and Ney 1995)
    absolute-discounting  m = c - D, t = c(h) (Ney et al. 1994)
    jelinek-mercer        m = lambda c, t = c(h); one lambda for all contexts with about the same
                          c(h), by expectation maximization on the text itself, each occurrence
                          predicted by the counts without it (Jelinek and Mercer 1980, with the
                          leaving-one-out of Ney et al. 1995)
    add-k                 m = c, t = c(h) + k |V| in the highest order and where a document begins;
                          below it, everything is uniform (Laplace: k = 1)
    katz                  not interpolated: d(c) c / c(h), and the rest in proportion to p(w | h');
                          d is Good and Turing's for c <= 5 (Katz 1987)
    stupid-back-off       scores, which do not sum to one: c(hw) / c(h), else 0.4 times the score
                          with h' (Brants et al. 2007)
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from train.counting.counts import Level

FALLBACK = (0.5, 1.0, 1.5)  # discounts where there are too few n-grams to estimate them, as KenLM's
GOOD_TURING = 5  # larger counts are reliable (Katz 1987)


class Estimates(NamedTuple):
    """The result of an estimator, one array per order.

    Attributes:
      p: The probability of each n-gram: float64.
      b: The back-off weight of each n-gram as a context; nothing for the highest order.
      notes: What the user should know.
    """

    p: list[np.ndarray]
    b: list[np.ndarray]
    notes: list[str]


class Estimator(ABC):
    """An estimator; `value` is its number, such as the k of add-k, where it has one."""

    value: float

    @abstractmethod
    def estimate(self, levels: Sequence[Level], kept: Sequence[np.ndarray]) -> Estimates:
        """Return the estimates.

        Args:
          levels: The n-grams of every order, of order 1 first.
          kept: For every order, which n-grams are not pruned.
        """


Weigh = Callable[[int, Level], tuple[np.ndarray, np.ndarray]]  # order, level -> m(hw), t(h)


def interpolate(levels: Sequence[Level], kept: Sequence[np.ndarray], weigh: Weigh) -> Estimates:
    """Return the estimates of an interpolated estimator, given m and t of an order."""
    lower, p, b = np.array([1 / len(levels[0].last)]), [], []
    for n, (level, is_kept) in enumerate(zip(levels, kept, strict=True), 1):
        context = level.contexts()
        mass, total = weigh(n, level)
        mass = np.where(is_kept, mass, 0.0)
        left = total - level.by_context(mass)
        # A context without n-grams, such as the end of a document, has no weight of its own.
        gamma = np.where(total > 0, left / np.where(total > 0, total, 1), 1.0)
        lower = mass / total[context] + gamma[context] * lower[level.suffix]
        p.append(lower)
        if n > 1:
            b.append(gamma)
    return Estimates(p, b, [])


@dataclass(frozen=True)
class ModifiedKneserNey(Estimator):
    """Interpolated Kneser-Ney with three discounts per order, as KenLM estimates it."""

    value: float = 0.0

    def discounts(self, counts: np.ndarray) -> tuple[float, ...] | None:
        """Return the discounts of counts 1, 2 and more, or None if they cannot be estimated."""
        t = np.bincount(np.minimum(counts, 5), minlength=5).astype(float)
        if not t[1:5].all():
            return None
        y = t[1] / (t[1] + 2 * t[2])
        discounts = tuple(float(k - (k + 1) * y * t[k + 1] / t[k]) for k in (1, 2, 3))
        return discounts if all(0 <= d <= k for k, d in enumerate(discounts, 1)) else None

    def evidence(self, levels: Sequence[Level]) -> list[np.ndarray]:
        """Return the counts that are discounted, of every order."""
        return [*(adjusted(levels, n) for n in range(1, len(levels))), levels[-1].counts]

    def estimate(self, levels: Sequence[Level], kept: Sequence[np.ndarray]) -> Estimates:
        evidence, notes = self.evidence(levels), []

        def weigh(n, level):
            counts = evidence[n - 1]
            discounts = self.discounts(counts)
            if discounts is None:
                notes.append(
                    f"order {n}: the text has too few n-grams of counts 1 to 4 to estimate "
                    f"discounts; they are {', '.join(map(str, FALLBACK))}"
                )
                discounts = FALLBACK
            discount = np.array([0.0, *discounts])[np.minimum(counts, 3)]
            return counts - discount, level.by_context(counts)

        return interpolate(levels, kept, weigh)._replace(notes=notes)


@dataclass(frozen=True)
class KneserNey(ModifiedKneserNey):
    """Interpolated Kneser-Ney with one discount per order; `value` fixes it, 0 estimates it."""

    def discounts(self, counts: np.ndarray) -> tuple[float, ...] | None:
        ones, twos = int((counts == 1).sum()), int((counts == 2).sum())
        if self.value or not ones:
            return (self.value,) * 3 if self.value else None
        return (ones / (ones + 2 * twos),) * 3


@dataclass(frozen=True)
class AbsoluteDiscounting(KneserNey):
    """One discount per order, of the counts themselves in every order."""

    def evidence(self, levels: Sequence[Level]) -> list[np.ndarray]:
        return [level.counts for level in levels]


@dataclass(frozen=True)
class JelinekMercer(Estimator):
    """Interpolation with weights that depend on how often the context was seen."""

    value: float = 0.0
    iterations: int = 100

    def estimate(self, levels: Sequence[Level], kept: Sequence[np.ndarray]) -> Estimates:
        without = np.array([1 / len(levels[0].last)])  # p of the counts without one occurrence
        weights = []
        for level in levels:
            total = level.by_context(level.counts)
            context = level.contexts()
            own = (level.counts - 1) / np.maximum(total - 1, 1)[context]
            own = np.where(level.counts > 0, own, 0.0)
            lower = without[level.suffix]
            bucket = np.log2(np.maximum(total, 1)).astype(np.int64)
            own_weights = self._weights(bucket[context], level.counts, own, lower)
            weight = np.append(own_weights, np.zeros(1))[np.minimum(bucket, len(own_weights))]
            without = weight[context] * own + (1 - weight[context]) * lower
            weights.append(weight)

        def weigh(n, level):
            mass = weights[n - 1][level.contexts()] * level.counts
            return mass, level.by_context(level.counts)

        return interpolate(levels, kept, weigh)

    def _weights(
        self, bucket: np.ndarray, counts: np.ndarray, own: np.ndarray, lower: np.ndarray
    ) -> np.ndarray:
        """Return the weight of each bucket that makes the text most probable."""
        size = np.maximum(np.bincount(bucket, counts), 1)
        weights = np.full(len(size), 0.5)
        for _ in range(self.iterations):
            weight = weights[bucket]
            share = weight * own / (weight * own + (1 - weight) * lower)
            new = np.bincount(bucket, counts * share) / size
            # Never all of it: an unseen token would have the probability 0.
            new, old, weights = np.minimum(new, 1 - 1e-6), weights, np.minimum(new, 1 - 1e-6)
            if np.abs(new - old).max() < 1e-5:
                break
        return weights


@dataclass(frozen=True)
class AddK(Estimator):
    """Counts plus k, in the highest order alone."""

    value: float = 1.0

    def estimate(self, levels: Sequence[Level], kept: Sequence[np.ndarray]) -> Estimates:
        vocab_size = len(levels[0].last)

        def weigh(n, level):
            total = level.by_context(level.counts)
            if n == len(levels):
                return level.counts, total + self.value * vocab_size
            if n == 1:
                return np.zeros(vocab_size), np.ones(1)
            opens = level.by_context(level.opens) > 0
            return (
                np.where(level.opens, level.counts, 0),
                np.where(opens, total + self.value * vocab_size, 1.0),
            )

        return interpolate(levels, kept, weigh)


@dataclass(frozen=True)
class Katz(Estimator):
    """Good-Turing discounts, and back-off to the lower order for unseen tokens alone."""

    value: float = 0.0

    def estimate(self, levels: Sequence[Level], kept: Sequence[np.ndarray]) -> Estimates:
        lower, p, b, notes = np.array([1 / len(levels[0].last)]), [], [], []
        for n, (level, is_kept) in enumerate(zip(levels, kept, strict=True), 1):
            context, total = level.contexts(), level.by_context(level.counts)
            rate = self._rates(level.counts)
            if rate is None:
                notes.append(
                    f"order {n}: the text has too few n-grams of counts 1 to {GOOD_TURING + 1} for "
                    "Good-Turing discounts; one is added to every c(h) instead"
                )
                rate = np.ones(GOOD_TURING + 2)
            discounted = level.counts * rate[np.minimum(level.counts, GOOD_TURING + 1)]
            mass = np.where(is_kept, discounted, 0.0)
            # Without a small count in a context, nothing is left for unseen tokens.
            total = total + (level.by_context(mass) > total - 1e-9)
            mine = mass / np.maximum(total, 1)[context]
            left = 1 - level.by_context(mine)
            if n == 1:
                lower = mine + left[0] / len(mine)
            else:
                unseen = 1 - level.by_context(np.where(is_kept, lower[level.suffix], 0.0))
                is_complete = unseen < 1e-9  # every token was seen in the context
                weight = np.where(is_complete, 0.0, left / np.where(is_complete, 1.0, unseen))
                mine = np.where(
                    is_complete[context], mine / np.maximum(1 - left, 1e-9)[context], mine
                )
                lower = np.where(is_kept, mine, weight[context] * lower[level.suffix])
                b.append(weight)
            p.append(lower)
        return Estimates(p, b, notes)

    def _rates(self, counts: np.ndarray) -> np.ndarray | None:
        """Return the share of each count that remains, for 0 to GOOD_TURING + 1; None if unfit."""
        t = np.bincount(np.minimum(counts, GOOD_TURING + 2), minlength=GOOD_TURING + 3).astype(
            float
        )
        if not t[1 : GOOD_TURING + 2].all():
            return None
        k = np.arange(1, GOOD_TURING + 1)
        rest = (GOOD_TURING + 1) * t[GOOD_TURING + 1] / t[1]
        if rest >= 1:
            return None
        rate = ((k + 1) * t[k + 1] / (k * t[k]) - rest) / (1 - rest)
        if not ((rate > 0) & (rate <= 1)).all():
            return None
        return np.concatenate([[1.0], rate, [1.0]])


@dataclass(frozen=True)
class StupidBackOff(Estimator):
    """Relative frequencies, and a fixed factor for each order that is left; these are scores.

    A token that never occurred has the score `value` / |V|. A context that never occurred costs
    nothing, as in every back-off model: the factor is the same for all tokens.
    """

    value: float = 0.4

    def estimate(self, levels: Sequence[Level], kept: Sequence[np.ndarray]) -> Estimates:
        lower, p, b = np.array([1 / len(levels[0].last)]), [], []
        for n, (level, is_kept) in enumerate(zip(levels, kept, strict=True), 1):
            total = level.by_context(level.counts)
            frequency = level.counts / np.maximum(total, 1)[level.contexts()]
            seen = is_kept & (level.counts > 0)
            lower = np.where(seen, frequency, self.value * lower[level.suffix])
            p.append(lower)
            if n > 1:
                b.append(np.where(total > 0, self.value, 1.0))
        return Estimates(p, b, ["stupid back-off gives scores: perplexity is not comparable"])


ESTIMATORS: dict[str, type[Estimator]] = {
    "modified-kneser-ney": ModifiedKneserNey,
    "kneser-ney": KneserNey,
    "absolute-discounting": AbsoluteDiscounting,
    "jelinek-mercer": JelinekMercer,
    "katz": Katz,
    "add-k": AddK,
    "stupid-back-off": StupidBackOff,
}
# The estimators with a number of their own, as in `add-k=0.1`, and its upper bound.
VALUES = {"kneser-ney": 1.0, "absolute-discounting": 1.0, "add-k": np.inf, "stupid-back-off": 1.0}


def estimator(name: str) -> Estimator:
    """Return an estimator by its name, or NAME=VALUE.

    Raises:
      ValueError: If there is none of that name, or the value does not fit.
    """
    kind, equals, value = name.partition("=")
    if kind not in ESTIMATORS:
        raise ValueError(
            f"unknown --estimator {kind!r}: use one of {', '.join(ESTIMATORS)}, "
            "some with a value, such as add-k=0.1"
        )
    if not equals:
        return ESTIMATORS[kind]()
    if kind not in VALUES:
        raise ValueError(f"--estimator {kind} has no value: leave out ={value}")
    try:
        number = float(value)
    except ValueError:
        number = np.nan
    if not 0 < number <= VALUES[kind] or number == np.inf:
        bound = "above 0" if VALUES[kind] == np.inf else f"above 0, up to {VALUES[kind]:g}"
        raise ValueError(f"--estimator {name}: the value must be a number {bound}")
    return ESTIMATORS[kind](number)  # type: ignore[call-arg]


def adjusted(levels: Sequence[Level], n: int) -> np.ndarray:
    """Return the adjusted counts of an order below the highest.

    That is the number of distinct tokens before an n-gram; where there can be none, because the
    n-gram begins a document, it is the count. The end of a document, which is the same token, is
    preceded by others.
    """
    level = levels[n - 1]
    distinct = np.bincount(levels[n].suffix, minlength=len(level.last))
    return distinct if n == 1 else np.where(level.opens, level.counts, distinct)
