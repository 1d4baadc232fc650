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
# # Words as vectors
#
# A model reads numbers, so a word has to become some. Three ways are shown: one-hot vectors,
# integers, and embeddings, which CBOW, skip-gram, GloVe and fastText learn from WikiText-2, or
# from the documentation of Python where there is no other text.

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
import tempfile
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import zoo
from train.data import cooccurrences
from train.data.sources import builtin, text
from train.metrics import word_vectors
from train.pretraining import corpus
from train.pretraining.pretrain import pretrain
from train.pretraining.run import prepare
from train.recipes import recipe
from train.reporting.manifest import describe
from zoo.tokenizers import units

plt.style.use("train.reporting.zoo")
DATA = Path(os.environ.get("ZOO_DATA", ""))


def train(name, source, config=None, **fields):
    """Return a model of word vectors and its held-out loss."""
    run = replace(recipe(name), **fields)
    run = replace(run, config=replace(run.config, **config or {}))
    out = Path(tempfile.mkdtemp())
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        metrics = pretrain(run, source, out)
    return zoo.load(out), metrics["loss"]


# %% [markdown]
# ## One-hot vectors
#
# The vocabulary is the columns, and each word of "The cat sat on the mat" a row with a single 1.
# Their sum is the vector of the sentence, its bag of words: it forgets the order.

# %%
# W1
sentence = "The cat sat on the mat"
vocabulary = ["cat", "mat", "on", "sat", "the"]
tokenizer = units.lowercased(units.words(vocabulary))
x_LV = zoo.one_hot(tokenizer, sentence)
for word, x_V in zip(sentence.split(), x_LV.astype(int), strict=True):
    print(f"{word:>4}", x_V)
assert (x_LV.sum(1) == 1).all()
assert (x_LV.argmax(1) == [4, 0, 3, 2, 4, 1]).all()
different = x_LV[:4]  # any two different words are equally far from each other
distances = np.linalg.norm(different[:, None] - different, axis=-1)[~np.eye(4, dtype=bool)]
assert np.allclose(distances, 2**0.5)
zeros = zoo.one_hot(units.words([str(number) for number in range(20_000)]), "0 1 2") == 0
print(f"zeros in a vocabulary of 20,000 words: {zeros.mean():.3%}")
assert zeros.mean() > 0.9999

# %%
# W5
bag_V = zoo.bag_of_words(tokenizer, sentence)
print(dict(zip(vocabulary, bag_V.astype(int).tolist(), strict=True)))
assert (bag_V == x_LV.sum(0)).all()
assert (bag_V == zoo.bag_of_words(tokenizer, "the mat sat on the cat")).all()

# %% [markdown]
# ## Integers
#
# One number per word is dense, but arbitrary: another order of the vocabulary gives other
# distances between the same words. And a function of an integer has no gradient with respect to
# it.

# %%
# W2
ids = tokenizer.encode(sentence).ids
other = units.lowercased(units.words(["the", "on", "cat", "sat", "mat"])).encode(sentence).ids
print(ids, other)
closer = lambda ids: abs(ids[1] - ids[5]) < abs(ids[1] - ids[3])  # cat: to mat, or to on?
assert closer(ids) != closer(other)
try:
    jax.grad(lambda id: 0.5 * id)(jnp.array(ids[1]))
    is_trainable = True
except TypeError:
    is_trainable = False
assert not is_trainable

# %% [markdown]
# ## Embeddings
#
# A table `E_VD` of floating-point numbers with a row per word. Looking a word up is the product
# of its one-hot vector and the table, so the rows have gradients: those of the words that were
# read.

# %%
E_VD = jax.random.normal(jax.random.key(0), (5, 8))
gradient_VD = jax.grad(lambda E_VD: (x_LV[1:2] @ E_VD).sum())(E_VD)
assert np.allclose(x_LV @ E_VD, E_VD[np.array(ids)], atol=1e-6)
assert np.flatnonzero(np.abs(gradient_VD).sum(1)).tolist() == [vocabulary.index("cat")]

