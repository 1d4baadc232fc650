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
# # Sequence to sequence, and attention
#
# An encoder reads a text into one context vector and a decoder writes another text from it
# (Sutskever et al. 2014). Attention lets the decoder look at every state of the encoder instead
# (Bahdanau et al. 2014, Luong et al. 2015). Both learn to write dates in digits here, so that
# they can be compared and looked into.

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
import gzip
import itertools
import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import zoo
from train.data.sources import dates
from train.reporting.manifest import describe
from zoo.layers.recurrent import Layer
from zoo.layers.seq2seq_attention import SCORES, SourceAttention
from zoo.models import luong, seq2seq
from zoo.tokenizers import units

plt.style.use("train.reporting.zoo")
np.set_printoptions(precision=2, suppress=True)

# %% [markdown]
# ## Two translators
#
# One loop trains both: the loss is the cross-entropy of each next token, given the true tokens
# before it. The token that ends a text also begins the target, as in the notes.

# %%
END = 0
STEPS = 3 if SMALL else 1200


def encode(tokenizer, texts, length=None):
    """Return the padded tokens of texts, each ended, and 1 for tokens and 0 for padding."""
    ids = [[*encoding.ids, END] for encoding in tokenizer.encode_batch(texts)]
    length = length or max(map(len, ids))
    pad = lambda rows: jnp.array([[*row, *[0] * (length - len(row))] for row in rows])
    return pad(ids), pad([[1] * len(row) for row in ids])


SCHEDULE = optax.cosine_decay_schedule(5e-3, STEPS)
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(SCHEDULE))


def loss(params, model, sources_BL, real_BL, targets_BT, weights_BT):
    inputs_BT = jnp.pad(targets_BT, ((0, 0), (1, 0)))[:, :-1]  # END first
    logits_BTV = model.apply({"params": params}, sources_BL, inputs_BT, real_BL)
    losses_BT = optax.softmax_cross_entropy_with_integer_labels(logits_BTV, targets_BT)
    return (losses_BT * weights_BT).sum() / weights_BT.sum()


@partial(jax.jit, static_argnums=0)
def run(model, params, data, keys):
    def learn(state, key):
        params, opt_state = state
        rows = jax.random.randint(key, (32,), 0, len(data[0]))
        gradient = jax.grad(loss)(params, model, *(x[rows] for x in data))
        updates, opt_state = OPTIMIZER.update(gradient, opt_state)
        return (optax.apply_updates(params, updates), opt_state), None

    return jax.lax.scan(learn, (params, OPTIMIZER.init(params)), keys)[0][0]


def train(architecture, tokenizer, pairs):
    """Return a translator that is trained on pairs of texts of up to 11 words."""
    config = architecture.Config(
        vocab_size=tokenizer.get_vocab_size(), num_layers=1, width=64, embed_width=32, dropout=0.0
    )
    model = architecture.Model(config)
    sources, targets = zip(*pairs, strict=True)
    data = *encode(tokenizer, sources, 12), *encode(tokenizer, targets, 12)
    params = jax.jit(model.init)(jax.random.key(0), data[0][:1], data[2][:1])["params"]
    params = run(model, params, data, jax.random.split(jax.random.key(1), STEPS))
    return zoo.Loaded(model, params, tokenizer)


def spaced(text):
    """Return a text in lower case with spaces between its words, digits and marks."""
    return " ".join(re.findall(r"\d|[^\W\d]+|[^\w\s]", text.lower()))


def words(pairs):
    """Return a tokenizer whose tokens are the words of the pairs."""
    known = {word for pair in pairs for text in pair for word in text.split()}
    return units.words([units.END, units.UNKNOWN, *sorted(known)])


pairs = [(spaced(source), spaced(target)) for source, target in dates.read(10_000).pairs()]
pairs = [pair for pair in pairs if len(pair[0].split()) < 12]
tokenizer = words(pairs)
held_out = pairs[-256:]
context_only = train(seq2seq, tokenizer, pairs[:-256])
attentive = train(luong, tokenizer, pairs[:-256])
for source, target in held_out[:4]:
    print(f"{source:44} {target}")

# %% [markdown]
# ## The context vector
#
# Without attention, all that the decoder gets is the encoder's last state, whose size is the number
# of hidden units, however long the text is. (An LSTM passes on its cell as well.) The decoder
# unrolls it: each step reads the word before and returns the next one.

