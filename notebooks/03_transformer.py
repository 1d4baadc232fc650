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
# # The Transformer
#
# "Attention Is All You Need" (Vaswani et al. 2017, [arXiv:1706.03762](https://arxiv.org/abs/1706.03762))
# has no recurrence: all words of a text are read at once. Here a small Transformer learns what *it*
# means in sentences such as "The animal didn't cross the street because it was too tired", and each
# part of it is checked against a few lines written by hand.

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
import csv
import gzip
import io
import itertools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import zoo
from train.objectives.cross_entropy import cross_entropy
from train.reporting.manifest import describe
from zoo.layers.attention import Mask
from zoo.layers.recurrent import Layer
from zoo.models import luong, transformer
from zoo.params import flatten
from zoo.tokenizers import units

plt.style.use("train.reporting.zoo")

# %% [markdown]
# ## What does *it* mean?
#
# The source has two nouns and an adjective; the target says which noun the adjective is about. In
# half of the sentences the order of the nouns is turned round, so that the nearest noun is right
# half of the time. A fifth of all combinations is held out.

# %%
ANIMALS = ["animal", "dog", "cat", "horse", "cow", "hen", "fox", "wolf", "mouse", "bear"]
PLACES = ["street", "road", "river", "bridge", "field", "square", "garden", "path", "rail", "lake"]
ANIMAL_IS, PLACE_IS = (
    ["tired", "scared", "hungry", "old", "lazy"],
    ["wide", "long", "muddy", "busy", "icy"],
)
FORMS = (
    "the {a} didn't cross the {p} because it was too {x}",
    "the {p} didn't suit the {a} because it was too {x}",
)


def pair(form, a, p, x):
    """Return a sentence and its meaning."""
    return form.format(a=a, p=p, x=x), f"the {a if x in ANIMAL_IS else p} was too {x}"


pairs = [pair(*c) for c in itertools.product(FORMS, ANIMALS, PLACES, ANIMAL_IS + PLACE_IS)]
np.random.default_rng(0).shuffle(pairs)
pairs, held_out = pairs[:1600], pairs[1600:]
START, END = 0, 1
known = sorted({word for pair in pairs for text in pair for word in text.split()})
tokenizer = units.words(["<start>", units.END, units.UNKNOWN, *known])


def encode(texts):
    """Return the tokens of texts of one length, each ended."""
    return jnp.array([[*encoding.ids, END] for encoding in tokenizer.encode_batch(texts)])


sources_NL, targets_NT = encode([s for s, _ in pairs]), encode([t for _, t in pairs])
inputs_NT = jnp.pad(targets_NT, ((0, 0), (1, 0)), constant_values=START)[:, :-1]
sizes = {"vocab_size": tokenizer.get_vocab_size(), "dropout": 0.0, "start": START}
models = {
    "Transformer": transformer.Model(
        transformer.Config(
            **sizes,
            num_layers=2,
            num_decoder_layers=2,
            num_heads=4,
            width=64,
            head_width=16,
            mlp_width=128,
        )
    ),
    "LSTM with attention": luong.Model(
        luong.Config(**sizes, num_layers=1, width=88, embed_width=64)
    ),
}
STEPS = 3 if SMALL else 500


def train(model):
    """Return trained parameters and the loss of each step."""
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, STEPS))
    params = jax.jit(model.init)(jax.random.key(0), sources_NL[:1], inputs_NT[:1])["params"]

    def learn(state, key):
        params, opt_state = state
        rows = jax.random.randint(key, (32,), 0, len(pairs))

        def loss(params):
            logits_BTV = model.apply({"params": params}, sources_NL[rows], inputs_NT[rows])
            return optax.softmax_cross_entropy_with_integer_labels(
                logits_BTV, targets_NT[rows]
            ).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(gradient, opt_state)
        return (optax.apply_updates(params, updates), opt_state), value

    run = jax.jit(lambda state, keys: jax.lax.scan(learn, state, keys))
    (params, _), losses = run(
        (params, optimizer.init(params)), jax.random.split(jax.random.key(1), STEPS)
    )
    return params, np.asarray(losses)


