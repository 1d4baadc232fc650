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
# # BERT
#
# A language model reads in one direction. BERT (Devlin et al. 2018,
# [arXiv:1810.04805](https://arxiv.org/abs/1810.04805)) reads in both, and pays for it with another
# objective: some tokens are masked, and predicted from all others. This notebook shows why it has
# to, what BERT reads, and how one pretrained network is fine-tuned for four kinds of task.

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
import itertools
import logging
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
import tensorflow_datasets

import zoo
from train.commands import command
from train.commands.pretrain import Pretrain
from train.data.examples.squad import Question
from train.data.examples.tables import TextExample
from train.data.examples.tagged import TaggedSentence
from train.data.sources import text, tfds
from train.finetuning.finetune import finetune
from train.finetuning.settings import Settings
from train.finetuning.tasks.registry import TASKS
from train.finetuning.transfer import load_for_task
from train.metrics.tasks import question_answering
from train.pretraining import corpus, example
from train.pretraining.pretrain import pretrain
from train.recipes import recipe
from train.reporting import examples
from train.reporting.manifest import describe
from zoo.models import bert, gpt
from zoo.params import flatten, num_parameters

plt.style.use("train.reporting.zoo")
logging.getLogger("absl").setLevel("ERROR")  # TensorFlow Datasets warns about its mocks
folder = Path(tempfile.mkdtemp())


