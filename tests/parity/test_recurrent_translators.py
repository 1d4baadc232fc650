"""Sequence to sequence, Bahdanau's and Luong's attention against loops over PyTorch's parts."""

import json

import jax
import numpy as np
import pytest

import zoo
from tests.wide import relative, widen
from zoo.formats import huggingface
from zoo.inference import generate
from zoo.models import bahdanau, luong, seq2seq
from zoo.params import flatten

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

THEIRS = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}
V, E, D, R, N = 41, 12, 10, 7, 2
START, END = 0, 1
LENGTHS = [9, 6, 3]
TOLERANCE = 1e-5


def linear(inputs, outputs, bias=False):
    return torch.nn.Linear(inputs, outputs, bias=bias)


class Side(torch.nn.Module):
    """A table and a recurrent network."""

    def __init__(self, cell, inputs, layers, both=False):
        super().__init__()
        self.embedding = torch.nn.Embedding(V, E)
        self.rnn = THEIRS[cell](inputs, D, layers, batch_first=True, bidirectional=both)


class Theirs(torch.nn.Module):
    """One pair at a time, so that nothing is padded."""

    def forward(self, sources, targets):
        rows = [self.one(s[None], t[None]) for s, t in zip(sources, targets, strict=True)]
        return torch.cat(rows)

    def score(self, q, keys):
        """q: [1, D], keys: [1, M, E] -> [1, M]"""
        attention = self.decoder.attention if hasattr(self.decoder, "attention") else None
        if self.kind == "dot":
            return torch.einsum("bd,bmd->bm", q, keys)
        if self.kind == "scaled_dot":
            return torch.einsum("bd,bmd->bm", q, keys) / D**0.5
        if self.kind == "general":
            return torch.einsum("bd,bmd->bm", q, attention.source(keys))
        bent = torch.tanh(attention.state(q)[:, None] + attention.source(keys))
        return attention.energy(bent)[..., 0]

    def look(self, q, states):
        return torch.einsum("bm,bme->be", self.score(q, states).softmax(-1), states)

    def add_attention(self, kind, source):
        self.kind = kind
        parts = {}
        if kind in ("general", "additive"):
            parts["source"] = linear(source, D)
        if kind == "additive":
            parts |= {"state": linear(D, D), "energy": linear(D, 1)}
        if parts:
            self.decoder.attention = torch.nn.ModuleDict(parts)


class TheirSeq2Seq(Theirs):
    def __init__(self, cell):
        super().__init__()
        self.encoder, self.decoder = Side(cell, E, N), Side(cell, E, N)
        self.decoder.output = linear(D, V, True)

    def one(self, source, target):
        _, state = self.encoder.rnn(self.encoder.embedding(source.flip(1)))
        return self.decoder.output(self.decoder.rnn(self.decoder.embedding(target), state)[0])


class TheirLuong(Theirs):
    def __init__(self, cell, kind):
        super().__init__()
        self.encoder, self.decoder = Side(cell, E, N), Side(cell, E + D, N)
        self.add_attention(kind, D)
        self.decoder.combine = linear(2 * D, D)
        self.decoder.output = linear(D, V, True)

    def one(self, source, target):
        states, state = self.encoder.rnn(self.encoder.embedding(source.flip(1)))
        states, fed, out = states.flip(1), torch.zeros(1, D), []
        for word in target[0]:
            inputs = torch.cat([self.decoder.embedding(word[None]), fed], -1)
            h, state = self.decoder.rnn(inputs[:, None], state)
            context = self.look(h[:, 0], states)
            fed = torch.tanh(self.decoder.combine(torch.cat([context, h[:, 0]], -1)))
            out.append(self.decoder.output(fed))
        return torch.stack(out, 1)


class TheirBahdanau(Theirs):
    def __init__(self, cell, kind):
        super().__init__()
        self.encoder, self.decoder = Side(cell, E, N, both=True), Side(cell, E + 2 * D, 1)
        self.add_attention(kind, 2 * D)
        self.decoder.begin = linear(D, D, True)
        self.decoder.readout = linear(D + E + 2 * D, 2 * R, True)
        self.decoder.output = linear(R, V, True)

    def one(self, source, target):
        states, end = self.encoder.rnn(self.encoder.embedding(source))
        ends = end if isinstance(end, tuple) else (end,)
        s = torch.tanh(self.decoder.begin(ends[0][-1]))
        state, out = (s[None], *(x[-1:] for x in ends[1:])), []
        for word in target[0]:
            y, before = self.decoder.embedding(word[None]), state[0][0]
            context = self.look(before, states)
            pairs = self.decoder.readout(torch.cat([before, y, context], -1))
            out.append(self.decoder.output(pairs.reshape(1, R, 2).max(-1).values))
            inputs = torch.cat([y, context], -1)[:, None]
            _, state = self.decoder.rnn(inputs, state if len(state) > 1 else state[0])
            state = state if isinstance(state, tuple) else (state,)
        return torch.stack(out, 1)


