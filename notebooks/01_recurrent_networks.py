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
# # Recurrent networks
#
# A recurrent network reads a sequence one item at a time and passes a hidden state on. Unrolled
# over time it is a deep network, and its gradients vanish as they do in any deep network. Here the
# loss is measured, with what the gates of GRU and LSTM change.

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
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from train.reporting.manifest import describe
from zoo.layers.recurrent import Layer
from zoo.models import rnn

plt.style.use("train.reporting.zoo")

# %% [markdown]
# ## One step by hand
#
# A step has two inputs, the hidden state $h_{t-1}$ and the input vector $x_t$ (E wide), and one
# output, the new state (D wide):
#
# $$h_t = \tanh(x_t W + b + h_{t-1} U + c)$$

# %%
E, D, L = 8, 32, 40
layer = Layer("rnn", D)
x_BLE = jax.random.normal(jax.random.key(0), (16, L, E))
params = layer.init(jax.random.key(1), x_BLE)["params"]
W_ED, b_D = params["input"]["kernel"][:, 0], params["input"]["bias"][0]
U_DD, c_D = params["recurrent"]["kernel"][:, 0], params["recurrent"]["bias"][0]


def step(h_BD, x_BE, U_DD):
    return jnp.tanh(x_BE @ W_ED + b_D + h_BD @ U_DD + c_D)


# %%
# R2
h_BD = jnp.tanh(x_BLE[:, 0])[:, :1] * jnp.ones(D)  # any state
(expected_BD,) = layer.apply({"params": params}, x_BLE[:, 0], (h_BD,), method="step")
np.testing.assert_allclose(step(h_BD, x_BLE[:, 0], U_DD), expected_BD, atol=1e-6)
by_state, by_input = jax.jacobian(step, (0, 1))(h_BD[0], x_BLE[0, 0], U_DD)
print("the output depends on the state and on the input:", by_state.shape, by_input.shape)
assert min(jnp.abs(by_state).max(), jnp.abs(by_input).max()) > 0.01
outputs_BLD, (last_BD,) = layer.apply({"params": params}, x_BLE)
assert outputs_BLD.shape == (16, L, D)  # an output vector for every step

# %% [markdown]
# ## Unrolled: a deep network
#
# The notes ask whether the output of a step is final or intermediate. It is both: each $h_t$ is an
# output, and the input of the next step. Written out, L steps are a feed-forward network of L
# layers that share one kernel, with a part of the input at each layer.


# %%
def unrolled(kernels_LDD, x_BLE):
    """Return the last state of a feed-forward network with a kernel for each layer."""
    h_BD = jnp.zeros((len(x_BLE), D))
    for number, U_DD in enumerate(kernels_LDD):
        h_BD = step(h_BD, x_BLE[:, number], U_DD)
    return h_BD


# %%
# R1
kernels_LDD = jnp.stack([U_DD] * L)
difference = jnp.abs(jax.jit(unrolled)(kernels_LDD, x_BLE) - last_BD).max()
print(f"{L} layers against the recurrent layer, largest difference: {difference:.1e}")
assert difference < 1e-5
assert jnp.array_equal(outputs_BLD[:, -1], last_BD)  # the state that is passed on is the output

# %% [markdown]
# ## Gradients vanish with distance
#
# The gradient of each layer's own kernel says how much that layer learns from an error at the end.
# Back through one layer it is multiplied by $U^\top$ and by $\tanh' \le 1$. With the usual initial
# weights that shrinks it, so layers near the input learn next to nothing. Below, the same is
# measured for each cell as the gradient of the last state by the input at a distance.
#
# The gates of GRU and LSTM are no cure by themselves: at the usual initial weights they are half
# open, and half of a state per step is soon nothing. They can be open, though, where a plain
# network has nothing to open. Here a bias lets the units keep their state for 1 to L steps (Tallec
# and Ollivier 2018, [arXiv:1804.11188](https://arxiv.org/abs/1804.11188)).

# %%
GATE = {
    "gru": 1,
    "lstm": 1,
}  # the update gate keeps the state of the GRU, the forget gate the LSTM's


