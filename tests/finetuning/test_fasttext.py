"""A fastText classifier is trained from random rows or from a folder, and resumes exactly."""

import json
import signal
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests import tiny_task
from tests.tiny_task import CLASSIFICATION, DATA, SIZES, saved, texts, tokenizer, tune
from train.data.examples.tables import TextExample
from train.finetuning import evaluate, finetune
from train.finetuning.settings import BagOfWords, Distillation, Settings
from train.finetuning.tasks.registry import TASKS
from train.finetuning.tuning import Stopped
from train.reporting.progress import TIMES, Report, read_log
from zoo.checkpoints import model_folder
from zoo.models import bert, fasttext
from zoo.models.fasttext import LOSSES, FastTextClassifier
from zoo.params import flatten
from zoo.tokenizers import units

SETTINGS = Settings(learning_rate="0.5", epochs=3.0, batch=16)
WORDS = BagOfWords(width=8)
NGRAMS = BagOfWords(width=8, word_ngrams=2, min_n=2, max_n=3, buckets=50)


def train(out, settings=SETTINGS, words=WORDS, start="fasttext", data=DATA, **options):
    return finetune.finetune(
        start, CLASSIFICATION, data, out, settings, bag_of_words=words, **options
    )


def pretrained(path, buckets=0, **fields):
    """Write a fastText folder whose rows are numbered."""
    words = units.words(["<unk>", "</s>", "fine", "film"])
    config = fasttext.Config(vocab_size=4, width=8, buckets=buckets, **fields)
    model = fasttext.FastText(config)
    params = model.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"]
    params["rows"] = jnp.tile(jnp.arange(4.0 + buckets)[:, None], 8)
    zoo.save(zoo.Loaded(model, params, words), path)
    return path


def timeless(out):
    return [{k: v for k, v in event.items() if k not in TIMES} for event in read_log(out)]


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_the_words_that_decide(tmp_path, loss):
    metrics, _ = train(tmp_path / "out", words=replace(WORDS, loss=loss))
    assert metrics["dev"][0]["accuracy"] > 0.95
    loaded = zoo.load(tmp_path / "out")
    assert type(loaded.model) is FastTextClassifier
    assert loaded.model.config.buckets == 0  # there are no n-grams
    assert next(iter(zoo.classify(loaded, "the film is lovely"))) == "good"


def test_a_stopped_and_resumed_run_equals_one_that_was_not(tmp_path, monkeypatch):
    words, settings = replace(NGRAMS, loss="negative-sampling"), replace(SETTINGS, save_every=4)
    expected, _ = train(tmp_path / "whole", settings, words)
    reported = Report.steps

    def stop_once(report, steps):
        reported(report, steps)
        if report.first_step == 0:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Report, "steps", stop_once)
        with pytest.raises(Stopped):
            train(tmp_path / "stopped", settings, words)
    with pytest.raises(FileExistsError, match="--resume"):
        train(tmp_path / "stopped", settings, words)
    with pytest.raises(ValueError, match="--width was 8, is 4"):
        train(tmp_path / "stopped", settings, replace(words, width=4), resume=True)
    other = DATA | {"dev": DATA["dev"][1:]}
    with pytest.raises(ValueError, match=r"another run: dev was '\w+', is '\w+'$"):
        train(tmp_path / "stopped", settings, words, data=other, resume=True)
    metrics, _ = train(tmp_path / "stopped", settings, words, resume=True)
    assert metrics == expected
    assert timeless(tmp_path / "stopped") == timeless(tmp_path / "whole")
    params = [flatten(model_folder.read(tmp_path / out)) for out in ("stopped", "whole")]
    for name, x in params[0].items():
        np.testing.assert_array_equal(x, params[1][name])


def test_words_and_labels_are_ordered_and_counted(tmp_path):
    data = [("x b b", "p"), ("b a", "q"), ("a b", "q")]
    examples = tuple(TextExample(text, None, label) for text, label in data * 2)
    train(
        tmp_path / "out",
        data={"train": examples, "dev": examples},
        words=replace(WORDS, min_count=4),
    )
    loaded = zoo.load(tmp_path / "out")
    ids = sorted(loaded.tokenizer.get_vocab().items(), key=lambda item: item[1])
    assert [word for word, _ in ids] == ["<unk>", "</s>", "b", "a"]
    assert loaded.params["counts"].tolist() == [0, 6, 8, 4]
    assert loaded.model.config.labels == ("q", "p")
    assert loaded.params["label_counts"].tolist() == [4, 2]


def test_a_folder_gives_the_rows_and_the_vocabulary(tmp_path):
    start = pretrained(tmp_path / "pretrained", buckets=6, min_n=2, max_n=2)
    slow = replace(SETTINGS, learning_rate="1e-6", epochs=0.2)
    train(tmp_path / "out", slow, BagOfWords(word_ngrams=2), start)
    loaded = zoo.load(tmp_path / "out")
    rows = np.asarray(loaded.params["rows"])
    np.testing.assert_allclose(rows, np.tile(np.arange(10.0)[:, None], 8), atol=1e-3)
    assert loaded.tokenizer.token_to_id("film") == 3
    assert loaded.model.config.min_n == 2
    train(tmp_path / "more", slow, BagOfWords(loss="one-vs-all"), tmp_path / "out")
    config = zoo.load(tmp_path / "more").model.config
    assert (config.loss, config.labels) == ("one-vs-all", loaded.model.config.labels)


