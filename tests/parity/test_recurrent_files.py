"""Files of ELMo, Flair and fastai against their networks in PyTorch, wired by hand."""

import json
import sys
import types
from collections import OrderedDict, defaultdict
from itertools import pairwise

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import zoo
from tests.wide import relative, widen
from zoo.models import awd_lstm
from zoo.params import flatten
from zoo.tokenizers import word_bytes

TOLERANCE = 1e-5
F = torch.nn.functional


def wide(*shape, seed=0, scale=0.2):
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


# ELMo

E, CELL, I, FILTERS = 7, 11, 5, ((1, 4), (2, 6), (3, 8))
O = sum(count for _, count in FILTERS)
OPTIONS = {
    "lstm": {
        "use_skip_connections": True,
        "projection_dim": E,
        "cell_clip": 3,
        "proj_clip": 3,
        "dim": CELL,
        "n_layers": 2,
    },
    "char_cnn": {
        "activation": "relu",
        "filters": [list(filter) for filter in FILTERS],
        "n_highway": 2,
        "embedding": {"dim": I},
        "n_characters": 262,
        "max_characters_per_token": 50,
    },
}


def elmo_arrays(scale=0.2):
    """Return the arrays of a file; a larger scale lets the clips act."""
    shapes = {"char_embed": (261, I), "CNN_proj/W_proj": (O, E), "CNN_proj/b_proj": (E,)}
    for i, (width, count) in enumerate(FILTERS):
        shapes |= {f"CNN/W_cnn_{i}": (1, width, I, count), f"CNN/b_cnn_{i}": (count,)}
    for i in range(2):
        for part in ("carry", "transform"):
            shapes |= {f"CNN_high_{i}/W_{part}": (O, O), f"CNN_high_{i}/b_{part}": (O,)}
        for direction in range(2):
            cell = f"RNN_{direction}/RNN/MultiRNNCell/Cell{i}/LSTMCell"
            shapes |= {f"{cell}/W_0": (2 * E, 4 * CELL), f"{cell}/B": (4 * CELL,)}
            shapes |= {f"{cell}/W_P_0": (CELL, E)}
    is_wider = lambda name: name.endswith(("/B", "W_P_0"))
    return {
        name: wide(*shape, seed=seed, scale=scale if is_wider(name) else 0.2)
        for seed, (name, shape) in enumerate(shapes.items())
    }


def write_elmo(folder, arrays, options=OPTIONS):
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "tiny_weights.hdf5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    (folder / "tiny_options.json").write_text(json.dumps(options))
    return folder / "tiny_weights.hdf5"


def elmo_layers(arrays, words):
    """Return the three layers of a sentence by the equations of bilm-tf, and whether they clip."""
    t = {name: torch.from_numpy(array) for name, array in arrays.items()}
    marks = [[258, 256, 259], *[[258, *w.encode(), 259] for w in words], [258, 257, 259]]
    ids = torch.tensor([row + [260] * (50 - len(row)) for row in marks])
    x_NIC = F.embedding(ids, t["char_embed"]).transpose(1, 2)
    pooled = []
    for i in range(len(FILTERS)):
        kernel_OIK = t[f"CNN/W_cnn_{i}"][0].permute(2, 1, 0)
        pooled.append(F.relu(F.conv1d(x_NIC, kernel_OIK, t[f"CNN/b_cnn_{i}"]).max(-1)[0]))
    x = torch.cat(pooled, -1)
    for i in range(2):
        linear = lambda part, x, i=i: x @ t[f"CNN_high_{i}/W_{part}"] + t[f"CNN_high_{i}/b_{part}"]
        carry = torch.sigmoid(linear("carry", x))
        x = carry * F.relu(linear("transform", x)) + (1 - carry) * x
    x = x @ t["CNN_proj/W_proj"] + t["CNN_proj/b_proj"]
    layers, clipped = [[torch.cat([x, x], -1)], [], []], 0
    for direction in range(2):
        inputs = x if direction == 0 else x.flip(0)
        for i in range(2):
            cell = f"RNN_{direction}/RNN/MultiRNNCell/Cell{i}/LSTMCell"
            h, c, outputs = torch.zeros(E), torch.zeros(CELL), []
            for x_E in inputs:
                gates = torch.cat([x_E, h]) @ t[f"{cell}/W_0"] + t[f"{cell}/B"]
                i_F, j_F, f_F, o_F = gates.chunk(4)
                c = torch.sigmoid(f_F + 1) * c + torch.sigmoid(i_F) * torch.tanh(j_F)
                clipped += int((c.abs() > 3).sum())
                c = c.clamp(-3, 3)
                h = ((torch.sigmoid(o_F) * torch.tanh(c)) @ t[f"{cell}/W_P_0"]).clamp(-3, 3)
                outputs.append(h)
            outputs = torch.stack(outputs)
            inputs = outputs if i == 0 else inputs + outputs
            layers[i + 1].append(inputs if direction == 0 else inputs.flip(0))
    return [torch.cat(parts, -1).numpy() for parts in layers], clipped


