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
# # Transfer learning
#
# A network that has learned one task begins another one with all but its head: the way of
# fast.ai, on pictures with ResNet-34 and on texts as ULMFiT has it. Freeze, train a new head,
# unfreeze, and train with one cycle and learning rates that grow over the layers.

# %%
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("zoo") is None:  # a fresh machine: ZOO_SOURCE has the address
    install = [sys.executable, "-m", "pip", "install", "-q", os.environ["ZOO_SOURCE"]]
    subprocess.run(install, check=True)
SMALL = os.environ.get("ZOO_NOTEBOOK") == "small"  # seconds instead of minutes

# %%
import contextlib
import io
import random
import tempfile
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import zoo
from train.data.examples.tables import TextExample, read_texts
from train.data.sources import text
from train.finetuning import learning_rate_finder, unfreezing
from train.finetuning.finetune import finetune
from train.finetuning.settings import Settings
from train.finetuning.tasks.registry import TASKS
from train.pretraining.pretrain import pretrain
from train.recipes import recipe
from train.reporting.manifest import describe
from zoo.models import resnet
from zoo.params import flatten, unflatten

plt.style.use("train.reporting.zoo")

# %% [markdown]
# ## Pictures: ResNet-34
#
# ResNet-34 (He et al. 2015) learns the digits 0 to 4, and is then given fifty examples of 5 to 9.
# The digits come with scikit-learn; their 8 x 8 pixels are enlarged to 32 x 32.
#
# An unfreezing strategy is a list of stages, each of which trains the groups of parameters from
# some number on. What is frozen is no argument of the differentiated loss, so it has no gradient
# and stays as it is, to the bit. In every stage the learning rate goes through one cycle, and it
# may grow from group to group: fast.ai's `slice(1e-5, 1e-3)` is "1e-5:1e-3".

# %%
digits = load_digits()
pixels = digits.images[..., None].astype(np.float32) / 8 - 1
pixels = np.asarray(jax.image.resize(pixels, (len(pixels), 32, 32, 1), "linear"))
order = np.random.default_rng(0).permutation(len(pixels))
old = [i for i in order if digits.target[i] < 5]
new = [i for i in order if digits.target[i] >= 5]
few, rest = new[:50], new[50:350]
config = resnet.SIZES["resnet-tiny" if SMALL else "resnet-34"]
model = resnet.Model(replace(config, num_channels=1, num_classes=5))
init = jax.jit(model.init)


@partial(jax.jit, static_argnums=(0, 1))
def gradient(train, first, own, shared, x, y):
    """Return the gradient of the groups that are trained, and the new statistics of the norms."""

    def loss(own):
        variables = {"params": unflatten(shared | own)}
        logits_BC, seen = model.apply(variables, x, train=train, mutable="statistics")
        return optax.softmax_cross_entropy_with_integer_labels(logits_BC, y).mean(), seen

    gradient, seen = jax.grad(loss, has_aux=True)(own)
    return gradient, flatten(seen.get("statistics", {}))


@jax.jit
def predict(flat, x):
    """Return the most probable class of each picture."""
    return model.apply({"params": unflatten(flat)}, x).argmax(-1)


def accuracy(flat, places, first_class):
    """Return the share of pictures whose class is right."""
    parts = [places[i : i + 50] for i in range(0, len(places) - 49, 50)]
    right = [predict(flat, pixels[part]) == digits.target[part] - first_class for part in parts]
    return float(np.concatenate(right).mean())


def learn(params, places, first_class, unfreeze, learning_rate, epochs, held_out=()):
    """Return the parameters after all stages, and the held-out accuracy after each stage."""
    flat, curve, draw = flatten(params), [], np.random.default_rng(1)
    groups = unfreezing.groups(flat, resnet.GROUPS)
    rates = unfreezing.learning_rates(learning_rate, len(groups))
    rate_of = {path: r for group, r in zip(groups, rates, strict=True) for path in group}
    for stage in unfreezing.STRATEGIES[unfreeze](len(groups), epochs):
        own = {path: flat[path] for group in groups[stage.first :] for path in group}
        shared = {path: x for path, x in flat.items() if path not in own}
        rows = [draw.permutation(places).reshape(-1, 25) for _ in range(round(stage.epochs))]
        schedule = unfreezing.SCHEDULES["one-cycle"](sum(map(len, rows)))
        optimizer = unfreezing.optimizer(schedule, rate_of, weight_decay=0.0)
        state, update = optimizer.init(own), jax.jit(optimizer.update)
        for row in np.concatenate(rows):
            labels = jnp.array(digits.target[row] - first_class)
            # With a frozen trunk, batch norm uses what it remembers.
            slope, seen = gradient(stage.first == 0, stage.first, own, shared, pixels[row], labels)
            updates, state = update(slope, state, own)
            own = optax.apply_updates(own, updates) | {k: x for k, x in seen.items() if k in own}
        flat = shared | own
        curve.append(accuracy(flat, held_out, first_class) if held_out else None)
    return unflatten(flat), curve


