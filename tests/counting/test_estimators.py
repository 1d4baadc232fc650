"""Estimators: equal to their formulas, and distributions for every context."""

import math
from collections import Counter, defaultdict
from functools import partial

import jax
import numpy as np
import pytest

from tests.counting import tiny_text
from tests.counting.tiny_text import END, UNKNOWN, V
from train.counting import counts, estimators, tables
from zoo.models.ngram import Config, NGram

PROBABILITIES = [name for name in estimators.ESTIMATORS if name != "stupid-back-off"]
TOLERANCE = 1e-6


def distributions(model, built, contexts) -> np.ndarray:
    """The probabilities of all tokens after each context: [contexts, V]."""
    L = max(map(len, contexts))
    tokens_BL = np.array([[0] * (L - len(context)) + list(context) for context in contexts])
    document_ids_BL = np.arange(L) >= L - np.array([[len(context)] for context in contexts])
    inputs = tokens_BL.astype(np.int32), document_ids_BL.astype(np.int32)
    return np.exp(np.asarray(start(model, built, *inputs), np.float64))


@partial(jax.jit, static_argnums=0)
def start(model, built, tokens_BL, document_ids_BL):
    return model.apply({"params": built}, tokens_BL, document_ids_BL, 1, method="start")[0]


def contexts() -> list[list[int]]:
    """Contexts of every length: at the beginning of a document, seen, and never seen."""
    draw = np.random.default_rng(5)
    fixed = [[END], [END, 2], [END, 3, 4], [UNKNOWN], [2], [5], [2, UNKNOWN], [3, END]]
    texts = tiny_text.sentences()
    seen = [[END, *text][-length:] for text in texts[:20] for length in (1, 2, 3)]
    return [*fixed, *seen, *draw.integers(2, V, (20, 4)).tolist()]


class KenLM:
    """Its estimator, n-gram by n-gram: lm/builder's adjust_counts, initial_probabilities and
    interpolate, with <s> and </s> apart, and pruning by raw counts.
    """

    def __init__(self, texts, order, prune=()):
        self.order = order
        raw = defaultdict(Counter)
        for text in texts:
            padded = ["<s>", *text, "</s>"]
            for n in range(1, order + 1):
                for i in range(len(padded) - n + 1):
                    raw[n][tuple(padded[i : i + n])] += 1
        most = [*prune, *[prune[-1] if prune else 0] * order]
        self.vocabulary = [*range(2, V), UNKNOWN, "</s>"]
        self.p, self.gamma = {}, {}
        self.u, adjusted = {}, {}
        for n in range(1, order + 1):
            if n == order:
                adjusted[n] = dict(raw[n])
            else:
                before = defaultdict(set)
                for gram in raw[n + 1]:
                    before[gram[1:]].add(gram[0])
                adjusted[n] = {
                    gram: count if gram[0] == "<s>" else len(before[gram])
                    for gram, count in raw[n].items()
                }
            adjusted[n].pop(("<s>",), None)
            t = Counter(adjusted[n].values())
            y = t[1] / (t[1] + 2 * t[2])
            d = [0] + [k - (k + 1) * y * t[k + 1] / t[k] for k in (1, 2, 3)]
            assert all(0 <= d[k] <= k for k in (1, 2, 3))
            total, left = Counter(), Counter()
            for gram, count in adjusted[n].items():
                is_pruned = n > 1 and raw[n][gram] <= most[n - 1]
                total[gram[:-1]] += count
                left[gram[:-1]] += count if is_pruned else d[min(count, 3)]
            for gram, count in adjusted[n].items():
                if n == 1 or raw[n][gram] > most[n - 1]:
                    self.u[gram] = (count - d[min(count, 3)]) / total[gram[:-1]]
            self.gamma |= {context: left[context] / total[context] for context in total}

    def probability(self, context, word) -> float:
        context = tuple(context)[-(self.order - 1) :] if self.order > 1 else ()
        if not context:
            return self.u.get((word,), 0) + self.gamma[()] / len(self.vocabulary)
        lower = self.probability(context[1:], word)
        return self.u.get((*context, word), 0) + self.gamma.get(context, 1) * lower