@pytest.mark.parametrize("scale", [0.2, 2.0])
def test_elmo_has_the_hidden_states_of_all_layers(tmp_path, scale):
    arrays, words = elmo_arrays(scale), ["The", "café", "of", "an", "internationalization", "zoo"]
    loaded = zoo.load(write_elmo(tmp_path, arrays))
    expected, clipped = elmo_layers(arrays, words)
    assert (clipped > 0) == (scale > 1)
    characters_BLC = word_bytes.spell_sentence(words)[None]
    trunk = loaded.model.trunk_class(loaded.model.config)
    params = {"params": loaded.params["trunk"]}
    layers = jax.jit(lambda: trunk.apply(params, characters_BLC, method="layers"))()
    for ours, theirs in zip(layers, expected, strict=True):
        assert relative(ours[0], theirs) < TOLERANCE
    for number, theirs in enumerate(expected):
        ours = zoo.embed(loaded, " ".join(words), layer=number)
        assert relative(ours, theirs[1:-1].mean(0)) < TOLERANCE


# Flair

LETTERS = ["<unk>", *"the caz.", "\n", *"on", "é", *"m"]


class CharacterLM(torch.nn.Module):
    """The language model of one direction, with the names of the released models."""

    def __init__(self, num_layers, letters):
        super().__init__()
        self.letters = letters
        self.encoder = torch.nn.Embedding(len(letters), 6)
        self.rnn = torch.nn.LSTM(6, 9, num_layers)
        self.decoder = torch.nn.Linear(9, len(letters))

    def forward(self, text):
        ids = [self.letters.index(x) if x in self.letters else 0 for x in text]
        states = self.rnn(self.encoder(torch.tensor(ids))[:, None])[0][:, 0]
        return states.detach().numpy(), self.decoder(states).detach().numpy()


def instance(monkeypatch, module, name):
    """Return an object of a class in a module of another library."""
    cls = type(name, (), {"__module__": module})
    monkeypatch.setitem(sys.modules, module.partition(".")[0], types.ModuleType("package"))
    monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    setattr(sys.modules[module], name, cls)
    return cls()


def dictionary(monkeypatch, letters, used):
    """Return an instance of a class flair.data.Dictionary, which has been `used` to read a text."""
    one = instance(monkeypatch, "flair.data", "Dictionary")
    one.idx2item = [letter.encode() for letter in letters]
    one.item2idx = {item: number for number, item in enumerate(one.idx2item)}
    one.multi_label = False
    if used:
        one.item2idx_not_encoded = defaultdict(int, {x: i for i, x in enumerate(letters)})
    return one


def write_flair(monkeypatch, folder, network, name, protocol=2, as_zip=True, **others):
    torch.save(
        {
            "state_dict": network.state_dict(),
            "dictionary": dictionary(monkeypatch, network.letters, protocol == 4),
            "is_forward_lm": name == "forward",
            "hidden_size": 9,
            "nlayers": network.rnn.num_layers,
            "embedding_size": 6,
            "nout": None,
            "document_delimiter": "\n",
            "dropout": 0.25,
            **others,
        },
        folder / f"news-{name}-0.1.pt",
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=as_zip,
    )
    monkeypatch.delitem(sys.modules, "flair.data")
    return folder / f"news-{name}-0.1.pt"


def flair_pair(num_layers=1):
    forward = CharacterLM(num_layers, LETTERS)
    backward = CharacterLM(num_layers, ["<unk>", *LETTERS[:0:-1]])  # in another order
    widen(forward, 0)
    widen(backward, 1)
    return forward, backward


@pytest.mark.parametrize(
    ("protocol", "as_zip", "num_layers"), [(2, True, 1), (4, True, 2), (2, False, 1), (4, False, 1)]
)
def test_flair_has_the_states_and_the_distributions_of_both_files(
    tmp_path, monkeypatch, protocol, as_zip, num_layers
):
    forward, backward = flair_pair(num_layers)
    for network, name in ((forward, "forward"), (backward, "backward")):
        file = write_flair(monkeypatch, tmp_path, network, name, protocol, as_zip)
    loaded = zoo.load(file)
    assert loaded.model.config.dropout == 0.25
    sentence = "the cat on a mözé ."
    text = "\n" + sentence + " "
    ids = loaded.tokenizer.encode(text).ids
    following, previous = loaded.model.apply({"params": loaded.params}, np.array([ids]))
    ours = [loaded.tokenizer.token_to_id(x) for x in LETTERS]
    states, logits = forward(text)
    assert relative(jax.nn.softmax(following[0])[:, ours], softmax(logits)) < TOLERANCE
    ours = [loaded.tokenizer.token_to_id(x) for x in backward.letters]
    _, logits = backward(text[::-1])
    assert relative(jax.nn.softmax(previous[0])[::-1][:, ours], softmax(logits)) < TOLERANCE
    back, _ = backward("\n" + sentence[::-1] + " ")
    after, before, vectors = 1, len(sentence) + 1, []
    for word in sentence.split(" "):
        after += len(word)
        vectors.append(np.concatenate([states[after], back[before]]))
        after, before = after + 1, before - 1 - len(word)
    assert relative(zoo.embed_words(loaded, sentence), np.stack(vectors)) < TOLERANCE


