"""Files of ELMo, Flair and fastai with other things than our models have are refused by name."""

import copy
import json
import os
import pickle
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
h5py = pytest.importorskip("h5py")

import zoo
from tests.parity.test_recurrent_files import (
    AWDLSTM,
    LETTERS,
    OPTIONS,
    CharacterLM,
    elmo_arrays,
    fastai_state,
    flair_pair,
    write_elmo,
    write_flair,
)
from train.commands import convert
from zoo.params import flatten


def refused(file, error=ValueError) -> str:
    with pytest.raises(error) as caught:
        zoo.load(file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_array_of_elmo_is_used_or_named(tmp_path):
    arrays = elmo_arrays()
    del arrays["CNN_proj/b_proj"]
    arrays["softmax/W"] = np.zeros((3, 3), np.float32)
    arrays["char_embed"] = arrays["char_embed"][1:]
    arrays["CNN/b_cnn_0"] = arrays["CNN/b_cnn_0"].astype(np.int32)
    arrays["CNN/b_cnn_1"][1] = np.inf
    message = refused(write_elmo(tmp_path, arrays))
    for problem in (
        "missing CNN_proj/b_proj",
        "unexpected softmax/W",
        "char_embed has shape (261, 5), not (262, 5)",
        "CNN/b_cnn_0 has the type int32",
        "CNN/b_cnn_1 has 1 of 6 values that are not finite",
    ):
        assert problem in message


def test_options_that_change_the_mathematics_of_elmo_are_refused_together(tmp_path):
    options = copy.deepcopy(OPTIONS)
    options["lstm"] |= {"cell_clip": 5, "use_skip_connections": False, "dim": 12}
    del options["lstm"]["proj_clip"]
    options["char_cnn"]["activation"] = "tanh"
    message = refused(write_elmo(tmp_path, elmo_arrays(), options))
    for problem in (
        "cell_clip = 5, where zoo supports 3.0 only",
        "proj_clip = None",
        "use_skip_connections = False",
        "activation = 'tanh'",
        "dim = 12, but the weights have 11",
    ):
        assert problem in message


def test_elmo_needs_its_options_and_h5py(tmp_path, monkeypatch):
    file = write_elmo(tmp_path, elmo_arrays())
    options = tmp_path / "tiny_options.json"
    options.rename(tmp_path / "options.json")  # as in archives of AllenNLP
    assert zoo.load(file).model.config.width == 14
    (tmp_path / "options.json").write_text("{}")
    assert "needs lstm and char_cnn" in refused(file)
    (tmp_path / "options.json").unlink()
    assert f"no such file: {options}" in refused(file, FileNotFoundError)
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert "extra `elmo`" in refused(file)


def soft(file, other):
    file["CNN_proj/b_proj"] = h5py.SoftLink("/CNN/b_cnn_0")


def external(file, other):
    file["CNN_proj/b_proj"] = h5py.ExternalLink(str(other), "CNN_proj/b_proj")


def in_another_file(file, other):
    file.create_dataset("CNN_proj/b_proj", (7,), "f4", external=[(str(other), 0, 28)])


def virtual(file, other):
    layout = h5py.VirtualLayout((7,), "f4")
    layout[:] = h5py.VirtualSource(str(other), "CNN_proj/b_proj", (7,))
    file.create_virtual_dataset("CNN_proj/b_proj", layout)


def terabytes(file, other):
    file.create_dataset("CNN_proj/b_proj", (1 << 40,), "f4", chunks=(1 << 20,))


def texts(file, other):
    file["CNN_proj/b_proj"] = ["a", "b"]


def within_itself(file, other):
    for name in "abcdefgh":
        file[name] = file["/"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (soft, "b_proj is a link"),
        (external, "b_proj is a link"),
        (in_another_file, "content of CNN_proj/b_proj is in another file"),
        (virtual, "content of CNN_proj/b_proj is in another file"),
        (terabytes, "many times the size of the file"),
        (texts, "which is no number"),
        (within_itself, "more than 10000 names"),
    ],
)
def test_a_hostile_hdf5_file_is_refused(tmp_path, change, message):
    other = write_elmo(tmp_path, elmo_arrays()).rename(tmp_path / "other.hdf5")
    arrays = elmo_arrays()
    del arrays["CNN_proj/b_proj"]
    file = write_elmo(tmp_path, arrays)
    with h5py.File(file, "a") as opened:
        change(opened, other)
    assert message in refused(file)


@pytest.mark.parametrize("length", [8, 100, 5000])
def test_a_truncated_hdf5_file_is_damaged(tmp_path, length):
    file = write_elmo(tmp_path, elmo_arrays())
    file.write_bytes(file.read_bytes()[:length])
    assert "is damaged" in refused(file)


def write_pair(monkeypatch, folder, networks=None, **others):
    for network, name in zip(networks or flair_pair(), ("forward", "backward"), strict=True):
        file = write_flair(monkeypatch, folder, network, name, **others)
    return file


def test_flair_needs_both_directions_by_name(tmp_path, monkeypatch):
    file = write_pair(monkeypatch, tmp_path)
    unnamed = tmp_path / "best-lm.pt"
    unnamed.write_bytes(file.read_bytes())
    assert "one with forward and one with backward" in refused(unnamed)
    other = tmp_path / "news-forward-0.1.pt"
    other.write_bytes(file.read_bytes())
    assert "are both backward" in refused(file)
    other.unlink()
    assert f"no such file: {other}" in refused(file, FileNotFoundError)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"nout": 4}, "nout = 4, where zoo supports None only"),
        ({"hidden_size": 10}, "hidden_size = 10, where zoo supports 9 only"),
        ({"document_delimiter": "|"}, "document_delimiter = '|'"),
        ({"recurrent_type": "GRU"}, "recurrent_type = 'GRU'; zoo supports LSTM only"),
        ({"dictionary": ["a"]}, "no idx2item"),
        ({"optimizer": os.system}, "it names posix.system"),
    ],
)
def test_what_our_flair_has_not_is_refused_by_name(tmp_path, monkeypatch, others, message):
    assert message in refused(write_pair(monkeypatch, tmp_path, **others))


