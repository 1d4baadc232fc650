"""FLOP and memory are read off a traced program."""

import jax
import jax.numpy as jnp
import pytest

from train.planning import programs


def traced(function, *shapes):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.make_jaxpr(function)(*arguments).jaxpr


def test_a_product_has_two_flop_per_multiply_add():
    assert programs.matrix_flops(traced(jnp.dot, (3, 5), (5, 7))) == 2 * 3 * 5 * 7
    batched = lambda x, y: jnp.einsum("bij,bjk->bik", x, y)
    assert programs.matrix_flops(traced(batched, (4, 3, 5), (4, 5, 7))) == 4 * 2 * 3 * 5 * 7


def test_a_convolution_counts_its_kernel_at_every_output():
    convolve = lambda x, k: jax.lax.conv_general_dilated(
        x, k, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
    )
    assert programs.matrix_flops(traced(convolve, (2, 9, 5), (3, 5, 7))) == 2 * (2 * 9 * 7) * 3 * 5


def test_the_body_of_a_scan_counts_as_often_as_it_runs():
    scan = lambda x, ws: jax.lax.scan(lambda x, w: (x @ w, None), x, ws)[0]
    assert programs.matrix_flops(traced(scan, (3, 5), (6, 5, 5))) == 6 * 2 * 3 * 5 * 5


def test_one_branch_of_a_conditional_counts():
    branch = lambda x, w: jax.lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: x @ w @ w)
    assert programs.matrix_flops(traced(branch, (3, 5), (5, 5))) == 2 * (2 * 3 * 5 * 5)


def test_a_gradient_has_two_products_for_each_of_the_forward_pass():
    loss = lambda w, x: jnp.tanh(x @ w[0]) @ w[1]
    gradient = jax.grad(lambda w, x: loss(w, x).sum())
    weights = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((5, 7), (7, 11))]
    x = jax.ShapeDtypeStruct((3, 5), jnp.float32)
    program = jax.make_jaxpr(gradient)(weights, x).jaxpr
    forward_and_weights = 2 * 2 * 3 * (5 * 7 + 7 * 11)
    inner_gradient = 2 * 3 * 7 * 11  # the first layer's input needs none
    assert programs.matrix_flops(program) == forward_and_weights + inner_gradient


def test_values_are_kept_from_where_they_are_computed_to_their_last_use():
    def two_layers(x, w):
        kept = x @ w
        return (kept @ w) @ kept

    # kept and kept @ w are in memory at once; the result is an output.
    assert programs.peak_bytes(traced(two_layers, (8, 8), (8, 8))) == 2 * 4 * 8 * 8


def test_elementwise_results_take_no_memory():
    chain = lambda x, w: jnp.exp(jnp.tanh(x @ w) * 2) @ w
    assert programs.peak_bytes(traced(chain, (8, 8), (8, 8))) == 4 * 8 * 8


def test_calls_are_the_same_as_their_bodies():
    inner = lambda x, w: jnp.tanh(x @ w) @ w
    twice = lambda f: lambda x, w: f(f(x, w), w)
    plain, called = (traced(twice(f), (8, 8), (8, 8)) for f in (inner, jax.jit(inner)))
    assert programs.peak_bytes(called) == programs.peak_bytes(plain) > 0
    assert programs.matrix_flops(called) == programs.matrix_flops(plain)


@pytest.mark.parametrize("length", [4, 16])
def test_what_a_loop_passes_to_its_backward_pass_is_counted(length):
    scan = lambda x, w: jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, None, length)[0].sum()
    program = traced(jax.grad(scan, 1), (8, 8), (8, 8))
    assert programs.peak_bytes(program) >= length * 4 * 8 * 8
