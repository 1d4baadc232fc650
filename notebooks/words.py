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
# # Words as numbers: one-hot vectors, ids and embeddings
#
# A model reads numbers. The same three words are shown in the three representations of the lecture
# notes: as one-hot vectors, as integer ids, and as embeddings, which word2vec learns from a text.

# %%
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

import zoo
from train.data.sources import builtin
from train.pretraining.pretrain import pretrain
from train.recipes import recipe
from zoo.tokenizers import units

EPOCHS = float(os.environ.get("ZOO_EPOCHS", "15"))  # a minute on two cores
print("jax", jax.__version__, "zoo", zoo.__version__)

# %% [markdown]
# ## One-hot vectors
#
# The vocabulary of a sentence, and one row per word with a 1 in the column of the word. All rows
# are equally far from each other, and they are as wide as the vocabulary.

# %%
sentence = "the cat sat on the mat"
tokenizer = units.words(sorted(set(sentence.split())))
three_words = "cat sat mat"
print("columns:", *sorted(set(sentence.split())))
print(zoo.one_hot(tokenizer, three_words))

# %% [markdown]
# The sum of the one-hot vectors of a text is its bag of words, which forgets their order.

# %%
print(zoo.bag_of_words(tokenizer, sentence))

# %% [markdown]
# ## Integer ids
#
# One number per word is dense, but the numbers are arbitrary: their order means nothing.

# %%
print("the sentence:", tokenizer.encode(sentence).ids)
print("three words: ", tokenizer.encode(three_words).ids)

# %% [markdown]
# ## Embeddings
#
# A table with one row per word is looked up by id. Its values are learned. Here skip-gram learns
# them from the built-in corpus, the documentation of Python, so its words are about programs.


# %%
def train(width):
    """Train skip-gram vectors of a width on the built-in corpus."""
    skip_gram = recipe("skip-gram-tiny")
    config = replace(skip_gram.config, width=width)
    out = Path(tempfile.mkdtemp())
    metrics = pretrain(replace(skip_gram, config=config, epochs=EPOCHS), builtin.read(), out)
    return zoo.load(out), metrics


vectors, metrics = train(100)
np.set_printoptions(precision=2, suppress=True)
print(zoo.embed_words(vectors, "list tuple returns")[:, :8])

# %% [markdown]
# Similar words have similar vectors: the cosine tells a list from a tuple less than from a verb.

# %%
for pair in (("list", "tuple"), ("list", "returns"), ("integer", "float")):
    print(*pair, round(zoo.similarity(vectors, *pair), 2))
for word in ("list", "error", "file"):
    print(word, "->", ", ".join(other for other, _ in zoo.neighbors(vectors, word, 6)))

# %% [markdown]
# ## The width of an embedding
#
# The width is chosen, not learned. A wider table predicts neighbours better until the text has no
# more to teach it; the loss is that of held-out text, in nats per pair of words.

# %%
widths = (2, 10, 50)
losses = [train(width)[1]["loss"] for width in widths] + [metrics["loss"]]
plt.figure(figsize=(5, 3))
plt.plot([*widths, 100], losses, "o-")
plt.xscale("log")
plt.xlabel("width")
plt.ylabel("held-out loss per pair")
plt.title("skip-gram on the built-in corpus")
plt.show()
print({width: round(loss, 3) for width, loss in zip([*widths, 100], losses, strict=True)})
