"""Relative distance buckets of T5, and a folder with a wrong flag for tied embeddings."""

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import zoo
from tests.parity.table import ROWS
from tests.parity.test_parity import build
from zoo.layers import relative_bias


def test_buckets_are_those_of_transformers():
    theirs = transformers.models.t5.modeling_t5.T5Attention._relative_position_bucket
    distance = np.arange(-300, 301)
    for side, bidirectional in ((relative_bias.either_side, True), (relative_bias.the_past, False)):
        expected = theirs(torch.from_numpy(distance), bidirectional, 32, 128)
        assert (np.asarray(side(distance, 32, 128)) == expected.numpy()).all()


def test_an_untied_head_that_is_declared_tied_is_kept(tmp_path):
    theirs = build(ROWS["T5ForConditionalGeneration-v1_1"])
    theirs.save_pretrained(tmp_path)  # with a config that declares the head tied
    assert '"tie_word_embeddings": true' in (tmp_path / "config.json").read_text()
    model, params, _ = zoo.load(tmp_path)
    assert type(model).__name__ == "T5v11LM"
    head = next(x for path, x in jax.tree.leaves_with_path(params) if "head" in str(path))
    assert np.array_equal(head, theirs.lm_head.weight.detach().numpy())