figure, axes = plt.subplots(1, 3, figsize=(10, 3.2))
panels = {
    "one-hot, x_LV": x_LV,
    "integers": np.array(ids)[:, None],
    "embeddings, x_LD": x_LV @ E_VD,
}
for axis, (title, values) in zip(axes, panels.items(), strict=True):
    axis.imshow(values, aspect="auto")
    axis.set(title=title, yticks=range(6), yticklabels=sentence.split(), xticks=[])
    axis.grid(visible=False)
axes[0].set(xticks=range(5), xticklabels=vocabulary, xlabel="vocabulary")
axes[1].set(xlabel="one number")
axes[2].set(xlabel="width (before training)")
for row, id in enumerate(ids):
    axes[1].text(0, row, id, ha="center", va="center", color="white" if id > 2 else "black")
plt.show()

# %% [markdown]
# ## Windows: CBOW and skip-gram
#
# Skip-gram predicts each word of a window from the word in its middle; CBOW predicts the word in
# the middle from the mean of the others. What is outside of the window is never seen together.

# %%
# W6
lines = text.strings([sentence.lower()] * 4)
skip_gram = replace(recipe("skip-gram-tiny"), window=2, min_count=1, sample=1.0, batch=1)
run = prepare(skip_gram, lines, Path(tempfile.mkdtemp()), dev=lines)
block = run.objective.block(run.train_batches(0), 0)
names = [run.tokenizer.id_to_token(int(id)) for id in block["words"][0, 2:]]
pairs = [(n, m - 2) for n, m in np.argwhere(np.asarray(block["context"][0])) if n < 6 and m < 8]
print(", ".join(f"{names[n]}-{names[m]}" for n, m in pairs))
assert {abs(n - m) for n, m in pairs} == {1, 2}

# %%
file = DATA / "lm_wikitext2" / "wiki.train.tokens.gz"
if os.environ.get("ZOO_DATA") and file.is_file():
    content = gzip.decompress(file.read_bytes()).decode("utf-8")
    documents = content.lower().split("\n \n = ")
    GROUPS = {
        "months": "january march june july october december",
        "countries": "france germany italy russia spain japan",
        "music": "album song guitar vocals lyrics band",
        "water": "river lake coast sea island creek",
        "family": "father mother son daughter brother wife",
    }
    example, ratio = ("king", "bank", "album"), ("river", "album", "water", "north", "song", "new")
else:
    documents = builtin.documents()
    GROUPS = {
        "types": "list tuple dict set string integer",
        "errors": "valueerror typeerror keyerror oserror indexerror attributeerror",
        "files": "file directory path filename stream folder",
        "network": "server client socket connection port host",
        "classes": "class subclass method instance attribute object",
    }
    documents = [document.lower() for document in documents]
    example, ratio = ("list", "bank", "file"), ("file", "list", "open", "items", "the")
source = text.strings(documents[:40] if SMALL else documents)
EPOCHS = 1 if SMALL else 5
models = {
    "CBOW": train("word2vec-tiny", source, epochs=EPOCHS)[0],
    "skip-gram": train("skip-gram-tiny", source, epochs=EPOCHS)[0],
    "GloVe": train("glove-tiny", source, epochs=10)[0],
    "fastText": train("fasttext-tiny", source, epochs=EPOCHS)[0],
}
indices = {name: zoo.word_index(model) for name, model in models.items()}
for word in example:
    for name, index in indices.items():
        if word in index.rows:
            print(f"{name:>10}: {word} ->", ", ".join(w for w, _ in zoo.neighbors(index, word, 6)))