def softmax(logits):
    return torch.softmax(torch.from_numpy(logits), -1).numpy()


# fastai

V, D, H = 13, 6, 10


class AWDLSTM(torch.nn.Module):
    """The network in training, as its names are stored; `forward` has no dropout."""

    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Embedding(V, D)
        widths = (D, H, H, D)
        self.layers = torch.nn.ModuleList(torch.nn.LSTM(*pair) for pair in pairwise(widths))
        self.bias = torch.nn.Parameter(torch.zeros(V))

    def forward(self, ids):
        x = self.encoder(torch.tensor(ids))[:, None]
        for layer in self.layers:
            x, _ = layer(x)
        return x[:, 0].detach().numpy(), (x[:, 0] @ self.encoder.weight.T + self.bias).detach()


def fastai_state(network, of_2018=False):
    weight = network.encoder.weight
    copy = "encoder_with_dropout.embed" if of_2018 else "encoder_dp.emb"
    state = OrderedDict({"0.encoder.weight": weight, f"0.{copy}.weight": weight.clone()})
    for i, layer in enumerate(network.layers):
        raw = f"0.rnns.{i}.{'module.' if of_2018 else ''}weight_hh_l0_raw"
        state[raw] = layer.weight_hh_l0
        if not of_2018:  # as the last step of a training has left it
            state[f"0.rnns.{i}.module.weight_hh_l0"] = F.dropout(layer.weight_hh_l0, 0.5)
        for name in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0"):
            state[f"0.rnns.{i}.module.{name}"] = getattr(layer, name)
    state["1.decoder.weight"] = weight
    if not of_2018:
        state["1.decoder.bias"] = network.bias
    return OrderedDict((name, tensor.detach()) for name, tensor in state.items())


@pytest.mark.parametrize("of_2018", [False, True])
@pytest.mark.parametrize("with_optimizer", [False, True])
def test_fastai_has_the_states_and_the_distribution(tmp_path, monkeypatch, of_2018, with_optimizer):
    network = AWDLSTM()
    widen(network)
    if of_2018:
        network.bias.data.zero_()
    state = fastai_state(network, of_2018)
    hypers = instance(monkeypatch, "fastcore.foundation", "L")
    hypers.items = [{"lr": 0.1}]
    whole = {"model": state, "opt": {"state": [torch.ones(3)], "hypers": hypers}}
    file = tmp_path / "lm_fwd.pth"
    torch.save(whole if with_optimizer else state, file, _use_new_zipfile_serialization=not of_2018)
    monkeypatch.delitem(sys.modules, "fastcore.foundation")
    loaded, ids = zoo.load(file), np.random.default_rng(0).integers(0, V, 12)
    assert loaded.model.config.direction == "forward"
    states, logits = network(ids)
    trunk = awd_lstm.AWDLSTM(loaded.model.config)
    x_BLD, _ = trunk.apply({"params": loaded.params["trunk"]}, ids[None])
    assert relative(x_BLD[0], states) < TOLERANCE
    ours = loaded.model.apply({"params": loaded.params}, ids[None])[0]
    assert relative(jax.nn.softmax(ours), torch.softmax(logits, -1)) < TOLERANCE


# All three


def test_an_import_has_the_same_arrays_as_the_file(tmp_path, monkeypatch):
    network = AWDLSTM()
    widen(network)
    torch.save(fastai_state(network), tmp_path / "lm.pth")
    for network, name in zip(flair_pair(), ("forward", "backward"), strict=True):
        flair_file = write_flair(monkeypatch, tmp_path, network, name)
    for file in (tmp_path / "lm.pth", flair_file, write_elmo(tmp_path, elmo_arrays())):
        loaded = zoo.load(file)
        folder = tmp_path / type(loaded.model).__name__
        zoo.save(loaded, folder)
        again = zoo.load(folder)
        assert type(again.model) is type(loaded.model)
        assert again.model.config == loaded.model.config
        params = flatten(again.params)
        for path, array in flatten(loaded.params).items():
            np.testing.assert_array_equal(params[path], array)
        texts = [loaded.tokenizer and loaded.tokenizer.to_str() for loaded in (loaded, again)]
        assert texts[0] == texts[1]
