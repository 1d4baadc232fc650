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
# # Distillation
#
# A large model, the teacher, is pretrained and fine-tuned. A small one, the student, learns to give
# the same outputs (Hinton et al. 2015, [arXiv:1503.02531](https://arxiv.org/abs/1503.02531)). The
# teacher can label any text, so the student needs no labels. Does that beat pretraining and
# fine-tuning the student by itself, and why?

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
import gzip
import io
import json
import random
import tempfile
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression

import zoo
from train.data.examples.tables import TextExample, read_texts
from train.data.sources import text
from train.finetuning.distillation import DistilledTask
from train.finetuning.finetune import finetune
from train.finetuning.finetune import load as load_for_task
from train.finetuning.settings import Distillation, Settings
from train.finetuning.tasks.registry import TASKS
from train.objectives import distillation as pretraining
from train.objectives.masked import MaskedLanguageModeling
from train.optimization import schedules
from train.pretraining.pretrain import pretrain
from train.recipes import recipe
from train.reporting.manifest import describe
from zoo.models import bert, distilbert, gpt2
from zoo.params import num_parameters

plt.style.use("train.reporting.zoo")
DATA = Path(os.environ.get("ZOO_DATA", "nowhere"))
TASK = TASKS["classification"]
SEEDS = range(1 if SMALL else 3)

# %% [markdown]
# ## Data
#
# The task is the type of a question (TREC): 1,000 questions are labelled, 2,500 are not. Both
# models are pretrained on questions of another kind (SQuAD). Without that data, the task is to tell
# good from bad in made-up reviews, and 30 of them are labelled.


# %%
def review(draw):
    """Return a made-up review and its label."""
    label = draw.choice(["good", "bad"])
    syllables = lambda: f"{draw.choice('aeiou')}{draw.choice('lmnrst')}{draw.choice('oai')}"
    a, b, c = (label[0] + syllables() for _ in range(3))
    return TextExample(f"The film was {a}, and so {b} and {c}.", None, label)


def labelled(split):
    """Return labelled texts."""
    file = DATA / "cls_trec" / f"{split}.tsv"
    if file.is_file():
        return read_texts(file, {"text": "question", "label": "coarse"}).examples
    draw = random.Random(split)
    return [review(draw) for _ in range(4000 if split == "train" else 300)]


def documents():
    """Return texts to pretrain on: the questions about an article each, or made-up reviews."""
    file = DATA / "qa_squad_v11" / f"train-v1.1-html.part{1 if SMALL else 2}.json.gz"
    if not file.is_file():
        draw = random.Random(0)
        return [" ".join(review(draw).text for _ in range(100)) for _ in range(200)]
    articles = json.loads(gzip.decompress(file.read_bytes()))["data"][: 10 if SMALL else 300]
    return [
        " ".join(q["question"] for paragraph in article["paragraphs"] for q in paragraph["qas"])
        for article in articles
    ]


every, test = labelled("train"), labelled("test")[: 40 if SMALL else None]
count = 1000 if DATA.is_dir() else 30
few, dev, rest = every[:count], every[count : count + 100], every[count + 100 :]
rest = rest[: 60 if SMALL else 2500]
unlabelled = Path(tempfile.mkdtemp()) / "texts.txt"
unlabelled.write_text("".join(f"{example.text}\n" for example in rest), "utf-8")
most_frequent = max(Counter(example.label for example in test).values()) / len(test)
print(f"{len(few)} labelled, {len(rest)} unlabelled, {len(test)} to test on")
print(f"most frequent label: {most_frequent:.1%}")

# %% [markdown]
# ## A large teacher, a small student
#
# Both have the network of GPT-2, and are pretrained on the same text with the same vocabulary. The
# teacher is then fine-tuned on the labels.

# %%
STEPS = 3 if SMALL else 600
quiet = lambda: contextlib.redirect_stdout(io.StringIO())


