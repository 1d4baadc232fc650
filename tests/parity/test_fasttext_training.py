"""The classifier of fastText learns as much as that of the released program."""

import numpy as np
import pytest

from tests.tiny_task import CLASSIFICATION
from train.data.examples.tables import TextExample
from train.finetuning import finetune
from train.finetuning.settings import BagOfWords, Settings
from zoo.models.fasttext import LOSSES

fasttext = pytest.importorskip("fasttext")

NAMES = dict(zip(LOSSES, ("softmax", "ns", "hs", "ova"), strict=True))
WORDS, CLASSES = 60, 4


def examples(count, seed):
    """Return texts of words that every class has, but in different proportions."""
    proportions = np.random.default_rng(0).dirichlet(np.full(WORDS, 0.4), CLASSES)
    draw = np.random.default_rng(seed)
    labels = draw.choice(CLASSES, count, p=[0.4, 0.3, 0.2, 0.1])
    texts = [draw.choice(WORDS, 4, p=proportions[label]) for label in labels]
    return tuple(
        TextExample(" ".join(f"w{word}" for word in text), None, f"c{label}")
        for text, label in zip(texts, labels, strict=True)
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_the_accuracy_is_that_of_the_program(loss, tmp_path):
    data = {"train": examples(1000, 1), "dev": examples(1000, 2)}
    for name, part in data.items():
        lines = [f"__label__{example.label} {example.text}\n" for example in part]
        (tmp_path / name).write_text("".join(lines))
    program = fasttext.train_supervised(
        str(tmp_path / "train"), loss=NAMES[loss], lr=0.3, epoch=4, dim=10, thread=1, verbose=0
    )
    expected = program.test(str(tmp_path / "dev"))[1]
    settings = Settings(learning_rate="0.3", epochs=4, batch=50, keep="last", evaluate_every=1000)
    words = BagOfWords(loss=loss, width=10)
    metrics, _ = finetune.finetune(
        "fasttext", CLASSIFICATION, data, tmp_path / "out", settings, bag_of_words=words
    )
    assert 0.6 < expected < 0.95
    assert metrics["dev"][0]["accuracy"] == pytest.approx(expected, abs=0.02)
