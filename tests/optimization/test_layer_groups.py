import jax.numpy as jnp
import numpy as np
import optax

from train.optimization.layer_groups import discriminative
from train.optimization.weight_decay import undecayed
from train.recipes import ulmfit
from zoo.params import flatten, unflatten

PATTERNS = ("embedding", r"layers_(\d+)/", "")


def test_each_group_learns_slower_than_the_one_above_by_a_factor():
    params = {
        "embedding": jnp.zeros(2),
        "layers_0": {"kernel": jnp.zeros(2)},
        "layers_1": {"kernel": jnp.zeros(2)},
        "head": jnp.zeros(2),
    }
    optimizer = discriminative(optax.sgd(1.0), PATTERNS, 2.6)
    gradients = {
        "embedding": jnp.ones(2),
        "layers_0": {"kernel": jnp.ones(2)},
        "layers_1": {"kernel": jnp.ones(2)},
        "head": jnp.ones(2),
    }
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    np.testing.assert_allclose(updates["head"], -1)
    np.testing.assert_allclose(updates["layers_1"]["kernel"], -1 / 2.6, rtol=1e-6)
    np.testing.assert_allclose(updates["layers_0"]["kernel"], -1 / 2.6**2, rtol=1e-6)
    np.testing.assert_allclose(updates["embedding"], -1 / 2.6**3, rtol=1e-6)


def test_the_embeddings_of_ulmfit_learn_fastest_because_they_are_its_softmax():
    paths = ("head/bias", "trunk/layers_0/kernel", "trunk/layers_1/kernel", "trunk/token_embedding")
    params = unflatten(dict.fromkeys(paths, jnp.ones(2)))
    optimizer = ulmfit.optimizer(lambda step: 1.0, decay_mask=undecayed(()))
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    sizes = [float(-update[0]) for update in flatten(updates).values()]
    np.testing.assert_allclose(sizes, [1, 2.6**-2, 2.6**-1, 1], rtol=1e-6)
