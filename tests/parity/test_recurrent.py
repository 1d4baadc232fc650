"""Recurrent language models and translators against loops over PyTorch modules."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.wide import relative, widen
from zoo.inference import generate
from zoo.models import bahdanau, luong, rnn, seq2seq
from zoo.params import abstract, flatten, unflatten

torch = pytest.importorskip("torch")

THEIRS = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}
V, E, D, R, N = 41, 12, 10, 7, 2
START, END = 0, 1
LENGTHS = [9, 6, 3]
TOLERANCE = 1e-5
# Our paths -> their names; the matrices of a cell are renamed by GATES.
NAMES = (
    (r"trunk/token_embedding/embedding", "encoder.weight"),
    (r"trunk/stack/layers_(\d)/", r"rnn.\1."),
    (r"trunk/source_embedding/embedding", "encoder.embedding.weight"),
    (r"trunk/target_embedding/embedding", "decoder.embedding.weight"),
    (r"trunk/(encoder|decoder)/(?:layers|forward)_(\d)/", r"\1.rnn.\2."),
    (r"trunk/encoder/backward_(\d)/", r"encoder.rnn.\1_reverse."),
    (r"trunk/decoder/(?=input|recurrent)", "decoder.rnn.0."),
    (r"trunk/look/scores/(\w+)/", r"decoder.attention.\1."),
    (r"trunk/(begin|combine|readout)/", r"decoder.\1."),
    (r"head/embedding", "decoder.output.weight"),
    (r"head/bias", "decoder.output.bias"),
)
GATES = {"input/kernel": "weight_ih", "input/bias": "bias_ih"}
GATES |= {"recurrent/kernel": "weight_hh", "recurrent/bias": "bias_hh"}


def name_of(path: str, language_model: bool) -> str:
    """Return PyTorch's name of a parameter of ours."""
    name = next(re.sub(old, new, path) for old, new in NAMES if re.match(old, path))
    layer = re.fullmatch(r"(.*rnn)\.(\w+)\.(.+)", name)
    if layer:
        return f"{layer[1]}.{GATES[layer[3]]}_l{layer[2]}"
    name = name.replace("kernel", "weight")
    return name.replace("decoder.output", "decoder") if language_model else name


def to_ours(shape, array):
    """Return an array of theirs in our layout: inputs first, and an axis for the gates."""
    if len(shape) == 3:
        return array.reshape(shape[1], shape[2], shape[0]).transpose(2, 0, 1)
    return array.reshape(shape)


def converted(model, tensors: dict, language_model: bool = False) -> dict:
    """Return their tensors as our parameters, and check that all of them are used."""
    shapes, used_names = flatten(abstract(model)), set()
    params = {}
    for path, leaf in shapes.items():
        name = name_of(path, language_model)
        used_names.add(name)
        array = np.asarray(tensors[name])
        transposed = path.endswith("kernel") and leaf.ndim == 2
        params[path] = jnp.asarray(array.T if transposed else to_ours(leaf.shape, array))
        assert params[path].shape == leaf.shape
    assert used_names == set(tensors)
    return unflatten(params)


def parameters(module) -> dict:
    return {name: p.detach().numpy() for name, p in module.named_parameters()}


class TheirLM(torch.nn.Module):
    """The word language model of PyTorch's examples."""

    def __init__(self, cell):
        super().__init__()
        self.encoder = torch.nn.Embedding(V, E)
        self.rnn = THEIRS[cell](E, D, N, batch_first=True)
        self.decoder = torch.nn.Linear(D, V)

    def forward(self, tokens):
        return self.decoder(self.rnn(self.encoder(tokens))[0])


