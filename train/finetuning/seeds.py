"""Several runs of one fine-tuning as one program: each has its own seed, all share what is frozen.

S runs, N rows, B rows a batch, L length.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from train.devices import placement
from train.finetuning.tasks.task import PADDING, Made, Task
from train.objectives.cross_entropy import cross_entropy
from zoo.inference.batching import batches, pad
from zoo.layers.embedding import Scores
from zoo.params import flatten, unflatten


class Learner(NamedTuple):
    """A model as it learns: flat parameters, those of each run [S, ...] and those that all share.

    What learns is each run's own, and nothing else is.
    """

    model: Any
    own: dict[str, jax.Array]
    shared: dict[str, jax.Array]

    def params(self, run: int) -> dict:
        """The parameters of one run."""
        return unflatten(self.shared | {path: x[run] for path, x in self.own.items()})


def room(model, params, rows: int, length: int) -> int:
    """How many runs a device has memory for, at least 1.

    A run takes its weights, their gradient and two moments, all in float32, and for each layer and
    token what the backward pass needs, 2 (34 D + 5 H L) bytes (Korthikanti et al. 2022, equation
    1, https://arxiv.org/abs/2205.05198).
    """
    c = model.config
    a_token = c.num_layers * 2 * (34 * c.width + 5 * getattr(c, "num_heads", 0) * length)
    run = 16 * sum(x.size for x in jax.tree.leaves(params)) + rows * length * a_token
    return max(1, int(placement.memory() // run))


def begin(model, params, new: Sequence[str], seeds: Sequence[int]) -> Learner:
    """Runs that share all but what is new, which each draws from its seed."""
    drawn = [
        flatten(model.init(jax.random.key(s), jnp.zeros((1, 8), jnp.int32))["params"])
        for s in seeds
    ]
    own = {path: jnp.stack([each[path] for each in drawn]) for path in new}
    return Learner(model, own, {p: x for p, x in flatten(params).items() if p not in own})


def opened(learner: Learner, trained: Sequence[str], runs: int) -> Learner:
    """The learner whose runs have their own of all that is trained from now on."""
    spread = {
        path: jnp.broadcast_to(x, (runs, *x.shape))
        for path, x in learner.shared.items()
        if path in set(trained)
    }
    shared = {path: x for path, x in learner.shared.items() if path not in spread}
    return learner._replace(own=learner.own | spread, shared=shared)


def table(task: Task, rows: Sequence[Made], longest: int) -> dict[str, np.ndarray]:
    """All rows as arrays [N + 1, ...], of which the last is empty."""
    padded = pad([each.row for each in rows], len(rows) + 1, longest)
    if isinstance(rows[0].target, list):
        targets = np.full((len(rows) + 1, longest), PADDING, np.int32)
        for number, each in enumerate(rows):
            targets[number, : len(each.target)] = each.target
    else:
        targets = np.array([each.target for each in rows] + [rows[0].target])
        targets = targets.astype(np.int32 if targets.dtype.kind == "i" else np.float32)
    return padded._asdict() | {"targets": targets}


def features(learner: Learner, rows: Sequence[Made], longest: int, a_batch: int = 64) -> np.ndarray:
    """What the frozen trunk makes of all rows, [N + 1, D] or [N + 1, L, D], without dropout."""
    read = jax.jit(partial(learner.model.apply, method="features"))
    params, found = {"params": learner.params(0)}, None
    for places, batch in batches([each.row for each in rows], a_batch, longest):
        said = np.asarray(read(params, *batch))[: len(places)]
        if found is None:
            found = np.zeros((len(rows) + 1, *((longest,) * (said.ndim - 2)), said.shape[-1]))
            found = found.astype(np.float32)
        if said.ndim == 3:
            found[places, : said.shape[1]] = said
        else:
            found[places] = said
    return found


def take(arrays: dict, length: int, numbers: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of these numbers, [S, B, ...], cut to a length where they have one.

    Features of a whole text are [N, D], and D may be what the longest row has.
    """
    longest = arrays["tokens"].shape[1]
    by_token = lambda name, x: x.ndim > 1 + (name == "features") and x.shape[1] == longest
    return {
        name: (x[:, :length] if by_token(name, x) else x)[numbers] for name, x in arrays.items()
    }


def make_step(model, task: Task, optimizer, auxiliary: float = 0.0):
    """(own, opt_state, batch, seeds_S, shared, step) -> (own, opt_state, loss_S): one update of
    every run.
    """

    def loss(own, shared, batch, key):
        variables, rngs = {"params": unflatten(shared | own)}, {"dropout": key}
        apply = partial(model.apply, variables, train=True, rngs=rngs)
        more = 0.0
        if "features" in batch:
            said = apply(batch["features"], method="head")
        elif auxiliary:
            said, words = task.ask(model, partial(apply, method="with_words"), batch)
            more = auxiliary * _next_words(words, batch["tokens"], batch["documents"])
        else:
            said = task.ask(model, apply, batch)
        total, weight = task.loss(said, batch["targets"], batch["documents"])
        return total / jnp.maximum(weight, 1) + more

    def update(own, opt_state, batch, seed, shared, step):
        key = jax.random.fold_in(jax.random.key(seed), step)
        found, gradient = jax.value_and_grad(loss)(own, shared, batch, key)
        updates, opt_state = optimizer.update(gradient, opt_state, own)
        return optax.apply_updates(own, updates), opt_state, found

    every_run = jax.vmap(update, in_axes=(0, 0, 0, 0, None, None))
    return jax.jit(every_run, donate_argnums=(0, 1))


def _next_words(words: Scores, tokens_BL, documents_BL):
    """The mean loss of the next word (Radford et al. 2018, section 3.2)."""
    weights_BL = jnp.float32(documents_BL[:, 1:] > 0)
    words = words._replace(x_BLD=words.x_BLD[:, :-1])
    return cross_entropy(words, tokens_BL[:, 1:], weights_BL).loss / weights_BL.sum()