def test_a_folder_without_ngrams_gets_new_rows_for_them(tmp_path):
    start = pretrained(tmp_path / "pretrained", min_n=0, max_n=0)
    train(tmp_path / "out", words=BagOfWords(word_ngrams=2, buckets=30), start=start)
    assert zoo.load(tmp_path / "out").params["rows"].shape == (34, 8)


def test_seeds_are_trained_one_after_another_and_the_best_is_kept(tmp_path):
    metrics, _ = train(tmp_path / "out", replace(SETTINGS, seeds=2, epochs=1.0))
    assert len(metrics["dev"]) == 2
    assert (tmp_path / "out" / "seed_1" / "log.jsonl").exists()
    best = json.loads((tmp_path / "out" / "results.json").read_text())["best"]
    assert metrics["dev"][best]["accuracy"] == max(each["accuracy"] for each in metrics["dev"])


@pytest.mark.parametrize(
    ("settings", "words", "message"),
    [
        ({"dropout": 0.1}, {}, "--dropout has no effect on a fastText classifier"),
        ({"length": 64}, {}, "--length has no effect"),
        ({"stack": "vectors"}, {}, "--stack has no effect"),
        ({"letters": 30}, {}, "--letters has no effect"),
        ({"both_orders": True}, {}, "--both-orders has no effect"),
        ({"learning_rate": "1e-3:1"}, {}, "--learning-rate must be one positive number"),
        ({"parallel": "pmap"}, {}, "--parallel pmap"),
        ({}, {"width": 0}, "--width must be at least 1, not 0"),
        ({}, {"buckets": 9}, "give --word-ngrams or --max-n"),
        ({}, {"buckets": 0, "max_n": 3}, "leave out --buckets 0"),
        ({}, {"min_n": 4, "max_n": 3}, "--max-n 3 is less than --min-n 4"),
        ({}, {"min_count": 10**6}, "use a lower --min-count"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(tmp_path, settings, words, message):
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "out", replace(SETTINGS, **settings), replace(WORDS, **words))


def test_other_tasks_second_texts_and_teachers_are_refused(tmp_path):
    with pytest.raises(ValueError, match="use --task classification"):
        finetune.finetune("fasttext", TASKS["regression"], DATA, tmp_path, SETTINGS)
    pairs = tuple(example._replace(pair="a film") for example in texts(8))
    with pytest.raises(ValueError, match="second texts"):
        train(tmp_path, data={"train": pairs, "dev": pairs})
    with pytest.raises(ValueError, match="--teacher has no effect"):
        train(tmp_path, distillation=Distillation(teacher=tmp_path))


def test_the_settings_of_a_folder_stay(tmp_path):
    start = pretrained(tmp_path / "pretrained", min_n=2, max_n=2, buckets=6)
    for name, value in {"width": 9, "max_n": 3, "buckets": 7, "min_count": 2}.items():
        with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} is that of .*pretrained"):
            train(tmp_path / "out", words=BagOfWords(**{name: value}), start=start)


def test_the_settings_of_a_bag_of_words_are_refused_for_other_models(tmp_path):
    model_folder.write(tmp_path / "bert", "bert", bert.SIZES["bert-base-uncased"])
    with pytest.raises(ValueError, match="--word-ngrams is for a fastText classifier"):
        train(tmp_path / "out", start=tmp_path / "bert", words=BagOfWords(word_ngrams=2))


def test_the_mean_with_another_classifier_is_by_label(tmp_path):
    data = DATA | {"train": DATA["train"][1:]}  # one text less with the first label
    train(tmp_path / "bags", replace(SETTINGS, epochs=1.0), data=data)
    tune(tmp_path, replace(tiny_task.SETTINGS, epochs=1.0))
    folders = tmp_path / "bags", tmp_path / "out"
    bags, other = map(zoo.load, folders)
    assert bags.model.config.labels == other.model.config.labels[::-1]
    file = saved(tmp_path)[1]
    text = DATA["dev"][0].text
    one, two = zoo.classify(bags, text), zoo.classify(other, text)
    for first, second in (folders, folders[::-1]):
        evaluation = evaluate.evaluate_folder(first, file, average_with=second)
        mean = evaluation.predictions[0]["probabilities"]
        assert mean == pytest.approx({label: (one[label] + two[label]) / 2 for label in one})


def test_no_mean_is_taken_of_two_tasks_with_the_same_labels(tmp_path):
    train(tmp_path / "bags", replace(SETTINGS, epochs=0.2))
    file = saved(tmp_path)[1]
    words = tokenizer()
    config = bert.Config(vocab_size=words.get_vocab_size(), **SIZES, labels=("bad", "good"))
    model = bert.TASKS["multi-label"](config)
    params = model.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"]
    zoo.save(zoo.Loaded(model, params, words), tmp_path / "many")
    with pytest.raises(ValueError, match="both models must predict the probabilities of the same"):
        evaluate.evaluate_folder(tmp_path / "bags", file, average_with=tmp_path / "many")