def open_gate(params, cell, longest):
    """Return the parameters of a layer with a bias that keeps a state for 1 to `longest` steps."""
    bias_GD = params["recurrent"]["bias"]
    keep_D = jnp.log(jnp.linspace(1, longest, bias_GD.shape[1]))
    bias_GD = bias_GD.at[GATE[cell]].set(keep_D)
    return params | {"recurrent": params["recurrent"] | {"bias": bias_GD}}


@jax.jit
def gradient_of_kernels(kernels_LDD):
    gradient_LDD = jax.grad(lambda kernels: unrolled(kernels, x_BLE).sum())(kernels_LDD)
    return jnp.sqrt((gradient_LDD**2).sum((1, 2)))


def by_distance(cell, params, x_BLE):
    """Return the norm of d(sum of the last state) / d(input), by distance from the end."""
    last = lambda x_BLE, params: Layer(cell, D).apply({"params": params}, x_BLE)[0][:, -1].sum()
    gradient_BLE = jax.jit(jax.grad(last))(x_BLE, params)
    norm_L = jnp.sqrt((gradient_BLE**2).sum(-1)).mean(0)[::-1]
    return np.asarray(norm_L / norm_L[0])


CELLS = ("rnn", "gru", "lstm")
initial = {cell: Layer(cell, D).init(jax.random.key(1), x_BLE)["params"] for cell in CELLS}
opened = {cell: open_gate(initial[cell], cell, L) for cell in GATE}
layer_L = np.asarray(gradient_of_kernels(kernels_LDD))
curves = {cell: by_distance(cell, initial[cell], x_BLE) for cell in CELLS}
curves |= {f"{cell}, open": by_distance(cell, opened[cell], x_BLE) for cell in GATE}

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
left.semilogy(range(2, L + 1), layer_L[1:], "o-")  # the first multiplies zeros
left.set(title="Plain network, unrolled", xlabel="layer (1 is near the input)")
left.set(ylabel="gradient of its kernel")
for name, curve in curves.items():
    color = f"C{CELLS.index(name[:4].strip(','))}"
    right.semilogy(curve, "--" if "open" in name else "-", color=color, label=name)
right.set(title="Gradient by distance, initial weights", xlabel="steps from the end")
right.set(ylabel="relative to distance 0", ylim=(1e-16, 10))
right.legend()
plt.show()

# %%
# R3
factor = (curves["rnn"][30] / curves["rnn"][10]) ** (1 / 20)
print(f"plain network: the gradient shrinks to {factor:.2f} of itself per step,")
print(f"and layer 2 gets {layer_L[1] / layer_L[-1]:.0e} of the gradient of layer {L}")
print(
    f"at distance {L - 1}: "
    + ", ".join(f"{name} {curve[-1]:.0e}" for name, curve in curves.items())
)
assert factor < 0.7
assert layer_L[1] < 1e-6 * layer_L[-1]
# Closed gates do not help; open ones pass on more than a millionfold of it.
assert max(curves[cell][-1] for cell in CELLS) < 1e-6
assert min(curves[f"{cell}, open"][-1] for cell in GATE) > 1e6 * curves["rnn"][-1]

# %% [markdown]
# ## A long memory
#
# One of four letters is hidden at a random place in a row of 61 tokens; all others are noise. After
# the last token the network says which letter it was. It must remember for up to 60 steps, and only
# an error at the end teaches it to. All three cells get the same steps; the plain network gets the
# best of three learning rates.

# %%
LETTERS, LONGEST = 4, 60
DISTANCES = (1, 2, 4, 8, 15, 30, 60, 120, 240)
STEPS = 5 if SMALL else 500


def examples(key, size, least, most, length):
    """Return tokens_BL, and the letter in each row, from `least` to `most` steps before the end."""
    where, letter, noise = jax.random.split(key, 3)
    distance_B = jax.random.randint(where, (size,), least, most + 1)
    letter_B = jax.random.randint(letter, (size,), 0, LETTERS)
    noise_BL = jax.random.randint(noise, (size, length), LETTERS, 2 * LETTERS)
    is_letter_BL = jnp.arange(length) == length - 1 - distance_B[:, None]
    return jnp.where(is_letter_BL, letter_B[:, None], noise_BL), letter_B


