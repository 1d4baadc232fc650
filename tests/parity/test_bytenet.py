"""ByteNet against convolutions of PyTorch, wired by hand from figure 3 of the paper."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.wide import relative, widen
from zoo.models import bytenet, bytenet_translator
from zoo.params import abstract, flatten, unflatten

torch = pytest.importorskip("torch")
functional = torch.nn.functional

V, D, N, MAX_DILATION = 23, 16, 4, 4
TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4


class ChannelNorm(torch.nn.LayerNorm):
    """Layer norm over the channels of x, [B, channels, L]."""

    def forward(self, x):
        return super().forward(x.mT).mT


class Convolution(torch.nn.Conv1d):
    """A convolution, padded on the left only if it is causal."""

    def __init__(self, inputs, outputs, width=1, dilation=1, causal=True):
        super().__init__(inputs, outputs, width, dilation=dilation)
        reach = dilation * (width - 1)
        self.pad = (reach, 0) if causal else (reach // 2, reach // 2)

    def forward(self, x):
        return super().forward(functional.pad(x, self.pad))


class Unit(torch.nn.Module):
    """A multiplicative unit (Video Pixel Networks, equation 4)."""

    def __init__(self, inner, width, dilation):
        super().__init__()
        self.filters = Convolution(inner, 4 * inner, width, dilation)

    def forward(self, h):
        g1, g2, g3, u = self.filters(h).chunk(4, 1)
        mixed = g2.sigmoid() * h + g3.sigmoid() * u.tanh()
        return g1.sigmoid() * mixed.tanh()


def relu_block(dilation, causal):
    """Return the layers of figure 3, left, inside the residual connection."""
    inner = D // 2
    return torch.nn.Sequential(
        *(ChannelNorm(D), torch.nn.ReLU(), Convolution(D, inner)),
        *(ChannelNorm(inner), torch.nn.ReLU(), Convolution(inner, inner, 3, dilation, causal)),
        *(ChannelNorm(inner), torch.nn.ReLU(), Convolution(inner, D)),
    )


def multiplicative_block(dilation, causal):
    """Return the layers of figure 3, right, inside the residual connection."""
    inner = D // 2
    return torch.nn.Sequential(
        *(ChannelNorm(D), torch.nn.ReLU(), Convolution(D, inner)),
        *(ChannelNorm(inner), torch.nn.ReLU(), Unit(inner, 3, dilation), Unit(inner, 1, 1)),
        Convolution(inner, D),
    )


def stack(block, causal=True):
    dilations = [2 ** (number % 3) for number in range(N)]
    return torch.nn.ModuleList(block(dilation, causal) for dilation in dilations)


def run(blocks, x):
    for block in blocks:
        x = x + block(x)
    return x


class TheirLM(torch.nn.Module):
    def __init__(self, block):
        super().__init__()
        self.embedding = torch.nn.Embedding(V, D)
        self.blocks = stack(block)
        self.hidden, self.output = Convolution(D, D), Convolution(D, V)

    def forward(self, tokens_BL):
        x = run(self.blocks, self.embedding(tokens_BL).mT)
        return self.output(self.hidden(x).relu()).mT


class Theirs(torch.nn.Module):
    """A translator that runs one pair at a time, so that nothing is padded."""

    def __init__(self):
        super().__init__()
        self.source_embedding = torch.nn.Embedding(V, D)
        self.target_embedding = torch.nn.Embedding(V, D)
        self.encoder = stack(relu_block, causal=False)
        self.decoder = stack(relu_block)
        self.hidden, self.output = Convolution(D, D), Convolution(D, V)

    def forward(self, sources, targets):
        return torch.cat(
            [self.run(s[None], t[None]) for s, t in zip(sources, targets, strict=True)]
        )

    def run(self, source, target):
        unfolded, length = -(-6 * source.shape[1] // 5), target.shape[1]  # 1.2 times, rounded up
        x = self.source_embedding(source).mT
        x = run(self.encoder, functional.pad(x, (0, unfolded - source.shape[1])))
        x = functional.pad(x, (0, max(length - unfolded, 0)))[..., :length]
        x = run(self.decoder, x + self.target_embedding(target).mT)
        return self.output(self.hidden(x).relu()).mT


# Our names of the layers of a block -> their places in it.
RELU = {"norm": 0, "reduce": 2, "reduced_norm": 3, "convolution": 5, "output_norm": 6, "expand": 8}
MULTIPLICATIVE = {"norm": 0, "reduce": 2, "reduced_norm": 3, "expand": 7}
MULTIPLICATIVE |= {"convolution/filters": "5.filters", "gates": "6.filters"}
OTHERS = {"token_embedding": "embedding", "head": "output", "head/hidden": "hidden"}
LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}


def their_name(path: str, places: dict) -> str:
    """Return PyTorch's name of a parameter of ours."""
    layer, leaf = path.removeprefix("trunk/").rsplit("/", 1)
    in_block = re.fullmatch(r"(\w+)_(\d+)/(.+)", layer)
    if in_block:
        layer = f"{in_block[1]}.{in_block[2]}.{places[in_block[3]]}"
    layer = OTHERS.get(layer, layer)
    return f"{layer}.{LEAVES[leaf]}"


