"""Every kind of task is learned, and its folder predicts."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

import zoo
from tests.tiny_task import (
    CLASSIFICATION,
    DATA,
    DULL,
    GOOD,
    SETTINGS,
    SIZES,
    WORDS,
    folder,
    saved,
    texts,
    tokenizer,
    tune,
)
from train.data.examples.squad import Question
from train.data.examples.tables import TextExample
from train.data.examples.tagged import TaggedSentence
from train.finetuning import evaluate, transfer
from train.finetuning.tasks.registry import TASKS
from train.finetuning.tasks.task import encode
from zoo.checkpoints.load import Loaded
from zoo.inference import classify
from zoo.models import gpt2, luong, rnn, t5, transformer


def test_a_task_is_learned_and_the_folder_predicts_in_three_lines(tmp_path):
    metrics, _ = tune(tmp_path)
    assert metrics["dev"][0]["accuracy"] > 0.95
    model, params, words = zoo.load(tmp_path / "out")
    assert model.config.labels == ("bad", "good")
    (prediction,) = classify.classify(Loaded(model, params, words), ["the film is lovely"])
    assert next(iter(prediction)) == "good"
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["best"] == 0
    assert results["settings"]["learning_rate"] == "1e-2"


def test_dropout_is_the_chosen_one_and_the_folder_keeps_it(tmp_path):
    losses = {}
    for dropout in (None, 0.5):
        tune(tmp_path, replace(SETTINGS, epochs=1.0, dropout=dropout))
        assert zoo.load(tmp_path / "out")[0].config.dropout == (dropout or 0.0)
        losses[dropout] = (tmp_path / "out" / "log.jsonl").read_text().split('"loss"')[1][:20]
    assert losses[None] != losses[0.5]


def test_a_run_that_predicts_one_class_for_all_is_named(tmp_path):
    metrics, _ = tune(tmp_path, replace(SETTINGS, learning_rate="1e-9", epochs=0.2))
    assert metrics["dev"][0]["collapsed"] == 1.0
    assert any("one class for all" in line for line in evaluate.summary(CLASSIFICATION, metrics))


def test_a_collapsed_run_is_the_best_only_among_collapsed_ones():
    runs = [{"accuracy": 0.7, "collapsed": 1.0}, {"accuracy": 0.6}, {"accuracy": 0.65}]
    assert evaluate.best_run(CLASSIFICATION, runs) == 2
    assert evaluate.best_run(CLASSIFICATION, runs[:1]) == 0


# Kinds of task


def test_tags_are_learned_with_sentences_that_are_too_long(tmp_path):
    random = np.random.default_rng(0)

    def sentence(count):
        words = [str(word) for word in random.choice(WORDS, count)]
        return TaggedSentence(tuple(words), tuple("B-x" if w in GOOD else "O" for w in words))

    data = {"train": [sentence(9) for _ in range(96)], "dev": [sentence(70) for _ in range(8)]}
    metrics, _ = tune(tmp_path, replace(SETTINGS, epochs=6.0), TASKS["tagging"], data)
    assert metrics["dev"][0]["f1"] > 0.95
    file = tmp_path / "dev.jsonl"
    rows = [{"words": x.words, "labels": x.labels} for x in data["dev"]]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluation = evaluate.evaluate_folder(tmp_path / "out", file)
    assert evaluation.metrics == pytest.approx(metrics["dev"][0])
    fields = evaluation.predictions[0]
    assert len(fields["words"]) == len(fields["prediction"]) == len(fields["probabilities"]) == 70
    assert [len(labels) for labels in evaluation.classes()] == [8 * 70] * 2
    file.write_text("".join(json.dumps({"words": x.words}) + "\n" for x in data["dev"]))
    unlabelled = evaluate.evaluate_folder(tmp_path / "out", file)  # predictions without metrics
    assert unlabelled.metrics == {}
    assert unlabelled.predictions[0] == {k: v for k, v in fields.items() if k != "labels"}


def test_given_labels_must_hold_every_tag_of_the_data():
    examples = [TaggedSentence(("a", "b"), ("O", "B-x"))]
    assert TASKS["tagging"].labels(examples, ("O", "B-x", "B-y")) == ("O", "B-x", "B-y")
    with pytest.raises(ValueError, match="the label 'B-x' of the data is not one of --labels"):
        TASKS["tagging"].labels(examples, ("O",))


def test_questions_are_answered(tmp_path):
    random = np.random.default_rng(0)

    def question(number):
        words = [str(word) for word in random.choice(DULL, 8)]
        words[random.integers(8)] = answer = str(random.choice(GOOD))
        context = " ".join(words)
        return Question(str(number), "the", context, ((answer, context.index(answer)),))

    data = {"train": [question(n) for n in range(160)], "dev": [question(n) for n in range(32)]}
    metrics, _ = tune(tmp_path, SETTINGS, TASKS["question-answering"], data)
    assert metrics["dev"][0]["exact_match"] > 0.9


def test_a_number_is_learned(tmp_path):
    numbered = lambda some: tuple(
        text._replace(pair="a film", label=str(float(text.label == "good"))) for text in some
    )
    data = {name: numbered(some) for name, some in DATA.items()}
    metrics, _ = tune(tmp_path, SETTINGS, TASKS["regression"], data)
    assert metrics["dev"][0]["spearman"] > 0.8
    model = zoo.load(tmp_path / "out")[0]
    assert model.config.labels == ("score",)
    assert evaluate.task_of(model) == "regression"


def ending():
    """A tokenizer with what encoder-decoders need: padding and an end."""
    words = tokenizer(("<pad>", "</s>"))
    words.add_special_tokens(["<pad>", "</s>"])
    return words


ENCODER_DECODER = SIZES | {"num_layers": 1, "num_decoder_layers": 1}
RECURRENT = {"num_layers": 1, "width": 24, "dropout": 0.0, "embed_width": 24}
TRANSLATORS = {
    "t5": (t5, lambda count: t5.Config(vocab_size=count, **ENCODER_DECODER)),
    "luong": (luong, lambda count: luong.Config(vocab_size=count, **RECURRENT)),
    "transformer": (
        transformer,
        lambda count: transformer.Config(vocab_size=count, **ENCODER_DECODER),
    ),
}


@pytest.mark.parametrize(
    ("name", "unfreeze", "optimizer"),
    [
        ("t5", "all", "adamw"),
        ("t5", "all", "adafactor"),
        ("luong", "all", "adamw"),
        ("transformer", "gradual", "adamw"),
    ],
)
def test_a_text_is_generated(name, unfreeze, optimizer, tmp_path):
    (architecture, configure), words = TRANSLATORS[name], ending()
    start = folder(tmp_path, architecture, configure(words.get_vocab_size()), words)
    target = {"bad": "poor film", "good": "lovely"}
    data = {key: [x._replace(label=target[x.label]) for x in some] for key, some in DATA.items()}
    epochs = 12.0 if unfreeze == "all" else 1.0
    settings = replace(SETTINGS, epochs=epochs, unfreeze=unfreeze, learning_rate="1e-2")
    if optimizer == "adafactor":
        settings = replace(settings, optimizer=optimizer, schedule="constant", weight_decay=0.01)
    metrics, _ = tune(tmp_path, settings, TASKS["text-to-text"], data, start)
    if unfreeze == "all":
        assert metrics["dev"][0]["exact_match"] > 90
    file = tmp_path / "dev.tsv"
    file.write_text("".join(f"{text.text}\t{text.label}\n" for text in data["dev"]))
    evaluation = evaluate.evaluate_folder(tmp_path / "out", file)
    assert evaluation.metrics == pytest.approx(metrics["dev"][0])
    assert [fields["text"] for fields in evaluation.predictions] == [x.text for x in data["dev"]]


def test_a_long_text_and_its_target_are_truncated(tmp_path):
    words, task = ending(), TASKS["text-to-text"]
    config = t5.Config(vocab_size=words.get_vocab_size(), **ENCODER_DECODER)
    loaded, new_paths = transfer.load_for_task(folder(tmp_path, t5, config, words), "text-to-text")
    assert not new_paths
    long = TextExample("the film " * 9, None, "fine " * 12)
    ((row,),) = encode(task, loaded, [long], 10)
    end = words.token_to_id("</s>")
    assert (len(row.row.tokens), row.row.tokens[-1], len(row.target)) == (10, end, 10)
    assert row.row.truncated == 9 + 3
    with pytest.raises(ValueError, match="is empty"):
        encode(task, loaded, [TextExample("fine", None, " ")], 10)


# Models that read from left to right


def test_gpt_reads_start_delimiter_extract_and_learns_the_next_token_too(tmp_path):
    words = tokenizer(())
    config = gpt2.Config(vocab_size=words.get_vocab_size(), **SIZES)
    start = folder(tmp_path, gpt2, config, words)
    metrics, _ = tune(tmp_path, replace(SETTINGS, auxiliary=0.5), start=start)
    assert metrics["dev"][0]["accuracy"] > 0.9
    model, _, words_after = zoo.load(tmp_path / "out")
    assert model.config.vocab_size == config.vocab_size + 3
    tokens = words_after.encode("the film", "a film").tokens
    assert tokens == ["_start_", "the", "film", "_delimiter_", "a", "film", "_classify_"]


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "concatenation"])
def test_a_recurrent_trunk_pools_its_outputs(tmp_path, pooling):
    words = tokenizer(())
    sizes = {"max_length": 32, "num_layers": 1, "width": 16, "dropout": 0.0, "embed_width": 16}
    config = rnn.Config(vocab_size=words.get_vocab_size(), **sizes, cell="gru", pooling=pooling)
    start = folder(tmp_path, rnn, config, words)
    assert tune(tmp_path, start=start)[0]["dev"][0]["accuracy"] > 0.9


# What goes wrong


def test_wrong_input_is_one_clear_line(tmp_path):
    start, odd = folder(tmp_path), TextExample("a", None, "odd")
    with pytest.raises(ValueError, match="one example"):
        tune(tmp_path, data={"train": (*texts(8), odd)}, start=start)
    with pytest.raises(ValueError, match="'odd' is not a label of the model: bad, good"):
        tune(tmp_path, data=DATA | {"dev": (odd,)}, start=start)
    with pytest.raises(ValueError, match="'bad' is not a number: --task regression needs"):
        tune(tmp_path, task=TASKS["regression"], start=start)
    with pytest.raises(ValueError, match="is empty"):
        tune(tmp_path, data=DATA | {"dev": (TextExample(" ", None, "good"),)}, start=start)
    with pytest.raises(ValueError, match="predicts no next token"):
        tune(tmp_path, replace(SETTINGS, auxiliary=0.5), start=start)
    with pytest.raises(ValueError, match="use --columns text=NAME label=NAME"):
        TASKS["text-to-text"].read(tmp_path, {"text": "1"})
    (tmp_path / "header.tsv").write_text("label\tsentence\n0\tbad\n")
    with pytest.raises(ValueError, match="the names of columns, label and sentence: remove"):
        TASKS["text-to-text"].read(tmp_path / "header.tsv", {})
    tune(tmp_path, replace(SETTINGS, epochs=0.2), start=start)
    with pytest.raises(ValueError, match="was fine-tuned with the labels bad, good"):
        transfer.load_for_task(
            tmp_path / "out", "classification", ("x", "y", "z"), key=jax.random.key(0)
        )
    with pytest.raises(ValueError, match="has no task: fine-tune it"):
        evaluate.evaluate_folder(start, saved(tmp_path)[1])


def test_a_model_that_does_not_support_a_task_says_which_do(tmp_path):
    words = tokenizer(())
    config = rnn.Config(vocab_size=words.get_vocab_size(), **RECURRENT)
    start = folder(tmp_path, rnn, config, words)
    with pytest.raises(ValueError, match=r"this task needs .*bert"):
        transfer.load_for_task(start, "question-answering", key=jax.random.key(0))
