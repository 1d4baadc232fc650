"""Kernels of attention give what the plain form gives, results and gradients."""

import subprocess
import sys
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl

from tests import tiny
from zoo.layers import attention_kernel, fused_attention
from zoo.layers.attention import WeightedSum, attend
from zoo.layers.execution import Execution, run_as
from zoo.layers.fused_attention import Inputs
from zoo.layers.mask import Mask

B, H, L, K = 2, 4, 256, 16
# Two documents and padding, in another place of each row.
IDS_BL = np.ones((B, L), np.int32)
IDS_BL[0, 100:], IDS_BL[0, 230:], IDS_BL[1, 31:], IDS_BL[1, 250:] = 2, 0, 2, 0
MASKS = {
    "all": Mask.bidirectional(),
    "causal": Mask.causal(),
    "documents": Mask.bidirectional(IDS_BL),
    "causal-documents": Mask.causal(IDS_BL),
    "window": Mask.causal(window=200),
    "offset": Mask.cached(7, IDS_BL),
    "source": Mask.source(IDS_BL),
}
ON_TPU = Execution("tpu")
# Every model whose attention is a dot product; XLNet's has terms that no kernel takes.
MODELS = (
    *("transformer", "gpt", "gpt2", "gpt3", "gpt_neo", "bert", "roberta", "distilbert", "albert"),
    *("electra", "t5", "t5_v1_1"),
)


@pytest.fixture(autouse=True)
def _kernels_are_interpreted(monkeypatch):
    interpreted = partial(pl.pallas_call, interpret=True)
    monkeypatch.setattr(attention_kernel.pl, "pallas_call", interpreted)


def inputs(*, with_bias: bool = False) -> Inputs:
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v = (jax.random.normal(key, (B, H, L, K)) for key in keys[:3])
    return Inputs(q, k, v, jax.random.normal(keys[3], (H, L, L)) if with_bias else None)


def result_and_gradients(inputs, mask, *, dropout=0.0, execution=ON_TPU):
    """Return the attention, and the gradients of a loss that weighs every value differently."""
    weight = jnp.cos(jnp.arange(B * H * L * K, dtype=jnp.float32)).reshape(B, H, L, K)
    rngs = {"dropout": jax.random.key(3)}

    def loss(inputs):
        q, k, v, bias = inputs
        run = lambda module: attend(
            module, q, (k, v), mask, scale=K**-0.5, bias_HLM=bias, train=dropout > 0
        )
        with run_as(execution):
            x_BHLK = WeightedSum(dropout).apply({}, method=run, rngs=rngs)
        return (weight * x_BHLK).sum(), x_BHLK

    gradients, x_BHLK = jax.jit(jax.grad(loss, has_aux=True))(inputs)
    return x_BHLK, gradients


def assert_equal(inputs, mask, **settings):
    actual = result_and_gradients(inputs, mask, **settings)
    settings |= {"execution": Execution("cpu")}
    expected = result_and_gradients(inputs, mask, **settings)
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-5, atol=1e-5)
    compare = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4)
    jax.tree.map(compare, actual[1], expected[1])


@pytest.mark.parametrize("name", MASKS)
def test_the_tpu_kernel_equals_the_plain_form_for_every_mask(name):
    assert_equal(inputs(), MASKS[name])


def test_the_tpu_kernel_adds_biases_and_returns_their_gradient():
    assert_equal(inputs(with_bias=True), MASKS["causal-documents"])


@pytest.mark.parametrize("with_bias", [False, True])
def test_the_tpu_kernel_drops_the_same_weights(with_bias):
    assert_equal(inputs(with_bias=with_bias), MASKS["documents"], dropout=0.3)


def test_the_kernel_is_in_the_program_of_a_tpu_only():
    run = lambda execution: str(
        jax.make_jaxpr(lambda x: result_and_gradients(x, MASKS["causal"], execution=execution))(
            inputs()
        )
    )
    assert "pallas_call" in run(ON_TPU)
    assert "pallas_call" not in run(Execution("cpu"))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_equals_its_plain_form(name, monkeypatch):
    monkeypatch.setattr(attention_kernel, "LANES", 4)  # tiny models read 12 tokens
    row = tiny.TABLE[name]

    def loss(params, execution):
        with run_as(execution):
            output = row.model.apply({"params": params}, tiny.TOKENS, **row.more)
        return sum(jnp.sin(x).sum() for x in jax.tree.leaves(output)), output

    params = tiny.wide(row.model)
    run = lambda execution: jax.grad(lambda p: loss(p, execution), has_aux=True)
    assert "pallas_call" in str(jax.make_jaxpr(run(ON_TPU))(params))
    gradients, outputs = jax.jit(run(ON_TPU))(params)
    expected_gradients, expected = jax.jit(run(Execution("cpu")))(params)
    compare = lambda tolerance: (
        lambda x, y: np.testing.assert_allclose(
            x, y, rtol=tolerance, atol=tolerance * max(float(jnp.abs(y).max()), 1)
        )
    )
    jax.tree.map(compare(1e-5), outputs, expected)
    jax.tree.map(compare(1e-4), gradients, expected_gradients)


@pytest.mark.parametrize(
    ("length", "width", "kind", "is_taken"),
    [
        (1024, 64, "TPU v4", True),
        (8192, 128, "TPU v4", False),
        (8192, 128, "TPU v5 lite", True),
        (16384, 64, "TPU v5 lite", False),
        (1000, 64, "TPU v5 lite", False),
    ],
)
def test_the_kernel_takes_what_the_memory_on_the_chip_holds(length, width, kind, is_taken):
    x = jax.ShapeDtypeStruct((1, 1, length, width), jnp.bfloat16)
    assert attention_kernel.takes(attention_kernel.Inputs(x, x, x), kind) == is_taken


def test_the_kernel_runs_on_each_device_of_a_mesh_and_drops_the_same_weights():
    program = [sys.executable, "-m", "tests.fused_on_a_mesh"]
    lines = subprocess.run(program, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["mesh", "mesh", "mesh", "runs"]
    for line in lines:
        gradients_and_result = [float(x) for x in line.split()[1:]]
        assert len(gradients_and_result) == 5
        assert max(gradients_and_result) < 1e-4


@pytest.mark.parametrize("name", MASKS)
def test_the_gpu_form_equals_the_plain_form_for_every_mask(name):
    given, mask = inputs(), MASKS[name]
    scaled = Inputs(given.q_BHLK * K**-0.5, *given[1:])
    actual = fused_attention.on_gpu(scaled, mask, None, implementation="xla")
    expected, _ = result_and_gradients(given, mask, execution=Execution("cpu"))
    is_real = np.ones((B, 1, L, 1)) if name != "documents" else IDS_BL[:, None, :, None] > 0
    np.testing.assert_allclose(actual * is_real, expected * is_real, rtol=1e-5, atol=1e-5)


def test_a_gpu_without_cudnn_gets_the_plain_form_and_one_warning():
    half = Inputs(*(x.astype(jnp.bfloat16) for x in inputs()[:3]))
    with pytest.warns(UserWarning, match="attention runs without cuDNN"):
        assert fused_attention.on_gpu(half, MASKS["causal"], None) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fused_attention.on_gpu(half, MASKS["causal"], None) is None
