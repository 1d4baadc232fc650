# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Transfer, the way of fast.ai: freeze, train the head, unfreeze
#
# The first layers of a deep network see what any picture has, the last ones what its task asks
# for. So a network that has learned one task can begin another with all but its head. ResNet-34
# (He et al. 2015) learns to read the digits 0 to 4 here, and is then given fifty examples of 5 to
# 9. The digits come with scikit-learn.

# %%
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import zoo
from train.finetuning import unfreezing
from zoo.models import resnet
from zoo.params import flatten, unflatten

SIZE = os.environ.get("ZOO_SIZE", "resnet-34")  # 17 minutes of CPU time; resnet-tiny: two
print("jax", jax.__version__, "zoo", zoo.__version__)

# %% [markdown]
# ## Two tasks
#
# Each digit is 8 x 8 grey pixels, enlarged to 32 x 32 since the last stage has a 32nd of the rows.

# %%
digits = load_digits()
pixels = jax.image.resize(
    digits.images[..., None] / 8 - 1, (len(digits.images), 32, 32, 1), "linear"
)
pixels = np.asarray(pixels, np.float32)
order = np.random.default_rng(0).permutation(len(pixels))
old = [i for i in order if digits.target[i] < 5]
new = [i for i in order if digits.target[i] >= 5]
few, rest = new[:50], new[50:350]

# %% [markdown]
# ## Training, stage by stage
#
# An unfreezing strategy is a list of stages, each so many epochs of training for the groups from
# some number on. What is frozen is no argument of the differentiated loss, so it has no gradient,
# no backward pass, and stays as it is to the bit. The rate goes in one cycle in every stage, and
# may grow from group to group: fast.ai's `slice(1e-5, 1e-3)` is "1e-5:1e-3".


# %%
def batches(places, epochs, size=25):
    draw = np.random.default_rng(1)
    for _ in range(round(epochs)):
        places = draw.permutation(places)
        yield from (places[i : i + size] for i in range(0, len(places) - size + 1, size))


def make_step(model, optimizer, train):
    @jax.jit
    def step(own, opt_state, shared, x, y):
        def loss(own):
            variables = {"params": unflatten(shared | own)}
            logits, seen = model.apply(variables, x, train=train, mutable="statistics")
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), seen

        gradient, seen = jax.grad(loss, has_aux=True)(own)
        updates, opt_state = optimizer.update(gradient, opt_state, own)
        return optax.apply_updates(own, updates) | flatten(seen.get("statistics", {})), opt_state

    return step


def learn(model, params, places, first_class, unfreeze, learning_rate, epochs, held_out=None):
    """Parameters after all stages, and the accuracy on held-out digits after every epoch.

    Where everything learns, batch normalisation goes by the batch and remembers it; else it stays.
    """
    flat, curve = flatten(params), []
    groups = unfreezing.groups(flat, resnet.GROUPS)
    rates = unfreezing.learning_rates(learning_rate, len(groups))
    rates_of = {path: r for group, r in zip(groups, rates, strict=True) for path in group}
    an_epoch = len(places) // 25
    for stage in unfreezing.STRATEGIES[unfreeze](len(groups), epochs):
        own = {path: flat[path] for group in groups[stage.first :] for path in group}
        shared = {path: x for path, x in flat.items() if path not in own}
        schedule = unfreezing.SCHEDULES["one-cycle"](round(stage.epochs) * an_epoch)
        optimizer = unfreezing.optimizer(schedule, rates_of, weight_decay=0.0)
        step = make_step(model, optimizer, train=stage.first == 0)
        opt_state = optimizer.init(own)
        for number, some in enumerate(batches(places, stage.epochs), 1):
            labels = jnp.array(digits.target[some] - first_class)
            own, opt_state = step(own, opt_state, shared, pixels[some], labels)
            if held_out is not None and number % an_epoch == 0:
                curve.append(accuracy(shared | own, held_out, first_class))
        flat = shared | own
    return unflatten(flat), curve


@jax.jit
def predict(flat, x):
    return model.apply({"params": unflatten(flat)}, x).argmax(-1)


def accuracy(flat, places, first_class):
    parts = np.array_split(places, 4)
    right = [predict(flat, pixels[part]) == digits.target[part] - first_class for part in parts]
    return float(np.concatenate(right).mean())


# %% [markdown]
# ## The old task: 0 to 4

# %%
config = resnet.SIZES[SIZE]
config = type(config)(**{**vars(config), "num_channels": 1, "num_classes": 5})
model = resnet.Model(config)
drawn = model.init(jax.random.key(0))["params"]
pretrained, _ = learn(model, drawn, old[:700], 0, "all", "1e-3", 6)
print(f"0 to 4, held out: {accuracy(flatten(pretrained), old[700:], 0):.1%}")

# %% [markdown]
# ## From general to special
#
# A straight line through what each stage sees, fitted to the fifty examples of the new task. What
# the middle has learned of strokes serves any digit; the last stage has begun to forget what tells
# 0 from 4 only.

# %%
stages = jax.jit(
    lambda x: [
        f.mean((1, 2))
        for f in model.apply({"params": pretrained}, x, method=lambda m, x: m.trunk.features(x))
    ]
)
seen, unseen = stages(pixels[np.array(few)]), stages(pixels[np.array(rest)])
for name, a, b in zip(
    ("stem", "stage 1", "stage 2", "stage 3", "stage 4"), seen, unseen, strict=True
):
    line = LogisticRegression(max_iter=2000).fit(a, digits.target[few])
    print(f"{name}: {line.score(b, digits.target[rest]):.1%}")

# %% [markdown]
# ## The new task: 5 to 9, fifty examples
#
# From scratch; with a frozen trunk; and with a new head first, then everything. The frozen trunk of
# ResNet-34 is too special to serve well; what unfreezes it needs a rate at which its last stage can
# forget, so no range of smaller ones for the layers before the head.

# %%
fresh = {"head": model.init(jax.random.key(1))["params"]["head"]}
shared = {"places": few, "first_class": 5, "epochs": 15, "held_out": rest}
curves = {
    "from scratch": learn(model, drawn, unfreeze="all", learning_rate="1e-3", **shared)[1],
    "frozen trunk": learn(
        model, pretrained | fresh, unfreeze="head", learning_rate="1e-2", **shared
    )[1],
    "head first, then all": learn(
        model, pretrained | fresh, unfreeze="head-first", learning_rate="1e-3", **shared
    )[1],
}
for name, curve in curves.items():
    print(f"{name}: {curve[-1]:.1%}")

# %%
figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
for name, curve in curves.items():
    axes.plot(range(1, len(curve) + 1), curve, label=name)
axes.axvline(5.5, color="grey", linestyle=":")
axes.annotate("unfrozen", (5.6, 0.05), color="grey")
axes.set(xlabel="epochs on fifty examples of 5 to 9", ylabel="accuracy on the others", ylim=(0, 1))
axes.legend(loc="lower right", frameon=False)
axes.spines[["top", "right"]].set_visible(False)
plt.show()