SIZES = {"vocab_size": V, "embedding_size": E, "hidden_size": D, "num_layers": N}
SIZES |= {"decoder_start_token_id": START}
KINDS = [
    (seq2seq, lambda cell, _: TheirSeq2Seq(cell), {}, [(c, None) for c in THEIRS]),
    (luong, TheirLuong, {}, [*((c, "general") for c in THEIRS), ("lstm", "dot")]),
    (luong, TheirLuong, {}, [("gru", "scaled_dot"), ("lstm", "additive")]),
    (bahdanau, TheirBahdanau, {"readout_size": R}, [(c, "additive") for c in THEIRS]),
    (bahdanau, TheirBahdanau, {"readout_size": R}, [("gru", "general")]),
]
CASES = [(a, make, more, *case) for a, make, more, cases in KINDS for case in cases]


@pytest.fixture(params=CASES, ids=lambda c: f"{c[0].__name__[4:]}-{c[3]}-{c[4]}", scope="module")
def pair(request, tmp_path_factory):
    architecture, make, more, cell, kind = request.param
    theirs, folder = make(cell, kind), tmp_path_factory.mktemp("published")
    widen(theirs)
    safetensors.save_file(theirs.state_dict(), folder / "model.safetensors")
    name = architecture.published(architecture.Config())["model_type"]
    fields = SIZES | more | {"model_type": name, "mode": cell, "score": kind}
    (folder / "config.json").write_text(json.dumps(fields))
    return architecture, theirs, folder


def inputs(seed=0):
    draw = np.random.default_rng(seed)
    sources = [draw.integers(2, V, length) for length in LENGTHS]
    tokens_BL, documents_BL = draw.integers(2, V, (2, len(LENGTHS), max(LENGTHS)))
    for row, source in enumerate(sources):
        tokens_BL[row, : len(source)] = source
        documents_BL[row] = np.arange(max(LENGTHS)) < len(source)
    return sources, tokens_BL, documents_BL, draw.integers(2, V, (len(LENGTHS), 5))


def test_logits_and_gradients_are_equal_on_padded_sources(pair):
    architecture, theirs, folder = pair
    model, params, _ = zoo.load(folder)
    sources, tokens_BL, documents_BL, targets_BT = inputs()
    expected = theirs([torch.from_numpy(s) for s in sources], torch.from_numpy(targets_BT))
    logits = lambda p: model.apply({"params": p}, tokens_BL, targets_BT, documents_BL)
    assert relative(logits(params), expected.detach()) < TOLERANCE

    gradient = jax.grad(lambda p: (jax.numpy.sin(logits(p))).sum())(params)
    theirs.zero_grad()
    torch.sin(expected).sum().backward()
    published = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    for path, ours in flatten(gradient).items():
        name, layout = huggingface._row(architecture.WEIGHTS, path)
        assert relative(huggingface._to_theirs(layout, np.asarray(ours)), published[name]) < 1e-4


def test_greedy_words_are_those_of_a_loop(pair):
    _, theirs, folder = pair
    model, params, _ = zoo.load(folder)
    sources, *_ = inputs()
    found = generate.generate(
        model, params, [s.tolist() for s in sources], length=8, end=END, temperature=0
    )
    for source, ours in zip(sources, found, strict=True):
        words = [START]
        with torch.no_grad():
            while len(words) <= 8 and (len(words) == 1 or words[-1] != END):
                logits = theirs([torch.from_numpy(source)], [torch.tensor(words)])
                words.append(int(logits[0, -1].argmax()))
        assert ours == [word for word in words[1:] if word != END]


def test_what_is_written_is_what_was_read(pair, tmp_path):
    architecture, theirs, folder = pair
    model, params, _ = zoo.load(folder)
    huggingface.write(tmp_path, architecture, model.config, params)
    again = safetensors.load_file(tmp_path / "model.safetensors")
    assert again.keys() == theirs.state_dict().keys()
    assert all(torch.equal(again[name], value) for name, value in theirs.state_dict().items())