# %%
# W3
words = [word for group in GROUPS.values() for word in group.split()]
colors = np.repeat(np.arange(len(GROUPS)), 6)
figure, axes = plt.subplots(2, 2, figsize=(10, 8.5))
for axis, (name, index) in zip(axes.flat, indices.items(), strict=True):
    known = [word in index.rows for word in words]
    x_ND = index.units_ND[[index.rows[word] for word in words if word in index.rows]]
    group_N = colors[known]
    cosines_NN = x_ND @ x_ND.T - 2 * np.eye(len(x_ND))
    near = (group_N[cosines_NN.argmax(1)] == group_N).mean()
    x_ND = x_ND - x_ND.mean(0)
    x_N2 = x_ND @ np.linalg.svd(x_ND, full_matrices=False)[2][:2].T
    for number, group in enumerate(GROUPS):
        axis.scatter(*x_N2[group_N == number].T, color=f"C{number}", label=group)
    for word, point in zip(np.array(words)[known], x_N2, strict=True):
        axis.annotate(word, point, xytext=(4, 3), textcoords="offset points", fontsize=9)
    axis.set(title=f"{name}: {near:.0%} of nearest words in the group", xticks=[], yticks=[])
    axis.set(xlabel="first principal component", ylabel="second principal component")
    assert x_ND.shape[1] == index.loaded.model.config.width == 100
    assert SMALL or near > 0.5  # by chance 0.17
figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
plt.show()

# %% [markdown]
# The width of the table is chosen, not learned.

# %%
widths = (2, 50) if SMALL else (2, 10, 50, 100)
losses = [train("word2vec-tiny", source, {"width": D}, epochs=2)[1] for D in widths]
figure, axis = plt.subplots(figsize=(5, 3))
axis.plot(widths, losses, "o-")
axis.set(xscale="log", xticks=widths, xticklabels=widths, xlabel="width of the vectors, D")
axis.set(title="CBOW by width", ylabel="held-out loss (nats per pair)")
plt.show()
assert SMALL or losses[0] > losses[2] + 0.01

# %% [markdown]
# ## king - man + woman
#
# Where words differ in two respects, such as rank and sex, the differences of their vectors do
# too. A text of a court in which nothing else happens shows it exactly; WikiText-2, with two
# million words, in part: many questions of the set that came with word2vec are solved, this one
# is not.

# %%
# W4
draw = np.random.default_rng(0)
NOUNS = {
    "royal": "king queen",
    "common": "man woman",
    "heir": "prince princess",
    "child": "boy girl",
}
ABOUT = {
    "royal": "crown throne palace reign",
    "common": "work street bread tax",
    "heir": "castle horse ball heritage",
    "child": "school toy play milk",
}
SEXES = ("he his him himself", "she her hers herself")
court = []
for _ in range(1_000 if SMALL else 4_000):
    rank, sex = draw.choice(list(NOUNS)), draw.integers(2)
    around = [*draw.choice(ABOUT[rank].split(), 2), *draw.choice(SEXES[sex].split(), 2)]
    around = draw.permutation(around).tolist()
    court.append(" ".join([*around[:2], NOUNS[rank].split()[sex], *around[2:]]))
lines = text.strings(["\n".join(court)])
royal, _ = train("skip-gram-tiny", lines, {"width": 16}, epochs=40, sample=1.0, batch=1)
print(zoo.analogy(royal, "man", "king", "woman", 3))
print(zoo.analogy(royal, "boy", "prince", "girl", 3))
assert zoo.analogy(royal, "man", "king", "woman")[0][0] == "queen"
assert zoo.analogy(royal, "boy", "prince", "girl")[0][0] == "princess"

# %%
questions = DATA / "emb_eval" / "questions-words.txt"
if not SMALL and os.environ.get("ZOO_DATA") and questions.is_file():
    for name, index in indices.items():
        solved = word_vectors.analogies(index, questions)["family"]
        print(f"{name:>10}: {solved.correct} of {solved.questions} analogies of families;", end=" ")
        assert solved.fraction > 0.05  # by chance 1 of 20,000
        print("king - man + woman:", [w for w, _ in zoo.analogy(index, "man", "king", "woman", 4)])