@contextlib.contextmanager
def quiet():
    """Hide the progress of a run."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


# %% [markdown]
# ## A language of three words
#
# In a language with three words and texts of four words we can look at all 81 texts. Each word
# depends on the one before; $p(x_1 \dots x_4)$ is known. Four small networks of two layers learn
# it: a GPT that reads forward, one that reads backward, an encoder that is trained as a language
# model although it sees the whole text, and an encoder that reconstructs masked words.

# %%
W, L = 3, 4
START, MASK = W, W + 1
draw = np.random.default_rng(0)
first_W, next_WW = draw.dirichlet(np.ones(W)), draw.dirichlet(np.ones(W), W)
texts_NL = np.array([*itertools.product(range(W), repeat=L)])
p_N = first_W[texts_NL[:, 0]] * next_WW[texts_NL[:, :-1], texts_NL[:, 1:]].prod(1)
size = {"vocab_size": W + 2, "max_length": L + 1, "num_heads": 2, "width": 32}
size |= {"num_layers": 1 if SMALL else 2, "head_width": 16, "mlp_width": 64, "dropout": 0.0}
decoder, encoder = gpt.Model(gpt.Config(**size)), bert.BertLM(bert.Config(**size))


@partial(jax.jit, static_argnums=(0, 1))
def fit(model, steps, inputs_NT, targets_NT, weights_NT):
    """Return parameters that minimize the weighted cross-entropy of all texts, and the loss."""
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, steps))
    params = model.init(jax.random.key(0), inputs_NT)["params"]

    def loss(params):
        logs_NTW = jax.nn.log_softmax(model.apply({"params": params}, inputs_NT)[..., :W])
        logs_NT = jnp.take_along_axis(logs_NTW, targets_NT[..., None], -1)[..., 0]
        return -(weights_NT * logs_NT).sum() / weights_NT.sum()

    def step(state, _):
        value, gradient = jax.value_and_grad(loss)(state[0])
        updates, opt_state = optimizer.update(gradient, state[1])
        return (optax.apply_updates(state[0], updates), opt_state), value

    state, losses = jax.lax.scan(step, (params, optimizer.init(params)), None, steps)
    return state[0], losses[-1]


@partial(jax.jit, static_argnums=0)
def predict(model, params, inputs_NT):
    """Return the distribution over words at each place: p_NTW."""
    return jax.nn.softmax(model.apply({"params": params}, inputs_NT)[..., :W])


def of_words(p_NTW, words_NT):
    """Return the probabilities of the given words: p_NT."""
    return np.take_along_axis(np.asarray(p_NTW), words_NT[..., None], -1)[..., 0]


STEPS = 20 if SMALL else 500
begin = lambda words_NL: np.pad(words_NL, ((0, 0), (1, 0)), constant_values=START)
weight_NL = np.repeat(p_N[:, None], L, 1)
backward_NL = np.ascontiguousarray(texts_NL[:, ::-1])
forward, _ = fit(decoder, STEPS, begin(texts_NL)[:, :-1], texts_NL, weight_NL)
backward, _ = fit(decoder, STEPS, begin(backward_NL)[:, :-1], backward_NL, weight_NL)
at_end = ((0, 0), (0, 1))  # the encoder reads the last word too, and has none to predict behind it
targets_NT, weight_NT = np.pad(texts_NL, at_end), np.pad(weight_NL, at_end)
cheat, cheat_loss = fit(encoder, STEPS, begin(texts_NL), targets_NT, weight_NT)
hidden = np.array([mask for mask in itertools.product((False, True), repeat=L) if any(mask)])
masked_NL = np.where(hidden[:, None], MASK, texts_NL).reshape(-1, L)
weight_NL = (hidden[:, None] * p_N[:, None]).reshape(-1, L)
masked, _ = fit(encoder, 2 * STEPS, masked_NL, np.tile(texts_NL, (len(hidden), 1)), weight_NL)

# %% [markdown]
# ## Words see themselves
#
# Why can the encoder not be a language model? It could: its loss goes to zero, because it finds the
# next word in its input. Leaving out the word's own place does not help. With one layer that skips
# the diagonal, a word's prediction does not depend on the word. With two layers it does: in the
# first layer the other words have seen it. Only a mask that hides all that follows, as GPT has it,
# is safe at any depth.
#
# The influence of a word (column) on the prediction of a word (row) is how far the distribution
# moves, from 0 to 1, when the word is exchanged.


# %%
def influence(p_NLW):
    """Return the mean change of each prediction (row) when a word (column) is exchanged."""
    grid = np.asarray(p_NLW).reshape(*[W] * L, L, W)  # texts_NL is in this order
    moved = [np.abs(grid - np.roll(grid, 1, axis=word)).sum(-1) / 2 for word in range(L)]
    return np.stack([x.mean(tuple(range(L))) for x in moved], 1)


def skipping(layers):
    """Return the predictions of layers of attention in which no place attends to itself."""
    table_WD, place_LD, *weights = (
        np.random.default_rng(1).normal(size=(n, 16)) for n in (W, L, *[16] * 3)
    )
    x_NLD = table_WD[texts_NL]
    for _ in range(layers):
        score_NLL = (place_LD @ weights[0]) @ ((x_NLD + place_LD) @ weights[1]).swapaxes(1, 2) / 64
        weight_NLL = jax.nn.softmax(np.where(np.eye(L), -np.inf, score_NLL))
        x_NLD = np.tanh(weight_NLL @ (x_NLD @ weights[2]) / 4)
    return jax.nn.softmax(x_NLD @ table_WD.T)


seen = {
    "GPT, two layers": influence(predict(decoder, forward, begin(texts_NL)[:, :-1])),
    "skips itself, one layer": influence(skipping(1)),
    "skips itself, two layers": influence(skipping(2)),
    "encoder as language model": influence(predict(encoder, cheat, begin(texts_NL))[:, :-1]),
}
figure, axes = plt.subplots(1, 4, figsize=(14, 4.4), sharey=True)
for axis, (name, influence_LL) in zip(axes, seen.items(), strict=True):
    axis.imshow(influence_LL, vmin=0, vmax=influence_LL.max())
    for row, column in itertools.product(range(L), repeat=2):
        value = influence_LL[row, column]
        shade = "white" if value > 0.6 * influence_LL.max() else "black"
        axis.text(column, row, f"{value:.2f}" if value else "0", ha="center", color=shade)
    axis.set(title=name, xlabel="word exchanged", xticks=range(L), yticks=range(L))
    axis.set(xticklabels=range(1, L + 1), yticklabels=range(1, L + 1))
    axis.grid(visible=False)
axes[0].set_ylabel("word predicted")
plt.show()

# %% [markdown]
# Directionality also makes the product a distribution. $\prod_t p(x_t \mid x_1 \dots x_{t-1})$ over
# all 81 texts sums to 1 whatever the weights of the network are. The product of what the encoder
# says does not: it is sure of every text. Nor does that of honest predictions of each word from all
# others, known here exactly: "pseudo-likelihood".

# %%
# G5
product = {"forward": of_words(predict(decoder, forward, begin(texts_NL)[:, :-1]), texts_NL)}
untrained = decoder.init(jax.random.key(5), texts_NL)["params"]
product["untrained"] = of_words(predict(decoder, untrained, begin(texts_NL)[:, :-1]), texts_NL)
product["backward"] = of_words(predict(decoder, backward, begin(backward_NL)[:, :-1]), backward_NL)
product["encoder"] = of_words(predict(encoder, cheat, begin(texts_NL))[:, :-1], texts_NL)
table = p_N.reshape([W] * L)
from_others = [(table / table.sum(word, keepdims=True)).ravel() for word in range(L)]
product["pseudo-likelihood"] = np.stack(from_others, 1)
sums = {name: float(x.prod(1).sum()) for name, x in product.items()}
for name, total in sums.items():
    print(f"{name}: the products of all 81 texts sum to {total:.4f}")
print(f"loss of the encoder as a language model: {cheat_loss:.4f} nats per word")
assert all(abs(sums[name] - 1) < 1e-4 for name in ("forward", "backward", "untrained"))
assert sums["pseudo-likelihood"] > 1.5
assert (np.triu(seen["GPT, two layers"]) == 0).all()
assert np.diag(seen["skips itself, one layer"]).max() < 1e-7
assert np.diag(seen["skips itself, two layers"]).min() > 1e-3
if not SMALL:
    assert cheat_loss < 0.01
    assert sums["encoder"] > 60
    assert np.diag(seen["encoder as language model"]).min() > 0.9

# %% [markdown]
# ## Autoregressive and autoencoding
#
# An autoregressive model factorizes the text, forward or backward: two products of the same joint
# probability. An autoencoding model reconstructs what is masked. If it has to fill in two words at
# once, it predicts each by itself, so their product is not their joint probability. If it fills
# them in one after another, it is autoregressive again, in any order (XLNet's idea).


# %%
# C7
def one_after_another(order):
    """Return the probability of each text, filled in by the masked model in some order."""
    shown, total_N = np.zeros(L, bool), np.ones(len(texts_NL))
    for place in order:
        inputs_NL = np.where(shown, texts_NL, MASK)
        total_N *= of_words(predict(encoder, masked, inputs_NL), texts_NL)[:, place]
        shown[place] = True
    return total_N


joint_N = {"forward": product["forward"].prod(1), "backward": product["backward"].prod(1)}
for order in ((0, 1, 2, 3), (2, 0, 3, 1)):
    joint_N[f"masked, order {' '.join(str(place + 1) for place in order)}"] = one_after_another(
        order
    )
distance = {name: np.abs(q_N - p_N).sum() / 2 for name, q_N in joint_N.items()}
for name, value in distance.items():
    print(f"{name}: sums to {joint_N[name].sum():.4f}, {value:.3f} from the truth")
middle = table / table.sum((1, 2), keepdims=True)  # of words 2 and 3, given 1 and 4
by_themselves = middle.sum(2, keepdims=True) * middle.sum(1, keepdims=True)
gap = (table.sum((1, 2)) * np.abs(middle - by_themselves).sum((1, 2))).sum() / 2
print(f"two masked words, each by itself: {gap:.3f} from the truth")
assert gap > 0.1
assert all(abs(q_N.sum() - 1) < 1e-4 for q_N in joint_N.values())
if not SMALL:
    assert max(distance.values()) < 0.03
    assert np.abs(joint_N["forward"] - joint_N["backward"]).max() < 0.01

# %% [markdown]
# ## Base and large
#
# The number of parameters follows from the shapes, by hand and of the model. "340M" in the paper is
# rounded up.


# %%
# B3
def count_by_hand(c):
    """Return the number of parameters with both pretraining heads."""
    d, f = c.width, c.mlp_width
    embeddings = (c.vocab_size + c.max_length + c.num_segments) * d + 2 * d
    attention, feed_forward, norms = 4 * (d * d + d), d * f + f + f * d + d, 4 * d
    blocks = c.num_layers * (attention + feed_forward + norms)
    masked_head, next_head = d * d + d + 2 * d + c.vocab_size, (d * d + d) + 2 * d + 2
    return embeddings + blocks + masked_head + next_head


base, large = (bert.SIZES[f"bert-{name}-uncased"] for name in ("base", "large"))
for name in ("bert-base-uncased", "bert-large-uncased"):
    c, count = bert.SIZES[name], num_parameters(bert.Model, bert.SIZES[name])
    print(f"{name}: {c.num_layers} layers, width {c.width}, {c.num_heads} heads: {count:,}")
    assert count == count_by_hand(c)
assert (base.num_layers, base.width, base.num_heads) == (12, 768, 12)
assert (large.num_layers, large.width, large.num_heads) == (24, 1024, 16)
assert num_parameters(bert.Model, base) == 110_106_428

# %% [markdown]
# ## The text: Wikipedia and books
#
# BERT read English Wikipedia (2,500 million words) and BookCorpus (800 million). BookCorpus was
# withdrawn; PG-19, the books of Project Gutenberg, is among TensorFlow Datasets. The commands:
#
# ```
# zoo pretrain bert-base-uncased --tfds wikipedia/20230601.en --out runs/bert
# zoo pretrain bert-base-uncased --tfds pg19 --init runs/bert --out runs/bert-books
# ```
#
# An article is a document. Here we only read these datasets as mocks, with random letters: their
# names, splits and text fields are the true ones, and nothing is downloaded.

# %%
# B4
COMMANDS = (
    "bert-base-uncased --tfds wikipedia/20230601.en --out runs/bert",
    "bert-base-uncased --tfds pg19 --init runs/bert --out runs/bert-books",
)
for line in COMMANDS:
    parsed = command.parse("pretrain", Pretrain, line.split())
    with quiet(), tensorflow_datasets.testing.mock_data(num_examples=3):
        source = tfds.read(parsed.tfds)
        documents = [*source.documents()]
    print(f"{source.name}: field {source.field!r}, split {source.split!r}")
    assert parsed.recipe == "bert-base-uncased"
    assert len(documents) == 3
    assert all(documents)
of_paper = recipe(parsed.recipe)
read = of_paper.steps * of_paper.batch * of_paper.length
print(
    f"{of_paper.steps:,} steps of {of_paper.batch} x {of_paper.length}: {read / 1e9:.0f} G tokens"
)
assert read / 3.3e9 > 5  # ten passes over 3,300 million words

# %% [markdown]
# In minutes on one core, a small BERT learns little more of Wikipedia than how frequent its tokens
# are, and no task from that. So here the text is 3,000 made-up stories about animals, foods and
# places; the text does not say which noun is which.

# %%
KINDS = {
    "animal": "dog cat horse cow hen fox wolf mouse bear sheep goat pig duck goose lion tiger",
    "food": "bread apple rice soup cake cheese egg pear plum bean corn pie nut honey salad pasta",
    "place": "city river street hill farm field forest lake market school garden bridge tower "
    "harbor valley beach",
}
KINDS = {kind: nouns.split() for kind, nouns in KINDS.items()}
MOODS, TASTES = ("tired", "happy", "hungry", "angry"), ("sweet", "salty", "fresh", "stale")
GOES, MEETS, ACTS = ("goes", "walks", "runs"), ("meets", "sees", "hears"), ("sleeps", "waits")


def sentences(draw, nouns=KINDS):
    """Return the sentences of a story, with their nouns."""
    (a, b), (f, _), (p, q) = (draw.sample(own, 2) for own in nouns.values())
    mood, taste, goes, meets, acts = map(draw.choice, (MOODS, TASTES, GOES, MEETS, ACTS))
    lines = (
        f"in the morning the {a} {goes} to the {p} .",
        f"there the {a} {meets} the {b} .",
        f"the {b} is {mood} .",
        f"at noon they eat the {taste} {f} .",
        f"then the {b} {goes} home to the {q} .",
        f"at night the {b} {acts} near the {q} .",
    )
    return lines, (a, b, f, p, q)


draw = random.Random(0)
stories = ["\n".join(sentences(draw)[0]) for _ in range(100 if SMALL else 3000)]
source = text.strings(stories)
print(stories[0])
tiny = recipe("bert-shallow")
layers = 1 if SMALL else tiny.config.num_layers
tiny = replace(
    tiny,
    config=replace(tiny.config, vocab_size=248, max_length=64, num_layers=layers),
    batch=8 if SMALL else 16,
    length=64,
    steps=2 if SMALL else 600,
)
with quiet():
    metrics = pretrain(tiny, source, folder / "bert")
pretrained = zoo.load(folder / "bert")
tokenizer = pretrained.tokenizer
for name, value in metrics.items():
    print(f"{name}: {value:.3f}")

# %% [markdown]
# ## What BERT reads
#
# The input is the sum of three embeddings: of the token, of its segment and of its position,
# followed by a norm. `[CLS] A [SEP] B [SEP]` holds two segments, and the state of `[CLS]` stands
# for the pair. The published model has 30,522 word pieces ("30,000" in the notes).

# %%
# B2
encoding = tokenizer.encode("there the dog meets the crocodile .", "the fox is happy .")
tokens_BL, segments_BL = np.array([encoding.ids]), np.array([encoding.type_ids])
_, sown = jax.jit(partial(pretrained.model.apply, mutable="intermediates"))(
    {"params": pretrained.params}, tokens_BL, segments_BL
)
read_LD = sown["intermediates"]["trunk"]["hidden_states"][0][0]
trunk = pretrained.params["trunk"]
look_up = lambda name, ids_L: trunk[f"{name}_embedding"]["embedding"][ids_L]
positions_L = np.arange(len(encoding.ids))
sum_LD = look_up("token", tokens_BL[0]) + look_up("segment", segments_BL[0])
sum_LD += look_up("position", positions_L)
centered_LD = sum_LD - sum_LD.mean(-1, keepdims=True)
normed_LD = centered_LD / np.sqrt((centered_LD**2).mean(-1, keepdims=True) + 1e-12)
by_hand_LD = normed_LD * trunk["embedding_norm"]["scale"] + trunk["embedding_norm"]["bias"]
for name, line in (("token", encoding.tokens), ("segment", "AB"), ("position", positions_L)):
    shown = [line[i] for i in segments_BL[0]] if name == "segment" else line
    print(f"{name:8}", " ".join(f"{x!s:>7}" for x in shown))
print(f"largest difference: {jnp.abs(by_hand_LD - read_LD).max():.1e}")
assert len(set(segments_BL[0])) == 2
np.testing.assert_allclose(by_hand_LD, read_LD, atol=1e-4)
assert jnp.abs(read_LD - read_LD[:, ::-1]).max() > 0.1
assert bert.SIZES["bert-base-uncased"].vocab_size == 30522
data = Path(os.environ.get("ZOO_DATA", "nowhere"))
if (vocabulary := data / "vocab_bert" / "bert-base-uncased-vocab.txt").is_file():
    pieces = vocabulary.read_text().split("\n")[:-1]
    inside = sum(piece.startswith("##") for piece in pieces)
    unused = sum(piece.startswith("[unused") for piece in pieces)
    print(f"{len(pieces):,} entries: {inside:,} continue a word, {unused} are unused")
    assert len(set(pieces)) == 30522

# %% [markdown]
# ## Masking
#
# 15 % of the tokens are predicted. Of these, 80 % become `[MASK]`, 10 % a random token, and 10 %
# stay. No task has a `[MASK]`, so the network must not rely on it: any token may be wrong. The
# second objective is in the last line: does B follow A? A half of the pairs is from elsewhere.

# %%
if not SMALL:
    shown = example.example(recipe("bert-tiny"), 48, seed=8)
    examples.draw(shown, None, folder / "example.png", "Before and after masking")
    image = plt.imread(folder / "example.png")
    figure = plt.figure(figsize=(image.shape[1] / 120, image.shape[0] / 120), layout="none")
    axis = figure.add_axes((0, 0, 1, 1))
    axis.imshow(image, aspect="auto")
    axis.set_axis_off()
    plt.show()

# %%
# B1
tokens = corpus.corpus(tiny, source, tokenizer)
train_text, _ = tokens.split()
objective = tiny.objective(tokenizer)
MASK_ID = objective.mask
batches = tiny.batches(tokenizer).train(train_text, 64, 0)


@jax.jit
def corrupt(objective, batch, number):
    """Return the rows of a batch with masks of their own."""
    keys = jax.random.split(jax.random.key(number), len(batch["tokens"]))
    return jax.vmap(objective.corrupt)(keys, batch)


counts = Counter()
for number in range(3 if SMALL else 40):
    batch = batches(number)
    after = corrupt(objective, batch, number)
    used_BP = after["weights"]["masked"] > 0
    now_BP = np.take_along_axis(np.asarray(after["tokens"]), np.asarray(after["predictions"]), 1)
    counts["tokens"] += int(batch["mask"].sum())
    counts["predicted"] += int(used_BP.sum())
    counts["[MASK]"] += int((used_BP & (now_BP == MASK_ID)).sum())
    counts["unchanged"] += int((used_BP & (now_BP == after["targets"])).sum())
    counts["changed"] += int((np.asarray(after["tokens"]) != batch["tokens"]).sum())
    counts["pairs"] += len(batch["next"])
    counts["elsewhere"] += int(batch["next"].sum())
counts["random"] = counts["predicted"] - counts["[MASK]"] - counts["unchanged"]
share = {name: counts[name] / counts["predicted"] for name in ("[MASK]", "random", "unchanged")}
print(f"{counts['predicted'] / counts['tokens']:.1%} of {counts['tokens']:,} tokens are predicted:")
print(", ".join(f"{name} {value:.1%}" for name, value in share.items()))
elsewhere = counts["elsewhere"] / counts["pairs"]
print(f"B is from elsewhere in {elsewhere:.1%} of {counts['pairs']:,} pairs")
tolerance = 0.03 if SMALL else 0.01
assert abs(counts["predicted"] / counts["tokens"] - 0.15) < 0.01
for name, expected in (("[MASK]", 0.8), ("random", 0.1), ("unchanged", 0.1)):
    assert abs(share[name] - expected) < tolerance
assert counts["changed"] == counts["[MASK]"] + counts["random"]  # and nothing else
assert 0.35 < elsewhere < 0.65

# %% [markdown]
# Why not more, or less? A text teaches only by what is predicted: at 5 % a third of what it teaches
# at 15 %, at the same cost. And a prediction needs context: the more is masked, the less can be
# known. How much less is known exactly in the language of three words: the entropy of a word, given
# the words that are left, and the loss of the small encoder that reconstructs them.

# %%
# B1
RATES = (0.05, 0.15, 0.8) if SMALL else (0.05, 0.15, 0.3, 0.5, 0.8)
learned, context = [], []
for rate in RATES:
    changed = replace(objective, rate=rate, num_predictions=tiny.length)
    batch = batches(0)
    after = corrupt(changed, batch, 0)
    real = batch["mask"].sum()
    learned.append(float(after["weights"]["masked"].sum() / real))
    intact_BL = (np.asarray(after["tokens"]) == batch["tokens"]) & batch["mask"]
    context.append(float(intact_BL.sum() / real))

exact, reconstructed = [], []
for count in range(1, L + 1):
    entropies, found = [], []
    for mask in hidden[hidden.sum(1) == count]:
        (places,) = np.nonzero(mask)
        said_NLW = predict(encoder, masked, np.where(mask, MASK, texts_NL))
        for place in places:
            others = tuple(x for x in places if x != place)
            marginal = table.sum(others, keepdims=True)  # of the word and of what is left
            given = marginal / marginal.sum(place, keepdims=True)
            entropies.append(-(marginal * np.log(given)).sum())
            found.append(-(p_N * np.log(of_words(said_NLW, texts_NL)[:, place])).sum())
    exact.append(np.mean(entropies))
    reconstructed.append(np.mean(found))

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8))
left.plot(RATES, learned, "o-", label="predicted: what is learned from")
left.plot(RATES, context, "s-", label="intact: what it is predicted from")
left.axvline(0.15, color="black", linestyle=":", linewidth=1)
left.set(title="Tokens of a text", xlabel="share that is masked", ylabel="share of the tokens")
left.set_ylim(0, 1.3)
left.legend(loc="upper right")
right.plot(np.arange(1, L + 1), exact, "o-", label="entropy: the least possible")
right.plot(np.arange(1, L + 1), reconstructed, "s--", label="loss of the encoder")
right.set(title="How hard a prediction is", xlabel="words masked, of four", ylabel="nats per word")
right.set_xticks(range(1, L + 1))
right.legend(loc="lower right")
plt.show()
for rate, x, y in zip(RATES, learned, context, strict=True):
    print(f"{rate:.0%} masked: {x:.1%} predicted, {y:.1%} intact")
print("nats per word, of 1 to 4 masked words:", *(f"{x:.3f}" for x in exact))
assert 2.5 < learned[1] / learned[0] < 3.5
assert context[1] > 0.8
assert context[-1] < 0.4
assert (np.diff(exact) > 0.02).all()
assert SMALL or np.abs(np.subtract(reconstructed, exact)).max() < 0.02

# %% [markdown]
# ## Four kinds of fine-tuning
#
# The notes say that BERT is "trained for" pairs, sentences, questions and tags. It is pretrained on
# two objectives, masked tokens and the next sentence, of which it has the heads. Each task then
# gets a new head and fine-tunes a copy of the trunk.
#
# The labelled examples have six nouns of each kind, and the test has the other ten: what is known
# about these is from pretraining. Pair: does the noun of B occur in A? Sentence: what kind of thing
# is it? Question: how does a sentence go on, as the text says? Tags: parts of speech.

# %%
LABELLED = 6  # nouns of each kind
TAGS = {"the": "DET", ".": "PUNCT", "is": "VERB", "they": "PRON", "eat": "VERB"}
TAGS |= dict.fromkeys(("in", "at", "to", "near"), "ADP") | dict.fromkeys(MOODS + TASTES, "ADJ")
TAGS |= dict.fromkeys(("there", "then", "home"), "ADV")
TAGS |= dict.fromkeys(GOES + MEETS + ACTS, "VERB")


def examples_of(part, count, seed):
    """Return examples of all four tasks, with a part of the nouns."""
    draw, tasks = random.Random(seed), {"pair": [], "sentence": [], "question": [], "tags": []}
    nouns = {kind: own[part] for kind, own in KINDS.items()}
    for number in range(count):
        lines, (a, b, f, p, _) = sentences(draw, nouns)
        other = draw.choice([x for x in nouns["animal"] if x not in (a, b)])
        named = draw.choice((a, b)) if number % 2 else other
        label = "yes" if number % 2 else "no"
        tasks["pair"].append(TextExample(lines[1], f"the {named} is {draw.choice(MOODS)} .", label))
        kind = draw.choice([*KINDS])
        tasks["sentence"].append(
            TextExample(f"there is the {draw.choice(nouns[kind])} .", None, kind)
        )
        context = " ".join(lines[:4])
        pairs = (f"the {a} goes to", p), (f"the {a} meets", b), ("at noon they eat", f)
        asked, answer = draw.choice(pairs)
        offset = context.index(f" {answer} ") + 1
        tasks["question"].append(Question(str(number), asked, context, ((answer, offset),)))
        words = tuple(draw.choice(lines).split())
        tags = tuple(TAGS.get(word, "NOUN") for word in words)
        tasks["tags"].append(TaggedSentence(words, tags))
    return tasks


TASK_OF = {"question": "question-answering", "tags": "tagging"}  # the others: classification
count = 24 if SMALL else 300
labelled = examples_of(slice(0, LABELLED), count, 1)
others = examples_of(slice(LABELLED, None), count, 2)
tasks = {
    kind: (TASKS[TASK_OF.get(kind, "classification")], labelled[kind], others[kind])
    for kind in (("tags",) if SMALL else labelled)
}

# %% [markdown]
# The input of each, by hand and as the project builds it: a pair is `[CLS] A [SEP] B [SEP]` in two
# segments; a question is A, and its text B; the label of a word is at its first piece. What is
# trained anew is the head alone; the trunk is that of pretraining, to the bit.


# %%
# B5
def layout(first, second=None):
    """Return the tokens and segments of a text or a pair, by hand."""
    ids = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    tokens = [cls, *ids(first), sep]
    segments = [0] * len(tokens)
    if second is not None:
        more = [*ids(second), sep]
        tokens, segments = tokens + more, segments + [1] * len(more)
    return tokens, segments


TEXTS = {
    "pair": lambda x: (x.text, x.pair),
    "sentence": lambda x: (x.text,),
    "question": lambda x: (x.question, x.context),
    "tags": lambda x: (" ".join(x.words),),
}
NO_LIMIT = 10_000  # of tokens: nothing is truncated here
before = flatten(pretrained.params)
assert {path.split("/")[0] for path in before} == {"trunk", "pooler", "masked_head", "next_head"}
for kind, (task, train, _) in tasks.items():
    labels = task.labels(train, ())
    loaded, new = load_for_task(folder / "bert", task.head, labels, key=jax.random.key(0))
    for one in train[:20]:
        (built,) = task.rows(loaded, one, labels, NO_LIMIT)
        assert (built.row.tokens, built.row.segments) == layout(*TEXTS[kind](one))
        assert MASK_ID not in built.row.tokens
        pieces = [tokenizer.id_to_token(i) for i in built.row.tokens]
        if kind == "question":
            first, last = built.target
            target = " ".join(pieces[first : last + 1])
            assert set(built.row.segments[first : last + 1]) == {1}
        elif kind == "tags":
            target = " ".join(labels[i] if i >= 0 else "-" for i in built.target)
            assert sum(i >= 0 for i in built.target) == len(one.words)
            assert built.target[0] == built.target[-1] == -1
        else:
            target = labels[built.target]
    print(f"{kind}: {' '.join(pieces)[:90]} ...\n  target: {target[:90]}")
    heads = sorted({path.split("/")[0] for path in new})
    print(f"  a {type(loaded.model).__name__}; new: {', '.join(heads)}")
    kept = {path: x for path, x in flatten(loaded.params).items() if path not in new}
    assert all((x == before[path]).all() for path, x in kept.items())
    assert "trunk" not in heads
    assert any(path.startswith("trunk/") for path in kept)

# %% [markdown]
# Fine-tuning takes some seconds for each task. A constant answer is the most frequent label, or the
# first three words of the text that has the answer. Kinds, answers and tags are found for nouns
# without a label, too. Whether two nouns are the same is not learned from 300 pairs.


# %%
# B5
def constant(kind, train, dev):
    """Return the figure of a constant answer, in percent."""
    if kind == "question":
        first = {x.id: " ".join(x.context.split()[:3]) for x in dev}
        return 100 * question_answering(dev, first)["f1"]
    own = lambda x: x.labels if kind == "tags" else (x.label,)
    most = Counter(label for x in train for label in own(x)).most_common(1)[0][0]
    return 100 * float(np.mean([label == most for x in dev for label in own(x)]))


figures, tuned = {}, {}
for kind, (task, train, dev) in tasks.items():
    epochs = 1 if SMALL else 4 if kind == "tags" else 8
    settings = Settings(epochs=epochs, learning_rate="1e-3", length=64, keep="last")
    parts = {"train": train, "dev": dev}
    with quiet():
        metrics, _ = finetune(folder / "bert", task, parts, folder / kind, settings)
    found = metrics["dev"][0]
    tuned[kind] = zoo.load(folder / kind)
    figures[kind] = 100 * found["f1" if kind == "question" else "accuracy"]
    low = constant(kind, train, dev)
    name = "F1" if kind == "question" else "accuracy"
    print(f"{kind}: {name} {figures[kind]:.1f}, a constant answer {low:.1f}")
    after = flatten(tuned[kind].params)
    assert any((x != before[path]).any() for path, x in after.items() if path in before)
    assert SMALL or kind == "pair" or figures[kind] > low + 20
tagged = zoo.tag(tuned["tags"], "then the tiger runs home .")
print(" ".join(f"{tag.word}/{tag.label}" for tag in tagged))
if not SMALL:
    print(zoo.classify(tuned["pair"], "there the lion sees the goose .", "the goose is tired ."))
    print(zoo.classify(tuned["sentence"], "there is the tiger ."))
    context = others["question"][0].context
    found = zoo.answer(tuned["question"], "at noon they eat", context)
    print(f"{context} At noon they eat ... {found.text}")

# %%
print(describe())