def train(cell, learning_rate):
    """Return a model, its parameters and the mean loss of its last steps."""
    config = rnn.Config(
        vocab_size=2 * LETTERS, num_layers=1, width=D, embed_width=D, dropout=0.0, cell=cell
    )
    model = rnn.RNNLM(config)
    params = model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"]
    if cell in GATE:
        layers = params["trunk"]["stack"]
        layers["layers_0"] = open_gate(layers["layers_0"], cell, LONGEST)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(learning_rate))

    def learn(state, key):
        params, opt_state = state
        tokens_BL, letter_B = examples(key, 32, 1, LONGEST, LONGEST + 1)

        def loss(params):
            logits_BV = model.apply({"params": params}, tokens_BL)[:, -1]
            return optax.softmax_cross_entropy_with_integer_labels(logits_BV, letter_B).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(gradient, opt_state)
        return (optax.apply_updates(params, updates), opt_state), value

    keys = jax.random.split(jax.random.key(1), STEPS)
    state = params, optimizer.init(params)
    (params, _), losses = jax.jit(lambda state: jax.lax.scan(learn, state, keys))(state)
    return model, params, losses[-50:].mean()


RATES = {"rnn": (1e-2, 4e-3, 1e-3), "gru": (1e-2,), "lstm": (1e-2,)}
best = {
    cell: min((train(cell, rate) for rate in rates), key=lambda run: run[2])
    for cell, rates in RATES.items()
}
print("loss:", {cell: round(float(loss), 3) for cell, (_, _, loss) in best.items()})

# %% [markdown]
# Accuracy by distance, also beyond the 60 steps of training, beside the gradient by distance of the
# trained networks: who still has a gradient is who remembers.


# %%
def accuracies(cell):
    model, params, _ = best[cell]
    predict = jax.jit(lambda params, tokens: model.apply({"params": params}, tokens)[:, -1])
    for distance in DISTANCES:
        tokens_BL, letter_B = examples(
            jax.random.key(2), 256, distance, distance, DISTANCES[-1] + 1
        )
        yield float((predict(params, tokens_BL).argmax(-1) == letter_B).mean())


def trained_curve(cell):
    params = best[cell][1]["trunk"]
    tokens_BL, _ = examples(jax.random.key(3), 16, LONGEST, LONGEST, LONGEST + 1)
    x_BLE = params["token_embedding"]["embedding"][tokens_BL]
    return by_distance(cell, params["stack"]["layers_0"], x_BLE)


remembered = {cell: list(accuracies(cell)) for cell in CELLS}
after = {cell: trained_curve(cell) for cell in CELLS}
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
for cell, style in zip(CELLS, ("-", "-", "--"), strict=True):
    left.semilogy(after[cell], style, label=cell)
    right.semilogx(DISTANCES, remembered[cell], f"o{style}", label=cell)
left.set(title="Gradient by distance, trained", xlabel="steps from the end")
left.set(ylabel="relative to distance 0", ylim=(1e-16, 1e2))
right.axhline(1 / LETTERS, color="grey", linestyle=":")
right.annotate("chance", (1, 1 / LETTERS - 0.06), color="grey")
right.axvline(LONGEST, color="grey", linewidth=1)
right.annotate(" longest\n in training", (LONGEST, 0.5), color="grey")
right.set_xticks(DISTANCES, DISTANCES)
right.minorticks_off()
right.set(title="Which letter was it?", xlabel="steps since the letter", ylabel="accuracy")
right.set(ylim=(0, 1.05))
right.legend(loc="center", bbox_to_anchor=(0.45, 0.6))
plt.show()

# %%
# R4
print("accuracy", *DISTANCES, sep="\t")
for cell in CELLS:
    print(cell, *(f"{share:.0%}" for share in remembered[cell]), sep="\t")
print(f"gradient at {LONGEST}: " + ", ".join(f"{cell} {after[cell][-1]:.0e}" for cell in CELLS))
at_longest = {cell: remembered[cell][DISTANCES.index(LONGEST)] for cell in CELLS}
assert min(after["gru"][-1], after["lstm"][-1]) > 1e3 * after["rnn"][-1]
if not SMALL:
    assert at_longest["rnn"] < 0.4
    assert min(at_longest["gru"], at_longest["lstm"]) > 0.9

# %% [markdown]
# They mend it in part. Gates that begin half open lose the gradient too, as the first picture
# shows, and a state is still one vector of fixed size, the subject of the next notebook. Nor is the
# plain network without any hope: with many more steps it can learn to latch a letter.

# %%
print(describe())