@pytest.mark.parametrize(
    ("order", "prune"), [(1, ()), (2, ()), (4, ()), (4, (0, 0, 1)), (3, (0, 1))]
)
def test_modified_kneser_ney_equals_kenlm(tmp_path, order, prune):
    texts = tiny_text.sentences()
    model, built = tiny_text.model(tmp_path, texts, order, prune=prune)
    kenlm = KenLM(texts, order, prune)
    # KenLM has no context with </s>: here it is a new beginning, with what precedes it forgotten.
    known = [context for context in contexts() if END not in context[1:]]
    for context, actual in zip(known, distributions(model, built, known), strict=True):
        theirs = ["<s>" if token == END else token for token in context]
        expected = [kenlm.probability(theirs, w) for w in [UNKNOWN, "</s>", *range(2, V)]]
        assert math.isclose(sum(expected), 1)
        assert np.abs(actual / expected - 1).max() < TOLERANCE


def test_a_worked_bigram_example(tmp_path):
    # "a b a", "a b b", "b a b a" with one discount of .75.
    texts, vocab_size = [[2, 3, 2], [2, 3, 3], [3, 2, 3, 2]], 4
    levels = counts.count(tiny_text.stream(texts), 2, vocab_size, END, tmp_path)
    kept = tables.kept(levels, ())
    actual = estimators.estimator("kneser-ney=0.75").estimate(levels, kept)
    built = tables.tables(levels, actual, kept)
    assert np.abs(actual.p[0] - [0.080357, 0.258929, 0.258929, 0.401786]).max() < 1e-6
    model = NGram(Config(vocab_size=4, order=2, ngrams=(4, 7), end=END))
    (after_a,) = distributions(model, built, [[2]])
    assert np.abs(after_a - [0.024107, 0.327679, 0.077679, 0.570536]).max() < 1e-6


@pytest.mark.parametrize("name", PROBABILITIES)
@pytest.mark.parametrize(("order", "prune"), [(1, ()), (4, ()), (3, (0, 1))])
def test_every_context_has_a_distribution(tmp_path, name, order, prune):
    model, built = tiny_text.model(tmp_path, tiny_text.sentences(), order, name, prune)
    actual = distributions(model, built, contexts())
    assert (actual > 0).all()
    assert np.abs(actual.sum(-1) - 1).max() < TOLERANCE


def levels_of(tmp_path, order=2):
    levels = tiny_text.count(tmp_path, tiny_text.sentences(), order)
    bigram = {}
    for context, token, count in zip(
        levels[1].contexts().tolist(), levels[1].last.tolist(), levels[1].counts, strict=True
    ):
        bigram[context, token] = int(count)
    return levels, bigram


def estimate(tmp_path, name):
    model, built = tiny_text.model(tmp_path, tiny_text.sentences(), 2, name)
    return distributions(model, built, [[token] for token in range(V)])


def test_add_k_adds_k_to_every_count(tmp_path):
    _, bigram = levels_of(tmp_path / "counts")
    after = estimate(tmp_path / "model", "add-k=0.5")
    for context in sorted({context for context, _ in bigram}):
        seen = [bigram.get((context, token), 0) for token in range(V)]
        expected = (np.array(seen) + 0.5) / (sum(seen) + 0.5 * V)
        assert np.abs(after[context] - expected).max() < TOLERANCE
    assert np.abs(after[UNKNOWN] - 1 / V).max() < TOLERANCE  # a context that never occurred


def test_absolute_discounting_subtracts_one_number_from_every_count(tmp_path):
    levels, bigram = levels_of(tmp_path / "counts")
    after = estimate(tmp_path / "model", "absolute-discounting=0.6")
    unigram = np.maximum(levels[0].counts - 0.6, 0)
    unigram = (unigram + 0.6 * (levels[0].counts > 0).sum() / V) / levels[0].counts.sum()
    for context in sorted({context for context, _ in bigram}):
        seen = np.array([bigram.get((context, token), 0) for token in range(V)])
        expected = np.maximum(seen - 0.6, 0) + 0.6 * (seen > 0).sum() * unigram
        assert np.abs(after[context] - expected / seen.sum()).max() < TOLERANCE