def test_every_tensor_of_flair_is_used_or_named(tmp_path, monkeypatch):
    forward, backward = flair_pair()
    forward.proj = torch.nn.Linear(9, 4)
    backward.decoder = None
    backward.encoder.weight.data[2, 3] = torch.nan
    message = refused(write_pair(monkeypatch, tmp_path, (forward, backward)))
    for problem in (
        "unexpected news-forward-0.1.pt: proj.weight",
        "missing news-backward-0.1.pt: decoder.bias",
        "news-backward-0.1.pt: encoder.weight has 1 of 84 values that are not finite",
    ):
        assert problem in message


def test_both_files_of_flair_have_the_same_characters(tmp_path, monkeypatch):
    other = CharacterLM(1, [*LETTERS[:-1], "x"])
    pair = (flair_pair()[0], other)
    assert "different characters" in refused(write_pair(monkeypatch, tmp_path, pair))
    pair = [CharacterLM(1, [*LETTERS[1:], "<unk>"])] * 2
    assert "must have <unk> first" in refused(write_pair(monkeypatch, tmp_path, pair))


def write_fastai(folder, name="lm.pth", **changes):
    state = fastai_state(AWDLSTM())
    state |= {key.replace("__", "."): value for key, value in changes.items()}
    torch.save({key: value for key, value in state.items() if value is not None}, folder / name)
    return folder / name


def test_every_tensor_of_fastai_is_used_or_named(tmp_path):
    changes = {
        "0.rnns.1.module.bias_ih_l0": None,
        "0.rnns.1.module.weight_ih_l0_reverse": torch.zeros(2),
        "0.rnns.0.module.weight_hh_l0": torch.zeros(3, 3),
        "0.rnns.2.weight_hh_l0_raw": torch.zeros(24, 6, dtype=torch.int8),
        "1.decoder.bias": torch.full((13,), torch.inf),
    }
    message = refused(write_fastai(tmp_path, **changes))
    for problem in (
        "missing 0.rnns.1.module.bias_ih_l0",
        "unexpected 0.rnns.1.module.weight_ih_l0_reverse",
        "unexpected 0.rnns.0.module.weight_hh_l0",
        "0.rnns.2.weight_hh_l0_raw has the type int8",
        "1.decoder.bias has 13 of 13 values that are not finite",
    ):
        assert problem in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"1.decoder.weight": torch.ones(13, 6)}, "1.decoder.weight differs from 0.encoder.weight"),
        ({"1.decoder.weight": None}, "which learn.save has written"),
        ({"0.rnns.0.weight_hh_l0_raw": None}, "not its QRNNs"),
        ({"epoch": 3}, "'epoch', which is no tensor"),
        ({"epoch": os.system}, "it names posix.system"),
    ],
)
def test_other_models_of_fastai_are_refused(tmp_path, changes, message):
    assert message in refused(write_fastai(tmp_path, **changes))


def test_another_file_of_torch_is_no_model(tmp_path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "x.pt")
    assert "neither a language model of Flair nor one of fastai" in refused(tmp_path / "x.pt")
    torch.save(torch.zeros(3), tmp_path / "x.pt")
    assert "weights are a dictionary" in refused(tmp_path / "x.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pt")
    assert "it names torch.nn.modules.linear.Linear" in refused(tmp_path / "x.pt")


def test_the_words_of_fastai_are_the_vocabulary(tmp_path):
    file, itos = write_fastai(tmp_path, "lm_bwd.pth"), tmp_path / "itos_wt103.pkl"
    assert zoo.load(file).tokenizer is None
    words = ["xxunk", "xxpad", "the", "\n", "zoo", *"abcde", "xxfake", "xxfake", "xxfake"]
    itos.write_bytes(pickle.dumps(words))
    model, _, tokenizer = zoo.load(file)
    assert model.config.direction == "backward"
    assert tokenizer.get_vocab_size() == len(words) == model.config.vocab_size
    assert tokenizer.encode("the  unknown zoo xxfake").ids == [2, 0, 4, 10]
    itos.write_bytes(pickle.dumps(words[1:]))
    assert "12 words" in refused(file)
    itos.write_bytes(pickle.dumps({"xxunk": os.system}))
    assert "it names posix.system" in refused(file)
    (tmp_path / "itos.pkl").write_bytes(pickle.dumps(words))
    assert "itos.pkl and itos_wt103.pkl beside it" in refused(file)


def test_wrong_values_are_loaded_to_look_at_them(tmp_path):
    bias = torch.full((13,), torch.nan)
    counts = torch.ones(40, 10, dtype=torch.int64)
    file = write_fastai(tmp_path, **{"1.decoder.bias": bias, "0.rnns.1.weight_hh_l0_raw": counts})
    params = flatten(zoo.load(file, unchecked=True).params)
    assert np.isnan(params["head/bias"]).all()
    assert (params["trunk/layers_1/recurrent/kernel"] == 1).all()
    assert params["trunk/layers_1/recurrent/kernel"].dtype == np.float32
    convert.Import(file, tmp_path / "out", unchecked=True).run()
    assert "head/bias has 13 of 13 values that are not finite" in refused(tmp_path / "out")
    assert np.isnan(zoo.load(tmp_path / "out", unchecked=True).params["head"]["bias"]).all()
    assert json.loads((tmp_path / "out/model.json").read_text())["class"] == "AWDLSTMLM"
