"""A student learns from the outputs of a fine-tuned teacher."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.tiny_task import DATA, SETTINGS, SIZES, folder, texts, tokenizer, tune
from tests.wide import relative
from train.data.examples.squad import Question
from train.data.examples.tagged import TaggedSentence
from train.finetuning import distillation, finetune
from train.finetuning.distillation import DistilledTask
from train.finetuning.settings import Distillation
from train.finetuning.tasks.registry import TASKS
from train.finetuning.tasks.task import IGNORED, encode
from train.reporting.progress import read_log
from zoo.models import bert, fasttext, gpt, rnn
from zoo.tokenizers import units

TASK = TASKS["classification"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A folder fine-tuned on the texts."""
    path = tmp_path_factory.mktemp("teacher")
    tune(path)
    return path / "out"


def distilled(tmp_path, teacher, data=None, start=None, settings=SETTINGS, **fields):
    chosen = Distillation(teacher=teacher, **fields)
    return finetune.finetune(
        start or folder(tmp_path),
        TASK,
        data or DATA,
        tmp_path / "out",
        settings,
        distillation=chosen,
    )


@pytest.mark.parametrize("loss", ["cross-entropy", "squared-error"])
def test_a_student_learns_from_the_teacher_without_labels(tmp_path, teacher, loss):
    wrong = [text._replace(label=("bad", "good")[n % 2]) for n, text in enumerate(texts(96, 7))]
    shuffled = [
        a._replace(label=b.label) for a, b in zip(wrong, wrong[1:] + wrong[:1], strict=True)
    ]
    data = DATA | {"train": shuffled}
    metrics, _ = distilled(tmp_path, teacher, data, teacher_weight=1.0, distillation_loss=loss)
    assert metrics["dev"][0]["accuracy"] > 0.95


def test_unlabelled_texts_are_labelled_by_the_teacher(tmp_path, teacher):
    file = tmp_path / "texts.txt"
    file.write_text("".join(f"{text.text}\n" for text in texts(96, 3)))
    data = DATA | {"train": DATA["train"][:4]}
    metrics, _ = distilled(tmp_path, teacher, data, unlabelled=file, teacher_weight=1.0)
    assert metrics["dev"][0]["accuracy"] > 0.95


def test_a_recurrent_student_with_its_own_tokenizer_learns_from_the_teacher(tmp_path, teacher):
    words = tokenizer(())
    sizes = {"max_length": 32, "num_layers": 1, "width": 16, "dropout": 0.0, "embed_width": 16}
    config = rnn.Config(vocab_size=words.get_vocab_size(), **sizes, cell="gru")
    start = folder(tmp_path, rnn, config, words)
    metrics, _ = distilled(tmp_path, teacher, start=start, teacher_weight=1.0)
    assert metrics["dev"][0]["accuracy"] > 0.9


def test_the_loss_has_a_part_of_the_teacher_and_an_auxiliary_one(tmp_path, teacher):
    words = tokenizer(("_start_",))
    config = gpt.Config(vocab_size=words.get_vocab_size(), **SIZES | {"mlp_width": 64})
    settings = replace(SETTINGS, epochs=1.0, auxiliary=0.5)
    start = folder(tmp_path, gpt, config, words)
    distilled(tmp_path, teacher, start=start, settings=settings, teacher_weight=0.25)
    step = next(event for event in read_log(tmp_path / "out") if event["kind"] == "train")
    parts = 0.75 * step["task_loss"] + 0.25 * step["teacher_loss"] + 0.5 * step["next_token_loss"]
    assert relative(step["loss"], parts) < 1e-5