trained = {name: train(model) for name, model in models.items()}
model, (params, _) = models["Transformer"], trained["Transformer"]
loaded = zoo.Loaded(model, params, tokenizer)
TIRED = "the animal didn't cross the street because it was too tired"
WIDE = TIRED.replace("tired", "wide")
for text in (TIRED, WIDE):
    print(text, "->", zoo.translate(loaded, text, beams=1))

# %% [markdown]
# ## The whole sequence at once
#
# A recurrent network needs one step after another; its program has a loop as long as the text. The
# Transformer's has none. Whether it also takes fewer training steps, as the notes say, is measured:
# the steps until the loss stays below 0.1, for two models of about one size.

# %%
# T1
for name, model_ in models.items():
    params_, losses = trained[name]
    program = jax.make_jaxpr(lambda *x, m=model_, p=params_: m.apply({"params": p}, *x))
    loops = re.findall(r"length=(\d+)", str(program(sources_NL[:2], inputs_NT[:2])))
    above = np.flatnonzero(losses > 0.1)
    count = sum(x.size for x in jax.tree.leaves(params_))
    reached = "not reached" if above[-1] + 1 == len(losses) else f"{above[-1] + 1} steps"
    print(f"{name}: {count:,} parameters, loops of {loops or 'no'} steps, loss 0.1: {reached}")
    assert bool(loops) == (name != "Transformer")
    assert not loops or str(sources_NL.shape[1]) in loops

# %% [markdown]
# ## Positions
#
# Attention alone knows no order, so a vector for each position is added to the embedding, 512 wide
# in the paper: $\sin(t / 10000^{2i/d})$ and the cosine. The product of two of them depends on their
# distance only, which makes distances meaningful.

# %%
# T3
table_LD = transformer.sinusoids(64, transformer.Config().width)
products_LL = table_LD @ table_LD.T
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8))
left.imshow(table_LD[:, ::4], aspect="auto", cmap="RdBu", extent=(0, 512, 64, 0))
left.set(title="Positional encoding", xlabel="axis (sines, then cosines)", ylabel="position")
left.grid(visible=False)
for at in (0, 16, 32):
    right.plot(np.arange(64) - at, products_LL[at], label=f"position {at}")
right.set(title="Products of positions", xlabel="distance", ylabel="product")
right.legend()
plt.show()
embedded = model.apply(
    {"params": params}, sources_NL[:1], mutable="intermediates", method="encode"
)[1]["intermediates"]["trunk"]["encoder_hidden_states"][0]
words_LD = params["trunk"]["token_embedding"]["embedding"][sources_NL[0]] * 64**0.5
np.testing.assert_allclose(embedded[0], words_LD + transformer.sinusoids(12, 64), atol=1e-5)
np.testing.assert_allclose(products_LL[5:40, 9], products_LL[15:50, 19], rtol=1e-4, atol=1e-2)
assert table_LD.shape[1] == 512

# %% [markdown]
# ## One head by hand
#
# $$\mathrm{Attention}(Q, K, V) = \mathrm{softmax}\left(\frac{QK^\top}{\sqrt{d}}\right) V$$
#
# The notes have softmax(weights x values) / sqrt(d); in the paper the root divides the scores, and
# the values come after the softmax.


# %%
def head_by_hand(p, number, x_LD, memory_MD, mask_LM=0.0):
    """Return the weights of one head, and its weighted sum of values."""
    project = lambda name, x: x @ p[name]["kernel"][:, number] + p[name]["bias"][number]
    q_LK, k_MK, v_MK = (
        project("query", x_LD),
        project("key", memory_MD),
        project("value", memory_MD),
    )
    score_LM = q_LK @ k_MK.T / k_MK.shape[1] ** 0.5
    weight_LM = jnp.exp(score_LM + mask_LM)
    weight_LM /= weight_LM.sum(-1, keepdims=True)
    return weight_LM, weight_LM @ v_MK


