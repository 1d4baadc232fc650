"""Distillation: the initial parameters of a student, refused students, and the comparison."""

from dataclasses import replace

import numpy as np
import pytest

import zoo
from tests import tiny_run
from train.checkpoint import Checkpoints
from train.commands.pretrain import Pretrain
from train.pretraining import distill, pretrain
from train.pretraining.run import prepare
from train.recipes import recipe
from zoo.models import bert, distilbert
from zoo.params import flatten

SIZES = {
    "vocab_size": 80,
    "max_length": 32,
    "num_layers": 2,
    "num_heads": 2,
    "width": 32,
    "mlp_width": 64,
    "head_width": 16,
}


def tiny(name, config, **fields):
    short = {"steps": 4, "batch": 4, "length": 16, "evaluate_every": 4, "save_every": 4}
    return replace(recipe(name), config=config, **short | fields)


STUDENT = tiny("distilbert-tiny", distilbert.Config(**SIZES | {"num_layers": 1}))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    pretrain.pretrain(tiny("bert-tiny", bert.Config(**SIZES)), tiny_run.source(), folder)
    return folder


def test_a_student_starts_from_its_teacher_learns_and_is_compared(teacher, tmp_path):
    student = distill.distilled(STUDENT, teacher)
    run = prepare(student, tiny_run.source(), tmp_path / "run")
    progress, _ = pretrain.begin_or_resume(run, pretrain.make_stage(run), Checkpoints(run.out))
    teacher_params = flatten(zoo.load(teacher)[1])
    for path, array in flatten(progress.state.params).items():
        assert np.array_equal(array, teacher_params[path]), path
    metrics = pretrain.pretrain(student, tiny_run.source(), tmp_path / "student")
    assert {"soft_loss", "masked_loss", "states_loss"} <= set(metrics)
    assert 0 <= metrics["soft_accuracy"] <= 1
    lines = distill.compare(tmp_path / "student", teacher, student, tiny_run.source())
    assert [line.split()[0] for line in lines] == ["perplexity", "student", "teacher"]
    counts = [int(line.split()[3].replace(",", "")) for line in lines[1:]]
    assert counts[0] < counts[1]


def test_with_dev_text_both_models_are_compared_on_it(teacher, tmp_path, capsys):
    for name, seed in (("train", 0), ("dev", 1)):
        documents = tiny_run.documents(seed, count=20)
        (tmp_path / name).write_text("\n\n".join(documents), "utf-8")
    Pretrain(
        "distilbert-tiny",
        text=(tmp_path / "train",),
        dev=(tmp_path / "dev",),
        separator="\\n\\n",
        config=tuple(f"{name}={size}" for name, size in (SIZES | {"num_layers": 1}).items()),
        teacher=teacher,
        steps=2,
        batch=4,
        length=16,
        out=tmp_path / "student",
    ).run()
    printed = capsys.readouterr().out.splitlines()
    student = distill.distilled(STUDENT, teacher)
    dev, other = tiny_run.source(1, 20), tiny_run.source(2)
    lines = distill.compare(tmp_path / "student", teacher, student, other, dev)
    for line in lines[1:]:
        table_row = next(row for row in printed if row.startswith(line.split()[0]))
        assert table_row.split()[:3] == line.split()[:3]  # name, perplexity, accuracy


def test_a_run_resumes_only_with_its_own_teacher(teacher, tmp_path):
    student = distill.distilled(STUDENT, teacher)
    pretrain.pretrain(student, tiny_run.source(), tmp_path / "student")
    with pytest.raises(ValueError, match=r"belongs to another run: teacher was \{"):
        pretrain.pretrain(STUDENT, tiny_run.source(), tmp_path / "student", resume=True)
    assert pretrain.pretrain(student, tiny_run.source(), tmp_path / "student", resume=True)


def test_a_student_of_another_width_has_no_loss_on_states(teacher, tmp_path):
    narrow = replace(
        STUDENT,
        config=distilbert.Config(
            vocab_size=80,
            max_length=32,
            num_layers=1,
            num_heads=2,
            width=24,
            mlp_width=64,
            head_width=12,
        ),
    )
    metrics = pretrain.pretrain(
        distill.distilled(narrow, teacher), tiny_run.source(), tmp_path / "narrow"
    )
    assert "states_loss" not in metrics


def test_an_impossible_student_is_an_error_of_one_line(teacher):
    larger = replace(
        STUDENT, config=distilbert.Config(**SIZES | {"vocab_size": 90, "num_layers": 1})
    )
    with pytest.raises(ValueError, match=r"a vocabulary of 80 tokens, distilbert-tiny of 90"):
        distill.distilled(larger, teacher)
    with pytest.raises(ValueError, match=r"six-layers has 6 layers, but its teacher only 2:"):
        distill.distilled(recipe("distilbert-six-layers"), teacher)
    with pytest.raises(
        ValueError, match=r"gpt2-tiny is a GPT2LM, but teacher and student must be masked"
    ):
        distill.distilled(recipe("gpt2-tiny"), teacher)