def test_the_divergence_is_that_of_hinton_and_is_zero_for_an_equal_student():
    random = np.random.default_rng(0)
    student_BC, teacher_BC = random.normal(size=(2, 5, 3))
    goal = DistilledTask(TASK, 0.0, {}, Distillation(temperature=3.0))
    batch = {
        "teacher": jnp.float32(teacher_BC),
        "targets": jnp.zeros(5, jnp.int32),
        "weights": {"task": jnp.ones(5), "teacher": jnp.ones((5, 1))},
    }
    softmax = lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    p_BC, q_BC = softmax(student_BC / 3), softmax(teacher_BC / 3)
    expected = 9 * (q_BC * np.log(q_BC / p_BC)).sum()
    assert relative(goal.terms(jnp.float32(student_BC), batch)["teacher"].loss, expected) < 1e-5
    assert abs(goal.terms(jnp.float32(teacher_BC), batch)["teacher"].loss) < 1e-5


@pytest.mark.parametrize("name", ["tagging", "question-answering"])
def test_outputs_per_token_are_stacked_and_compared_where_tokens_are_real(name):
    task, words = TASKS[name], tokenizer()
    config = bert.Config(vocab_size=words.get_vocab_size(), **SIZES)
    model = (bert.BertTagger if name == "tagging" else bert.BertQuestion)(config)
    params = model.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"]
    loaded = zoo.Loaded(model, params, words)
    if name == "tagging":
        data = [TaggedSentence(("the", "film"), None), TaggedSentence(("fine",), None)]
    else:
        data = [Question("1", "the", "a fine film", (("fine", 2),)), Question("2", "a", "film", ())]
    rows = encode(task, loaded, data, 32)
    outputs = distillation.teacher_outputs(task, loaded, loaded, data, rows)
    stacked = distillation.stack(outputs, 8)
    assert stacked.shape == (3, 8, 2)
    document_ids_BL = np.array([np.arange(8) < len(output) for output in outputs], np.int32)
    targets = np.full((2, 8), IGNORED) if name == "tagging" else np.zeros((2, 2), np.int32)
    row = {"documents": document_ids_BL, "targets": targets, "teacher": stacked[:2]}
    goal = DistilledTask(task, 0.0, {}, Distillation(distillation_loss="squared-error"))
    batch = jax.vmap(lambda row: goal.corrupt(jax.random.key(0), row))(row)
    term = goal.terms(jnp.asarray(stacked[:2] + 1), batch)["teacher"]
    count = document_ids_BL.sum() if name == "tagging" else 4
    assert relative(term.loss, count) < 1e-5
    assert relative(batch["weights"]["teacher"].sum(), count) < 1e-5


def test_a_teacher_that_does_not_fit_is_refused(tmp_path, teacher):
    renamed = {name: [x._replace(label=x.label[0]) for x in some] for name, some in DATA.items()}
    with pytest.raises(
        ValueError, match="--teacher has the labels bad, good, but the student b, g"
    ):
        distilled(tmp_path, teacher, renamed)
    with pytest.raises(ValueError, match="was fine-tuned for another task"):
        distillation.load_teacher(teacher, TASKS["tagging"])
    with pytest.raises(ValueError, match="has no task: fine-tune it"):
        distillation.load_teacher(folder(tmp_path), TASK)
    bags = fasttext.FastTextClassifier(fasttext.Config(vocab_size=2, width=4, buckets=0))
    params = bags.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"]
    zoo.save(zoo.Loaded(bags, params, units.words(["<unk>", "</s>"])), tmp_path / "bags")
    with pytest.raises(ValueError, match="is a fastText classifier, which cannot be a teacher"):
        distillation.load_teacher(tmp_path / "bags", TASK)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"unlabelled": Path("texts")}, "--unlabelled needs --teacher"),
        ({"teacher_weight": 1.5}, "--teacher-weight must be from 0 to 1"),
        ({"temperature": 0.0}, "--temperature must be more than 0"),
    ],
)
def test_wrong_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Distillation(**fields).check()


def test_unlabelled_texts_without_a_teacher_are_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match="--unlabelled needs --teacher"):
        distilled(tmp_path, None, unlabelled=tmp_path / "texts.txt")
    assert not (tmp_path / "out").exists()