def layer_by_hand(p, *inputs):
    """Return the weights of all heads, and the output of the layer."""
    heads = [head_by_hand(p, number, *inputs) for number in range(4)]
    output = sum(x @ p["output"]["kernel"][n] for n, (_, x) in enumerate(heads))
    return jnp.stack([weight for weight, _ in heads]), output + p["output"]["bias"]


def layer_of_model(name, part, *inputs):
    """Return the same of an attention layer of the model."""
    side, number = name.split("_")
    output, sown = model.apply(
        {"params": params},
        *(x[None] for x in inputs),
        method=lambda model, *x: getattr(getattr(model.trunk, side)[int(number)], part)(
            *x, Mask.causal() if (side, part) == ("decoder", "attention") else Mask.source()
        ),
        mutable="intermediates",
    )
    return jax.tree.leaves(sown)[0][0], output[0]


# %%
# A8
x_LD = embedded[0]
p = params["trunk"]["encoder_0"]["attention"]
weight_HLM, output_LD = layer_of_model("encoder_0", "attention", x_LD, x_LD)
by_hand_HLM, by_hand_LD = layer_by_hand(p, x_LD, x_LD)
difference = jnp.abs(by_hand_LD - output_LD).max()
print(f"largest difference: {difference:.1e}")
np.testing.assert_allclose(by_hand_HLM, weight_HLM, atol=1e-5)
assert difference < 1e-4

# %% [markdown]
# A matrix of queries computes all words at once. The projections reduce the width, here from 64 to
# 16. In self-attention keys and values come from the same sequence as the queries, through two
# projections. They are no "vocabulary learned during training", as the notes have it: they are
# computed anew for each text.

# %%
# A9
one_by_one = [head_by_hand(p, 0, x_LD[row : row + 1], x_LD)[1][0] for row in range(len(x_LD))]
np.testing.assert_allclose(jnp.stack(one_by_one), head_by_hand(p, 0, x_LD, x_LD)[1], atol=1e-5)
assert p["query"]["kernel"].shape == p["key"]["kernel"].shape == (64, 4, 16)
other_LD = model.apply({"params": params}, sources_NL[1:2], method="encode")[0]
project = lambda x_LD: x_LD @ p["key"]["kernel"][:, 0]
assert jnp.abs(project(x_LD) - project(x_LD[::-1])).max() > 0.1  # other words, other keys
assert jnp.abs(p["key"]["kernel"] - p["value"]["kernel"]).max() > 0.01

# %% [markdown]
# ## Heads as pictures
#
# One layer has four heads, each with weights of its own, so each word gets four contexts.

# %%
layers = zoo.attention(loaded, TIRED, "the animal was too tired")
encoder = [layer for layer in layers if layer.name.startswith("encoder")]
figure, axes = plt.subplots(1, 4, figsize=(14, 5.2), sharey=True)
for number, axis in enumerate(axes):
    axis.imshow(encoder[0].weights[number], vmin=0, vmax=1)
    axis.set_xticks(range(12), encoder[0].columns, rotation=90)
    axis.set(title=f"Head {number + 1}", xlabel="attended to")
    axis.grid(visible=False)
axes[0].set_yticks(range(12), encoder[0].rows)
axes[0].set_ylabel("word")
plt.show()

# %%
# T7
weight_HLM = encoder[0].weights
differences = [np.abs(a - b).sum(-1).mean() / 2 for a, b in itertools.combinations(weight_HLM, 2)]
print(
    "share of the weight on which two heads differ: "
    f"{min(differences):.0%} to {max(differences):.0%}"
)
self_HL = weight_HLM[:, range(12), range(12)]
dominated_HL = self_HL < weight_HLM.max(-1)
print("words that another word dominates, by head:", dominated_HL.sum(1), "of 12")
print("words that some head gives more weight than all heads together:", end=" ")
print((self_HL.max(0) > self_HL.mean(0)).sum())
assert min(differences) > 0.02
assert dominated_HL.any()
assert (self_HL.max(0) > self_HL.mean(0)).all()

