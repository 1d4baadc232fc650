"""WaveNet against convolutions of PyTorch, wired by hand from figures 3 and 4 of the paper."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.wide import relative, widen
from zoo.models import wavenet
from zoo.params import abstract, flatten, unflatten

torch = pytest.importorskip("torch")
functional = torch.nn.functional

V, D, G, O, N, MAX_DILATION = 23, 12, 10, 14, 5, 4
TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4


def causal(convolution, x):
    """Return a convolution of x, [B, channels, L], that is padded on the left only."""
    reach = convolution.dilation[0] * (convolution.kernel_size[0] - 1)
    return convolution(functional.pad(x, (reach, 0)))


class Theirs(torch.nn.Module):
    """One-hot vectors, a causal filter, gated blocks, and two layers on the sum of their skips."""

    def __init__(self):
        super().__init__()
        convolution, modules = torch.nn.Conv1d, torch.nn.ModuleList
        dilated = lambda: modules(convolution(D, G, 2, dilation=2 ** (i % 3)) for i in range(N))
        self.first = convolution(V, D, 2, bias=False)
        self.filters, self.gates = dilated(), dilated()
        self.residuals = modules(convolution(G, D, 1) for _ in range(N - 1))
        self.skips = modules(convolution(G, O, 1) for _ in range(N))
        self.hidden, self.output = convolution(O, O, 1), convolution(O, V, 1)

    def forward(self, tokens):
        x, total = causal(self.first, functional.one_hot(tokens, V).float().mT), 0
        for i in range(N):
            z = torch.tanh(causal(self.filters[i], x)) * torch.sigmoid(causal(self.gates[i], x))
            total = total + self.skips[i](z)
            if i < N - 1:
                x = x + self.residuals[i](z)
        return self.output(torch.relu(self.hidden(torch.relu(total)))).mT


def to_ours(model, tensors: dict) -> dict:
    """Return their tensors as our parameters, and check that all of them are used."""
    unused = dict(tensors)

    def take(path):
        block = re.match(r"trunk/blocks_(\d)/(\w+)/(\w+)", path)
        if path == "trunk/previous_embedding/embedding":
            return tensors["first.weight"][:, :, 0].T
        if path == "trunk/token_embedding/embedding":
            return unused.pop("first.weight")[:, :, 1].T
        if block and block[2] == "gates":
            name = f"{block[1]}.{block[3].replace('kernel', 'weight')}"
            halves = [unused.pop(f"{kind}.{name}") for kind in ("filters", "gates")]
            return np.concatenate([half.T for half in halves], -1)
        if block:
            array = unused.pop(f"{block[2]}s.{block[1]}.{block[3].replace('kernel', 'weight')}")
        else:
            name = path.replace("head/embedding", "output/weight").replace("kernel", "weight")
            name = "output/bias" if name == "head/bias" else name.removeprefix("head/")
            array = unused.pop(name.replace("/", "."))
        array = array[..., 0] if array.ndim == 3 else array
        return array.T if path.endswith("kernel") else array

    ours = {path: jnp.asarray(take(path)) for path in flatten(abstract(model))}
    assert not unused
    return unflatten(ours)


def test_logits_and_gradients_equal():
    theirs = Theirs()
    widen(theirs)
    config = wavenet.Config(
        vocab_size=V,
        num_layers=N,
        width=D,
        gate_width=G,
        skip_width=O,
        max_dilation=MAX_DILATION,
    )
    model = wavenet.WaveNetLM(config)
    tokens_BL = np.random.default_rng(0).integers(0, V, (3, 20))
    expected = theirs(torch.from_numpy(tokens_BL))
    torch.sin(expected).sum().backward()
    numpy = lambda attribute: {name: attribute(p).numpy() for name, p in theirs.named_parameters()}
    params = to_ours(model, numpy(lambda p: p.detach()))
    expected_gradient = flatten(to_ours(model, numpy(lambda p: p.grad)))

    def loss(params):
        logits_BLV = model.apply({"params": params}, tokens_BL)
        return jnp.sin(logits_BLV).sum(), logits_BLV

    gradient, logits_BLV = jax.jit(jax.grad(loss, has_aux=True))(params)
    assert relative(logits_BLV, expected.detach()) < TOLERANCE
    for path, ours in flatten(gradient).items():
        assert relative(ours, expected_gradient[path]) < GRADIENT_TOLERANCE, path