# %%
# R5
model, params, _ = context_only
short, long = "5 May 1999", "Wednesday, 23 September 1998"
for text in map(spaced, (short, long)):
    ((context_BD, cell_BD),) = model.apply(
        {"params": params}, encode(tokenizer, [text])[0], method="encode"
    )
    print(f"{len(text.split())} tokens -> a context vector of {context_BD.shape[1]} numbers")
    assert context_BD.shape == cell_BD.shape == (1, model.config.width)

states, written, token_B = ((context_BD, cell_BD),), [], jnp.array([END])
step = jax.jit(lambda token, states: model.apply({"params": params}, token, states, method="step"))
while len(written) < 12 and (not written or written[-1] != END):
    logits_BV, states = step(token_B, states)
    token_B = logits_BV.argmax(-1)
    written.append(int(token_B[0]))
unrolled = tokenizer.decode([token for token in written if token != END])  # greedy
print("unrolled from it:", unrolled)
assert zoo.translate(context_only, spaced(long), beams=1).startswith(unrolled)

# %% [markdown]
# ## Long texts
#
# One vector holds less of a longer text. The same decoder over the same encoder, with attention,
# does not depend on it. Dates hardly grow with their length, so the second task is plainer: write
# the digits of a number again, of which there are more and more.

# %%
draw = np.random.default_rng(0)
numbers = [" ".join(draw.choice(list("0123456789"), n)) for n in draw.integers(1, 12, 10_000)]
copies = [(number, number) for number in numbers]
copiers = [train(architecture, tokenizer, copies[:-256]) for architecture in (seq2seq, luong)]


def exact(loaded, pairs):
    """Return which texts are translated exactly, and how long each source is."""
    sources = [source for source, _ in pairs]
    predictions = zoo.translate(loaded, sources, beams=1, batch_size=64)
    right = [
        predicted.strip() == target
        for predicted, (_, target) in zip(predictions, pairs, strict=True)
    ]
    return np.array(right), np.array([len(source.split()) for source in sources])


def by_length(right, lengths, bounds):
    """Return the share of exact translations between bounds of the length."""
    groups = itertools.pairwise(bounds)
    return [right[(lengths > low) & (lengths <= high)].mean() for low, high in groups]


TESTED = 32 if SMALL else 256
bounds = {"dates": (5, 7, 8, 9, 11), "digits again": (0, 2, 4, 6, 8, 11)}
tasks = {
    "dates": ((context_only, attentive), held_out),
    "digits again": (copiers, copies[-256:]),
}
shares, totals = {}, {}
for task, (translators, tests) in tasks.items():
    results = [exact(loaded, tests[:TESTED]) for loaded in translators]
    totals[task] = [right.mean() for right, _ in results]
    shares[task] = [by_length(*result, bounds[task]) for result in results]

figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
for axis, (task, (by_context, by_attention)) in zip(axes, shares.items(), strict=True):
    axis.plot(bounds[task][1:], by_attention, "o-", label="attention")
    axis.plot(bounds[task][1:], by_context, "s--", label="context vector")
    axis.set(title=task.capitalize(), xlabel="tokens of the source, up to", ylim=(0, 1.05))
axes[0].set_ylabel("exact match")
axes[1].legend(loc="lower left")
plt.show()

# %%
# R7
for task, (by_context, by_attention) in totals.items():
    print(f"{task}: context vector {by_context:.1%}, attention {by_attention:.1%}")
shortest, *_, longest = shares["digits again"][0]
print(f"digits from a context vector: {shortest:.0%} of the shortest, {longest:.0%} of the longest")
if not SMALL:
    assert shortest - longest > 0.2
    assert shares["digits again"][1][-1] > longest
    assert totals["dates"][1] > totals["dates"][0]

# %% [markdown]
# ## Items of any kind
#
# Nothing above asks what an item is. Words or letters are embedded first; the places of an image
# have vectors already, and attention to them writes captions (Xu et al. 2015). Here the same
# attention has letters, words and the 49 places of an image as its source.

# %%
# R6
embedded_BLE = lambda length: jax.random.normal(jax.random.key(length), (1, length, 32))
sources = {
    "letters": Layer("lstm", 64).init_with_output(jax.random.key(0), embedded_BLE(10))[0][0],
    "words": Layer("lstm", 64).init_with_output(jax.random.key(0), embedded_BLE(3))[0][0],
    "places of an image": jax.random.normal(jax.random.key(1), (1, 7 * 7, 512)),
}
state_BD = jax.random.normal(jax.random.key(2), (1, 64))
for kind, source_BME in sources.items():
    layer = SourceAttention("general", 64, source_BME.shape[-1])
    look = lambda layer, q, source: layer.attend(q, layer.project_keys_values(source))
    context_BE, _ = layer.init_with_output(jax.random.key(3), state_BD, source_BME, method=look)
    print(f"{source_BME.shape[1]} {kind} -> a context of {context_BE.shape[-1]} numbers")
    assert context_BE.shape == (1, source_BME.shape[-1])