# %% [markdown]
# ## Where *it* looks
#
# The famous picture, and what it proves. Over held-out sentences: how often the model names the
# right noun, against the nearest noun; and where the weights of *it* are, and those of the decoder
# when it writes the noun.

# %%
sources = [source for source, _ in held_out]
tests_NL, tests_NT = encode(sources), encode([target for _, target in held_out])
shifted_NT = jnp.pad(tests_NT, ((0, 0), (1, 0)), constant_values=START)[:, :-1]
apply = jax.jit(lambda *x: model.apply({"params": params}, *x, mutable="intermediates"))
logits_NTV, sown = apply(tests_NL, shifted_NT)
sown = {path: x for path, x in flatten(sown).items() if "mix/attention" in path}
is_right_N = logits_NTV[:, 1].argmax(-1) == tests_NT[:, 1]
nouns = [[at for at, word in enumerate(s.split()) if word in ANIMALS + PLACES] for s in sources]
right = [s.split().index(t.split()[1]) for s, t in held_out]
nearest = np.mean([at[1] == r for at, r in zip(nouns, right, strict=True)])
print(f"the right noun: {is_right_N.mean():.1%}, always the nearest: {nearest:.1%}")
looks = {}
for path, weight_NHLM in sown.items():
    name = "/".join(path.split("/")[2:4])
    if name.endswith("1/source_attention") or name in (
        "encoder_0/attention",
        "encoder_1/attention",
    ):
        row = [1 if "source" in name else s.split().index("it") for s in sources]
        weight_NM = np.asarray(weight_NHLM.mean(1))[range(len(row)), row]
        wrong = [sum(at) - r for at, r in zip(nouns, right, strict=True)]
        looks[name] = [weight_NM[range(len(row)), at].mean() for at in (right, wrong)]
        print(f"{name}: right noun {looks[name][0]:.1%}, other noun {looks[name][1]:.1%}")

figure, axes = plt.subplots(1, 2, figsize=(12, 3.8), sharey=True)
meanings = "the animal was too tired", "the street was too wide"
for axis, text, meaning in zip(axes, (TIRED, WIDE), meanings, strict=True):
    drawn = zoo.attention(loaded, text, meaning)
    rows = {"it, encoder layer 2": ("encoder_1/attention", 7)}
    rows |= {"the noun, decoder layer 2": ("decoder_1/source_attention", 1)}
    for number, (label, (name, row)) in enumerate(rows.items()):
        (layer,) = [layer for layer in drawn if layer.name == name]
        axis.bar(np.arange(12) + 0.4 * number - 0.2, layer.weights.mean(0)[row], 0.4, label=label)
    axis.set_xticks(range(12), layer.columns, rotation=60, ha="right")
    axis.set(title=f"... too {text.split()[-1]}")
axes[0].set_ylabel("weight, mean of heads")
axes[0].legend()
plt.show()

# %% [markdown]
# People's sentences are harder. In GAP a pronoun belongs to one of two names; without a pretrained
# model we can only say what the nearest name gets there.


# %%
def nearest_name():
    """Return how often the nearest name is right in GAP, from ZOO_DATA; None without it."""
    path = Path(os.environ.get("ZOO_DATA", "")) / "coref_gap" / "gap-development.tsv.gz"
    if not path.exists():
        return None
    text = gzip.decompress(path.read_bytes()).decode()
    rows = [
        row for row in csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    ]
    rows = [row for row in rows if "TRUE" in (row["A-coref"], row["B-coref"])]
    distance = lambda row, name: abs(int(row[f"{name}-offset"]) - int(row["Pronoun-offset"]))
    return np.mean(
        [row[f"{min('AB', key=lambda n: distance(row, n))}-coref"] == "TRUE" for row in rows]
    )


