"""Recurrent language models against the same made of PyTorch's parts."""

import json

import jax
import numpy as np
import pytest

import zoo
from tests.wide import relative, widen
from zoo.formats import huggingface

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

THEIRS = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}
V, E, D, N = 41, 12, 9, 2


class Theirs(torch.nn.Module):
    """The word language model of PyTorch's examples."""

    def __init__(self, cell):
        super().__init__()
        self.encoder = torch.nn.Embedding(V, E)
        self.rnn = THEIRS[cell](E, D, N, batch_first=True)
        self.decoder = torch.nn.Linear(D, V)

    def forward(self, tokens):
        return self.decoder(self.rnn(self.encoder(tokens))[0])


@pytest.mark.parametrize("cell", THEIRS)
def test_a_folder_in_pytorchs_layout_loads_and_is_written_again(cell, tmp_path):
    theirs = Theirs(cell)
    widen(theirs)
    safetensors.save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    sizes = {"vocab_size": V, "embedding_size": E, "hidden_size": D, "num_layers": N}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "rnn", "mode": cell} | sizes))
    model, params, _ = zoo.load(tmp_path)
    tokens_BL = np.random.default_rng(0).integers(0, V, (3, 17))
    expected = theirs(torch.from_numpy(tokens_BL)).detach()
    assert relative(model.apply({"params": params}, tokens_BL), expected) < 1e-5

    huggingface.write(tmp_path / "out", zoo.rnn, model.config, params)
    again = Theirs(cell)
    again.load_state_dict(safetensors.load_file(tmp_path / "out/model.safetensors"))
    assert torch.equal(again(torch.from_numpy(tokens_BL)), theirs(torch.from_numpy(tokens_BL)))


@pytest.mark.parametrize("cell", THEIRS)
def test_steps_give_the_logits_of_the_whole(cell):
    config = zoo.rnn.Config(V, num_layers=N, width=D, dropout=0.0, embed_width=E, cell=cell)
    model = zoo.rnn.RNNLM(config)
    tokens_BL = np.random.default_rng(0).integers(0, V, (3, 10))
    params = model.init(jax.random.key(0), tokens_BL)
    whole_BLV = model.apply(params, tokens_BL)
    documents_BL = (np.arange(10) > 2)[None] * np.ones((3, 1), np.int32)  # padded on the left
    padded_BL = np.concatenate([np.full((3, 3), 7), tokens_BL[:, :7]], 1)
    logits_BV, states = model.apply(params, padded_BL, documents_BL, 4, method="start")
    assert relative(logits_BV, whole_BLV[:, 6]) < 1e-6
    for time in range(7, 10):
        logits_BV, states = model.apply(params, tokens_BL[:, time], states, method="step")
        assert relative(logits_BV, whole_BLV[:, time]) < 1e-6
