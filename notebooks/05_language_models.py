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
# # Language models
#
# A language model predicts the next token of a text. N-grams count, a fixed window and a
# recurrent network learn vectors, WaveNet and ByteNet convolve: all of them on one text, measured
# by perplexity, and by what they read of the past.

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
import re
import tempfile
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import zoo
from train.counting.loop import pretrain as count
from train.data.sources import builtin, text
from train.pretraining.pretrain import pretrain
from train.recipes import recipe
from train.recipes.ngram import NGramRecipe
from train.reporting.manifest import describe
from zoo.models import wavenet

plt.style.use("train.reporting.zoo")
DATA = Path(os.environ.get("ZOO_DATA", "nowhere"))


def read(path):
    """Return a text of ZOO_DATA, or else the built-in one."""
    if (DATA / path).is_file():
        return gzip.decompress((DATA / path).read_bytes()).decode("utf-8")
    return "\n".join(builtin.documents())


def count_ngrams(train, dev, **fields):
    """Return an n-gram model, its folder, and its evaluation on held-out text."""
    out, quiet = Path(tempfile.mkdtemp()), io.StringIO()
    with contextlib.redirect_stderr(quiet):
        sources = text.strings([train]), text.strings([dev])
        result = count(
            NGramRecipe(**fields), sources[0], out, dev=sources[1], report=lambda line: None
        )
    return zoo.load(out), out, result


# %% [markdown]
# ## The probability of a text
#
# A language model gives every next token a probability, `p(x_t | x_1 .. x_t-1)`; that of a text
# is the product. The characters of Shakespeare are the tokens; the last two thousand lines are
# held out.

# %%
shakespeare = read("lm_tinyshakespeare/input.txt.gz")[-100_000 if SMALL else -1_100_000 :]
length = 4_000 if SMALL else 20_000
train_text, dev_text = shakespeare[:-length], shakespeare[-length:]
characters, folder, result = count_ngrams(train_text, dev_text, units="character", order=5)
print(zoo.next_tokens(characters, "the king", 5))

# %%
# L1
line = "To be, or not"
V = characters.model.config.vocab_size
distributions = [dict(zoo.next_tokens(characters, line[:t], V)) for t in range(1, len(line))]
assert all(abs(sum(p_V.values()) - 1) < 1e-3 for p_V in distributions)
product = sum(np.log(p_V[x]) for p_V, x in zip(distributions, line[1:], strict=True))
print(f"ln p({line}) = {product:.3f}, given its first character")
score = zoo.score(characters, line)
assert abs(sum(score.log_probabilities[-len(distributions) :]) - product) < 1e-2

# %% [markdown]
# ## N-grams: count ratios
#
# The Markov assumption: the last n - 1 tokens are all of the history that matters. Then `p(w | h)
# = count(h w) / count(h)`, which is what the model has without smoothing.

# %%
# L3
ratio_text = train_text[:20_000]
raw, _, _ = count_ngrams(
    ratio_text, dev_text[:2000], units="character", order=2, estimator="add-k=1e-9"
)
bigrams, unigrams = Counter(pairwise(ratio_text)), Counter(ratio_text[:-1])
for next_token, p in zoo.next_tokens(raw, "q", 3) + zoo.next_tokens(raw, "t", 3):
    before = "q" if next_token == "u" else "t"
    counted = bigrams[before, next_token] / unigrams[before]
    if counted:
        print(f"p({next_token!r} | {before}) = {p:.4f}, counted {counted:.4f}")
for h in "eth":
    for w, p in zoo.next_tokens(raw, h, 5):
        assert abs(p - bigrams[h, w] / unigrams[h]) < 1e-3
near, far = (zoo.next_tokens(characters, history + " the") for history in ("To", "Romeo and"))
assert near == far  # four characters of history are the same

# %% [markdown]
# ## Sparsity
#
# Most long n-grams of a new text were never seen, and the tables grow with n. Without smoothing
# one of them makes the probability of the text 0. These are words of WikiText-2.

# %%
# L4
wiki = read("lm_wikitext2/wiki.train.tokens.gz")[: 300_000 if SMALL else None]
dev = len(wiki) // 50
_, _, words = count_ngrams(wiki[:-dev], wiki[-dev:], order=5)
unseen = [row.unseen for row in words.orders]
ngrams = [row.ngrams for row in words.orders]
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5))
left.bar(range(1, 6), unseen)
left.set(
    title="N-grams of held-out text that were never seen", xlabel="n", ylabel="share", ylim=(0, 1)
)
right.bar(range(1, 6), ngrams, color="C1")
right.set(title="Size of the tables", xlabel="n", ylabel="n-grams stored")
plt.show()
print(
    f"perplexity per word with back-off and modified Kneser-Ney: {words.metrics['perplexity']:.1f}"
)
assert unseen[1:] == sorted(unseen[1:])
assert unseen[4] > 0.5
assert ngrams == sorted(ngrams)

