"""The one gradient step, and its sister that only looks.

Both are pure functions of their arguments. `across` adds up over replicas where the step is mapped
over them by hand (pmap); on a mesh the arrays are global, and a sum is a sum.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class State(NamedTuple):
    """What a run is made of: updates done, parameters, optimizer, what batches hand on."""

    step: jax.Array
    params: Any
    opt_state: Any
    carry: Any


def make_init(model, objective, optimizer, batch: int, seed: int):
    """() -> the State before the first step."""

    def init():
        params = model.init(jax.random.key(seed), jnp.zeros((1, 8), jnp.int32))["params"]
        carry = objective.carry(model, batch)
        return State(jnp.int32(0), params, optimizer.init(params), carry)

    return init


def make_step(
    model,
    objective,
    optimizer,
    schedule,
    *,
    seed,
    dtype,
    accumulate=1,
    across=lambda x: x,
    place=int,
):
    """(state, batch) -> (state, metrics): one update from one global batch.

    `accumulate` micro-batches are taken one after the other and their gradients added up in
    float32. `place()` is the number of the replica. The rate is that of the schedule at the updates
    done.
    """

    def step(state: State, batch):
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        batch = corrupt(objective, key, batch, place())
        weights = across(jax.tree.map(jnp.sum, batch["weights"]))
        key = jax.random.fold_in(key, place())

        def loss(params, micro_batch, carry, key):
            params = cast(params, dtype)
            terms, carry = objective.loss(model, params, micro_batch, carry, key, train=True)
            return total(objective, terms, weights), (terms, carry)

        def micro_step(gradient, inputs):
            found, aux = jax.grad(loss, has_aux=True)(state.params, *inputs)
            return jax.tree.map(jnp.add, gradient, found), aux

        if accumulate == 1:
            gradient, (terms, carry) = jax.grad(loss, has_aux=True)(
                state.params, batch, state.carry, key
            )
        else:
            zeros = jax.tree.map(jnp.zeros_like, state.params)
            keys = jax.random.split(key, accumulate)
            inputs = (cut(batch, accumulate), cut(state.carry, accumulate), keys)
            gradient, (terms, carry) = jax.lax.scan(micro_step, zeros, inputs)
            terms, carry = jax.tree.map(lambda x: x.sum(0), terms), join(carry)

        gradient, terms = across((gradient, terms))
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {
            "loss": total(objective, terms, weights),
            "gradient_norm": optax.tree.norm(gradient),
            "rate": schedule(state.step),
            **means(objective, terms, weights),
        }
        return State(state.step + 1, params, opt_state, carry), metrics

    return step


def make_evaluate(model, objective, *, dtype, across=lambda x: x, place=int):
    """(params, batch, carry, number) -> (sums, carry): the terms of one batch and their weights,
    added up.

    What is hidden depends on the number of the batch alone, so every evaluation asks the same.
    """

    def evaluate(params, batch, carry, number):
        key = jax.random.fold_in(jax.random.key(0), number)
        batch = corrupt(objective, key, batch, place())
        terms, carry = objective.loss(model, cast(params, dtype), batch, carry, key, train=False)
        return across((terms, jax.tree.map(jnp.sum, batch["weights"]))), carry

    return evaluate


def corrupt(objective, key, batch, place=0):
    """The objective's corruption of every row, each keyed by its place in the global batch."""
    count = len(next(iter(batch.values())))
    rows = place * count + jnp.arange(count)
    return jax.vmap(lambda row, example: objective.corrupt(jax.random.fold_in(key, row), example))(
        rows, batch
    )


def total(objective, terms, weights):
    """The loss: the mean of each term over its own weights, times its factor, added up."""
    return sum(
        objective.factors[name] * term.loss / jnp.maximum(weights[name], 1)
        for name, term in terms.items()
    )


def means(objective, terms, weights) -> dict:
    """The accuracy of each term, and its loss where several count."""
    found = {}
    for name, term in terms.items():
        count = jnp.maximum(weights[name], 1)
        if term.right is not None:
            found[f"{name}_accuracy"] = term.right / count
        if len(terms) > 1 and objective.factors[name]:
            found[f"{name}_loss"] = term.loss / count
    return found


def add_up(objective, evaluate, params, batches, carry) -> dict:
    """Loss and accuracies over all the batches of an evaluation, every example counted once."""
    sums = None
    for number in range(len(batches)):
        found, carry = evaluate(params, batches(number), carry, number)
        sums = found if sums is None else jax.tree.map(jnp.add, sums, found)
    terms, weights = jax.device_get(sums)
    found = {"loss": total(objective, terms, weights), **means(objective, terms, weights)}
    return {name: float(value) for name, value in found.items()}


def cast(params, dtype):
    """The parameters in the type to compute in; vectors stay float32, they cost nothing."""
    return jax.tree.map(lambda x: x.astype(dtype) if x.ndim > 1 else x, params)


def cut(batch, parts: int):
    """[B, ...] -> [parts, B / parts, ...], every part with rows of every device."""
    return jax.tree.map(
        lambda x: x.reshape(len(x) // parts, parts, *x.shape[1:]).swapaxes(0, 1), batch
    )


def join(parts):
    """The batch that was cut."""
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), parts)
