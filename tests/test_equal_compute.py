"""The models of tests/equal_compute.py have one size."""

from pathlib import Path

import pytest

from tests.equal_compute import NAMES, PIECES, WIDTH, sized


@pytest.mark.parametrize("name", [name for name in NAMES if name != "distilbert"])
def test_all_models_have_one_size(name):
    chosen = sized(name, Path())
    assert (chosen.config.width, chosen.config.vocab_size) == (WIDTH, PIECES)
    assert chosen.config.num_layers == getattr(chosen.config, "num_decoder_layers", 2) == 2
    assert (chosen.batch, chosen.length) == (16, 128)