nearest_in_gap = nearest_name()
if nearest_in_gap:
    print(f"GAP, the nearest name is right: {nearest_in_gap:.1%}")

# %%
# T8
assert 0.4 < nearest < 0.6
assert set(looks) == {"encoder_0/attention", "encoder_1/attention", "decoder_1/source_attention"}
if not SMALL:
    assert is_right_N.mean() > 0.9
    assert looks["decoder_1/source_attention"][0] > looks["decoder_1/source_attention"][1]

# %% [markdown]
# ## Masked attention
#
# $$\mathrm{softmax}\left(\frac{QK^\top}{\sqrt{d}} + M\right) V, \quad M = 0 \text{ or } -\infty$$
#
# The notes add M to the queries, which have another shape. A weight of the future is exactly zero:
# later words change nothing before them.

# %%
# T9
y_TD = other_LD[:6]
mask_TT = jnp.where(jnp.tril(jnp.ones((6, 6))) == 1, 0.0, -jnp.inf)
weight_HTT, _ = layer_of_model("decoder_0", "attention", y_TD, y_TD)
by_hand_HTT, _ = layer_by_hand(params["trunk"]["decoder_0"]["attention"], y_TD, y_TD, mask_TT)
np.testing.assert_allclose(by_hand_HTT, weight_HTT, atol=1e-5)
assert (weight_HTT * jnp.triu(jnp.ones((6, 6)), 1) == 0).all()
logits = lambda tokens_BT: model.apply({"params": params}, sources_NL[:1], tokens_BT)[0]
changed_BT = inputs_NT[:1].at[:, 3:].set(5)
assert jnp.array_equal(logits(inputs_NT[:1])[:3], logits(changed_BT)[:3])
assert not jnp.array_equal(logits(inputs_NT[:1])[3:], logits(changed_BT)[3:])

# %% [markdown]
# ## Encoder-decoder attention
#
# Queries come from the decoder, keys and values from the encoder: six words by twelve.

# %%
# T10
memory_MD = model.apply({"params": params}, sources_NL[:1], method="encode")[0]
weight_HTM, output_TD = layer_of_model("decoder_0", "source_attention", y_TD, memory_MD)
by_hand_HTM, by_hand_TD = layer_by_hand(
    params["trunk"]["decoder_0"]["source_attention"], y_TD, memory_MD
)
np.testing.assert_allclose(by_hand_HTM, weight_HTM, atol=1e-5)
np.testing.assert_allclose(by_hand_TD, output_TD, atol=1e-4)
assert weight_HTM.shape == (4, 6, 12)

# %% [markdown]
# ## Words meet only in attention
#
# The Jacobian says which word of the input changes which word of the output. Add and norm, and the
# feed-forward layer, keep each word to itself.

# %%
# T4
block = lambda part: lambda model, x: part(model.trunk.encoder[0], x)
PARTS = {
    "Attention": block(lambda block, x: block.attention(x, x, Mask.bidirectional())),
    "Feed forward": block(lambda block, x: block.mlp(x)),
    "Norm": block(lambda block, x: block.mlp_norm(x)),
}
figure, axes = plt.subplots(1, 3, figsize=(12, 4.9), sharey=True)
for axis, (name, part) in zip(axes, PARTS.items(), strict=True):
    run = lambda x_LD, part=part: model.apply({"params": params}, x_LD[None], method=part)[0]
    jacobian_LDMD = jax.jacobian(run)(x_LD)
    norm_LM = np.sqrt((jacobian_LDMD**2).sum((1, 3)))
    axis.imshow(norm_LM / norm_LM.max())
    axis.set(title=name, xlabel="word of the input")
    axis.grid(visible=False)
    others = norm_LM[~np.eye(12, dtype=bool)]
    print(f"{name}: other words {others.min():.1e} to {others.max():.1e}")
    assert (others > 0).all() if name == "Attention" else (others == 0).all()
