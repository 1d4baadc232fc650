"""Training of both directions is that of two causal language models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from train.objectives.both_directions import BothDirections, BothDirectionsOfWords
from train.objectives.cross_entropy import cross_entropy
from train.step import corrupt, means, total
from zoo.layers.embedding import UnprojectedLogits
from zoo.models import elmo, flair
from zoo.tokenizers import word_bytes

END, B, L, V = 1, 2, 12, 30
OBJECTIVE = BothDirections(END, 0)
FLAIR = flair.FlairLM(flair.Config(vocab_size=V, width=12, embed_width=5, dropout=0.0))
WORDS = ["<unk>", "</s>", "<eos>", *(f"word{number}" for number in range(V - 3))]
CHARACTERS = word_bytes.spell_vocabulary(WORDS, "</s>", "<eos>").astype(np.uint16)
ELMO = elmo.ELMoLM(
    elmo.Config(
        vocab_size=V, width=12, cell_width=9, embed_width=5, dropout=0.0, filters=((1, 4), (2, 5))
    )
)
BY_LETTERS = BothDirectionsOfWords(END, 0, CHARACTERS)
both_models = pytest.mark.parametrize(
    ("objective", "model"), [(OBJECTIVE, FLAIR), (BY_LETTERS, ELMO)]
)
KEY = jax.random.key(0)


def text(seed=0) -> np.ndarray:
    tokens_BL = np.random.default_rng(seed).integers(2, V, (B, L + 1))
    tokens_BL[0, 4] = tokens_BL[1, 9] = END
    return tokens_BL


def batch(tokens_BL, backward_BL, fresh=False):
    """Return a batch; the last two tokens of its second row are padding."""
    mask = np.arange(tokens_BL.shape[1]) < [[99], [tokens_BL.shape[1] - 2]]
    window = lambda tokens: {"tokens": tokens, "mask": mask, "fresh": np.full(B, fresh)}
    return window(tokens_BL) | {f"backward_{k}": x for k, x in window(backward_BL).items()}


def losses(objective, model, params, rows, carry=None):
    """Return the sum of the losses, that of the weights, and the carry."""
    example = corrupt(objective, KEY, rows)
    carry = objective.initial_carry(model, B) if carry is None else carry
    terms, carry = objective.loss(model, params, example, carry, KEY, train=False)
    return terms["token"], example["weights"]["token"], carry


@both_models
def test_the_loss_is_the_mean_of_both_directions(objective, model):
    params = tiny.wide(model)
    forward, backward = text(0), text(1)
    term, weights_B2L, _ = losses(objective, model, params, batch(forward, backward))
    assert weights_B2L.shape == (B, 2, L)
    ids = lambda tokens: 1 + np.cumsum(tokens == END, 1)
    inputs = []
    for tokens_BL in (forward, backward):
        inputs += [objective.inputs(tokens_BL[:, :-1]), ids(tokens_BL)[:, :-1]]
    logits, _ = model.apply({"params": params}, *inputs, method="directions")
    expected, right = 0.0, 0.0
    for number, (unprojected, tokens_BL) in enumerate(
        zip(logits, (forward, backward), strict=True)
    ):
        own = cross_entropy(unprojected, tokens_BL[:, 1:], weights_B2L[:, number])
        expected, right = expected + own.loss, right + own.right
    assert float(term.loss) == pytest.approx(float(expected), rel=1e-5)
    assert float(term.right) == float(right)
    count = {"token": weights_B2L.sum()}
    assert float(count["token"]) == 2 * (B * L - 2)
    mean = total(objective, {"token": term}, count)
    assert float(mean) == pytest.approx(float(expected) / (2 * (B * L - 2)), rel=1e-5)
    assert set(means(objective, {"token": term}, count)) == {"token_accuracy"}


@both_models
def test_windows_with_carried_states_give_the_loss_of_one_window(objective, model):
    params, forward, backward = tiny.wide(model), text(0), text(1)
    mask = lambda rows: {k: np.ones_like(x) if "mask" in k else x for k, x in rows.items()}
    whole, _, _ = losses(objective, model, params, mask(batch(forward, backward)))
    carry, parts = None, 0.0
    for start in range(0, L, 4):
        part = slice(start, start + 5)
        rows = mask(batch(forward[:, part], backward[:, part]))
        term, _, carry = losses(objective, model, params, rows, carry)
        parts += float(term.loss)
    assert parts == pytest.approx(float(whole.loss), rel=1e-5)
    fresh = mask(batch(forward, backward, fresh=True))
    again, _, _ = losses(objective, model, params, fresh, carry)
    assert float(again.loss) == pytest.approx(float(whole.loss), rel=1e-5)
    continued, _, _ = losses(objective, model, params, mask(batch(forward, backward)), carry)
    assert abs(float(continued.loss) - float(whole.loss)) > 1e-3


def test_no_gradient_passes_to_the_window_before():
    example = corrupt(OBJECTIVE, KEY, batch(text(0), text(1)))
    loss = lambda carry: (
        OBJECTIVE.loss(FLAIR, tiny.wide(FLAIR), example, carry, KEY, train=True)[0]["token"].loss
    )
    gradient = jax.grad(loss)(OBJECTIVE.initial_carry(FLAIR, B))
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient))


def test_words_are_read_by_the_characters_of_the_vocabulary():
    characters_BLC = BY_LETTERS.inputs(np.array([[1, 3, 2]]))
    assert (characters_BLC[0] == word_bytes.spell_sentence(["word0"])).all()
    leaves = jax.tree.leaves(BY_LETTERS)
    assert len(leaves) == 1  # an argument of the compiled step, not a constant in it


def test_samples_are_for_training_alone():
    sampled = BothDirections(END, 5)
    params, rows = tiny.wide(FLAIR), corrupt(OBJECTIVE, KEY, batch(text(0), text(1)))
    carry = OBJECTIVE.initial_carry(FLAIR, B)
    loss = lambda objective, train: float(
        objective.loss(FLAIR, params, rows, carry, KEY, train=train)[0]["token"].loss
    )
    assert loss(sampled, False) == loss(OBJECTIVE, False)
    assert loss(sampled, True) != loss(OBJECTIVE, True)
    everything = BothDirections(END, V)
    assert loss(everything, True) == pytest.approx(loss(OBJECTIVE, True), rel=1e-5)


def test_the_unigram_baseline_is_that_of_the_text():
    assert OBJECTIVE.unigram_loss(6.5, 20) == 6.5
    uniform = UnprojectedLogits(jnp.zeros((1, 1, 2)), jnp.zeros((V, 2)), 0.0)
    term = cross_entropy(uniform, np.zeros((1, 1), int), np.ones((1, 1)))
    assert float(term.loss) == pytest.approx(np.log(V))
