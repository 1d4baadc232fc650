"""A change of the config gives a model that can be exported, or is refused before it is built."""

import dataclasses
import json
from dataclasses import replace

import pytest

from train.recipes import recipe
from train.recipes.recipe import with_config
from zoo.formats import huggingface

PUBLISHED = ("gpt-tiny", "gpt2-tiny", "bert-tiny", "roberta-tiny", "albert-tiny", "electra-tiny")


@pytest.mark.parametrize("name", [*PUBLISHED, "xlnet-tiny", "t5-tiny", "transformer-tiny"])
def test_heads_follow_the_width(name):
    chosen = recipe(name)
    width = 2 * chosen.config.num_heads * 3
    config = with_config(chosen, [f"width={width}"]).config
    assert config.head_width == 6
    with pytest.raises(ValueError, match=rf"num_heads=\d+ does not divide width={width + 1}: "):
        with_config(chosen, [f"width={width + 1}"])
    assert with_config(chosen, [f"width={width}", "head_width=5"]).config.head_width == 5


def test_heads_that_did_not_follow_the_width_stay_as_they_are():
    chosen = recipe("t5-tiny")
    free = replace(chosen, config=replace(chosen.config, head_width=5))
    assert with_config(free, [f"width={2 * chosen.config.width}"]).config.head_width == 5


def changes(config):
    """Yield other values of every field of a config."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, int):
            yield from ({field.name: other} for other in (value + 1, 2 * value, 3 * value))
        elif isinstance(value, float):
            yield {field.name: value / 2 + 0.1}


# XLNet has relative positions, and no limit: a folder records none.
UNRECORDED = {"labels", "max_length"}


@pytest.mark.parametrize("format", huggingface.FORMATS, ids=lambda format: format.model_type)
def test_what_is_exported_is_read_back_with_every_change(format):
    config, kept, refused = format.config_class(), 0, []
    for change in changes(config):
        changed = replace(config, **change)
        try:
            published = json.loads(json.dumps(format.from_config(changed)))
        except ValueError as error:
            refused.append(str(error))
            continue
        again = format.to_config(published)
        for name in {field.name for field in dataclasses.fields(config)} - UNRECORDED:
            assert getattr(again, name) == getattr(changed, name), (change, name)
        if "max_length" not in format.unpublished and hasattr(changed, "max_length"):
            assert again.max_length == changed.max_length
        if hasattr(changed, "num_heads") and "head_width" not in format.fields:
            assert changed.width % changed.num_heads == 0
        kept += 1
    assert kept >= 5
    assert all("cannot express" in line for line in refused), refused
