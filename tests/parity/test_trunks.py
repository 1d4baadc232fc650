"""Trunks without a head, as AutoModel saves them, against transformers."""

import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import zoo
from tests.parity import table
from tests.parity.test_parity import build
from tests.wide import relative
from zoo.layers.heads import Trunk
from zoo.params import flatten

# The published trunk -> a published class with a head, whose row of the table has its config.
TRUNKS = {
    "BertModel": "BertForMaskedLM",
    "RobertaModel": "RobertaForMaskedLM",
    "AlbertModel": "AlbertForMaskedLM",
    "DistilBertModel": "DistilBertForMaskedLM",
    "ElectraModel": "ElectraForPreTraining",
    "XLNetModel": "XLNetLMHeadModel",
    "OpenAIGPTModel": "OpenAIGPTLMHeadModel",
    "GPT2Model": "GPT2LMHeadModel",
    "GPTNeoModel": "GPTNeoForCausalLM",
    "T5EncoderModel": "T5ForConditionalGeneration",
}


def row_of(name):
    return dataclasses.replace(table.ROWS[TRUNKS[name]], published=name)


def tokens():
    return np.random.default_rng(0).integers(2, table.V - 1, (3, 14))


@pytest.mark.parametrize("name", TRUNKS)
def test_hidden_states_equal(name, tmp_path):
    theirs = build(row_of(name))
    theirs.save_pretrained(tmp_path)
    loaded = zoo.load(tmp_path)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(tokens())).last_hidden_state.numpy()
    x_BLD = loaded.model.apply({"params": loaded.params}, tokens().astype(np.int32))
    assert relative(x_BLD, expected) < 1e-5
    assert isinstance(loaded.model, Trunk)


@pytest.mark.parametrize("name", TRUNKS)
def test_a_trunk_is_exported_for_automodel_and_loaded_from_a_folder_with_a_head(name, tmp_path):
    with_head = build(table.ROWS[TRUNKS[name]])
    with_head.save_pretrained(tmp_path / "head")
    trunk = zoo.load(tmp_path / "head", cls=name)
    zoo.export(trunk, tmp_path / "exported")
    fields = json.loads((tmp_path / "exported" / "config.json").read_text())
    assert fields["architectures"] == [name]
    cls = transformers.T5EncoderModel if name.startswith("T5") else transformers.AutoModel
    theirs, report = cls.from_pretrained(tmp_path / "exported", output_loading_info=True)
    assert not report["unexpected_keys"]
    assert all("pooler" in key for key in report["missing_keys"])
    before = dict(getattr(with_head, with_head.base_model_prefix, with_head).named_parameters())
    for key, parameter in theirs.named_parameters():
        assert key in before or "pooler" in key
        assert "pooler" in key or torch.equal(parameter, before[key]), key
    again = flatten(zoo.load(tmp_path / "exported").params)
    for path, array in flatten(trunk.params).items():
        np.testing.assert_array_equal(again[path], array)