start = init(jax.random.key(0))["params"]
pretrained, (right,) = learn(start, old[:500], 0, "all", "1e-3", 1 if SMALL else 5, old[500:800])
print(f"0 to 4, held out: {right:.1%}")

# %% [markdown]
# The first layers are general, the last ones special: a straight line through the features of
# each stage, fitted to fifty examples, of the old task and of the new one.

# %%
# C5
features = jax.jit(
    lambda x: [
        f.mean((1, 2))
        for f in model.apply({"params": pretrained}, x, method=lambda m, x: m.trunk.features(x))
    ]
)
STAGES = ("stem", "stage 1", "stage 2", "stage 3", "stage 4")


def probe(learned, tested):
    """Return the accuracy of a linear classifier on the features of each stage."""
    seen, unseen = features(pixels[learned]), features(pixels[tested])
    fit = lambda x: LogisticRegression(max_iter=2000).fit(x, digits.target[learned])
    return [fit(x).score(y, digits.target[tested]) for x, y in zip(seen, unseen, strict=True)]


on_old, on_new = probe(old[500:550], old[550:850]), probe(few, rest)
figure, axis = plt.subplots(figsize=(7, 3.6))
axis.plot(STAGES, on_old, "o-", label="0 to 4, which it has learned")
axis.plot(STAGES, on_new, "o-", label="5 to 9, which are new")
axis.set(title="A linear classifier on each stage of ResNet-34", ylabel="accuracy", ylim=(0, 1))
axis.legend(loc="lower left")
plt.show()
gap = np.array(on_old) - np.array(on_new)
print("loss of accuracy on what is new:", gap.round(2))
assert SMALL or gap[-1] > gap[1] + 0.05  # the last stage serves the old task
assert SMALL or max(on_new[1:4]) > on_new[4] + 0.05  # the middle serves the new one better

# %% [markdown]
# The last layer is replaced by a new one, which is trained while the rest is frozen; then
# everything is trained, with learning rates that grow over the layers. The comparison: training
# from scratch.

# %%
# C6
changed = pretrained | {"head": init(jax.random.key(1))["params"]["head"]}
epochs = 2 if SMALL else 15
task = {"places": few, "first_class": 5, "epochs": epochs, "held_out": rest}
frozen, (only_head,) = learn(changed, unfreeze="head", learning_rate="1e-2", **task)
before, after = flatten(changed), flatten(frozen)
same = {path.split("/")[0]: True for path in before}
for path, x in before.items():
    same[path.split("/")[0]] &= bool((x == after[path]).all())
print("unchanged:", same)
assert same.pop("head") is False
assert all(same.values())
_, by_stage = learn(changed, unfreeze="head-first", learning_rate="3e-4:3e-3", **task)
_, (scratch,) = learn(start, unfreeze="all", learning_rate="1e-3", **task)
print(
    f"frozen trunk {only_head:.1%}; head, then all {by_stage[-1]:.1%}; from scratch {scratch:.1%}"
)
assert SMALL or by_stage[-1] > by_stage[0]
assert SMALL or by_stage[-1] > scratch

rates = unfreezing.learning_rates("3e-4:3e-3", len(unfreezing.groups(before, resnet.GROUPS)))
assert (np.diff(rates) > 0).all()
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2))
left.plot([float(unfreezing.SCHEDULES["one-cycle"](100)(step)) for step in range(100)])
left.set(title="One cycle", xlabel="step", ylabel="share of the peak")
right.plot(rates, "o-")
right.set(
    title="Discriminative learning rates", xlabel="layer group, from the input", ylabel="peak"
)
right.set(yscale="log")
plt.show()

