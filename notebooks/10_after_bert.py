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
# # After BERT
#
# Five models changed one thing or another about BERT: RoBERTa the recipe, XLNet the order of the
# predictions, ALBERT the number of parameters, T5 the output, ELECTRA what is predicted. Here all
# six are trained on one text, with the same amount of computation, and fine-tuned on one task. Each
# section then looks at what one of them changed.

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
import time
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score

import zoo
from train.data.batches.segment_pairs import OrderedPairs
from train.data.examples.tables import TextExample
from train.data.sources import text
from train.finetuning.finetune import finetune
from train.finetuning.settings import Settings
from train.finetuning.tasks.registry import TASKS
from train.finetuning.transfer import load_for_task
from train.objectives.masked import MaskedLanguageModeling
from train.objectives.objective import objective
from train.objectives.permutation import order, unseen
from train.optimization import schedules
from train.planning.programs import matrix_flops
from train.pretraining import example
from train.pretraining.pretrain import pretrain
from train.pretraining.run import prepare
from train.racing.measure import step_flop
from train.recipes import recipe
from train.recipes.bert import BertRecipe
from train.recipes.roberta import RobertaRecipe
from train.reporting import examples
from train.reporting.examples import Cell, Example, Line
from train.reporting.manifest import describe
from zoo import tokenizers
from zoo.layers.transformer_xl import distances
from zoo.models import albert, xlnet
from zoo.params import abstract, flatten
from zoo.tokenizers import published, units

plt.style.use("train.reporting.zoo")
folder = Path(tempfile.mkdtemp())


