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
# # GPT, GPT-2, GPT-3
#
# The decoder of the Transformer, without an encoder, is a language model. GPT
# ([Radford et al. 2018](https://cdn.openai.com/research-covers/language-unsupervised/language_understanding_paper.pdf))
# trains it on plain text, then fine-tunes it on a task. GPT-2 and GPT-3 have nearly the same
# network, only larger, and are given the task in the prompt.

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
import re
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator
from tokenizers import ByteLevelBPETokenizer

import zoo
from train.data import train_tokenizer
from train.data.examples.tables import TextExample, read_texts
from train.data.sources import builtin, text
from train.finetuning.finetune import finetune
from train.finetuning.settings import Settings
from train.finetuning.tasks.registry import TASKS
from train.optimization import schedules
from train.pretraining import in_context
from train.pretraining.pretrain import pretrain
from train.recipes import recipe
from train.reporting.manifest import describe
from zoo.inference.in_context import Shot, predict
from zoo.models import gpt, gpt2, gpt3, transformer
from zoo.params import abstract, flatten, num_parameters

plt.style.use("train.reporting.zoo")
DATA = Path(os.environ.get("ZOO_DATA", "nowhere"))


def rising_and_falling(steps):
    """Return a learning rate that rises for 50 steps, and falls along a cosine."""
    return schedules.cosine(2e-3, min(50, steps // 10), steps, 2e-4)


def train(name, texts, dev=None, tokenizer=None, schedule=None, steps=600, batch=8, **config):
    """Return the folder of a language model and its held-out metrics."""
    run = recipe(name)
    head_width = config["width"] // config["num_heads"]
    config |= {"head_width": head_width, "mlp_width": 4 * config["width"]}
    run = replace(run, config=replace(run.config, **config), schedule=schedule or run.schedule)
    run = replace(run, steps=steps, batch=batch, length=run.config.max_length)
    run = replace(run, evaluate_every=steps if SMALL else steps // 8, save_every=steps)
    out = Path(tempfile.mkdtemp())
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        sources = text.strings(texts), None if dev is None else text.strings(dev)
        fixed = {
            "dev": sources[1],
            "tokenizer": tokenizer,
            "evaluate_tokens": 8192 if dev is None else 10**9,
        }
        metrics = pretrain(run, sources[0], out, **fixed)
    return out, metrics


# %% [markdown]
# ## A decoder without an encoder
#
# A decoder block of the Transformer attends to itself and to the source. GPT stacks twelve of them
# without the second part: what is left is masked self-attention and feed-forward. The parameters of
# the published model, counted from shapes; no weight is made.

# %%
# G1
shapes = flatten(abstract(gpt.Model(gpt.SIZES["gpt"])))
parts_of = lambda paths, block: sorted(
    {match[1] for path in paths if (match := re.search(rf"/{block}_0/(\w+)/", path))}
)
of_transformer = flatten(abstract(transformer.Model(transformer.Config())))
blocks = Counter(match[1] for path in shapes if (match := re.search(r"blocks_(\d+)/", path)))
counts = Counter()
for path, x in shapes.items():
    part = path.removeprefix("trunk/").split("/")
    counts[f"12 x {part[1]}" if "block" in path else part[0]] += x.size
for part, count in counts.items():
    print(f"{part:>20} {count:>12,}")
print(f"{'all':>20} {sum(counts.values()):>12,}")
assert set(blocks) == {str(number) for number in range(12)}
assert sum(counts.values()) == 116_534_784
lost = set(parts_of(of_transformer, "decoder")) - set(parts_of(shapes, "blocks"))
print("in a decoder block of the Transformer, but not of GPT:", *sorted(lost))
assert lost == {"source_attention", "source_attention_norm"}
assert not set(parts_of(shapes, "blocks")) - set(parts_of(of_transformer, "decoder"))
assert not [path for path in shapes if "encoder" in path]

# %% [markdown]
# ## Pretraining
#
# A small model reads the questions that people have asked about articles of Wikipedia (SQuAD), one
# after another, and predicts the next token. Without that data it reads made-up reviews, whose
# words of praise and of blame never meet. From here on the network is that of GPT-2: the same
# decoder, with the norms before attention and feed-forward instead of behind them. At this size
# GPT itself would predict the frequencies of tokens, whatever the context, for hundreds of steps.


# %%
def review(draw):
    """Return a made-up review and its label."""
    label = draw.choice(["good", "bad"])
    a, b, c = (
        f"{label[0]}{draw.choice('aeiou')}{draw.choice('lmnrst')}{draw.choice('oai')}"
        for _ in range(3)
    )
    return TextExample(f"The film was {a}, and so {b} and {c}.", None, label)


def unlabelled():
    """Return documents: the questions about an article each, or made-up reviews."""
    file = DATA / "qa_squad_v11" / f"train-v1.1-html.part{1 if SMALL else 2}.json.gz"
    if not file.is_file():
        draw = random.Random(0)
        return [
            " ".join(review(draw).text for _ in range(100)) for _ in range(20 if SMALL else 200)
        ]
    articles = json.loads(gzip.decompress(file.read_bytes()))["data"][: 10 if SMALL else 300]
    return [
        " ".join(q["question"] for paragraph in article["paragraphs"] for q in paragraph["qas"])
        for article in articles
    ]


documents = unlabelled()
folder, metrics = train(
    "gpt2-tiny",
    documents,
    schedule=rising_and_falling,
    steps=3 if SMALL else 600,
    batch=4,
    vocab_size=400 if SMALL or not DATA.is_dir() else 1024,
    max_length=160,
    num_layers=1 if SMALL else 3,
    num_heads=4,
    width=32 if SMALL else 128,
)
loaded = zoo.load(folder)
count = sum(x.size for x in jax.tree.leaves(loaded.params))
print(f"{len(documents)} documents, {count:,} parameters")
print(
    f"held-out perplexity {metrics['perplexity']:.1f}, vocabulary {loaded.model.config.vocab_size}"
)

# %% [markdown]
# ## No look at the future
#
# Each token attends to itself and to what stands before it. So a later word changes nothing before
# it, and one reading of a text gives a prediction at every place.

# %%
# G1
question = documents[0].replace(".", "?").split("?")[0] + "?"
layers = zoo.attention(loaded, question)
tokens = [token.replace("Ġ", " ") for token in layers[-1].rows]
figure, axes = plt.subplots(1, 3, figsize=(13, 4.8), sharey=True)
for number, axis in enumerate(axes):
    axis.imshow(layers[-1].weights[number], vmin=0, vmax=1)
    axis.set_xticks(range(len(tokens)), tokens, rotation=90)
    axis.set(title=f"Head {number + 1}", xlabel="attended to")
    axis.grid(visible=False)
axes[0].set_yticks(range(len(tokens)), tokens)
axes[0].set_ylabel("token")
plt.show()
future = max(float(np.triu(head, 1).max()) for layer in layers for head in layer.weights)
print(f"largest weight on the future: {future}")
assert future == 0
apply = jax.jit(lambda tokens_BL: loaded.model.apply({"params": loaded.params}, tokens_BL))
ids = loaded.tokenizer.encode(documents[0]).ids[:32]
tokens_BL = np.array([ids, ids])
tokens_BL[1, 20] = (tokens_BL[1, 20] + 7) % loaded.model.config.vocab_size
one_LV, other_LV = apply(tokens_BL)
change_L = jnp.abs(one_LV - other_LV).max(-1)
print(f"token 20 replaced: logits before it change by {change_L[:20].max():.0e}, ", end="")
print(f"those from it on by up to {change_L[20:].max():.2f}")
assert change_L[:20].max() < 1e-5 < change_L[20:].max()

# %% [markdown]
# ## Generation
#
# The next token is appended to the text, which is read again, and so on. With a cache of keys and
# values only the new token is read. A temperature of 0 takes the most probable token each time.

# %%
# G3
prompt = "What is the" if DATA.is_dir() else "The film was"
ids, end = loaded.tokenizer.encode(prompt).ids, loaded.tokenizer.token_to_id("<|endoftext|>")
for _ in range(12):
    padded_BL = np.array([ids + [0] * (32 - len(ids))])  # later tokens do not matter
    token = int(apply(padded_BL)[0, len(ids) - 1].argmax())
    if token == end:  # the next document
        break
    ids.append(token)
greedy = zoo.generate(loaded, prompt, max_new_tokens=12, temperature=0)
print(f"greedy: {prompt}{greedy}")
assert loaded.tokenizer.decode(ids) == prompt + greedy
for seed in range(1 if SMALL else 3):
    sample = zoo.generate(loaded, prompt, max_new_tokens=32, temperature=0.8, seed=seed)
    print(f"sampled: {prompt}{sample}")

words_of = lambda text: re.findall(r"[a-z]{2,}", text.lower())
known = {word for document in documents for word in words_of(document)}
share = lambda texts: np.mean([word in known for text in texts for word in words_of(text)])
options = {"max_new_tokens": 32, "num_return_sequences": 2 if SMALL else 20}
samples = zoo.generate(loaded, prompt, temperature=0.8, **options)
noise = [
    loaded.tokenizer.decode(row)
    for row in np.random.default_rng(0).integers(0, loaded.model.config.vocab_size, (20, 32))
]
print(f"known words: {share(samples):.0%} of samples, {share(noise):.0%} of random tokens")
assert SMALL or share(samples) > share(noise) + 0.05

# %% [markdown]
# ## Fine-tuning
#
# A text is read between `_start_` and `_classify_`; a second one follows `_delimiter_`. These
# tokens and one linear layer on the last hidden state are all that a task adds. The loss of the
# next token stays, with half the weight. The task is the type of a question (TREC); without that
# data, whether a review is good. Whether pretraining helps is measured here, not asserted: in the
# paper the mean over the tasks falls by 14.8 points without it, but GPT has read 800 million words.


# %%
def labelled(split):
    """Return labelled texts."""
    file = DATA / "cls_trec" / f"{split}.tsv"
    if file.is_file():
        return read_texts(file, {"text": "question", "label": "coarse"}).examples
    draw = random.Random(split)
    return [review(draw) for _ in range(1000 if split == "train" else 300)]


every, test = labelled("train"), labelled("test")[: 40 if SMALL else None]
count = 300 if DATA.is_dir() else 30
examples = every[:: len(every) // count][:count]
labels = sorted({example.label for example in examples})
most_frequent = max(Counter(example.label for example in test).values()) / len(test)
settings = Settings(
    batch=20,
    length=48,
    epochs=0.2 if SMALL else 6,
    learning_rate="1e-3",
    auxiliary=0.5,
    keep="last",
    seeds=1 if SMALL else 3,
)


def classify(**changes):
    """Return the test accuracy of each seed, and the folder of the best one."""
    out = Path(tempfile.mkdtemp())
    data = {"train": examples, "dev": every[1 :: len(every) // 100], "test": test}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        result, _ = finetune(
            folder, TASKS["classification"], data, out, replace(settings, **changes)
        )
    return [run["accuracy"] for run in result["test"]], out


# %%
# G2
accuracies, classifier_folder = classify()
scratch = [] if SMALL else classify(scratch=True)[0]
classifier = zoo.load(classifier_folder)
one = classifier.tokenizer.encode("Who was it?").tokens
two = classifier.tokenizer.encode("Who was it?", "When was it?").tokens
print(*one)
print(*two)
assert (one[0], one[-1]) == ("_start_", "_classify_")
assert two.count("_delimiter_") == 1
assert two[0] == "_start_"
assert two[-1] == "_classify_"
before, after = flatten(loaded.params), flatten(classifier.params)
head = {path: x.shape for path, x in after.items() if path not in before}
print("new:", head)
assert head == {"score/kernel": (loaded.model.config.width, len(labels))}
rows = [path for path, x in before.items() if after[path].shape != x.shape]
assert rows == ["trunk/token_embedding/embedding"]  # of the three tokens
print(f"{len(examples)} examples; most frequent label {most_frequent:.1%}")
for name, values in {"fine-tuned": accuracies, "from scratch": scratch}.items():
    print(f"{name}:", *[f"{value:.1%}" for value in values])
assert SMALL or min(accuracies) > most_frequent + 0.1

# %% [markdown]
# ## Zero-, one- and few-shot
#
# GPT-3 is not fine-tuned. It reads the task, a few labelled examples if there are any, and a text;
# the label that is the most probable continuation is its prediction. The probabilities may be
# divided by those after a text without content, which takes out what the model prefers anyway
# ("calibrated"). This works in models that are a thousand times as large as ours, and not here.

# %%
# G4
words = dict(zip(labels, labels, strict=True))
if "ABBR" in words:
    kinds = ("abbreviation", "description", "entity", "human", "location", "number")
    words = dict(zip(labels, kinds, strict=True))
template = "Q: {text}\nA: {label}"
few = [example for example in test if len(example.text) < 80][: 10 if SMALL else 100]
short = [example for example in examples if len(example.text) < 40]
table = {}
for shots in (1,) if SMALL else (0, 1, 4):
    runs = [
        in_context.evaluate(loaded, short, few, words, shots=shots, seed=seed, template=template)
        for seed in range(3 if shots and not SMALL else 1)
    ]
    table[shots] = {name: [run[name] for run in runs] for name in ("plain", "calibrated")}
    print(
        f"{shots} shots: plain {np.mean(table[shots]['plain']):.1%}, "
        f"calibrated {np.mean(table[shots]['calibrated']):.1%}"
    )
of_few = Counter(example.label for example in few).most_common(1)[0][1] / len(few)
print(f"most frequent label: {of_few:.1%}; fine-tuned, on all: {np.mean(accuracies):.1%}")
prompted = [np.mean(values) for row in table.values() for values in row.values()]
assert SMALL or max(prompted) < np.mean(accuracies)  # no in-context learning at this scale

# A prediction by hand: the probabilities of the labels after the prompt, normalized.
shot = Shot(short[0].text, short[0].label)
context = f"Q: {shot.text}\nA: {words[shot.label]}\n\nQ: {few[0].text}\nA:"
log_p_C = [zoo.score(loaded, f"{context} {word}").total for word in words.values()]
p_C = np.exp(log_p_C - np.max(log_p_C))
plain_NC, _ = predict(loaded, [Shot(few[0].text)], words, [shot], template)
print(zoo.prompt(loaded, few[0].text, words, shots=[shot], template=template))
np.testing.assert_allclose(p_C / p_C.sum(), plain_NC[0], atol=1e-3)

# %% [markdown]
# ## GPT-2 and GPT-3: the same, larger
#
# The sizes of the papers, counted from shapes. Nearly all parameters are in the blocks, about
# $12 L D^2$ for $L$ blocks of width $D$.

# %%
# G4
sizes = {"gpt": gpt} | {name: m for m in (gpt2, gpt3) for name in m.SIZES if "tiny" not in name}
number = {}
for name, module in sizes.items():
    c = module.SIZES[name]
    number[name] = num_parameters(module.Model, c)
    in_blocks = 12 * c.num_layers * c.width**2
    print(
        f"{name:>12}: {c.num_layers:>2} blocks of width {c.width:>5}, context {c.max_length:>4}, "
        f"{number[name]:>15,} parameters, 12 L D² are {in_blocks / number[name]:.1%}"
    )
assert number["gpt2-xl"] == 1_557_611_200  # "1.5B"
assert abs(number["gpt3-175b"] / 175e9 - 1) < 0.005
assert number["gpt3-175b"] > 1000 * number["gpt"]
plain = [c for c in gpt2.SIZES.values() if c.num_heads * c.head_width == c.width]
for c in plain:
    D = c.width
    block = 12 * D**2 + 13 * D
    total = c.num_layers * block + (c.vocab_size + c.max_length) * D + 2 * D
    assert total == num_parameters(gpt2.Model, c)

# %% [markdown]
# ## How many tokens?
#
# The notes say that GPT-2 was trained on 40 B tokens and GPT-3 on 300 B. The paper of GPT-2 has 40
# *gigabytes* of text (section 2.1), and a token of its vocabulary is 4 to 5 bytes. GPT-3 did read
# 300 billion tokens (table 2.1), drawn from a set of 499 billion (table 2.2), of which the larger
# successor of GPT-2's text makes 19 billion.

# %%
# G4
shakespeare = DATA / "lm_tinyshakespeare" / "input.txt.gz"
plain_text = (
    gzip.decompress(shakespeare.read_bytes()).decode("utf-8")
    if shakespeare.is_file()
    else "\n\n".join(builtin.documents())
)
files = [DATA / "vocab_gpt2" / name for name in ("encoder.json", "vocab.bpe")]
sample = " ".join(documents) if files[0].is_file() else plain_text[:1_000_000]
if files[0].is_file():
    tokenizer, name = ByteLevelBPETokenizer(*map(str, files)), "the vocabulary of GPT-2"
else:
    tokenizer, name = train_tokenizer.byte_level_bpe([sample], 4096), "a vocabulary of 4,096"
bytes_per_token = len(sample.encode()) / len(tokenizer.encode(sample).ids)
print(f"bytes per token of {name}: {bytes_per_token:.2f}")
print(f"40 GB are about {40 / bytes_per_token:.0f} billion tokens")
assert 40 / bytes_per_token < 20  # not 40
largest = recipe("gpt3-175b")
tokens = largest.steps * largest.batch * largest.length
mixture = {"Common Crawl": 410, "WebText2": 19, "Books1": 12, "Books2": 55, "Wikipedia": 3}
print(f"GPT-3 reads {tokens / 1e9:.0f} of {sum(mixture.values())} billion tokens", end=", ")
print(f"with 6 N D = {6 * number['gpt3-175b'] * tokens:.2e} FLOP")
assert abs(tokens / 300e9 - 1) < 0.01
assert sum(mixture.values()) == 499
assert abs(6 * number["gpt3-175b"] * tokens / 3.14e23 - 1) < 0.01  # table D.1

# %% [markdown]
# ## A scaling law of our own
#
# Five sizes of GPT-2 read the same text, with the same number of tokens and one learning rate. The
# compute is 6 FLOP for each weight and token, and that of attention. Kaplan et al. 2020
# ([arXiv:2001.08361](https://arxiv.org/abs/2001.08361)) fit $L \propto C^{-0.050}$ over eight
# powers of ten, with the best size for each compute; ours all read equally much.

# %%
WIDTHS = {16: 1, 32: 2, 64: 2, 96: 3, 128: 4}  # width -> blocks
STEPS = 3 if SMALL else 600
curves, tokenizer_folder = {}, None
length = len(plain_text) // (40 if SMALL else 1)
parts = [plain_text[: length - 20_000]], [plain_text[length - 20_000 : length]]
for width, num_layers in list(WIDTHS.items())[: 2 if SMALL else None]:
    out, metrics = train(
        "gpt2-tiny",
        *parts,
        tokenizer_folder,
        schedule=rising_and_falling,
        steps=STEPS,
        vocab_size=512,
        max_length=64,
        num_layers=num_layers,
        num_heads=4,
        width=width,
    )
    tokenizer_folder = tokenizer_folder or out  # one vocabulary for all
    model = zoo.load(out).model
    run = replace(recipe("gpt2-tiny"), config=model.config, batch=8, length=64)
    flop = run.flops_per_step(abstract(model))
    events = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    held_out = [event for event in events if event["kind"] == "held_out" and event["step"]]
    curves[num_parameters(type(model), model.config)] = np.array(
        [(event["step"] * flop, event["loss"]) for event in held_out]
    ).T

# %%
# G4
compute, loss = np.array([curve[:, -1] for curve in curves.values()]).T
slope, intercept = np.polyfit(np.log(compute), np.log(loss), 1)
figure, axis = plt.subplots(figsize=(8.5, 4.8))
for count, curve in curves.items():
    axis.plot(*curve, "o-", label=f"{count:,}")
axis.plot(
    compute, np.exp(intercept) * compute**slope, "k--", label=f"$L \\propto C^{{{slope:.3f}}}$"
)
axis.set(
    xscale="log", yscale="log", xlabel="compute (FLOP)", ylabel="held-out loss (nats per token)"
)
axis.yaxis.set_major_locator(FixedLocator([3.5, 4, 4.5, 5]))
axis.yaxis.set_minor_locator(NullLocator())
axis.yaxis.set_major_formatter("{x:.1f}")
axis.set(title="Loss against compute, by number of parameters")
axis.legend(title="parameters")
plt.show()
for count, c, value in zip(curves, compute, loss, strict=True):
    print(f"{count:>9,} parameters, {c:.1e} FLOP: loss {value:.3f}")
print(f"exponent {slope:.3f}")
assert list(compute) == sorted(compute)
assert SMALL or list(loss) == sorted(loss, reverse=True)  # larger models, lower loss
assert SMALL or slope < -0.01
# With the compute of the smallest model, the largest one has hardly begun.
smallest, *_, largest_curve = curves.values()
small_compute, small_loss = smallest[:, -1]
assert SMALL or np.interp(small_compute, *largest_curve) > small_loss

# %%
print(describe())
