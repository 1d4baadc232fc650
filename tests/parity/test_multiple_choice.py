"""Multiple choice of every family against transformers, on wide random weights and padded rows."""

import jax
import numpy as np
import pytest

import zoo
from tests.parity import table
from tests.parity.table import FAMILIES
from tests.wide import relative, widen

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-5
B, C, L = 3, 4, 12


def batch(family: str) -> dict[str, np.ndarray]:
    """Tokens, segments and documents of texts with four choices, of all lengths."""
    draw, place_L = np.random.default_rng(0), np.arange(L)
    lengths_BC1 = draw.integers(4, L + 1, (B, C, 1))
    # transformers looks for XLNet's classes in the last column
    is_real = place_L >= L - lengths_BC1 if family == "XLNet" else place_L < lengths_BC1
    padding = 1 if family == "Roberta" else 0
    return {
        "tokens": np.where(is_real, draw.integers(2, table.V - 1, (B, C, L)), padding),
        "segments": np.int64((place_L > 5) & is_real),
        "documents": np.int64(is_real),
    }


@pytest.mark.parametrize("family", [name for name in FAMILIES if not name.startswith("GPT")])
def test_logits_equal_and_a_folder_goes_back_without_a_bit_lost(family, tmp_path):
    config, inputs = FAMILIES[family]
    cls = getattr(transformers, f"{family}ForMultipleChoice")
    theirs = cls(cls.config_class(**config, attn_implementation="eager")).eval()
    widen(theirs)
    theirs.save_pretrained(tmp_path / "published")
    loaded = zoo.load(tmp_path / "published")
    assert type(loaded.model).__name__ == f"{family}MultipleChoice"
    arrays = batch(family)
    given = {"attention_mask": torch.from_numpy(arrays["documents"])}
    if "segments" in inputs:
        given["token_type_ids"] = torch.from_numpy(arrays["segments"])
    with torch.no_grad():
        expected_BC = theirs(torch.from_numpy(arrays["tokens"]), **given).logits.numpy()
    apply = jax.jit(loaded.model.apply)
    ours = [array.astype(np.int32) for array in arrays.values()]
    found_BC = apply({"params": loaded.params}, *ours)
    assert found_BC.shape == (B, C)
    assert relative(found_BC, expected_BC) < TOLERANCE
    zoo.export(loaded, tmp_path / "again")
    again, report = cls.from_pretrained(tmp_path / "again", output_loading_info=True)
    assert not any(report.values()), report
    assert again.config.architectures == [cls.__name__]
    after = dict(again.named_parameters())
    for name, parameter in theirs.named_parameters():
        assert torch.equal(parameter, after[name]), name


def test_a_multi_label_folder_keeps_what_it_is(tmp_path):
    config, _ = FAMILIES["Bert"]
    cls = transformers.BertForSequenceClassification
    problem = {"problem_type": "multi_label_classification", "num_labels": 3}
    theirs = cls(cls.config_class(**config, **problem))
    theirs.save_pretrained(tmp_path / "published")
    loaded = zoo.load(tmp_path / "published")
    assert type(loaded.model).__name__ == "BertMultiLabel"
    zoo.export(loaded, tmp_path / "again")
    again = cls.from_pretrained(tmp_path / "again")
    assert again.config.problem_type == "multi_label_classification"