@pytest.mark.parametrize("cell", THEIRS)
def test_a_language_model_and_its_steps_equal(cell):
    theirs = TheirLM(cell)
    widen(theirs)
    config = rnn.Config(vocab_size=V, num_layers=N, width=D, dropout=0.0, embed_width=E, cell=cell)
    model = rnn.RNNLM(config)
    params = {"params": converted(model, parameters(theirs), language_model=True)}
    tokens_BL = np.random.default_rng(0).integers(0, V, (3, 10))
    expected_BLV = jax.jit(lambda params: model.apply(params, tokens_BL))(params)
    expected = theirs(torch.from_numpy(tokens_BL)).detach()
    assert relative(expected_BLV, expected) < TOLERANCE

    document_ids_BL = (np.arange(10) > 2)[None] * np.ones((3, 1), np.int32)  # padded on the left
    padded_BL = np.concatenate([np.full((3, 3), 7), tokens_BL[:, :7]], 1)
    start = jax.jit(
        lambda params: model.apply(params, padded_BL, document_ids_BL, 4, method="start")
    )
    step = jax.jit(lambda params, *inputs: model.apply(params, *inputs, method="step"))
    logits_BV, states = start(params)
    assert relative(logits_BV, expected_BLV[:, 6]) < 1e-6
    for time in range(7, 10):
        logits_BV, states = step(params, tokens_BL[:, time], states)
        assert relative(logits_BV, expected_BLV[:, time]) < 1e-6


def linear(inputs, outputs, bias=False):
    return torch.nn.Linear(inputs, outputs, bias=bias)


class Side(torch.nn.Module):
    """An embedding table and a recurrent network."""

    def __init__(self, cell, inputs, layers, bidirectional=False):
        super().__init__()
        self.embedding = torch.nn.Embedding(V, E)
        self.rnn = THEIRS[cell](inputs, D, layers, batch_first=True, bidirectional=bidirectional)


class Theirs(torch.nn.Module):
    """A translator that runs one pair at a time, so that nothing is padded."""

    def forward(self, sources, targets):
        rows = [self.forward_pair(s[None], t[None]) for s, t in zip(sources, targets, strict=True)]
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
        activated = torch.tanh(attention.state(q)[:, None] + attention.source(keys))
        return attention.energy(activated)[..., 0]

    def attend(self, q, states):
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

    def forward_pair(self, source, target):
        _, state = self.encoder.rnn(self.encoder.embedding(source.flip(1)))
        return self.decoder.output(self.decoder.rnn(self.decoder.embedding(target), state)[0])


class TheirLuong(Theirs):
    def __init__(self, cell, kind):
        super().__init__()
        self.encoder, self.decoder = Side(cell, E, N), Side(cell, E + D, N)
        self.add_attention(kind, D)
        self.decoder.combine = linear(2 * D, D)
        self.decoder.output = linear(D, V, True)

    def forward_pair(self, source, target):
        states, state = self.encoder.rnn(self.encoder.embedding(source.flip(1)))
        states, fed, out = states.flip(1), torch.zeros(1, D), []
        for token in target[0]:
            inputs = torch.cat([self.decoder.embedding(token[None]), fed], -1)
            h, state = self.decoder.rnn(inputs[:, None], state)
            context = self.attend(h[:, 0], states)
            fed = torch.tanh(self.decoder.combine(torch.cat([context, h[:, 0]], -1)))
            out.append(self.decoder.output(fed))
        return torch.stack(out, 1)


class TheirBahdanau(Theirs):
    def __init__(self, cell, kind):
        super().__init__()
        self.encoder, self.decoder = Side(cell, E, N, bidirectional=True), Side(cell, E + 2 * D, 1)
        self.add_attention(kind, 2 * D)
        self.decoder.begin = linear(D, D, True)
        self.decoder.readout = linear(D + E + 2 * D, 2 * R, True)
        self.decoder.output = linear(R, V, True)

    def forward_pair(self, source, target):
        states, end = self.encoder.rnn(self.encoder.embedding(source))
        ends = end if isinstance(end, tuple) else (end,)
        s = torch.tanh(self.decoder.begin(ends[0][-1]))
        state, out = (s[None], *(x[-1:] for x in ends[1:])), []
        for token in target[0]:
            embedded, before = self.decoder.embedding(token[None]), state[0][0]
            context = self.attend(before, states)
            pairs = self.decoder.readout(torch.cat([before, embedded, context], -1))
            out.append(self.decoder.output(pairs.reshape(1, R, 2).max(-1).values))
            inputs = torch.cat([embedded, context], -1)[:, None]
            _, state = self.decoder.rnn(inputs, state if len(state) > 1 else state[0])
            state = state if isinstance(state, tuple) else (state,)
        return torch.stack(out, 1)


