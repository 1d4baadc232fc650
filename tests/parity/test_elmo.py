"""ELMo against the equations of the paper and of the released code, in NumPy."""

import re

import jax
import numpy as np
import pytest

from tests import tiny
from tests.wide import relative
from zoo.models import elmo
from zoo.params import flatten, unflatten
from zoo.tokenizers import word_bytes

CONFIG = elmo.Config(
    vocab_size=23,
    width=16,
    cell_width=20,
    embed_width=6,
    num_highway=2,
    filters=((1, 4), (2, 6), (3, 8)),
)
MODEL = elmo.ELMoLM(CONFIG)
SENTENCES = [
    ["The", "café", "of", "an", "internationalization", "zoo", "."],
    ["A", "word", "longer" * 9],  # which is cut
]
TOLERANCE = 1e-5

sigmoid = lambda x: 1 / (1 + np.exp(-x))


def params(scale):
    """Return wide parameters; a scale above 1 of gates and projections lets the clips act."""
    leaves = flatten(tiny.wide(MODEL))
    wider = r"layers_\d/(bias|projection_kernel)$"
    return unflatten({k: scale * x if re.search(wider, k) else x for k, x in leaves.items()})


def word_vector(p, row):
    """Return the vector of a word: filters at every place, the largest value, highways."""
    characters = p["embedding"]["embedding"][row]
    pooled = []
    for number, (width, _) in enumerate(CONFIG.filters):
        kernel = p[f"convolutions_{number}"]["kernel"]
        places = range(word_bytes.LENGTH - width + 1)
        at_places = [np.einsum("ki,kio->o", characters[t : t + width], kernel) for t in places]
        pooled.append(np.max(at_places, 0) + p[f"convolutions_{number}"]["bias"])
    x = np.maximum(np.concatenate(pooled), 0)
    for number in range(CONFIG.num_highway):
        highway = p[f"highways_{number}"]
        carry = sigmoid(x @ highway["carry_kernel"] + highway["carry_bias"])
        transformed = x @ highway["transform"]["kernel"] + highway["transform"]["bias"]
        x = carry * np.maximum(transformed, 0) + (1 - carry) * x
    return x @ p["projection"]["kernel"] + p["projection"]["bias"]


def lstm(p, inputs, clipped):
    """Return the outputs of one layer, and count in `clipped` what its clips change."""
    h, c = np.zeros(CONFIG.width // 2), np.zeros(CONFIG.cell_width)
    outputs = []
    for x in inputs:
        gates = np.einsum("e,egf->gf", x, p["input_kernel"])
        gates += np.einsum("e,egf->gf", h, p["recurrent_kernel"]) + p["bias"]
        i, j, f, o = gates
        c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(j)
        clipped["cell"] += (np.abs(c) > 3).sum()
        c = np.clip(c, -3, 3)
        h = (sigmoid(o) * np.tanh(c)) @ p["projection_kernel"]
        clipped["projection"] += (np.abs(h) > 3).sum()
        h = np.clip(h, -3, 3)
        outputs.append(h)
    return outputs


def direction(p, inputs, clipped):
    first = lstm(p["layers_0"], inputs, clipped)
    second = lstm(p["layers_1"], first, clipped)
    return first, [x + y for x, y in zip(first, second, strict=True)]


def expected_layers(p, rows, clipped):
    """Return the three layers of one sentence, [L, width] each."""
    vectors = [word_vector(p["characters"], row) for row in rows]
    forward = direction(p["forward"], vectors, clipped)
    backward = [layer[::-1] for layer in direction(p["backward"], vectors[::-1], clipped)]
    pairs = [(vectors, vectors), *zip(forward, backward, strict=True)]
    return [np.concatenate([left, right], 1) for left, right in pairs]


def as_float64(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


@pytest.mark.filterwarnings("ignore:.* more than 48 bytes")
@pytest.mark.parametrize("scale", [1, 12])
def test_from_words_to_layers_and_logits(scale):
    tree = params(scale)
    spelled = [MODEL.spell(None, words) for words in SENTENCES]
    longest = max(len(rows) for rows, _ in spelled)
    characters_BLC = np.zeros((2, longest, word_bytes.LENGTH), np.int32)
    document_ids_BL = np.zeros((2, longest), np.int32)
    for number, (rows, _) in enumerate(spelled):
        characters_BLC[number, : len(rows)], document_ids_BL[number, : len(rows)] = rows, 1
    inputs = characters_BLC, document_ids_BL
    trunk = {"params": tree["trunk"]}
    layers = jax.jit(lambda: elmo.ELMo(CONFIG).apply(trunk, *inputs, method="layers"))()
    following, previous = jax.jit(lambda: MODEL.apply({"params": tree}, *inputs))()
    p, clipped, E = as_float64(tree), {"cell": 0, "projection": 0}, CONFIG.width // 2
    for number, (rows, positions) in enumerate(spelled):
        assert len(positions) == len(SENTENCES[number])
        expected = expected_layers(p["trunk"], rows, clipped)
        for actual, own in zip(layers, expected, strict=True):
            assert relative(actual[number, : len(rows)], own) < TOLERANCE
        top, table, bias = expected[-1], p["head"]["embedding"], p["head"]["bias"]
        assert relative(following[number, : len(rows)], top[:, :E] @ table.T + bias) < TOLERANCE
        assert relative(previous[number, : len(rows)], top[:, E:] @ table.T + bias) < TOLERANCE
    assert (scale > 1) == (clipped["projection"] > 0) == (clipped["cell"] > 0)