def language_model(tokenizer=None, **config):
    """Return the folder of a pretrained GPT, and its held-out perplexity."""
    run = recipe("gpt2-tiny")
    vocab_size = 400 if SMALL or not DATA.is_dir() else 1024
    config |= {"vocab_size": vocab_size, "max_length": 160, "num_heads": 4}
    config |= {"head_width": config["width"] // 4, "mlp_width": 4 * config["width"]}
    run = replace(run, config=replace(run.config, **config), steps=STEPS, batch=4, length=160)
    schedule = lambda steps: schedules.cosine(2e-3, min(50, steps // 10), steps, 2e-4)
    run = replace(run, schedule=schedule, evaluate_every=STEPS, save_every=STEPS)
    out = Path(tempfile.mkdtemp())
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        metrics = pretrain(run, text.strings(documents()), out, tokenizer=tokenizer)
    return out, metrics["perplexity"]


def classifier(folder, seed, epochs, learning_rate, distilled=None, scratch=False, seeds=1):
    """Return the folder of a classifier, and the test accuracy of each seed."""
    out = Path(tempfile.mkdtemp())
    rows = len(few) + (len(rest) if distilled and distilled.unlabelled else 0)
    settings = Settings(
        batch=32,
        length=32,
        epochs=0.1 if SMALL else epochs,
        learning_rate=learning_rate,
        scratch=scratch,
        seed=seed,
        seeds=seeds,
        evaluate_every=max(1, round(epochs * rows / 32 / 8)),
    )
    data = {"train": few, "dev": dev, "test": test}
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        metrics, _ = finetune(folder, TASK, data, out, settings, distillation=distilled)
    return out, [run["accuracy"] for run in metrics["test"]]


large, teacher_perplexity = language_model(width=32 if SMALL else 128, num_layers=1 if SMALL else 3)
small, student_perplexity = large, teacher_perplexity
if not SMALL:
    small, student_perplexity = language_model(large, width=32, num_layers=1)
teacher_folder, (teacher_accuracy,) = classifier(large, 0, 6, "1e-3")
teacher = zoo.load(teacher_folder)
size = lambda loaded: sum(x.size for x in jax.tree.leaves(loaded.params))
print(f"perplexity of the language models: {teacher_perplexity:.0f} and {student_perplexity:.0f}")
print(f"teacher: {size(teacher):,} parameters, accuracy {teacher_accuracy:.1%}")

# %% [markdown]
# ## What the student learns: squared error or cross-entropy
#
# The loss compares the logits $z$ of the student with those of the teacher, $v$: by their mean
# squared error, or by the cross-entropy of the teacher's probabilities $q = \mathrm{softmax}(v/T)$
# and the student's $p = \mathrm{softmax}(z/T)$, at a temperature $T$. Hinton et al. multiply by
# $T^2$, which keeps the size of the gradient. We subtract the entropy of $q$, a constant, so that
# the loss of a perfect student is 0: $T^2 \sum_c q_c \ln (q_c / p_c)$.

# %%
# D1
draw = np.random.default_rng(0)
student_BC, teacher_BC = jnp.float32(draw.normal(size=(2, 5, 3)) * 3)
rows = {"targets": jnp.zeros(5, jnp.int32), "teacher": teacher_BC}
rows |= {"weights": {"task": jnp.ones(5), "teacher": jnp.ones((5, 1))}}


def loss(student_BC, **settings):
    """Return the loss that `zoo finetune --teacher` minimizes, for five texts."""
    return (
        DistilledTask(TASK, 0.0, {}, Distillation(**settings))
        .terms(student_BC, rows)["teacher"]
        .loss
    )


def cross_entropy(student_BC, T):
    """Return the cross-entropy of the teacher's distribution and the student's, times T²."""
    q_BC = jax.nn.softmax(teacher_BC / T)
    return -(T**2) * (q_BC * jax.nn.log_softmax(student_BC / T)).sum()


squared = ((student_BC - teacher_BC) ** 2).mean(-1).sum()
print(f"squared error: by hand {squared:.4f}", end=", ")
print(f"loss {loss(student_BC, distillation_loss='squared-error'):.4f}")
np.testing.assert_allclose(squared, loss(student_BC, distillation_loss="squared-error"), rtol=1e-5)
for T in (1.0, 2.0, 5.0):
    by_hand = cross_entropy(student_BC, T) - cross_entropy(teacher_BC, T)
    print(f"T = {T}: by hand {by_hand:.4f}, loss {loss(student_BC, temperature=T):.4f}")
    np.testing.assert_allclose(by_hand, loss(student_BC, temperature=T), rtol=1e-4)
    gradient_BC = jax.grad(loss)(student_BC, temperature=T)
    np.testing.assert_allclose(jax.grad(cross_entropy)(student_BC, T), gradient_BC, atol=1e-4)
assert abs(loss(teacher_BC, temperature=2.0)) < 1e-5 < loss(student_BC, temperature=2.0)

# %% [markdown]
# At a high temperature the two are one: the gradient of the cross-entropy becomes $(z - v) / C$, if
# both are centred (section 2.1 of Hinton et al.). DistilBERT (Sanh et al. 2019) distills in
# pretraining, with the same loss at every token; it has six of BERT's twelve blocks.

# %%
# D1
centred = lambda z_BC: z_BC - z_BC.mean(-1, keepdims=True)
limit_BC = (centred(student_BC) - centred(teacher_BC)) / 3
distances = {}
for T in (1.0, 10.0, 100.0, 1000.0):
    distances[T] = float(jnp.abs(jax.grad(loss)(student_BC, temperature=T) - limit_BC).max())
    print(f"T = {T:>6}: distance of the gradient from (z - v) / C: {distances[T]:.3f}")
assert list(distances.values()) == sorted(distances.values(), reverse=True)
assert distances[1000.0] < 0.01 < distances[1.0]

sizes = {"vocab_size": 40, "max_length": 16, "num_heads": 2, "mlp_width": 32, "head_width": 8}
sizes |= {"width": 16, "dropout": 0.0}
two = [
    bert.Model(bert.Config(**sizes, num_layers=2)),
    distilbert.Model(distilbert.Config(**sizes, num_layers=1)),
]
tokens_BL = jnp.array(draw.integers(5, 40, (4, 12)))
params = [jax.jit(m.init)(jax.random.key(n), tokens_BL)["params"] for n, m in enumerate(two)]
params = jax.tree.map(lambda x: x * 20 if x.ndim > 1 else x, params)  # far from uniform


def logits(model, params, batch):
    """Return the logits of all tokens, logits_BLV."""

    def run(model):
        x_BLD = model.trunk(batch["tokens"], document_ids_BL=batch["documents"])
        return model.masked_unprojected(x_BLD)

    return jax.jit(partial(model.apply, method=run))({"params": params}).logits()


masking = MaskedLanguageModeling(40, 4, (2, 3), 3)
example = {"tokens": tokens_BL, "mask": tokens_BL > 0}
kinds = {"cross-entropy": pretraining.Distillation, "squared error": pretraining.LogitMatching}
for name, kind in kinds.items():
    objective = kind(masking, two[0], params[0])
    keys = jax.random.split(jax.random.key(0), 4)
    batch = jax.jit(jax.vmap(objective.corrupt))(keys, example)
    terms, _ = jax.jit(partial(objective.loss, two[1], carry=(), key=keys[0], train=False))(
        params[1], batch
    )
    v_BLV, z_BLV = (logits(m, p, batch) for m, p in zip(two, params, strict=True))
    q_BLV, p_BLV = (jax.nn.log_softmax(x_BLV / 2) for x_BLV in (v_BLV, z_BLV))
    by_hand = {
        "cross-entropy": 4 * (jnp.exp(q_BLV) * (q_BLV - p_BLV)).sum(),
        "squared error": ((z_BLV - v_BLV) ** 2).mean(-1).sum(),
    }[name]
    print(f"DistilBERT's {name}: by hand {by_hand:.3f}, term {terms['soft'].loss:.3f}")
    np.testing.assert_allclose(by_hand, terms["soft"].loss, rtol=1e-3)
    assert terms["soft"].loss > 0.01
counts = [num_parameters(m.Model, m.Config()) for m in (bert, distilbert)]
print(f"BERT-base {counts[0]:,} parameters, DistilBERT {counts[1]:,}")
assert 0.55 < counts[1] / counts[0] < 0.65

# %% [markdown]
# ## Temperature
#
# A label says which class is right. The teacher also says which wrong ones are nearly right; a
# higher temperature shows more of it.

# %%
sample = test[0]
p = zoo.classify(teacher, sample.text)
classes = sorted(p)
log_p_C = np.log([p[name] for name in classes])
temperatures = (0.5, 1, 2, 4, 8)
soft = {T: np.asarray(jax.nn.softmax(log_p_C / T)) for T in temperatures}
figure, axis = plt.subplots(figsize=(8, 3.6))
for number, (T, p_C) in enumerate(soft.items()):
    places = np.arange(len(classes)) + 0.16 * (number - 2)
    axis.bar(places, p_C, 0.15, label=f"T = {T}", color=plt.cm.Blues(0.35 + 0.15 * number))
axis.set_xticks(range(len(classes)), classes)
axis.set(title=f'"{sample.text}"', xlabel="class", ylabel="probability of the teacher")
axis.legend()
plt.show()
entropy = {T: float(-(p_C * np.log(p_C)).sum()) for T, p_C in soft.items()}
print("entropy in nats:", {T: round(value, 2) for T, value in entropy.items()})
assert list(entropy.values()) == sorted(entropy.values())
assert len({int(p_C.argmax()) for p_C in soft.values()}) == 1  # the order stays

# %% [markdown]
# ## With and without the teacher
#
# Every student has the same size, as many steps, and the same 100 examples to choose the best of
# eight evaluations. Without the teacher it learns from the 1,000 labels; with it, from the outputs
# of the teacher for these texts and the 2,500 unlabelled ones, and from no label. Three seeds each.
#
# By the notes, distillation works much better than pretraining and fine-tuning the small model.
# That needs a teacher that is better than the small model is by itself. Ours is not, after about
# half as many steps as the students: what it lacks, it cannot pass on. What holds, and is asserted:
# the student is as good as its teacher, at a fraction of the size.

# %%
# D2
from_teacher = Distillation(teacher=teacher_folder, teacher_weight=1.0, unlabelled=unlabelled)
squared = replace(from_teacher, distillation_loss="squared-error")
texts_read = 12_800
arms = {
    "pretraining, labels": {},
    "teacher": {"scratch": True, "distilled": from_teacher},
    "pretraining, teacher": {"distilled": from_teacher},
    "pretraining, teacher (squared error)": {"distilled": squared},
}
if SMALL:
    arms = {"pretraining, teacher": arms["pretraining, teacher"]}
folders, accuracy = {}, {}
for name, options in arms.items():
    count = len(few) + (len(rest) if "distilled" in options else 0)
    options |= {"epochs": texts_read / count, "learning_rate": "2e-3"}
    if name in ("pretraining, labels", "pretraining, teacher"):  # each student is kept
        runs = [classifier(small, seed, **options) for seed in SEEDS]
        folders[name] = [out for out, _ in runs]
        accuracy[name] = [value for _, (value,) in runs]
    else:
        accuracy[name] = classifier(small, 0, seeds=len(SEEDS), **options)[1]
    print(f"{name}: {np.mean(accuracy[name]):.1%}", [f"{value:.1%}" for value in accuracy[name]])
student = zoo.load(folders["pretraining, teacher"][0])
texts = [example.text for example in test]
seconds = []
for loaded in (teacher, student):
    zoo.classify(loaded, texts)  # compiles
    start = time.perf_counter()
    zoo.classify(loaded, texts)
    seconds.append(time.perf_counter() - start)
print(f"the student has {size(teacher) / size(student):.0f} times fewer parameters", end=" ")
print(f"and is {seconds[0] / seconds[1]:.1f} times as fast")
figure, axis = plt.subplots(figsize=(8.5, 3.8))
for number, (name, values) in enumerate(accuracy.items()):
    axis.barh(number, np.mean(values), color=f"C{int('teacher' in name)}")
    axis.plot(values, [number] * len(values), "ko", markersize=4)
axis.axvline(teacher_accuracy, color="k", linestyle="--", label="teacher")
axis.axvline(most_frequent, color="k", linestyle=":", label="most frequent label")
axis.set_yticks(range(len(accuracy)), accuracy)
axis.invert_yaxis()
axis.set(title="Students, by what they learn from", xlabel="accuracy; a dot for each seed")
axis.set_xlim(0, 1)
figure.legend(loc="outside lower center", ncols=2)
plt.show()
assert SMALL or size(teacher) > 8 * size(student)
with_teacher = np.mean(accuracy["pretraining, teacher"])
assert SMALL or with_teacher > teacher_accuracy - 0.03
assert SMALL or with_teacher > most_frequent + 0.1

# %% [markdown]
# ## Why it works
#
# A language model has to predict every next word; a task needs little of that. What becomes of the
# rest? We measure what is in the vector that the head reads, before and after distillation: how
# much of its variance lies between the classes, in how many directions it varies,
# $(\sum \lambda_i)^2 / \sum \lambda_i^2$ for the eigenvalues of its covariance, and what a linear
# classifier finds in it: the class, and two things that the task does not ask for.
# The same for the student of labels: it changes nearly as much.


# %%
def direction_count(x_ND):
    """Return the participation ratio of the covariance: the number of directions in use."""
    eigenvalues = np.linalg.eigvalsh(np.cov(x_ND.T))
    return eigenvalues.sum() ** 2 / (eigenvalues**2).sum()


def share_between(x_ND, labels):
    """Return the share of the variance that lies between the classes."""
    means = {name: x_ND[labels == name].mean(0) for name in set(labels)}
    between_ND = np.stack([means[name] for name in labels])
    return between_ND.var(0).sum() / x_ND.var(0).sum()


probed = [*rest, *test]
split = len(rest)
gold = np.array([example.label for example in probed])
lengths = np.array([len(example.text.split()) for example in probed])
needless = {
    "longer than half": lengths > np.median(lengths),
    'has "the"': np.array([" the " in f" {example.text.lower()} " for example in probed]),
}
if not DATA.is_dir():  # all reviews are equally long
    last_letters = [[word[-2] for word in example.text.split()] for example in probed]
    needless = {
        f"{name} word ends in o": np.array([letters[place] == "o" for letters in last_letters])
        for name, place in {"first": 3, "last": -1}.items()
    }


def measure(loaded):
    """Return what is in the vector that the head reads."""
    x_ND = zoo.embed(loaded, [example.text for example in probed], "last", batch_size=128)
    x_ND = (x_ND - x_ND.mean(0)) / x_ND.std()
    probe = lambda y: LogisticRegression(max_iter=1000).fit(x_ND[:split], y[:split])
    found = {"class": gold} | needless
    scores = {name: probe(y).score(x_ND[split:], y[split:]) for name, y in found.items()}
    return scores | {"between": share_between(x_ND, gold), "directions": direction_count(x_ND)}


def perplexity(loaded):
    """Return the perplexity of the trunk of a classifier as a language model."""
    model = gpt2.Model(loaded.model.config)
    as_language_model = loaded._replace(model=model, params={"trunk": loaded.params["trunk"]})
    scores = zoo.score(as_language_model, texts[:200])
    return float(np.exp(-np.mean(np.concatenate([x.log_probabilities for x in scores]))))


# %%
# D3
labels = sorted({example.label for example in few})
before, _ = load_for_task(small, TASK, labels, Settings())
models = {"before": [before]}
for name in list(folders)[-1:] if SMALL else ("pretraining, labels", "pretraining, teacher"):
    models[name] = [zoo.load(folder) for folder in folders[name]]
measured = {name: [measure(loaded) for loaded in loads] for name, loads in models.items()}
mean = {
    name: {key: np.mean([run[key] for run in runs]) for key in runs[0]}
    for name, runs in measured.items()
}
for name, values in mean.items():
    print(f"{name}:", ", ".join(f"{key} {value:.2f}" for key, value in values.items()))
chance = {name: max(np.mean(y[split:]), 1 - np.mean(y[split:])) for name, y in needless.items()}
print("most frequent answer:", {name: round(float(value), 2) for name, value in chance.items()})

predicted = lambda loaded: [max(p, key=p.get) for p in zoo.classify(loaded, texts)]
of_teacher = predicted(teacher)
agreement = {
    name: [np.mean([a == b for a, b in zip(of_teacher, predicted(x), strict=True)]) for x in loads]
    for name, loads in models.items()
}
perplexities = {name: np.mean([perplexity(x) for x in loads]) for name, loads in models.items()}
for name in models:
    print(f"{name}: agrees with the teacher on {np.mean(agreement[name]):.1%}", end=", ")
    print(f"perplexity as a language model {perplexities[name]:.0f}")

names = ["class", *needless]
figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4), width_ratios=(3, 2))
for number, (name, values) in enumerate(mean.items()):
    left.bar(np.arange(3) + 0.27 * (number - 1), [values[key] for key in names], 0.25, label=name)
for number, value in enumerate([most_frequent, *chance.values()]):
    left.plot([number - 0.42, number + 0.42], [value] * 2, "k:")
left.set_xticks(range(3), names)
left.set(title="Accuracy of a linear classifier", ylabel="accuracy (dots: most frequent)")
left.set_ylim(0, 1.25)
left.legend(ncols=3, loc="upper center")
right.bar(list(mean), [values["between"] for values in mean.values()], color=["C0", "C1", "C2"])
right.set(title="Variance between classes", ylabel="share of all variance")
right.tick_params("x", labelsize=9)
plt.show()

after = mean["pretraining, teacher"]
assert SMALL or after["class"] > mean["before"]["class"]
assert SMALL or after["between"] > 2 * mean["before"]["between"]
first = next(iter(needless))
assert SMALL or after[first] < mean["before"][first]
assert SMALL or perplexities["pretraining, teacher"] > 2 * perplexities["before"]
if not SMALL:
    agrees = {name: np.mean(values) for name, values in agreement.items()}
    assert agrees["pretraining, teacher"] > agrees["pretraining, labels"]

# %%
print(describe())