axes[0].set_ylabel("word of the output")
plt.show()

# %% [markdown]
# ## Pairs, and pairs of pairs
#
# Let each word see only itself and the word before. One layer then joins pairs of words, a second
# layer pairs of pairs, and so on with depth. (In full attention a word sees all others at once, and
# depth joins what others have joined.)

# %%
# T5
pairs_only = Mask.causal(window=2)


def stacked(model, x_BLD, depth):
    for number in range(depth):
        x_BLD = model.trunk.encoder[number % 2](x_BLD, pairs_only)
    return x_BLD[0, -1]


seen = []
for depth in (1, 2, 3):
    run = lambda x_LD, depth=depth: model.apply(
        {"params": params}, x_LD[None], depth, method=stacked
    )
    jacobian_DLD = jax.jacobian(run)(x_LD)
    seen.append(int((jnp.abs(jacobian_DLD).sum((0, 2)) > 0).sum()))
print("words that reach the last one after 1, 2, 3 layers:", seen)
assert seen == [2, 3, 4]

# %% [markdown]
# ## Add and norm
#
# Each sub-layer adds to the residual stream, and a norm brings every word back to mean 0 and
# variance 1, times a gain: $g (h - \mu) / \sigma + b$. It keeps the stream at one scale over depth,
# and so the gradients. The notes say covariate shift; later work finds smoother gradients instead
# (Santurkar et al. 2018, [arXiv:1805.11604](https://arxiv.org/abs/1805.11604); Xiong et al. 2020).