# %% [markdown]
# ## Neural language models
#
# Look up embeddings, predict features, project to the vocabulary. A fixed window concatenates the
# last N embeddings; a recurrent network carries a state; WaveNet and ByteNet convolve over the
# past. All are trained on the same characters, with the same number of steps.


# %%
def train(name, **config):
    """Return a language model of characters and its held-out loss."""
    run = recipe(name)
    run = replace(run, config=replace(run.config, vocab_size=V, **config), steps=STEPS)
    run = replace(run, batch=16, length=128, evaluate_every=STEPS, save_every=STEPS)
    out, sources = Path(tempfile.mkdtemp()), (text.strings([train_text]), text.strings([dev_text]))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        metrics = pretrain(run, sources[0], out, dev=sources[1], tokenizer=folder)
    return zoo.load(out), metrics["loss"]


STEPS = 5 if SMALL else 300
width = {"width": 64, "num_layers": 2 if SMALL else 5}
models = {"5-gram": (characters, result.metrics["loss"])}
models["fixed window"] = train("fixed-window-tiny", width=256, embed_width=16, window=8)
models["RNN"] = train("rnn-lm-tiny", width=192, embed_width=64)
models["WaveNet"] = train("wavenet-tiny", **width, gate_width=64, skip_width=64, max_dilation=16)
models["ByteNet"] = train("bytenet-tiny", **width, max_dilation=4)

# %%
# L5
loaded = models["fixed window"][0]
params, ids = loaded.params, np.array(loaded.tokenizer.encode("the king").ids)
E_VE = params["trunk"]["token_embedding"]["embedding"]
W, b = params["trunk"]["features"]["up"]["kernel"], params["trunk"]["features"]["up"]["bias"]
U, c = params["head"]["embedding"], params["head"]["bias"]
x_F = E_VE[ids[::-1]].reshape(-1)  # look up: the latest token first
h_D = jnp.tanh(x_F @ W + b)  # predict
logits_V = U @ h_D + c  # project
expected_V = loaded.model.apply({"params": params}, ids[None])[0, -1]
assert np.allclose(logits_V, expected_V, atol=1e-4)
assert (
    loaded.tokenizer.decode([int(logits_V.argmax())])
    == zoo.next_tokens(loaded, "the king", 1)[0][0]
)

# %% [markdown]
# ## Loss and perplexity
#
# The loss of a text is the sum of the cross-entropies of its steps, `-ln p(x_t | x_1 .. x_t-1)`.
# The perplexity, `exp` of their mean, is the number of equally likely tokens among which one
# would be as uncertain: that of a model that knows nothing is the size of the vocabulary.

# %%
# L8
for name, (_, loss) in models.items():
    print(f"{name:>12}: {loss:.3f} nats per character, perplexity {np.exp(loss):.2f}")
loaded = models["RNN"][0]
line = "What's in a name? That which we call a rose"
ids = [loaded.tokenizer.token_to_id("</s>"), *loaded.tokenizer.encode(line).ids]
tokens_BL, targets_L1 = np.array([ids[:-1]]), np.array(ids[1:])[:, None]
log_p_LV = jax.nn.log_softmax(loaded.model.apply({"params": loaded.params}, tokens_BL)[0])
loss = -float(np.take_along_axis(np.array(log_p_LV), targets_L1, 1).sum())
assert abs(loss + zoo.score(loaded, line).total) < 1e-2
nothing = loaded._replace(params=jax.tree.map(jnp.zeros_like, loaded.params))
uniform = np.exp(-np.mean(zoo.score(nothing, line).log_probabilities))
print(f"perplexity of zero weights: {uniform:.2f}; characters: {V}")
assert abs(uniform - V) < 1e-2
assert SMALL or all(loss < 2.5 for _, loss in models.values())  # a unigram model: 3.3

# %% [markdown]
# ## What it is good for
#
# It continues a text, and it separates likely texts from unlikely ones: recognition and
# translation use that to choose among candidates. Here a held-out line competes with its own
# words in another order.

# %%
# L2
shown = {name: models[name] for name in (("5-gram", "RNN") if SMALL else models)}
for name, (loaded, _) in shown.items():
    sample = zoo.generate(
        loaded, "KING ", max_new_tokens=20 if SMALL else 100, temperature=0.7, seed=1
    )
    print(f"--- {name}\n{sample}")
draw = np.random.default_rng(0)
lines = [line for line in dev_text.splitlines() if len(line.split()) > 4][: 10 if SMALL else 100]
shuffled = [" ".join(draw.permutation(line.split())) for line in lines]
for name, (loaded, _) in shown.items():
    right, wrong = (zoo.score(loaded, texts) for texts in (lines, shuffled))
    share = np.mean([a.total > b.total for a, b in zip(right, wrong, strict=True)])
    print(f"{name:>12}: {share:.0%} of lines are more probable than their shuffled words")
    assert SMALL or share > 0.65  # three standard deviations above chance