# %% [markdown]
# ## GloVe: counts of the whole text
#
# GloVe first counts how often two words are near each other, `X_ij`, in the whole text, and then
# fits `w_i . c_j + b_i + b_j = ln X_ij`. So the difference of two vectors times a third is the
# logarithm of a ratio of co-occurrences: large where the third word belongs to the first alone,
# near 0 where it belongs to both or to none.

# %%
# W7
loaded = models["GloVe"]
glove = replace(recipe("glove-tiny"), config=loaded.model.config)
with contextlib.redirect_stderr(io.StringIO()):
    tokens = corpus.corpus(glove, source, loaded.tokenizer)
    records = cooccurrences.records(
        tokens, glove.for_text(loaded.tokenizer, tokens).rule(loaded.tokenizer)
    )
log_counts = lambda i, j: np.asarray(
    loaded.model.apply({"params": loaded.params}, jnp.array(i), jnp.array(j), method="log_counts")
)
some = records[records["count"] >= 2][:100_000]
fit = np.corrcoef(log_counts(some["first"], some["second"]), np.log(some["count"]))[0, 1]
print(f"{len(records):,} pairs counted; correlation of w . c + b + b with ln X: {fit:.2f}")
assert SMALL or fit > 0.8

# %%
X = {(i, j): x for i, j, x in records.tolist()}
id = loaded.tokenizer.token_to_id
count = lambda a, b: X.get(tuple(sorted((id(a), id(b)))), float("nan"))
one, two, *others = ratio
for other in others if not SMALL else ():
    counted = np.log(count(one, other) / count(two, other))
    fitted = log_counts([id(one)], [id(other)])[0] - log_counts([id(two)], [id(other)])[0]
    if np.isfinite(counted):
        print(
            f"ln X({one}, {other}) / X({two}, {other}): counted {counted:.1f}, fitted {fitted:.1f}"
        )

# %% [markdown]
# ## fastText: words that are not in the vocabulary
#
# A vector of fastText is the mean of those of the n-grams of its letters, so that every word has
# one. Words of the vocabulary without one of their letters stand for new ones here: is the right
# word among the five nearest? The other models have no vector for them.

# %%
# W6, W7, W8
fasttext = indices["fastText"]
long = [w for w in fasttext.words if w.isalpha() and len(w) >= 8][: 20 if SMALL else 200]
misspelt = {w[: len(w) // 2] + w[len(w) // 2 + 1 :]: w for w in long}
misspelt = {new: w for new, w in misspelt.items() if new not in fasttext.rows}
found = [w in dict(zoo.neighbors(fasttext, new, 5)) for new, w in misspelt.items()]
for new in list(misspelt)[:4]:
    print(f"{new} ->", ", ".join(w for w, _ in zoo.neighbors(fasttext, new, 4)))
print(f"right word found: {np.mean(found):.0%}")
assert np.mean(found) > 0.7
for name in ("CBOW", "skip-gram", "GloVe"):
    try:
        zoo.neighbors(indices[name], new)
        is_known = True
    except ValueError as error:
        print(f"{name}: {error}")
        is_known = False
    assert not is_known

# %% [markdown]
# ## One vector for two banks
#
# All of these vectors are static: a word has the same one in every sentence, for all of its
# meanings.

# %%
# W9
money = "i deposited 100 eur in the bank ."
river = "she was enjoying the sunset on the left bank of the river ."
for name, model in models.items():
    one_LD, other_LD = zoo.embed_words(model, [money, river])
    one_D, other_D = one_LD[money.split().index("bank")], other_LD[river.split().index("bank")]
    print(f"{name:>10}: difference of the two vectors of bank: {np.abs(one_D - other_D).max()}")
    assert (one_D == other_D).all()

# %%
print(describe())
