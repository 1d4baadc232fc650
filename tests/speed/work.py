"""The work that every competitor does: its sizes, its batches and the weights to start from.

Needs NumPy alone, so that competitors of any environment can read it.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.speed import flops

END = 1  # of a text, where a model has one
MASK = 4
FIRST_WORD = 5  # smaller ids are special tokens and never drawn
PRODUCT = (2048, 1024, 1024)  # rows, inner, columns of the product that gives the matrix rate
LEARNING_RATE, BETAS, EPSILON, WEIGHT_DECAY, DROPOUT = 1e-4, (0.9, 0.999), 1e-8, 0.01, 0.1


WRITING = ("decode", "translate")
WITHOUT_SHARE = (*WRITING, "words")  # of the matrix rate: not mostly products


@dataclass(frozen=True)
class Work:
    """One race: a training step of one model, or what it writes.

    Kinds: "step"; where zoo draws the weights "pretrain", and with Keras beside it "recurrent"; a
    "recurrence" alone, forward and backward; word vectors of all `texts`, "words"; "finetune",
    where a step is one of each of the `runs`, or with `texts` a whole epoch of them; greedy
    decoding, "decode"; "translate".
    """

    title: str
    kind: str
    model: str
    dtype: str
    rows: int
    vocab_size: int = 8192
    max_length: int = 128
    num_layers: int = 4
    num_heads: int = 4
    width: int = 256
    mlp_width: int = 1024
    predictions: int = 20  # of a masked sequence
    prompt: int = 32
    new_tokens: int = 64
    student_layers: int = 2  # of distillation
    spans: int = 7  # cut out of a text, which are `cut` tokens
    cut: int = 21
    narrow: int = 64  # width of ALBERT's tokens, and of ELECTRA's generator
    embed_width: int = 128  # of ELECTRA's tokens
    packed: int = 1  # texts that share a row, none of which reads another
    beams: int = 1  # of a translation
    runs: int = 1  # of a fine-tuning, each with its own weights
    trained: int = 0  # groups that learn, counted from the head; 0: all
    texts: int = 0  # of a task, as long as they come; 0: batches of the full length

    @property
    def targets(self) -> int:
        """What is written for the spans: each behind a sentinel, and the end."""
        return self.cut + self.spans + 1

    @property
    def turn(self) -> int:
        """How many steps, or whole decodings, make one turn."""
        return 1 if self.kind in WRITING or self.texts else 3

    def flops(self) -> float:
        """Products of one training step, embeddings not counted."""
        return flops.step(self)


STEP = "{} 4 x 256, one training step, batch 16 x 128, vocabulary 8192, {}"
GPT2_BASE = dict(
    vocab_size=50257, max_length=1024, num_layers=12, num_heads=12, width=768, mlp_width=3072
)
DISTILLED = "DistilBERT 2 x 256, taught by BERT"
SPANS = "T5 4 + 4 x 256, one training step, batch 16 x 128 in, 29 out, vocabulary 8192, {}"
LSTM = dict(vocab_size=10000, max_length=64, num_layers=2, width=512)
LSTM_STEP = "LSTM language model 2 x 512, one training step, batch 32 x 64, vocabulary 10,000, {}"
PAIRS = "Transformer 4 + 4 x 256, one training step, batch 16 x 128 in and out, vocabulary 8192, {}"
TRANSLATE = "{}, Transformer 4 + 4 x 256, 8 rows of 32, 64 tokens"
FINETUNE = "BERT 4 x 256 learns two classes, {}"
VECTORS = "{}, 100 wide, window 5, 5 negatives, an epoch of 400,000 words, vocabulary 20,000"
DECODE = "greedy decoding, {}, {}, 64 tokens after 32"


def _pretrain(title: str, model: str) -> list[Work]:
    return [Work(title.format(t), "pretrain", model, t, 16) for t in ("float32", "bfloat16")]


WORKS = {
    "gpt2": [Work(STEP.format("GPT-2", t), "step", "gpt2", t, 16) for t in ("float32", "bfloat16")],
    "bert": [Work(STEP.format("BERT", t), "step", "bert", t, 16) for t in ("float32", "bfloat16")],
    "roberta": _pretrain(STEP.format("RoBERTa", "{}"), "roberta"),
    "albert": _pretrain(STEP.format("ALBERT", "{}"), "albert"),
    "electra": _pretrain(STEP.format("ELECTRA", "{}"), "electra"),
    "distilbert": _pretrain(STEP.format(DISTILLED, "{}"), "distilbert"),
    "t5": _pretrain(SPANS, "t5"),
    "lstm": [Work(LSTM_STEP.format("float32"), "recurrent", "rnn", "float32", 32, **LSTM)],
    "recurrence": [
        Work(
            "LSTM 2 x 512 alone, 32 x 64, its gradients", "recurrence", "rnn", "float32", 32, **LSTM
        )
    ],
    "transformer": _pretrain(PAIRS, "transformer"),
    "finetune": [
        Work(FINETUNE.format(what), "finetune", "bert", "float32", 16, **more)
        for what, more in (
            ("one step, batch 16 x 128", {}),
            ("one step, batch 16 x 128, the head and the last block alone", {"trained": 2}),
            ("an epoch of 512 texts of 8 to 128 tokens, batch 16", {"texts": 512}),
            ("one step of five runs, batch 16 x 32 each", {"runs": 5, "max_length": 32}),
        )
    ],
    "words": [
        Work(
            VECTORS.format(title), "words", model, "float32", 1, 20_000, 200, width=100, texts=2000
        )
        for title, model in (
            ("skip-gram", "skip-gram"),
            ("CBOW", "cbow"),
            ("fastText skip-gram", "fasttext skip-gram"),
            ("fastText CBOW", "fasttext cbow"),
        )
    ],
    "translate": [
        Work(TRANSLATE.format(how), "translate", "transformer", "float32", 8, beams=beams)
        for how, beams in (("greedy decoding", 1), ("a beam of 4", 4))
    ],
    "decode": [
        Work(DECODE.format("GPT-2 4 x 256", "8 rows"), "decode", "gpt2", "float32", 8),
        Work(DECODE.format("GPT-2 base", "1 row"), "decode", "gpt2", "float32", 1, **GPT2_BASE),
        Work(DECODE.format("GPT-2 base", "8 rows"), "decode", "gpt2", "float32", 8, **GPT2_BASE),
    ],
}


def tokens(work: Work, length: int, seed: int) -> np.ndarray:
    """Random words whose frequencies follow Zipf's law: [rows, length], int32."""
    share = 1 / np.arange(1, work.vocab_size - FIRST_WORD + 1)
    words = np.random.default_rng(seed).choice(
        len(share), (work.rows, length), p=share / share.sum()
    )
    return (words + FIRST_WORD).astype(np.int32)