KINDS = [
    (seq2seq, lambda cell, _: TheirSeq2Seq(cell), {}, [(c, None) for c in THEIRS]),
    (luong, TheirLuong, {}, [*((c, "general") for c in THEIRS), ("lstm", "dot")]),
    (luong, TheirLuong, {}, [("gru", "scaled_dot"), ("lstm", "additive")]),
    (bahdanau, TheirBahdanau, {"readout_width": R}, [(c, "additive") for c in THEIRS]),
    (bahdanau, TheirBahdanau, {"readout_width": R}, [("gru", "general")]),
]
CASES = [(a, make, more, *case) for a, make, more, cases in KINDS for case in cases]


@pytest.fixture(
    params=CASES, ids=lambda c: f"{c[0].__name__.split('.')[-1]}-{c[3]}-{c[4]}", scope="module"
)
def pair(request):
    """Return their model, our model, and its parameters."""
    architecture, make, fields, cell, kind = request.param
    theirs = make(cell, kind)
    widen(theirs)
    sizes = {"vocab_size": V, "embed_width": E, "width": D, "num_layers": N, "dropout": 0.0}
    score = {} if kind is None else {"score": kind}
    config = architecture.Config(**sizes, **fields, **score, cell=cell, start=START)
    model = architecture.Model(config)
    return theirs, model, converted(model, parameters(theirs))


def inputs(seed=0):
    random = np.random.default_rng(seed)
    sources = [random.integers(2, V, length) for length in LENGTHS]
    tokens_BL, document_ids_BL = random.integers(2, V, (2, len(LENGTHS), max(LENGTHS)))
    for row, source in enumerate(sources):
        tokens_BL[row, : len(source)] = source
        document_ids_BL[row] = np.arange(max(LENGTHS)) < len(source)
    return sources, tokens_BL, document_ids_BL, random.integers(2, V, (len(LENGTHS), 5))


def test_logits_and_gradients_are_equal_on_padded_sources(pair):
    theirs, model, params = pair
    sources, tokens_BL, document_ids_BL, targets_BT = inputs()
    expected = theirs([torch.from_numpy(s) for s in sources], torch.from_numpy(targets_BT))

    def loss(params):
        logits_BTV = model.apply({"params": params}, tokens_BL, targets_BT, document_ids_BL)
        return jnp.sin(logits_BTV).sum(), logits_BTV

    gradient, logits_BTV = jax.jit(jax.grad(loss, has_aux=True))(params)
    assert relative(logits_BTV, expected.detach()) < TOLERANCE
    theirs.zero_grad()
    torch.sin(expected).sum().backward()
    gradients = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    expected_gradients = flatten(converted(model, gradients))
    for path, ours in flatten(gradient).items():
        assert relative(ours, expected_gradients[path]) < 1e-4, path


def test_greedy_tokens_are_those_of_a_loop(pair):
    theirs, model, params = pair
    sources, *_ = inputs()
    outputs = generate.generate_ids(
        model, params, [s.tolist() for s in sources], max_new_tokens=8, end=END, temperature=0
    )
    for source, ours in zip(sources, outputs, strict=True):
        tokens = [START]
        with torch.no_grad():
            while len(tokens) <= 8 and (len(tokens) == 1 or tokens[-1] != END):
                logits = theirs([torch.from_numpy(source)], [torch.tensor(tokens)])
                tokens.append(int(logits[0, -1].argmax()))
        assert ours == [token for token in tokens[1:] if token != END]