# %% [markdown]
# ## Time step #1
#
# The notes' first step of a decoder with attention, one line for each of its seven parts. What they
# leave out is Luong's input feeding: the vector of part 5 is also an input of the next step (zeros
# at the first), so that the decoder knows where it has looked.

# %%
# A1
model, params, _ = attentive
source_BL, _ = encode(tokenizer, [spaced(long)])
(k_BMD, h_BMD, _), (states, fed_BD) = model.apply({"params": params}, source_BL, method="encode")
trunk, head = params["trunk"], params["head"]
y_BE = trunk["target_embedding"]["embedding"][jnp.array([END])]  # 1 takes <END>
states = model.apply(
    {"params": params},
    jnp.concatenate([y_BE, fed_BD], -1),
    states,
    method=lambda model, y, states: model.trunk.decoder.step(y, states),
)
h4_BD = states[-1][0]  # 2 a new state; it is not a word yet
score_BM = jnp.einsum("BD,BMD->BM", h4_BD, h_BMD @ trunk["look"]["scores"]["source"]["kernel"])
a_BM = jax.nn.softmax(score_BM)
c4_BD = jnp.einsum("BM,BMD->BD", a_BM, h_BMD)  # 3 scores, weights, context
both = jnp.concatenate([c4_BD, h4_BD], -1)  # 4 concatenate
x_BD = jnp.tanh(both @ trunk["combine"]["kernel"])  # 5 feed forward
o1_BV = x_BD @ head["embedding"].T + head["bias"]  # 6 the word
word = int(o1_BV.argmax())
real_BL = jnp.ones_like(source_BL)
expected_BV, _ = model.apply({"params": params}, source_BL, real_BL, 1, method="start")
print("first word:", tokenizer.id_to_token(word), " attention:", np.asarray(a_BM[0]))
np.testing.assert_allclose(o1_BV, expected_BV, atol=1e-4)
assert word == int(expected_BV.argmax())  # 7 h4 and the word go into time step #2

# %% [markdown]
# ## Alignment is learned
#
# No one stated which words belong together. The weights of the trained decoder do.


# %%
def draw_alignment(axis, loaded, source, title):
    """Draw the attention of each word of a translation, and return it: weight_TM and its words."""
    target = zoo.translate(loaded, source, beams=1).strip() or "?"
    (layer,) = zoo.attention(loaded, source, target)
    weight_TM = layer.weights[0]
    axis.imshow(weight_TM, vmin=0, vmax=1)
    axis.set_xticks(range(len(layer.columns)), layer.columns, rotation=90)
    axis.set_yticks(range(len(layer.rows)), layer.rows)
    axis.set(title=title)
    axis.grid(visible=False)
    return weight_TM, layer.rows, layer.columns


def french():
    """Return short sentences about people from ZOO_DATA, French and English, if they are there."""
    path = Path(os.environ.get("ZOO_DATA", "")) / "mt_tatoeba_eng_fra" / "train.tsv.gz"
    if SMALL or not path.exists():
        return []
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    pairs = [tuple(map(spaced, line.split("\t")[::-1])) for line in lines]
    person = re.compile("(je suis|tu es|il est|elle est|nous sommes|vous êtes|ils sont) ")
    return [pair for pair in pairs if person.match(pair[0]) and len(" ".join(pair).split()) < 12]


sentences = french()
figure, axes = plt.subplots(1, 1 + bool(sentences), figsize=(11, 4.6), squeeze=False)
drawn = draw_alignment(axes[0, 0], attentive, spaced("Tuesday, May the 4th, 1948"), "A date")
axes[0, 0].set(xlabel="source", ylabel="predicted word")
if sentences:
    translator = train(luong, words(sentences), sentences)
    aligned = draw_alignment(axes[0, 1], translator, "je suis étudiant .", "French")
    axes[0, 1].set(xlabel="source")
plt.show()

