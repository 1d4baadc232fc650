"""GPT-3 against PyTorch modules wired by hand, with a dense mask in place of chunks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.wide import relative, widen
from zoo.models import gpt3
from zoo.params import abstract, flatten, unflatten

torch = pytest.importorskip("torch")

TOLERANCE, GRADIENT = 1e-5, 1e-4
B, L = 3, 21
# Attention wider than the model, as in GPT-3 XL.
CONFIG = gpt3.Config(
    vocab_size=41,
    max_length=24,
    num_layers=4,
    num_heads=3,
    width=20,
    mlp_width=48,
    head_width=8,
    window=5,
)
PARTS = ("query", "key", "value")


class Block(torch.nn.Module):
    """A pre-norm block that attends where a mask is True."""

    def __init__(self):
        super().__init__()
        D, attention_width = CONFIG.width, CONFIG.num_heads * CONFIG.head_width
        self.attention_norm, self.mlp_norm = torch.nn.LayerNorm(D), torch.nn.LayerNorm(D)
        self.query, self.key, self.value = (torch.nn.Linear(D, attention_width) for _ in PARTS)
        self.output = torch.nn.Linear(attention_width, D)
        self.up = torch.nn.Linear(D, CONFIG.mlp_width)
        self.down = torch.nn.Linear(CONFIG.mlp_width, D)

    def forward(self, x, mask):
        normed = self.attention_norm(x)
        heads = lambda linear: linear(normed).unflatten(-1, (CONFIG.num_heads, -1)).transpose(1, 2)
        q, k, v = (heads(getattr(self, name)) for name in PARTS)
        score = q @ k.mT / CONFIG.head_width**0.5
        weight = score.masked_fill(~mask[:, None], -1e30).softmax(-1)
        x = x + self.output((weight @ v).transpose(1, 2).flatten(2))
        hidden = torch.nn.functional.gelu(self.up(self.mlp_norm(x)), approximate="tanh")
        return x + self.down(hidden)


class Reference(torch.nn.Module):
    """GPT-3: even blocks attend to all earlier tokens, odd ones to the last few."""

    def __init__(self):
        super().__init__()
        self.tokens = torch.nn.Embedding(CONFIG.vocab_size, CONFIG.width)
        self.positions = torch.nn.Embedding(CONFIG.max_length, CONFIG.width)
        self.blocks = torch.nn.ModuleList(Block() for _ in range(CONFIG.num_layers))
        self.norm = torch.nn.LayerNorm(CONFIG.width)

    def forward(self, tokens, positions, dense, banded):
        x = self.tokens(tokens) + self.positions(positions)
        for number, block in enumerate(self.blocks):
            x = block(x, banded if number % 2 else dense)
        return self.norm(x) @ self.tokens.weight.T


def name_of(path: str) -> str:
    """Return PyTorch's name of a parameter of ours."""
    name = path.removeprefix("trunk/").replace("blocks_", "blocks.").replace("/", ".")
    for ours, theirs in (
        (".attention.", "."),
        (".mlp.", "."),
        ("kernel", "weight"),
        ("scale", "weight"),
        ("token_embedding.embedding", "tokens.weight"),
        ("position_embedding.embedding", "positions.weight"),
    ):
        name = name.replace(ours, theirs)
    return name


def to_ours(path: str, shape: tuple[int, ...], array: np.ndarray) -> np.ndarray:
    """Return an array of theirs in our layout, inputs first."""
    return (array.T if path.endswith("kernel") else array).reshape(shape)


def documents() -> np.ndarray:
    """Return rows with two documents, with padding on the left, and full."""
    position_L = np.arange(L)
    return np.stack([1 + (position_L >= 9), position_L >= 4, np.ones(L, bool)]).astype(np.int32)


def test_outputs_and_gradients_equal_those_of_a_dense_mask():
    theirs = Reference()
    widen(theirs)
    with torch.no_grad():  # norms about 1, or attention is nearly uniform
        for name, parameter in theirs.named_parameters():
            if "norm.weight" in name:
                parameter += 1
    theirs = theirs.double()
    model = gpt3.GPT3LM(CONFIG)
    tensors = dict(theirs.named_parameters())
    shapes = {path: x.shape for path, x in flatten(abstract(model)).items()}
    assert sorted(map(name_of, shapes)) == sorted(tensors)
    params = {
        path: to_ours(path, shape, tensors[name_of(path)].detach().numpy()).astype(np.float32)
        for path, shape in shapes.items()
    }

    tokens_BL = np.random.default_rng(0).integers(0, CONFIG.vocab_size, (B, L))
    document_ids_BL, position_L = documents(), np.arange(L)
    first_BL = (document_ids_BL[:, :, None] == document_ids_BL[:, None]).argmax(-1)
    real_BL = document_ids_BL > 0
    same_BLL = document_ids_BL[:, :, None] == document_ids_BL[:, None]
    dense_BLL = same_BLL & real_BL[:, None] & (position_L <= position_L[:, None])
    banded_BLL = dense_BLL & (position_L > position_L[:, None] - CONFIG.window)
    weight_BLV = np.random.default_rng(1).normal(size=(B, L, CONFIG.vocab_size))
    weight_BLV *= real_BL[..., None]

    inputs = (tokens_BL, position_L - first_BL, dense_BLL, banded_BLL)
    expected = theirs(*map(torch.from_numpy, inputs))
    (torch.from_numpy(weight_BLV) * torch.sin(expected)).sum().backward()

    def loss(params):
        logits_BLV = model.apply({"params": params}, tokens_BL, document_ids_BL)
        return (weight_BLV * jnp.sin(logits_BLV)).sum(), logits_BLV

    (_, logits_BLV), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(unflatten(params))
    assert relative(logits_BLV[real_BL], expected.detach().numpy()[real_BL]) < TOLERANCE
    for path, array in flatten(gradient).items():
        if path.endswith("key/bias"):  # exactly zero: it shifts all logits of a query
            continue
        grad = to_ours(path, shapes[path], tensors[name_of(path)].grad.numpy())
        assert relative(array, grad) < GRADIENT, path