# %%
# T2, T6
DEPTH, L = 6, 40
deep = transformer.Model(
    transformer.Config(
        **sizes,
        num_layers=DEPTH,
        num_decoder_layers=1,
        num_heads=4,
        width=64,
        head_width=16,
        mlp_width=128,
    )
)
deep_params = jax.jit(deep.init)(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"]
words_BLD = jax.random.normal(jax.random.key(1), (1, L, 64)) + transformer.sinusoids(L, 64)


def stream(model, x_BLD):
    """Return the stream after each block."""
    return jnp.stack([x_BLD := block(x_BLD, Mask.bidirectional()) for block in model.trunk.encoder])


def without_norms(model, x_BLD):
    states = []
    for block in model.trunk.encoder:
        x_BLD = x_BLD + block.attention(x_BLD, x_BLD, Mask.bidirectional())
        states.append(x_BLD := x_BLD + block.mlp(x_BLD))
    return jnp.stack(states)


direction_D = jax.random.normal(jax.random.key(2), (64,))
curves, scales = {}, {}
for name, method in (("norms", stream), ("no norms", without_norms)):
    run = lambda x, method=method: deep.apply({"params": deep_params}, x, method=method)
    last = lambda x, run=run: ((states := run(x))[-1, 0, -1] @ direction_D, states)
    gradient_BLD, states = jax.jit(jax.grad(last, has_aux=True))(words_BLD)
    curves[name] = np.sqrt((np.asarray(gradient_BLD[0]) ** 2).sum(-1))[::-1]
    scales[name] = np.asarray(states[:, 0].std(-1).mean(-1))
rnn = Layer("rnn", 64)
variables = rnn.init(jax.random.key(0), words_BLD)
last = lambda x: rnn.apply(variables, x)[0][0, -1] @ direction_D
curves["plain recurrent"] = np.sqrt(
    (np.asarray(jax.jit(jax.grad(last))(words_BLD)[0]) ** 2).sum(-1)
)[::-1]

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
for name, scale in scales.items():
    left.semilogy(range(1, DEPTH + 1), scale, "o-", label=name)
left.set(title="Residual stream", xlabel="block", ylabel="standard deviation of a word")
left.legend()
for name in ("norms", "plain recurrent"):
    right.semilogy(curves[name] / curves[name][0], label=name.replace("norms", "Transformer"))
right.set(
    title="Gradient by distance", xlabel="words from the end", ylabel="relative to distance 0"
)
right.legend()
plt.show()
far = {name: curve[-1] / curve[1] for name, curve in curves.items()}
for name, ratio in far.items():
    print(f"{name}: gradient at distance 39 is {ratio:.0e} of that at distance 1")
for name, scale in scales.items():
    print(f"{name}: stream of block 1 to {DEPTH}:", *(f"{x:.1f}" for x in scale))
state_LD = deep.apply({"params": deep_params}, words_BLD, method=stream)[-1, 0]
np.testing.assert_allclose(state_LD.mean(-1), 0, atol=1e-5)
np.testing.assert_allclose(state_LD.var(-1), 1, atol=1e-3)
assert scales["no norms"][-1] > 5 * scales["norms"][-1]
assert far["norms"] > 0.05
assert far["plain recurrent"] < 1e-4

# %% [markdown]
# ## From vectors to words
#
# A linear layer gives a logit for each word of the vocabulary, the softmax a probability, the
# argmax the word.

# %%
# T11
x_BTD = model.apply(
    {"params": params}, tests_NL[:1], shifted_NT[:1], method=lambda m, *x: m.trunk(*x)
)
logits_V = x_BTD[0, 0] @ params["trunk"]["token_embedding"]["embedding"].T + params["bias"][0]
p_V = jnp.exp(logits_V) / jnp.exp(logits_V).sum()
first = tokenizer.id_to_token(int(p_V.argmax()))
print(f"first word: {first}, p = {p_V.max():.2f}")
assert abs(float(p_V.sum()) - 1) < 1e-5
np.testing.assert_allclose(logits_V, logits_NTV[0, 0], atol=1e-4)
if not SMALL:
    assert zoo.translate(loaded, sources[0], beams=1).split()[0] == first

# %% [markdown]
# ## Teacher forcing
#
# In training the true words before are the input, so all positions are computed at once. One by one
# from a cache, as when it generates, the same inputs give the same logits.

# %%
# T12
ones = jnp.ones_like(tests_NL[:1])
step_logits_BV, cache = model.apply({"params": params}, tests_NL[:1], ones, 6, method="start")
one_step = jax.jit(lambda *x: model.apply({"params": params}, *x, method="step"))
differences = []
for number in range(6):
    differences.append(float(jnp.abs(step_logits_BV - logits_NTV[:1, number])[:, 1:].max()))
    step_logits_BV, cache = one_step(tests_NT[:1, number], cache)
print(f"largest difference of six steps and one call: {max(differences):.1e}")
assert max(differences) < 1e-3

# %% [markdown]
# ## The loss
#
# It is the cross-entropy of two distributions, $-\sum_v y_v \log p_v$, up to the end of the
# sentence. The "subtraction" of the notes is its gradient: $\partial / \partial z = p - y$.

# %%
# T13
y_TV = jax.nn.one_hot(tests_NT[0], logits_NTV.shape[-1])
loss = lambda logits_TV: -(y_TV * jax.nn.log_softmax(logits_TV)).sum()
unprojected = model.apply({"params": params}, tests_NL[:1], shifted_NT[:1], method="unprojected")
term = cross_entropy(unprojected, tests_NT[:1], jnp.ones((1, 6)))
print(f"by hand {loss(logits_NTV[0]):.4f}, the loss of training {term[0]:.4f}")
np.testing.assert_allclose(loss(logits_NTV[0]), term[0], rtol=1e-3, atol=1e-4)
gradient_TV = jax.grad(loss)(logits_NTV[0])
np.testing.assert_allclose(gradient_TV, jax.nn.softmax(logits_NTV[0]) - y_TV, atol=1e-5)
assert jnp.abs(gradient_TV.sum(-1)).max() < 1e-5

# %%
print(describe())