# %% [markdown]
# ## Texts: semi-supervised sequence learning
#
# A language model of unlabelled texts (Dai and Le 2015) starts a classifier, as in ULMFiT (Howard
# and Ruder 2018), which reads a large corpus before that. The texts are the 5,452 questions of
# TREC, of which 500 are labelled; without that data, sentences about good and bad films. As many
# words as these are too few: the classifier is worse than one from scratch. It gains once the
# language model has read two million words of Wikipedia first (from 44 % to 71 %, three seeds;
# train/recipes/README.md).


# %%
def questions(split):
    """Return labelled examples."""
    file = Path(os.environ.get("ZOO_DATA", "nowhere"), "cls_trec", f"{split}.tsv")
    if file.is_file():
        return read_texts(file, {"text": "question", "label": "coarse"}).examples
    draw, examples = random.Random(split), []
    for _ in range(2000 if split == "train" else 300):
        label = draw.choice(["good", "bad"])
        a, b, c = (f"{label[0]}{draw.randrange(30)}{draw.choice('xyz')}" for _ in range(3))
        examples.append(TextExample(f"the film was {a} , and so {b} and {c} .", None, label))
    return examples


unlabelled, test = questions("train"), questions("test")[: 40 if SMALL else None]
labelled = unlabelled[:: len(unlabelled) // 500][: 100 if SMALL else 500]
most_frequent = max(Counter(example.label for example in test).values()) / len(test)
awd = {"width": 64, "cell_width": 128, "num_layers": 2}
language_model = recipe("awd-lstm-tiny")
language_model = replace(
    language_model,
    config=replace(language_model.config, **awd),
    batch=20,
    length=35,
    epochs=1 if SMALL else 6,
)
folder = Path(tempfile.mkdtemp())
lines = text.strings(["\n".join(example.text for example in unlabelled[: 300 if SMALL else None])])
quiet = lambda: contextlib.redirect_stdout(io.StringIO())
with quiet(), contextlib.redirect_stderr(io.StringIO()):
    metrics = pretrain(language_model, lines, folder)
print(
    f"{len(unlabelled):,} texts, {len(labelled)} labelled; perplexity {metrics['perplexity']:.1f}"
)

# %% [markdown]
# The learning-rate finder raises the learning rate step by step, and takes that at which the loss
# falls fastest.

# %%
settings = Settings(
    batch=20, length=40, epochs=1 if SMALL else 12, dropout=0.1, schedule="one-cycle"
)
find = partial(learning_rate_finder.range_test, folder, TASKS["classification"], labelled)
tried, losses = find(settings, 1e-5, 1.0, 20 if SMALL else 100)
figure, axis = plt.subplots(figsize=(7, 3.6))
axis.plot(tried, losses, alpha=0.4, label="each batch")
axis.plot(tried, learning_rate_finder.smooth(losses), label="moving mean")
axis.set(xscale="log", xlabel="learning rate", ylabel="training loss", ylim=(0, 2 * losses[0]))
axis.set(title="Learning-rate finder")
axis.legend()
plt.show()


# %%
# C4, C6
def classify(**changes):
    """Return the accuracy on the test set, and the parameters."""
    out = Path(tempfile.mkdtemp())
    data = {"train": labelled, "dev": test[: len(test) // 2], "test": test[len(test) // 2 :]}
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        metrics, _ = finetune(
            folder, TASKS["classification"], data, out, replace(settings, **changes)
        )
    return metrics["test"][0]["accuracy"], flatten(zoo.load(out).params)


ways = {
    "from scratch": classify(scratch=True, learning_rate="3e-3"),
    "frozen trunk": classify(unfreeze="head", learning_rate="1e-2"),
    "head, then all": classify(unfreeze="head-first", learning_rate="3e-3:1e-2"),
}
print(f"most frequent label: {most_frequent:.1%}")
for name, (share, _) in ways.items():
    print(f"{name}: {share:.1%}")
trunk = {
    path: x
    for path, x in flatten(zoo.load(folder).params).items()
    if path.startswith("trunk/layers")
}
assert trunk
assert all((ways["frozen trunk"][1][path] == x).all() for path, x in trunk.items())
assert any((ways["head, then all"][1][path] != x).any() for path, x in trunk.items())
assert SMALL or ways["head, then all"][0] > max(most_frequent, ways["frozen trunk"][0]) + 0.05

# %%
print(describe())
