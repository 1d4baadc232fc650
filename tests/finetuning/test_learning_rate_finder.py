"""The learning-rate range test finds where the loss falls fastest."""

import numpy as np
import pytest

from train.finetuning import learning_rate_finder


def test_the_steepest_fall_is_found_after_a_lucky_first_batch():
    rates = np.geomspace(1e-6, 1, 100)
    fall = 1 / (1 + np.exp(4 * np.log(rates / 1e-3)))  # halfway down at 1e-3
    losses = 0.3 + 0.4 * fall + np.where(rates > 3e-2, 50 * rates, 0)
    losses[0] = 0.1
    assert 5e-4 < learning_rate_finder.steepest(rates, losses) < 3e-3  # a moving mean comes late


def test_a_loss_that_never_falls_or_only_by_chance_has_no_steepest_fall():
    rates = np.geomspace(1e-6, 1, 100)
    with pytest.raises(ValueError, match="never falls"):
        learning_rate_finder.steepest(rates, rates)
    random = np.random.default_rng(0)
    flat = [0.69 + 0.05 * random.normal(size=100) for _ in range(20)]
    for losses in flat:
        with pytest.raises(ValueError, match=r"never falls|no clear fall"):
            learning_rate_finder.steepest(rates, losses)
    fall = 0.3 / (1 + np.exp(-4 * np.log(rates / 1e-3)))
    for losses in flat:
        assert 3e-4 < learning_rate_finder.steepest(rates, losses - fall) < 1e-2
