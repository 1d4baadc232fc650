"""GPT-3's recipes: batches, learning rates and steps of the paper."""

import pytest

from train.recipes import gpt3, recipe
from train.recipes.recipe import with_config
from zoo.layers.mask import Mask
from zoo.models.gpt3 import GPT3, SIZES

BILLION = 1e9


@pytest.mark.parametrize(("name", "million"), [("gpt3-small", 0.5), ("gpt3-175b", 3.2)])
def test_tokens_and_learning_rate_are_those_of_the_paper(name, million):
    run = recipe(name)
    tokens = run.batch * run.length
    assert tokens / 1e6 == pytest.approx(million, rel=0.05)
    assert run.steps * tokens == pytest.approx(300 * BILLION, rel=1e-4)
    schedule, peak = run.schedule(run.steps), {"gpt3-small": 6e-4, "gpt3-175b": 6e-5}[name]
    at = lambda tokens_so_far: float(schedule(round(tokens_so_far / tokens)))
    assert at(0) == 0
    assert at(0.375 * BILLION) == pytest.approx(peak, rel=1e-3)
    assert at(0.1875 * BILLION) == pytest.approx(peak / 2, rel=0.01)
    assert at(130.2 * BILLION) == pytest.approx(0.55 * peak, rel=1e-2)
    assert at(260.1 * BILLION) == at(300 * BILLION) == pytest.approx(peak / 10, rel=1e-4)


def test_a_run_of_few_steps_has_a_schedule():
    for steps in (1, 2, 20):
        assert float(recipe("gpt3-small").schedule(steps)(steps)) == pytest.approx(6e-5)


def test_every_size_has_a_recipe_and_every_second_block_a_band():
    assert gpt3.RECIPES.keys() == SIZES.keys()
    for config in SIZES.values():
        windows = [mask.window for mask in GPT3(config).masks(Mask.causal())]
        assert windows == [None, config.window] * (config.num_layers // 2)


def test_a_band_without_a_key_is_refused():
    with pytest.raises(ValueError, match=r"window must be from 1 to 1,000, not 0"):
        with_config(recipe("gpt3-tiny"), ["window=0"])
