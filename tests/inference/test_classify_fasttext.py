"""Classification of texts as bags of words, with fastText."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from train.finetuning.evaluate import evaluate_folder
from zoo.models.fasttext import LOSSES, Config, FastTextClassifier
from zoo.tokenizers import subwords, units

WORDS = ["</s>", "a", "fine", "film", "dull", "naïve"]
LABELS = ("good", "bad", "mixed", "none")
COUNTS = (5, 3, 3, 1)
TEXTS = ["a fine film", "dull\tdull unseen  naïve", "日本 film"]
# The name of each loss in the released program.
NAMES = {
    "softmax": "softmax",
    "negative-sampling": "ns",
    "hierarchical-softmax": "hs",
    "one-vs-all": "ova",
}
# The program looks the sigmoid of these up in a table with steps of 1 / 32.
TOLERANCES = {"negative-sampling": 0.25 / 32, "one-vs-all": 0.25 / 32}
losses = pytest.mark.parametrize("loss", LOSSES)


def classifier(loss="softmax", **fields) -> zoo.Loaded:
    """Return a classifier with random rows and outputs."""
    given = {"buckets": 20, "min_n": 2, "max_n": 3, "word_ngrams": 2} | fields
    model = FastTextClassifier(
        Config(vocab_size=len(WORDS) + 1, width=8, labels=LABELS, loss=loss, **given)
    )
    params = model.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"]
    params["rows"] = 8 * params["rows"]
    params["outputs"] = 3 * jax.random.normal(jax.random.key(1), params["outputs"].shape)
    params["label_counts"] = jnp.array(COUNTS, jnp.int32)
    return zoo.Loaded(model, params, units.words(["<unk>", *WORDS]))


@losses
def test_probabilities_are_those_of_the_loss(loss):
    loaded = classifier(loss)
    p_C = zoo.classify(loaded, TEXTS[0])
    words = [*TEXTS[0].split(), "</s>"]
    c = loaded.model.config
    ids = np.array([loaded.tokenizer.token_to_id(word) for word in words])
    rows = subwords.word_rows(words, ids, c.vocab_size, c.buckets, c.min_n, c.max_n).rows
    rows = [*rows, *subwords.sentence_rows(words, c.vocab_size, c.buckets, 2)]
    x_D = np.asarray(loaded.params["rows"], np.float64)[rows].mean(0)
    logits_C = np.asarray(loaded.params["outputs"], np.float64) @ x_D
    turn = 1 / (1 + np.exp(-logits_C))  # to the right
    expected = {
        "softmax": np.exp(logits_C) / np.exp(logits_C).sum(),
        "negative-sampling": turn,
        "one-vs-all": turn,
        # Node 0 joins "none" and "mixed", node 1 "bad" and these, and the root "good" and these.
        "hierarchical-softmax": [
            1 - turn[2],
            turn[2] * (1 - turn[1]),
            turn[2] * turn[1] * turn[0],
            turn[2] * turn[1] * (1 - turn[0]),
        ],
    }[loss]
    assert list(p_C.values()) == sorted(p_C.values(), reverse=True)
    np.testing.assert_allclose([p_C[name] for name in LABELS], expected, rtol=1e-5)


@losses
def test_a_text_is_classified_alike_alone_and_among_others(loss):
    loaded = classifier(loss)
    for text, together in zip(TEXTS, zoo.classify(loaded, TEXTS), strict=True):
        alone = zoo.classify(loaded, text)
        assert alone == pytest.approx(together, rel=1e-5)
    if loss in ("softmax", "hierarchical-softmax"):
        assert sum(alone.values()) == pytest.approx(1)
    assert zoo.classify(loaded, []) == []


def test_a_line_break_is_white_space_and_a_line_has_one_end():
    loaded = classifier()
    assert zoo.classify(loaded, "a fine\nfilm\n") == zoo.classify(loaded, "a fine film")


def test_a_text_of_unknown_words_has_the_rows_of_its_end_and_its_ngrams():
    loaded = classifier(buckets=0, max_n=0, word_ngrams=1)
    first, second = zoo.classify(loaded, ["unseen", "also unseen"])
    assert first == second
    assert len(set(first.values())) > 1


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        (("a film", "a text"), {}, "leave out pair"),
        (("a film",), {"stride": 4}, "stride"),
        ((" \n",), {}, "is empty"),
    ],
    ids=str,
)
def test_what_fasttext_cannot_read_is_refused(inputs, options, message):
    with pytest.raises(ValueError, match=message):
        zoo.classify(classifier(), *inputs, **options)


def test_a_saved_classifier_is_evaluated(tmp_path):
    loaded = classifier()
    zoo.save(loaded, tmp_path / "model")
    assert zoo.classify(zoo.load(tmp_path / "model"), TEXTS) == zoo.classify(loaded, TEXTS)
    best = [next(iter(prediction)) for prediction in zoo.classify(loaded, TEXTS)]
    lines = [
        f"{text}\t{label}\n" for text, label in zip(["a fine film", "dull"], best, strict=False)
    ]
    (tmp_path / "data.tsv").write_text("text\tlabel\n" + "".join(lines), "utf-8")
    evaluation = evaluate_folder(tmp_path / "model", tmp_path / "data.tsv")
    assert 0.5 <= evaluation.metrics["accuracy"] <= 1
    assert evaluation.predictions[0]["prediction"] == best[0]
    with pytest.raises(ValueError, match="--task classification"):
        evaluate_folder(tmp_path / "model", tmp_path / "data.tsv", "multi-label")


@losses
def test_the_released_program_gives_the_same_probabilities(loss, tmp_path):
    fasttext = pytest.importorskip("fasttext")
    draw = np.random.default_rng(0)
    lines = [
        f"__label__{LABELS[min(draw.integers(6), 3)]} {' '.join(draw.choice(WORDS[1:], 5))}\n"
        for _ in range(60)
    ]
    (tmp_path / "train.txt").write_text("".join(lines), "utf-8")
    options = {"dim": 8, "wordNgrams": 2, "minn": 2, "maxn": 3, "bucket": 20, "thread": 1}
    program = fasttext.train_supervised(
        str(tmp_path / "train.txt"), loss=NAMES[loss], lr=1.0, epoch=5, verbose=0, **options
    )
    words, labels = program.get_words(), program.get_labels(include_freq=True)
    loaded = classifier(loss)
    config = replace(
        loaded.model.config,
        vocab_size=len(words),
        labels=tuple(name.removeprefix("__label__") for name in labels[0]),
    )
    params = {
        "rows": jnp.asarray(program.get_input_matrix()),
        "outputs": jnp.asarray(program.get_output_matrix()),
        "counts": jnp.zeros(len(words), jnp.int32),
        "label_counts": jnp.asarray(labels[1], jnp.int32),
    }
    # <unk> takes no row from the words: its id is the last one.
    ours = zoo.Loaded(FastTextClassifier(config), params, units.words([*words, "<unk>"]))
    for text in TEXTS:
        predicted = {
            name.removeprefix("__label__"): p
            for p, name in program.f.predict(f"{text}\n", -1, 0.0, "strict")
        }
        assert zoo.classify(ours, text) == pytest.approx(predicted, abs=TOLERANCES.get(loss, 3e-5))