# %%
# A2
# How much weight do the four digits of a year have in the source while they are written?
texts = [source for source, _ in held_out]
sources_BL, real_BL = encode(tokenizer, texts)
targets_BT, _ = encode(tokenizer, [target for _, target in held_out])
inputs_BT = jnp.pad(targets_BT, ((0, 0), (1, 0)))[:, :-1]
model, params, _ = attentive
look = jax.jit(lambda *inputs: model.apply({"params": params}, *inputs, mutable="intermediates"))
(weight,) = jax.tree.leaves(look(sources_BL, inputs_BT, real_BL)[1])
weight_BTM = weight.reshape(len(texts), inputs_BT.shape[1], -1)
on_year = []
for weight_TM, (source, target) in zip(weight_BTM, held_out, strict=True):
    if (start := f" {source}".find(f" {target[:7]}")) >= 0:
        first = len(source[:start].split())
        on_year.append(weight_TM[:4, first : first + 4].sum(1).mean())
print(f"weight of the year in the source when its digits are written: {np.mean(on_year):.0%}")
chance = 4 / float(real_BL.sum(1).mean())
print(f"if all words had the same weight: {chance:.0%}")
if not SMALL:
    assert np.mean(on_year) > 1.5 * chance

# %%
# A3
weight_TM, rows, _ = drawn
overlap = lambda a, b: float(np.minimum(weight_TM[a], weight_TM[b]).sum())
print(f"shared attention of the first digit and the last: {overlap(0, len(rows) - 2):.2f}")
np.testing.assert_allclose(weight_TM.sum(1), 1, atol=1e-5)
if not SMALL:
    assert overlap(0, len(rows) - 2) < 0.5

# %% [markdown]
# ## A soft database
#
# Attention returns a value for a query by its key, as a database does, but softly: every value in
# the measure of its key. The larger the scores, the more it is a lookup.

# %%
# A5
keys_MD = jnp.eye(3)
values_M = jnp.array([10.0, 25.0, 60.0])
table = dict(zip(("cat", "sat", "mat"), values_M.tolist(), strict=True))
for scale in (0.0, 1.0, 3.0, 30.0):
    found = jax.nn.softmax(scale * keys_MD[1] @ keys_MD.T) @ values_M
    print(f"scores times {scale}: {found:.2f}")
assert abs(float(found) - table["sat"]) < 1e-4
assert float(jax.nn.softmax(0 * keys_MD[1]) @ values_M) == values_M.mean()  # no query: the mean

# %% [markdown]
# ## Four scores
#
# | score | $f(q, k)$ | |
# |---|---|---|
# | dot | $q \cdot k$ | Luong et al. 2015 |
# | scaled dot | $q \cdot k / \sqrt{d}$ | Vaswani et al. 2017 |
# | general | $q \cdot W k$ | Luong et al. 2015 |
# | additive | $v \cdot \tanh(W q + U k)$ | Bahdanau et al. 2014 |

# %%
# A6
q_BD, k_BMD = jax.random.normal(jax.random.key(0), (1, 8)), source_BME[:, :5, :8]
by_hand = {
    "dot": lambda p: k_BMD @ q_BD[0],
    "scaled_dot": lambda p: k_BMD @ q_BD[0] / 8**0.5,
    "general": lambda p: (k_BMD @ p["source"]["kernel"]) @ q_BD[0],
    "additive": lambda p: (
        jnp.tanh(q_BD @ p["state"]["kernel"] + k_BMD @ p["source"]["kernel"])
        @ p["energy"]["kernel"]
    )[..., 0],
}
assert by_hand.keys() == SCORES.keys()
for name, score in SCORES.items():
    use = lambda layer, q, k: layer(q, layer.keys(k))
    score_BM, variables = score(8, 8).init_with_output(jax.random.key(1), q_BD, k_BMD, method=use)
    print(f"{name:10}", np.asarray(score_BM[0]))
    np.testing.assert_allclose(score_BM, by_hand[name](variables.get("params")), atol=1e-5)

# %% [markdown]
# ## Scores to weights
#
# The notes divide each similarity by the sum of all. The papers take the exponential first,
# which is the softmax: similarities can be negative, and their sum zero.

# %%
# A7
score_M = jnp.array([2.0, -1.0, 0.5, -1.25])
ratio_M, weight_M = score_M / score_M.sum(), jnp.exp(score_M) / jnp.exp(score_M).sum()
print("divided by the sum:", np.asarray(ratio_M))
print("softmax:           ", np.asarray(weight_M))
np.testing.assert_allclose(weight_M, jax.nn.softmax(score_M), atol=1e-6)
assert (weight_M > 0).all()
assert abs(float(weight_M.sum()) - 1) < 1e-6
assert ratio_M.min() < 0  # no weights
assert ratio_M.max() > 1

# %%
print(describe())