# %% [markdown]
# ## How far back does a model read?
#
# One character of a text is replaced, and the distribution of the next one compared: half the sum
# of absolute differences. An n-gram and a fixed window see nothing beyond their length, a
# convolution nothing beyond its receptive field; a recurrent network could, but hardly does.


# %%
@partial(jax.jit, static_argnums=0)
def distribution(model, params, tokens_BL):
    """Return the distribution of the token after the last one: p_BV."""
    return jax.nn.softmax(model.apply({"params": params}, tokens_BL)[:, -1])


def influence(loaded, distance, length=64, windows=16 if SMALL else 128):
    """Return the mean change of the next-token distribution."""
    draw = np.random.default_rng(distance)
    ids = np.array(loaded.tokenizer.encode(dev_text).ids)
    starts = draw.integers(0, len(ids) - length, windows)
    tokens_BL = np.stack([ids[start : start + length] for start in starts])
    changed_BL = tokens_BL.copy()
    changed_BL[:, -distance] = draw.choice(ids, windows)
    before_BV, after_BV = (distribution(*loaded[:2], x_BL) for x_BL in (tokens_BL, changed_BL))
    return float(jnp.abs(before_BV - after_BV).sum(-1).mean() / 2)


distances = (1, 2, 3, 4, 5, 8, 9, 16, 24, 32, 48, 60)
reach = {name: [influence(x, n) for n in distances] for name, (x, _) in models.items()}
figure, axis = plt.subplots(figsize=(8, 4))
for name, values in reach.items():
    seen = [(n, value) for n, value in zip(distances, values, strict=True) if value]
    axis.plot(*zip(*seen, strict=True), "o-", label=name)
axis.set(xscale="log", yscale="log", xticks=distances[::2], xticklabels=distances[::2])
axis.set(title="Influence of one character on the next prediction", ylabel="change of distribution")
axis.set(xlabel="distance in characters (a line ends where the influence is exactly 0)")
axis.legend()
plt.show()

# %%
# L6
at = dict(zip(distances, reach["fixed window"], strict=True))
assert at[8] > 0
assert at[9] == at[60] == 0
W_NED = np.asarray(W).reshape(8, 16, -1)  # the weights of the last token, of the one before it, ...
print("norms of the weights by place:", np.linalg.norm(W_NED, axis=(1, 2)).round(1))
cosine = (W_NED[0] * W_NED[1]).sum() / np.linalg.norm(W_NED[0]) / np.linalg.norm(W_NED[1])
assert abs(cosine) < 0.5  # completely different weights for the same character, one place apart

# %%
# L7
rnn, window = models["RNN"][0], models["fixed window"][0]
sequential = lambda x: re.findall(
    r"length=(\d+)",
    str(jax.make_jaxpr(lambda t: x.model.apply({"params": x.params}, t))(tokens_BL)),
)
print("steps one after another:", sequential(rnn), "and without recurrence:", sequential(window))
assert set(sequential(rnn)) == {str(tokens_BL.shape[1])}
assert not sequential(window)
assert np.isfinite(zoo.score(rnn, dev_text[:1000]).total)  # any length, with the same weights
at = dict(zip(distances, reach["RNN"], strict=True))
assert at[60] < at[1] / 20

# %% [markdown]
# ## By position or by content
#
# A convolution weighs a token by its distance alone: what leaves the receptive field is gone.
# Attention weighs it by what it is, wherever it stands: if the history is put in another order,
# the same values are found.

# %%
# A4
field = wavenet.receptive_field(models["WaveNet"][0].model.config)
print("receptive field of WaveNet:", field)
assert all(
    (value > 0) == (n <= field) for n, value in zip(distances, reach["WaveNet"], strict=True)
)
query_BLHK, history_BLHK = (
    jax.random.normal(jax.random.key(n), (1, L, 1, 16)) for n, L in ((0, 1), (1, 40))
)
order = np.random.default_rng(0).permutation(40)
attend = lambda x_BLHK: jax.nn.dot_product_attention(query_BLHK, x_BLHK, x_BLHK)
assert np.allclose(attend(history_BLHK), attend(history_BLHK[:, order]), atol=1e-5)
moved_BL = tokens_BL[:, [*np.random.default_rng(1).permutation(tokens_BL.shape[1] - 1), -1]]
one_BV, other_BV = (distribution(*models["WaveNet"][0][:2], x_BL) for x_BL in (tokens_BL, moved_BL))
assert np.abs(one_BV - other_BV).sum() > (1e-4 if SMALL else 0.1)

# %%
print(describe())
