"""Files of torch.save, bit for bit as PyTorch reads them."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import zoo
from tests.parity.table import ROWS
from tests.parity.test_parity import build
from zoo.formats.pickle import read
from zoo.params import flatten


def tensors():
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32))
    return {
        "whole": x,
        "transposed": x.t(),
        "part": x[1:4, 2::2],
        "shared": x[2],
        "double": x.double(),
        "half": x.half(),
        "bfloat16": x.bfloat16(),
        "bytes": x.to(torch.uint8),
        "long": torch.arange(-3, 3),
        "boolean": x > 0,
        "empty": torch.zeros(0, 3),
        "number": torch.tensor(3.5),
        "parameter": torch.nn.Parameter(x),
    }


@pytest.mark.parametrize("as_zip", [True, False])
def test_every_type_and_layout_is_equal(tmp_path, as_zip):
    torch.save(tensors(), tmp_path / "x.bin", _use_new_zipfile_serialization=as_zip)
    arrays = read(tmp_path / "x.bin")
    assert arrays.keys() == tensors().keys()
    for name, tensor in tensors().items():
        array, tensor = arrays[name], tensor.detach()
        assert array.shape == tuple(tensor.shape)
        if name == "bfloat16":
            array, tensor = array.view(np.int16), tensor.view(torch.int16)
        assert array.dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(array, tensor.numpy())


@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize("name", ["BertForPreTraining", "GPT2LMHeadModel"])
def test_a_folder_with_a_pickle_equals_one_with_safetensors(tmp_path, name, as_zip):
    theirs = build(ROWS[name])
    theirs.save_pretrained(tmp_path)
    expected = flatten(zoo.load(tmp_path).params)
    (tmp_path / "model.safetensors").unlink()
    weights = tmp_path / "pytorch_model.bin"
    torch.save(theirs.state_dict(), weights, _use_new_zipfile_serialization=as_zip)
    params = flatten(zoo.load(tmp_path).params)
    assert params.keys() == expected.keys()
    for path, array in expected.items():
        np.testing.assert_array_equal(params[path], array)
