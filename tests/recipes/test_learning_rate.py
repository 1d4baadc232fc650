"""`--learning-rate` scales the schedule of any recipe to another peak."""

import numpy as np
import pytest

from train.optimization.schedules import AnyLength
from train.recipes import RECIPES, recipe
from train.recipes.recipe import with_fields

PEAK = 0.0123
NAMES = [*(name for name in RECIPES if "tiny" in name), "bert-base-uncased", "t5-base"]


@pytest.mark.parametrize("name", NAMES)
def test_the_peak_of_a_recipe_changes_and_its_shape_does_not(name):
    before, after = recipe(name), with_fields(recipe(name), learning_rate=PEAK)
    steps = np.arange(min(before.steps, 20_000))
    old, new = (
        np.broadcast_to(np.asarray(run.schedule(run.steps)(steps)), steps.shape)
        for run in (before, after)
    )
    assert new.max() == pytest.approx(PEAK, rel=1e-5)
    np.testing.assert_allclose(new / PEAK, old / old.max(), rtol=1e-4, atol=1e-7)
    assert isinstance(after.schedule, AnyLength) == isinstance(before.schedule, AnyLength)
    assert after.identity()["learning_rate"] == PEAK
    assert "learning_rate" not in before.identity()