def test_stupid_back_off_takes_frequencies_or_a_fraction_of_the_lower_order(tmp_path):
    levels, bigram = levels_of(tmp_path / "counts")
    after = estimate(tmp_path / "model", "stupid-back-off")
    unigram = levels[0].counts / levels[0].counts.sum()
    unigram[UNKNOWN] = 0.4 / V
    for context in sorted({context for context, _ in bigram}):
        seen = np.array([bigram.get((context, token), 0) for token in range(V)])
        expected = np.where(seen > 0, seen / seen.sum(), 0.4 * unigram)
        assert np.abs(after[context] - expected).max() < TOLERANCE


def test_katz_keeps_large_counts_and_backs_off_in_proportion(tmp_path):
    levels, bigram = levels_of(tmp_path / "counts")
    katz = estimators.Katz()
    rate = katz._rates(levels[1].counts)
    t = np.bincount(levels[1].counts)
    rest = 6 * t[6] / t[1]
    assert rate is not None
    assert math.isclose(rate[1], (2 * t[2] / t[1] - rest) / (1 - rest))
    built = katz.estimate(levels, tables.kept(levels, ()))
    after = estimate(tmp_path / "model", "katz")
    for context in sorted({context for context, _ in bigram}):
        seen = np.array([bigram.get((context, token), 0) for token in range(V)])
        actual, large = after[context], seen > 5
        if large.any() and (seen[seen > 0] <= 5).any():
            assert np.abs(actual[large] - seen[large] / seen.sum()).max() < TOLERANCE
        unseen = seen == 0
        ratio = actual[unseen] / built.p[0][unseen]
        assert np.abs(ratio / ratio.mean() - 1).max() < 1e-5


def test_jelinek_mercer_chooses_the_weights_that_predict_left_out_tokens_best(tmp_path):
    levels = tiny_text.count(tmp_path, tiny_text.sentences(), 2)
    level = levels[1]
    total = level.by_context(level.counts)[level.contexts()]
    own = (level.counts - 1) / np.maximum(total - 1, 1)
    lower = np.full(len(own), 1 / V)
    one_bucket = np.zeros(len(own), np.int64)
    weight = estimators.JelinekMercer()._weights(one_bucket, level.counts, own, lower)[0]

    def likelihood(weight):
        return (level.counts * np.log(weight * own + (1 - weight) * lower)).sum()

    assert 0 < weight < 1
    assert likelihood(weight) >= max(likelihood(w) for w in np.linspace(0.01, 0.99, 99)) - 1e-4


def test_discounts_of_a_text_that_is_too_small_are_kenlms_and_are_noted(tmp_path):
    levels = tiny_text.count(tmp_path, [[2, 3, 4]], 2)
    actual = estimators.estimator("modified-kneser-ney").estimate(levels, tables.kept(levels, ()))
    assert len(actual.notes) == 2
    assert "order 2" in actual.notes[1]
    assert "0.5, 1.0, 1.5" in actual.notes[1]
    assert abs(actual.p[0].sum() - 1) < TOLERANCE


def test_pruning_removes_what_occurred_rarely_and_nothing_else(tmp_path):
    whole = tiny_text.count(tmp_path / "a", tiny_text.sentences(), 3)
    model, built = tiny_text.model(tmp_path / "b", tiny_text.sentences(), 3, prune=(0, 1))
    for n in (2, 3):
        assert len(built[f"order_{n}"]["last"]) == (whole[n - 1].counts > 1).sum()
    assert model.config.ngrams[0] == V


@pytest.mark.parametrize(
    ("prune", "words"),
    [((1, 1), "first number must be 0"), ((0, 2, 1), "lower"), ((0, 0, 0, 1), "4 numbers")],
)
def test_pruning_that_does_not_fit_is_refused(prune, words):
    with pytest.raises(ValueError, match=words):
        tables.check_prune(prune, 3)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("good", "unknown --estimator 'good': use one of modified-kneser-ney"),
        ("katz=2", "katz has no value"),
        ("add-k=none", "the value must be a number above 0"),
        ("add-k=-1", "the value must be a number above 0"),
        ("kneser-ney=1.5", "up to 1"),
    ],
)
def test_an_estimator_that_does_not_exist_is_refused(name, words):
    with pytest.raises(ValueError, match=words):
        estimators.estimator(name)