def converted(model, tensors: dict, places: dict) -> dict:
    """Return their tensors as our parameters, and check that all of them are used."""
    params, used = {}, set()
    for path, leaf in flatten(abstract(model)).items():
        name = their_name(path, places)
        used.add(name)
        array = tensors[name].T if path.endswith("kernel") else tensors[name]  # [K, in, out]
        params[path] = jnp.asarray(array.reshape(leaf.shape))
    assert used == set(tensors)
    return unflatten(params)


def compare(theirs, model, places, expected, *inputs):
    """Check logits on the given inputs, and the gradients of a function of them."""
    arrays = {name: p.detach().numpy() for name, p in theirs.named_parameters()}

    def loss(params):
        logits = model.apply({"params": params}, *inputs)
        return jnp.sin(logits).sum(), logits

    gradient, logits = jax.jit(jax.grad(loss, has_aux=True))(converted(model, arrays, places))
    assert relative(logits, expected.detach()) < TOLERANCE
    torch.sin(expected).sum().backward()
    gradients = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    expected_gradients = flatten(converted(model, gradients, places))
    for path, ours in flatten(gradient).items():
        assert relative(ours, expected_gradients[path]) < GRADIENT_TOLERANCE, path


@pytest.mark.parametrize(
    ("name", "block", "places"),
    [("multiplicative", multiplicative_block, MULTIPLICATIVE), ("relu", relu_block, RELU)],
)
def test_logits_and_gradients_of_a_language_model_are_equal(name, block, places):
    theirs = TheirLM(block)
    widen(theirs)
    sizes = {"vocab_size": V, "num_layers": N, "width": D, "max_dilation": MAX_DILATION}
    model = bytenet.ByteNetLM(bytenet.Config(**sizes, dropout=0.0, block=name))
    tokens_BL = np.random.default_rng(0).integers(0, V, (2, 20))
    compare(theirs, model, places, theirs(torch.from_numpy(tokens_BL)), tokens_BL)


def test_logits_and_gradients_of_a_translator_are_equal_on_padded_sources():
    theirs = Theirs()
    widen(theirs)
    sizes = {"vocab_size": V, "num_layers": N, "width": D, "max_dilation": MAX_DILATION}
    config = bytenet_translator.Config(**sizes, num_decoder_layers=N)
    random = np.random.default_rng(0)
    tokens_BL, document_ids_BL = random.integers(0, V, (3, 12)), np.zeros((3, 12), np.int32)
    targets_BT = random.integers(0, V, (3, 10))  # longer than two of the unfolded sources
    for row, real in enumerate((slice(2, 12), slice(0, 7), slice(11, 12))):
        document_ids_BL[row, real] = 1
    sources = [tokens_BL[row, document_ids_BL[row] > 0] for row in range(3)]
    expected = theirs(map(torch.from_numpy, sources), torch.from_numpy(targets_BT))
    model = bytenet_translator.ByteNetTranslator(config)
    compare(theirs, model, RELU, expected, tokens_BL, targets_BT, document_ids_BL)