@contextlib.contextmanager
def quiet():
    """Hide the progress of a run."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def show(shown, heading):
    """Show an example of tokens as a picture."""
    examples.draw(shown, None, folder / "example.png", heading)
    image = plt.imread(folder / "example.png")
    figure = plt.figure(figsize=(10, 10 * image.shape[0] / image.shape[1]), layout="none")
    axis = figure.add_axes((0, 0, 1, 1))
    axis.imshow(image, aspect="auto")
    axis.set_axis_off()
    plt.show()


# %% [markdown]
# ## Six models, one budget
#
# In minutes on one core, models of this size learn little more of Wikipedia than how frequent its
# words are. So the text is 3,000 made-up stories with 72 nouns: animals, foods and places; the text
# does not say which. The task is to name the kind of a noun. Six nouns of each kind are
# labelled, the other 18 are the test: only pretraining can tell that a *fox* is an animal, because
# it walks and sleeps as a *dog* does.

# %%
KINDS = {
    "animal": "dog cat horse cow hen fox wolf mouse bear sheep goat pig duck goose lion tiger "
    "rabbit camel monkey donkey eagle owl frog crab",
    "food": "bread apple rice soup cake cheese egg pear plum bean corn pie nut honey salad pasta "
    "melon butter pizza potato carrot onion grape lemon",
    "place": "city river street hill farm field forest lake market school garden bridge tower "
    "harbor valley beach park square village station church castle road island",
}
KINDS = {kind: nouns.split() for kind, nouns in KINDS.items()}
MOODS, TASTES = ("tired", "happy", "hungry", "angry"), ("sweet", "salty", "fresh", "stale")
LOOKS, ACTS = ("wide", "quiet", "crowded", "green"), ("sleeps", "waits", "sings")


def story(draw):
    """Return a story of nine sentences about two animals, two foods and two places."""
    (a, b), (f, g), (p, q) = (draw.sample(nouns, 2) for nouns in KINDS.values())
    pick = lambda *choices: draw.choice(choices)
    mood, taste, look, act = (draw.choice(words) for words in (MOODS, TASTES, LOOKS, ACTS))
    sentences = (
        "this is a story of an animal , a food and a place .",
        f"in the morning the {a} {pick('walks', 'runs', 'goes')} to the {p} .",
        pick(f"the {p} is {look} .", f"it is {look} in the {p} ."),
        f"there the {a} {pick('meets', 'sees', 'hears')} the {b} .",
        pick(f"the {b} is {mood} .", f"the {mood} {b} {act} ."),
        f"at noon they eat the {f} , which is {taste} .",
        pick(
            f"the {a} likes the {draw.choice(TASTES)} {g} more .", f"the {b} eats some {g} , too ."
        ),
        f"in the evening the {b} goes home to the {q} .",
        pick(
            f"at night the {a} {act} near the {q} .", f"the {p} is {look} and the {a} is {mood} ."
        ),
    )
    return "\n".join(sentences)


draw = random.Random(0)
source = text.strings([story(draw) for _ in range(300 if SMALL else 3000)])
print(source.texts[0])
LABELLED = 6  # nouns of each kind
FRAMES = ("this is the {} .", "there is the {} .", "it is a {} .")
train, test = (
    [
        TextExample(frame.format(noun), None, kind)
        for kind, nouns in KINDS.items()
        for noun in nouns[part]
        for frame in FRAMES
    ]
    for part in (slice(0, LABELLED), slice(LABELLED, None))
)
print(f"{len(train)} labelled examples, {len(test)} for the test")

# %% [markdown]
# All models have two layers of width 128 (T5: two and two) and the same vocabulary of words, each
# with its own special tokens. The budget is the same number of floating-point operations in
# products of matrices, so a model that needs more of them for a step gets fewer steps.

# %%
SPECIALS = {
    "bert": (published.BERT_SPECIALS, published.add_bert_specials),
    "roberta": (published.ROBERTA_SPECIALS, published.add_roberta_specials),
    "xlnet": (published.XLNET_SPECIALS, published.add_xlnet_specials),
    "albert": (published.ALBERT_SPECIALS, published.add_albert_specials),
    "t5": (published.T5_SPECIALS, published.add_t5_specials),  # which adds a hundred sentinels
    "electra": (published.BERT_SPECIALS, published.add_bert_specials),
    "gpt2": (published.GPT2_SPECIALS, lambda tokenizer: None),  # for the next section
}
MODELS = ("bert", "roberta", "xlnet", "albert", "t5", "electra")
WORDS = sorted({word for document in source.texts for word in document.split()})
sizes = {}
for name, (specials, add) in SPECIALS.items():
    tokenizer = units.words(list(dict.fromkeys([*specials, units.UNKNOWN, *WORDS])))
    add(tokenizer)
    tokenizers.save(tokenizer, folder / f"{name}-tokenizer")
    sizes[name] = tokenizer.get_vocab_size()
print(f"{len(WORDS)} words; with special tokens:", sizes)

# %%
LAYERS = 1 if SMALL else 2
SIZE = {"max_length": 128, "num_layers": LAYERS, "num_decoder_layers": LAYERS}
SIZE |= {"width": 128, "num_heads": 4, "head_width": 32, "mlp_width": 512, "embed_width": 128}
GENERATOR = {"layers": LAYERS, "heads": 1, "width": 32, "mlp_width": 128}  # a quarter as wide
SIZE |= {f"generator_{name}": value for name, value in GENERATOR.items()}
BUDGET = 4e9 if SMALL else 9e11  # FLOP


def sized(name, kind=None):
    """Return the recipe of a model at our size, with its own optimizer and objective.

    `kind` is another class for the recipe, which changes one thing.
    """
    chosen = recipe(f"{name}-tiny")
    if kind:
        chosen = kind(**vars(chosen))
    changes = {field: value for field, value in SIZE.items() if field in vars(chosen.config)}
    changes["vocab_size"] = sizes[name]
    if name == "albert":
        changes["embed_width"] = 32
    peak = 1e-2 if name == "t5" else 1e-3  # Adafactor multiplies it by the size of the weights
    return replace(
        chosen,
        config=replace(chosen.config, **changes),
        schedule=lambda steps: schedules.linear(peak, steps // 10, steps),
        batch=8,
        length=128,
        evaluate_every=10_000,
        save_every=10_000,
    )


def prepared(name, kind=None, stories=source):
    """Return the run of a model: its objective, tokenizer and batches."""
    tokenizer = folder / f"{name}-tokenizer"
    with quiet():
        return prepare(sized(name, kind), stories, folder / "trial", tokenizer=tokenizer)


def train_one(name, kind=None, stories=source, out=None):
    """Train a model for the budget, and return its row of the table."""
    run = prepared(name, kind, stories)
    flop = step_flop(run)
    steps = max(2, round(BUDGET / flop))
    tokenizer = folder / f"{name}-tokenizer"
    begun = time.process_time()
    with quiet():
        chosen = replace(run.recipe, steps=steps)
        pretrain(chosen, stories, folder / (out or name), tokenizer=tokenizer)
    seconds = time.process_time() - begun
    batch = jax.tree.map(jnp.asarray, run.train_batches(0))
    keys = jax.random.split(jax.random.key(0), run.recipe.batch)
    weights = jax.jit(jax.vmap(run.objective.corrupt))(keys, batch)["weights"]
    main = "replaced" if "replaced" in weights else next(iter(weights))
    size = sum(x.size for x in jax.tree.leaves(abstract(zoo.load(folder / (out or name)).model)))
    return {
        "parameters": size,
        "steps": steps,
        "flop": steps * flop,
        "tokens": steps * run.recipe.batch * run.recipe.length,
        "learned": steps * float(weights[main].sum()),
        "seconds": seconds,
    }


table = {name: train_one(name) for name in (("electra",) if SMALL else MODELS)}


# %%
def fine_tune(name, scratch=False):
    """Return the share of the test whose kind is right."""
    task = TASKS["text-to-text" if name == "t5" else "classification"]
    out = folder / f"{name}-kinds{'-scratch' * scratch}"
    settings = Settings(
        epochs=1 if SMALL else 12,
        learning_rate="3e-3" if name == "t5" else "1e-3",
        batch=18,
        keep="last",  # so nothing is chosen on the test
        evaluate_every=1000,
        scratch=scratch,
    )
    with quiet():
        metrics, _ = finetune(folder / name, task, {"train": train, "dev": test}, out, settings)
    if name != "t5":
        return metrics["dev"][0]["accuracy"]
    outputs = zoo.translate(zoo.load(out), [x.text for x in test], beams=1)
    return float(np.mean([y.strip() == x.label for y, x in zip(outputs, test, strict=True)]))


for name, row in table.items():
    row["accuracy"] = fine_tune(name)
scratch = None if SMALL else fine_tune("bert", scratch=True)
widths = {"parameters": 11, "steps": 6, "flop": 9, "tokens": 9, "learned": 8, "seconds": 8}
print(f"{'model':8}", *(f"{column:>{width}}" for column, width in widths.items()), " accuracy")
for name, row in table.items():
    cells = (
        f"{row[column]:{width}{'.2e' if column == 'flop' else ',.0f'}}"
        for column, width in widths.items()
    )
    print(f"{name:8}", *cells, f"{row['accuracy']:9.1%}")
if scratch is not None:
    print(f"bert, from scratch {scratch:.1%}")

# %% [markdown]
# "Learned" counts the predictions that the model to keep is trained on: 15 % of the tokens, for
# ELECTRA all. RoBERTa's rows are full of stories; where other rows have one or two, the rest is
# padding. The objectives differ, so their losses cannot be compared, only what the models are good
# for. It is one run of each at one learning rate, on 54 nouns: differences of 15 points are noise,
# and what holds for models that are a thousand times as large is another question.

# %%
if not SMALL:
    figure, axis = plt.subplots(figsize=(8, 3.6))
    rows = sorted(table, key=lambda name: table[name]["accuracy"])
    bars = axis.barh(rows, [100 * table[name]["accuracy"] for name in rows])
    axis.bar_label(bars, [f"{table[name]['parameters'] / 1e3:,.0f} k" for name in rows], padding=4)
    axis.axvline(100 * scratch, color="C4", linestyle="--", label="BERT, not pretrained")
    axis.set(title="Kinds of nouns, after the same computation", xlabel="accuracy in percent")
    axis.set_xlim(0, 115)
    axis.legend(loc="lower right")
    axis.grid(visible=False, axis="y")
    plt.show()
spent = [row["flop"] for row in table.values()]
assert SMALL or max(spent) < 1.02 * min(spent)
best = max(row["accuracy"] for row in table.values())
assert SMALL or best > scratch + 0.3  # only pretraining knows the kinds of the other nouns

# %% [markdown]
# ## One change at a time
#
# The six differ in more than one thing. What follows differs in one:
#
# - "bert, order": ALBERT's task in place of BERT's. Segment B follows A, or A follows B; it is
#   never random text.
# - "new masks" and "one mask": RoBERTa on a tenth of the stories, which it reads more than ten
#   times, with new masks every time, or with the same mask for a row whenever it is read.
# - "gpt2": a decoder, which predicts every token from those before it.
#
# As above, 15 points are noise.


# %%
class OrderAsNext(OrderedPairs):
    """Pairs in order (0) or swapped (1), with the label where BERT has the next sentence."""

    def choose(self, *arguments):
        segments, label = super().choose(*arguments)
        return segments, {"next": label["order"]}


class OrderedBert(BertRecipe):
    """BERT with the order of two segments in place of the next sentence."""

    def batches(self, tokenizer):
        return OrderAsNext(**vars(super().batches(tokenizer)))


@objective
class OneMask(MaskedLanguageModeling):
    """Masked tokens that depend on the row alone, so that they are the same in every epoch."""

    def corrupt(self, key, example):
        tokens_L = example["tokens"].astype(jnp.uint32)
        row = (tokens_L * jnp.arange(1, len(tokens_L) + 1, dtype=jnp.uint32)).sum()
        return super().corrupt(jax.random.fold_in(jax.random.key(0), row), example)


class StaticRoberta(RobertaRecipe):
    """RoBERTa with one mask for each row."""

    def masking(self, tokenizer):
        return OneMask(**vars(super().masking(tokenizer)))


few = text.strings(source.texts[: len(source.texts) // 10])
CHANGED = {
    "bert, order": ("bert", OrderedBert, source),
    "new masks": ("roberta", None, few),
    "one mask": ("roberta", StaticRoberta, few),
    "gpt2": ("gpt2", None, source),
}
for name, changed in CHANGED.items():
    if SMALL and name != "one mask":
        continue
    row = train_one(*changed, name)
    epochs = row["tokens"] / prepared(*changed).amounts[0]
    print(f"{name}: {row['steps']:,} steps, {epochs:.0f} epochs, {fine_tune(name):.1%}")
run = prepared("roberta", StaticRoberta)
row = jax.tree.map(lambda x: jnp.asarray(x[0]), run.train_batches(0))
one, other = (run.objective.corrupt(jax.random.key(seed), row)["tokens"] for seed in (0, 1))
assert (one == other).all()
labels = prepared("bert", OrderedBert).train_batches(0)["next"]
assert set(np.asarray(labels).tolist()) <= {0, 1}

# %% [markdown]
# ## RoBERTa: the recipe
#
# RoBERTa (Liu et al. 2019, [arXiv:1907.11692](https://arxiv.org/abs/1907.11692)) is BERT, trained
# longer on ten times the text (160 GB). There is no next sentence to predict, so a row is full of
# sentences and has no segments. Masks are dynamic: new whenever a text is read. BERT wrote ten
# masked copies of its text and read each of them four times.

# %%
# P1
run = prepared("roberta")
row = jax.tree.map(lambda x: jnp.asarray(x[0]), run.train_batches(0))


@jax.jit
def chosen(seed):
    """Return which tokens of the row are predicted: bool [L]."""
    after = run.objective.corrupt(jax.random.key(seed), row)
    is_used_P = after["weights"]["masked"] > 0
    return jnp.zeros(len(row["tokens"]), bool).at[after["predictions"]].max(is_used_P)


EPOCHS, COPIES = np.arange(40), 10
masks = {
    "BERT: ten copies": np.stack([chosen(epoch % COPIES) for epoch in EPOCHS]),
    "RoBERTa: new masks": np.stack([chosen(epoch) for epoch in EPOCHS]),
}
can_be_L = np.asarray(row["mask"]) & ~np.isin(row["tokens"], run.objective.specials)
figure, (*axes, right) = plt.subplots(1, 3, figsize=(14, 4.2), width_ratios=(1, 1, 1.1))
shares = {}
for axis, (name, mask_EL) in zip(axes, masks.items(), strict=True):
    axis.imshow(mask_EL, aspect="auto")
    axis.set(title=name, xlabel="token of one row", ylabel="epoch")
    axis.grid(visible=False)
    shares[name] = np.maximum.accumulate(mask_EL)[:, can_be_L].mean(1)
    right.plot(EPOCHS + 1, 100 * shares[name], label=name)
right.set(title="Predicted at least once", xlabel="epochs", ylabel="percent of the tokens")
right.set_ylim(0, 102)
right.legend(loc="lower right")
plt.show()
static_EL, dynamic_EL = masks.values()
assert (static_EL[0] == static_EL[COPIES]).all()
assert len(np.unique(static_EL, axis=0)) == COPIES
assert len(np.unique(dynamic_EL, axis=0)) == len(EPOCHS)
static, dynamic = (share_E[-1] for share_E in shares.values())
print(f"predicted at least once in 40 epochs: {static:.0%} with ten copies, {dynamic:.0%} with new")
assert dynamic > static + 0.05
of_bert, of_roberta = recipe("bert-base-uncased"), recipe("roberta-base")
read = {}
for chosen_recipe in (of_bert, of_roberta):
    c = chosen_recipe.config
    read[chosen_recipe.name] = chosen_recipe.steps * chosen_recipe.batch * chosen_recipe.length
    print(
        f"{chosen_recipe.name}: {chosen_recipe.steps:,} steps of {chosen_recipe.batch:,} rows of "
        f"{chosen_recipe.length} tokens, {read[chosen_recipe.name] / 1e12:.2f} T tokens; "
        f"{c.vocab_size:,} pieces"
    )
parts = {path.split("/")[0] for path in flatten(run.placement.abstract.params)}
print("parts of RoBERTa:", *sorted(parts), "- terms of its loss:", *run.objective.factors)
assert read["roberta-base"] > 10 * read["bert-base-uncased"]
assert set(of_bert.masking.factors) == {"masked", "next"}
assert set(run.objective.factors) == {"masked"}
assert not parts & {"pooler", "next_head"}
assert "segments" not in row

# %% [markdown]
# ## XLNet: the order of the predictions
#
# XLNet (Yang et al. 2019, [arXiv:1906.08237](https://arxiv.org/abs/1906.08237)) is autoregressive,
# in a random order. A token attends to those before it in the order, which may be on both sides of
# it. So it needs two streams: the query stream predicts a token, and must not see it; the content
# stream carries what a token is, and sees it. Below, six of eight words are predicted, in
# the order of the numbers; the other two are context, which all see. (In training it is a sixth of
# the tokens.) On the right is what a network of two layers does: how far a prediction moves if a
# word is exchanged.

# %%
# P2
SENTENCE = ("New", "York", "is", "a", "city", "of", "many", "bridges")
L, V = len(SENTENCE), 12
config = replace(
    xlnet.SIZES["xlnet-tiny"],
    **{"vocab_size": V, "num_layers": 2, "num_heads": 2, "width": 32, "head_width": 16},
    mlp_width=64,
)
model = xlnet.Model(config)
tokens_BL = jnp.arange(L)[None]
params = jax.jit(model.init)(jax.random.key(0), tokens_BL)["params"]
params = jax.tree.map(lambda x: 16 * x if x.ndim > 1 else x, params)  # as if it had learned
is_target_L = np.array([word not in ("is", "a") for word in SENTENCE])
rank_L = order(jax.random.key(1), L, L)
blocked_LL = unseen(rank_L, jnp.array(is_target_L), jnp.zeros(L, bool))
place_L = [int((rank_L[is_target_L] <= rank_L[i]).sum()) * int(is_target_L[i]) for i in range(L)]
(targets_P,) = np.nonzero(is_target_L)


@jax.jit
def queries(tokens_BL):
    """Return the distribution that each query predicts: p_BPV."""
    B = len(tokens_BL)
    blocked_BLL = jnp.broadcast_to(blocked_LL, (B, L, L))
    targets_BP = jnp.broadcast_to(targets_P, (B, len(targets_P)))
    inputs = tokens_BL, None, None, blocked_BLL, targets_BP
    unprojected, _ = model.apply({"params": params}, *inputs, method="unprojected")
    return jax.nn.softmax(unprojected.logits())


exchanged = [tokens_BL[0].at[j].set(v) for j in range(L) for v in range(L, V)]
p_BPV = queries(jnp.stack([tokens_BL[0], *exchanged]))
moved = np.abs(p_BPV[1:] - p_BPV[0]).sum(-1) / 2
influence_PL = moved.reshape(L, V - L, -1).mean(1).T
query_LL = ~np.asarray(blocked_LL)
panels = {
    "query stream attends": query_LL[targets_P],
    "content stream attends": (query_LL | np.eye(L, dtype=bool))[targets_P],
    "influence on a prediction": influence_PL,
}
figure, axes = plt.subplots(1, 3, figsize=(14, 4.4), sharey=True)
for axis, (name, matrix_PL) in zip(axes, panels.items(), strict=True):
    axis.imshow(matrix_PL, vmin=0, vmax=1.3 * np.max(matrix_PL))
    axis.set_xticks(range(L), SENTENCE, rotation=90)
    axis.set(title=name, xlabel="word attended to")
    axis.grid(visible=False)
axes[2].set_xlabel("word exchanged")
axes[0].set_yticks(range(len(targets_P)), [f"{SENTENCE[i]} ({place_L[i]})" for i in targets_P])
axes[0].set_ylabel("word (place in the order)")
plt.show()
own_P = influence_PL[np.arange(len(targets_P)), targets_P]
print(f"influence of a word on its own prediction: {own_P.max()}")
assert (own_P == 0).all()
assert ((influence_PL > 0) == query_LL[targets_P]).all()
context = (~is_target_L).sum()
assert [query_LL[i].sum() for i in targets_P] == [context + place_L[i] - 1 for i in targets_P]
behind = np.triu(query_LL, 1)[:, is_target_L].sum()
assert 0 < behind < query_LL[:, is_target_L].sum()  # targets on both sides

# %% [markdown]
# Positions are relative, those of Transformer-XL: the score of a query $i$ and a key $j$ is
# $(q_i + u) \cdot k_j + (q_i + v) \cdot r_{i-j}$, where $r$ encodes the distance. So there is no
# table of positions, and no longest text.

# %%
# P2
read = jax.jit(lambda params, tokens_BL: model.apply({"params": params}, tokens_BL, mutable=True))
_, sown = read(params, tokens_BL)
weights = {path: x for path, x in flatten(sown["intermediates"]).items() if "blocks_0" in path}
(weight_HLL,) = (x[0] for path, x in weights.items() if "mix/attention" in path)
p = params["trunk"]["blocks_0"]["attention"]
x_LD = params["trunk"]["token_embedding"]["embedding"][tokens_BL[0]]
r_RD = distances(L, L, config.width)  # distances L, L - 1, ..., 1 - L
for head in range(config.num_heads):
    q_LK, k_LK, r_RK = (
        x @ p[name]["kernel"][:, head]
        for name, x in (("query", x_LD), ("key", x_LD), ("position", r_RD))
    )
    content_LL = (q_LK + p["content_bias"][head]) @ k_LK.T
    distance_LR = (q_LK + p["position_bias"][head]) @ r_RK.T
    i, j = np.indices((L, L))
    score_LL = (content_LL + distance_LR[i, L - (i - j)]) / config.head_width**0.5
    by_hand_LL = jax.nn.softmax(score_LL)
    print(
        f"head {head + 1}, largest difference: {jnp.abs(by_hand_LL - weight_HLL[head]).max():.1e}"
    )
    np.testing.assert_allclose(by_hand_LL, weight_HLL[head], atol=1e-4)
assert not any("position_embedding" in path for path in flatten(params))
long_BL = jnp.tile(tokens_BL, (1, 100))
assert long_BL.shape[1] > config.max_length
assert jax.eval_shape(model.apply, {"params": params}, long_BL).shape == (1, 100 * L, V)
assert weight_HLL.std() > 0.01  # not just equal weights

# %% [markdown]
# ## ALBERT: fewer parameters
#
# ALBERT (Lan et al. 2019, [arXiv:1909.11942](https://arxiv.org/abs/1909.11942)) does two things to
# BERT's parameters. A table of $V \times E$ and a projection $E \times D$ replace the table of
# $V \times D$; and all layers share one block. Each by itself, at the base size (the paper's table
# 3 has 108, 89, 31 and 12 million):


# %%
# P3
def count(config):
    """Return the number of parameters of the trunk, from their shapes."""
    leaves = jax.tree.leaves(abstract(albert.AlbertTrunk(config)))
    return sum(x.size for x in leaves)


base = albert.SIZES["albert-base-v1"]
PAPER = {(768, 12): 108, (128, 12): 89, (768, 1): 31, (128, 1): 12}
millions = {}
for width, blocks in PAPER:
    config = replace(base, embed_width=width, num_groups=blocks)
    millions[width, blocks] = count(config) / 1e6
    print(f"E = {width}, {blocks:2} different blocks: {millions[width, blocks]:5.1f} M parameters")
factorized = millions[768, 12] - millions[128, 12]
shared = millions[768, 12] - millions[768, 1]
print(f"the factorized table saves {factorized:.1f} M, the shared block {shared:.1f} M")
assert all(abs(millions[key] - value) < 1.2 for key, value in PAPER.items())
assert abs(factorized - (30_000 * (768 - 128) + 514 * 640 + 2 * 640 + 640 * 768) / 1e6) < 0.001
assert abs(shared - 11 * (4 * (768**2 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768) / 1e6) < 0.001

# %% [markdown]
# Fewer parameters are not less work: a shared block is applied as often.


# %%
# P3
def forward_flop(config):
    """Return the FLOP of reading 128 tokens."""
    model = albert.AlbertTrunk(config)
    tokens_BL = jax.ShapeDtypeStruct((1, 128), jnp.int32)
    read = jax.make_jaxpr(lambda params, x: model.apply({"params": params}, x))
    return matrix_flops(read(abstract(model), tokens_BL).jaxpr)


work = {blocks: forward_flop(replace(base, num_groups=blocks)) for blocks in (12, 1)}
print(f"reading 128 tokens: {work[12]:.3g} FLOP with 12 different blocks, {work[1]:.3g} with one")
assert work[1] == work[12] > 1e10

# %% [markdown]
# ## T5: text to text
#
# T5 (Raffel et al. 2019, [arXiv:1910.10683](https://arxiv.org/abs/1910.10683)) is an encoder and a
# decoder, and every task is text in, text out: there is no new head. In pretraining, spans are
# removed. A sentinel stands for each, and the target is what they were.

# %%
if not SMALL:
    show(example.example(recipe("t5-tiny"), 48, seed=1), "Spans before and after")

# %%
# P4
run = prepared("t5")
objective = run.objective


def restored(inputs, targets):
    """Return the text with the spans of the targets in the place of the sentinels."""
    spans, number = {}, None
    for token in targets[:-1]:  # the last one ends the text
        number = int(token) if objective.first_sentinel - token in range(100) else number
        spans.setdefault(number, []).append(int(token))
    return [
        x for token in inputs[:-1] for x in (spans[int(token)][1:] if token in spans else [token])
    ]


batch = run.train_batches(0)
keys = jax.random.split(jax.random.key(0), len(batch["tokens"]))
after = jax.tree.map(np.asarray, jax.jit(jax.vmap(objective.corrupt))(keys, batch))
removed = []
for row in range(len(batch["tokens"])):
    inputs = after["tokens"][row][after["documents"][row] > 0]
    targets = after["targets"][row][after["weights"]["token"][row] > 0]
    before = batch["tokens"][row][batch["mask"][row]]
    assert restored(inputs, targets) == before.tolist()
    spans = np.isin(targets, objective.first_sentinel - np.arange(100)).sum()
    removed.append(((len(targets) - spans - 1) / len(before), (len(targets) - spans - 1) / spans))
share, length = np.mean(removed, 0)
print(f"{share:.1%} of the tokens are removed, in spans of {length:.1f} on average")
assert abs(share - 0.15) < 0.02
assert 2.5 < length < 3.5
if not SMALL:
    loaded, new = load_for_task(folder / "t5", "text-to-text", ())
    assert new == []  # nothing is added for the task
    tuned = zoo.load(folder / "t5-kinds")
    asked = test[::3]
    answers = [answer.strip() for answer in zoo.translate(tuned, [x.text for x in asked], beams=1)]
    for x, answer in list(zip(asked, answers, strict=True))[::9]:
        print(f"{x.text} -> {answer} ({x.label})")
    known = {x.label for x in train}
    print(f"answers that are a label: {np.mean([answer in known for answer in answers]):.0%}")
    assert np.mean([answer in known for answer in answers]) > 0.9

# %% [markdown]
# ## ELECTRA: which tokens were replaced
#
# ELECTRA (Clark et al. 2020, [arXiv:2003.10555](https://arxiv.org/abs/2003.10555)) has a small
# generator, a masked language model, that writes into the gaps. The discriminator, which is kept,
# tells for every token whether it was replaced. So it learns from all tokens, not from 15 %. Where
# the generator guessed the token, it counts as original.

# %%
# P5
run = prepared("electra")
electra = zoo.load(folder / "electra")
apply = jax.jit(
    lambda method, *inputs: electra.model.apply({"params": electra.params}, *inputs, method=method),
    static_argnums=0,
)
truth, found, learned = [], [], []
for number in range(1 if SMALL else min(10, len(run.held_out_batches))):
    batch = run.held_out_batches(number)
    keys = jax.random.split(jax.random.key(number), len(batch["tokens"]))
    after = jax.jit(jax.vmap(run.objective.corrupt))(keys, batch)
    read_BL, used_BP = np.asarray(after["hidden"]), np.asarray(after["weights"]["masked"]) > 0
    places_BP, segments_BL = np.asarray(after["predictions"]), after["segments"]
    logits_BPV = apply("fill", read_BL, segments_BL, places_BP, after["documents"])
    drawn_BP = np.asarray(jax.random.categorical(jax.random.key(number), logits_BPV))
    written_BL = batch["tokens"].copy()
    for row, (places, used, drawn) in enumerate(zip(places_BP, used_BP, drawn_BP, strict=True)):
        written_BL[row, places[used]] = drawn[used]
    logits_BL = apply("detect", written_BL, segments_BL, after["documents"])
    real_BL, replaced_BL = batch["mask"], written_BL != batch["tokens"]
    truth.append(replaced_BL[real_BL])
    found.append(np.asarray(jax.nn.sigmoid(logits_BL))[real_BL])
    learned.append(used_BP.sum() / real_BL.sum())
    if number == 0:
        kept = batch, read_BL, places_BP, used_BP, written_BL, np.asarray(jax.nn.sigmoid(logits_BL))
truth, found = np.concatenate(truth), np.concatenate(found)
area = roc_auc_score(truth, found)
print(f"the generator is trained on {np.mean(learned):.1%} of the tokens, the discriminator on all")
print(f"{truth.mean():.1%} of the tokens were replaced; area under the ROC curve: {area:.3f}")
right = ((found > 0.5) == truth).mean()
print(f"right about a token: {right:.1%}; with the answer no for all: {1 - truth.mean():.1%}")
assert abs(np.mean(learned) - 0.15) < 0.02
assert SMALL or truth.mean() < np.mean(learned)  # some guesses were right
after = after["weights"]
assert (np.asarray(after["replaced"]) == real_BL).all()  # every token has a loss
assert SMALL or area > 0.6

# %%
batch, read_BL, places_BP, used_BP, written_BL, found_BL = kept
row = int(np.argmax([(batch["mask"][i].sum() > 60) for i in range(len(read_BL))]))
SHOWN = 60
name = lambda ids: [electra.tokenizer.id_to_token(int(i)) for i in ids[:SHOWN]]
chosen_here = set(places_BP[row][used_BP[row]].tolist())
differs = written_BL[row] != batch["tokens"][row]
mark = lambda i: "random" if differs[i] else "kept" if i in chosen_here else "plain"
lines = [
    Line("text", [Cell(x) for x in name(batch["tokens"][row])]),
    Line(
        "generator reads",
        [
            Cell(x, "masked" if i in chosen_here else "plain")
            for i, x in enumerate(name(read_BL[row]))
        ],
    ),
    Line("generator wrote", [Cell(x, mark(i)) for i, x in enumerate(name(written_BL[row]))]),
    Line(
        "replaced, in %",
        [Cell(f"{100 * x:.0f}", "target" if x > 0.5 else "plain") for x in found_BL[row][:SHOWN]],
    ),
]
notes = ["The last line is the discriminator's probability that the token was replaced."]
show(Example([lines], notes), "What the generator wrote, and what the discriminator found")

# %%
print(describe())