def lines(work: Work) -> list[list[str]]:
    """Texts of words whose spelling is as long as their frequency is low, as that of real words."""
    spelled = [_spelled(number) for number in range(work.vocab_size)]
    drawn = np.concatenate([tokens(work, work.max_length, seed) for seed in range(work.texts)])
    return [[spelled[number] for number in row] for row in drawn]


def _spelled(number: int) -> str:
    """Return the spelling of a word: syllables of two letters, three or more of them."""
    syllables = []
    while number or len(syllables) < 3:
        number, syllable = divmod(number, 75)
        syllables.append("bcdfghklmnprstv"[syllable // 5] + "aeiou"[syllable % 5])
    return "".join(syllables)


def labelled(work: Work) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Texts to fine-tune to: words [N, length], the length of each, its class.

    The lengths are those of sentences and reviews: most are short, some long.
    """
    count, random = work.texts or 8 * work.rows, np.random.default_rng(7)
    drawn = [tokens(work, work.max_length, seed) for seed in range(-(-count // work.rows))]
    lengths = np.full(count, work.max_length)
    if work.texts:
        lengths = np.clip(random.lognormal(3.3, 0.7, count), 8, work.max_length).astype(int)
    return np.concatenate(drawn)[:count], lengths, random.integers(0, 2, count)


def waves(work: Work) -> np.ndarray:
    """What a recurrence reads: [rows, length, width], float32."""
    shape = (work.rows, work.max_length, work.width)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def batches(work: Work, count: int = 8) -> list[dict[str, np.ndarray]]:
    """`count` training batches.

    "tokens" is what the network reads. A masked batch has the hidden "positions", in order, and
    their "targets" too: 80 % of them read as the mask, 10 % as another word, 10 % as themselves.
    ALBERT's has "segments" and their "order"; T5's the whole "text", "decoder_inputs" and
    "targets". A translator's has "targets", a recurrent one's the whole "text" and "targets".
    """
    # So that as many are left where each span becomes one sentinel, and the end is written.
    spans = work.cut - work.spans - 1
    more = {"t5": spans, "t5_v1_1": spans, "rnn": 1}
    length = work.max_length + more.get(work.model, 0)
    drawn = [tokens(work, length, seed) for seed in range(count)]
    if work.model == "gpt2":
        return [{"tokens": words} for words in drawn]
    corrupts = {"albert": _pair, "transformer": _translate, "rnn": _window}
    corrupts |= {"t5": _cut, "t5_v1_1": _cut}
    corrupt = corrupts.get(work.model, _mask)
    return [corrupt(work, words, seed) for seed, words in enumerate(drawn)]


def _cut(work: Work, words: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Cuts spans out: text begins with a piece that stays and ends with one that is cut."""
    random = np.random.default_rng([seed, 1])
    part = lambda items: np.diff(
        np.sort(random.choice(items - 1, work.spans - 1, replace=False)) + 1,
        prepend=0,
        append=items,
    )
    rows = {"text": [], "tokens": [], "targets": []}
    for text in words:
        sizes = np.stack([part(len(text) - work.cut), part(work.cut)], 1).ravel()
        pieces = np.split(text, np.cumsum(sizes)[:-1])
        marks = [[work.vocab_size - 1 - i] for i in range(work.spans)]
        weave = lambda first, second: [x for pair in zip(first, second, strict=True) for x in pair]
        rows["text"].append(text)
        rows["tokens"].append(np.concatenate([*weave(pieces[::2], marks), [END]]))
        rows["targets"].append(np.concatenate([*weave(marks, pieces[1::2]), [END]]))
    batch = {name: np.stack(found).astype(np.int32) for name, found in rows.items()}
    shifted = np.pad(batch["targets"], ((0, 0), (1, 0)))[:, :-1]
    return batch | {"decoder_inputs": shifted}


def _window(work: Work, words: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Each word is predicted from those before it, all but the first."""
    return {"text": words, "tokens": words[:, :-1], "targets": words[:, 1:]}


def _translate(work: Work, words: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Another text for each, and both end."""
    others = tokens(work, work.max_length, seed + 1000)
    for side in (words, others):
        side[:, -1] = END
    return {"tokens": words, "targets": others}


def _pair(work: Work, words: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Hides words of two segments of equal length, in order or not."""
    order = np.random.default_rng([seed, 2]).integers(0, 2, len(words)).astype(np.int32)
    second = np.arange(words.shape[1]) >= words.shape[1] // 2
    segments = np.broadcast_to(second, words.shape).astype(np.int32)
    return _mask(work, words, seed) | {"segments": segments, "order": order}


def _mask(work: Work, words: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng([seed, 1])
    order = random.random(words.shape).argsort(axis=1)[:, : work.predictions]
    positions = np.sort(order, axis=1).astype(np.int32)
    targets = np.take_along_axis(words, positions, axis=1)
    fate = random.random(positions.shape)
    others = random.integers(FIRST_WORD, work.vocab_size, positions.shape)
    shown = np.where(fate < 0.8, MASK, np.where(fate < 0.9, others, targets)).astype(np.int32)
    hidden = words.copy()
    np.put_along_axis(hidden, positions, shown, axis=1)
    return {"tokens": hidden, "positions": positions, "targets": targets}


def published_config(work: Work) -> dict:
    """The model's `config.json`, as Hugging Face writes it."""
    if work.model == "gpt2":
        return {
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"],
            "vocab_size": work.vocab_size,
            "n_positions": work.max_length,
            "n_embd": work.width,
            "n_layer": work.num_layers,
            "n_head": work.num_heads,
            "n_inner": work.mlp_width,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "resid_pdrop": DROPOUT,
            "embd_pdrop": DROPOUT,
            "attn_pdrop": DROPOUT,
            "bos_token_id": None,
            "eos_token_id": None,
            "tie_word_embeddings": True,
        }
    return {
        "model_type": "bert",
        "architectures": ["BertForMaskedLM"],
        "vocab_size": work.vocab_size,
        "max_position_embeddings": work.max_length,
        "type_vocab_size": 2,
        "hidden_size": work.width,
        "num_hidden_layers": work.num_layers,
        "num_attention_heads": work.num_heads,
        "intermediate_size": work.mlp_width,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": DROPOUT,
        "attention_probs_dropout_prob": DROPOUT,
        "pad_token_id": 0,
        "tie_word_embeddings": True,
    }


def published_shapes(work: Work) -> dict[str, tuple[int, ...]]:
    """The model's parameters under their published names, tied ones once."""
    V, D, F = work.vocab_size, work.width, work.mlp_width
    affine = lambda name, *shape: {f"{name}.weight": shape, f"{name}.bias": shape[-1:]}
    # PyTorch's Linear keeps [out, in], the Conv1D of GPT-2 keeps [in, out].
    linear = lambda name, fan_in, out: {f"{name}.weight": (out, fan_in), f"{name}.bias": (out,)}
    if work.model == "gpt2":
        shapes = {"transformer.wte.weight": (V, D), "transformer.wpe.weight": (work.max_length, D)}
        for i in range(work.num_layers):
            block = f"transformer.h.{i}"
            shapes |= affine(f"{block}.ln_1", D) | affine(f"{block}.ln_2", D)
            shapes |= affine(f"{block}.attn.c_attn", D, 3 * D)
            shapes |= affine(f"{block}.attn.c_proj", D, D)
            shapes |= affine(f"{block}.mlp.c_fc", D, F) | affine(f"{block}.mlp.c_proj", F, D)
        return shapes | affine("transformer.ln_f", D)
    shapes = {
        "bert.embeddings.word_embeddings.weight": (V, D),
        "bert.embeddings.position_embeddings.weight": (work.max_length, D),
        "bert.embeddings.token_type_embeddings.weight": (2, D),
    } | affine("bert.embeddings.LayerNorm", D)
    for i in range(work.num_layers):
        block = f"bert.encoder.layer.{i}"
        for part in ("query", "key", "value"):
            shapes |= linear(f"{block}.attention.self.{part}", D, D)
        shapes |= linear(f"{block}.attention.output.dense", D, D)
        shapes |= linear(f"{block}.intermediate.dense", D, F)
        shapes |= linear(f"{block}.output.dense", F, D)
        shapes |= affine(f"{block}.attention.output.LayerNorm", D)
        shapes |= affine(f"{block}.output.LayerNorm", D)
    shapes |= linear("cls.predictions.transform.dense", D, D)
    shapes |= affine("cls.predictions.transform.LayerNorm", D)
    return shapes | {"cls.predictions.bias": (V,)}


def draw_weights(random: np.random.Generator, centre: float, spread: float, shape) -> np.ndarray:
    """Random numbers; beyond a million they repeat, since a billion would take a minute."""
    size = min(int(np.prod(shape)), 2**20 + 7)
    return np.resize(random.normal(centre, spread, size).astype(np.float32), shape)


def write_model(work: Work, folder: Path) -> Path:
    """A Hugging Face folder of the model with random weights: wide, so that no part is idle."""
    from safetensors.numpy import save_file

    random, weights = np.random.default_rng(0), {}
    for name, shape in published_shapes(work).items():
        scale = "ln_" in name or "LayerNorm" in name
        centre = 1.0 if scale and name.endswith("weight") else 0.0
        spread = 0.05 if len(shape) == 2 else 0.1
        weights[name] = draw_weights(random, centre, spread, shape)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(published_config(work)))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
