"""`--mask-rate` is the fraction of the tokens that a masked language model predicts."""

import jax
import jax.numpy as jnp
import pytest

from tests.data.tiny_corpus import documents
from train.recipes import recipe
from train.recipes.recipe import with_fields

LENGTH = 64
MASKED = (
    *("bert-tiny", "bert-tiny-whole-word-masking", "roberta-tiny", "distilbert-tiny"),
    *("albert-tiny", "electra-tiny"),
)


def num_masked(objective) -> int:
    """Return the number of masked tokens in a full row."""
    tokens_L = jnp.arange(LENGTH, dtype=jnp.int32) % 20 + 10  # no special tokens
    ones_L = jnp.ones(LENGTH, bool)
    row = {"tokens": tokens_L, "mask": ones_L, "words": ones_L, "segments": 0 * tokens_L}
    corrupted = objective.corrupt(jax.random.key(0), row | {"next": 0, "order": 0})
    return len(jnp.unique(corrupted["predictions"]))


@pytest.mark.parametrize("name", MASKED)
def test_a_row_has_as_many_predictions_as_the_rate_says(name):
    base = with_fields(recipe(name), length=LENGTH, vocab_size=700)
    trained = base.train_tokenizer(documents())
    changed = with_fields(base, mask_rate=0.4)
    assert num_masked(base.objective(trained)) in (9, 10)  # 15 %
    assert num_masked(changed.objective(trained)) in (25, 26)
    assert changed.identity()["mask_rate"] == 0.4


@pytest.mark.parametrize("name", ["gpt2-tiny", "t5-tiny", "xlnet-tiny", "luong-tiny"])
def test_a_rate_is_refused_where_no_tokens_are_masked(name):
    with pytest.raises(ValueError, match=f"^{name} predicts no masked tokens: .*--mask-rate$"):
        with_fields(recipe(name), mask_rate=0.4)
    assert "mask_rate" not in recipe(name).identity()
