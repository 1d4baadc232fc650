"""Examples of runs in a terminal and as pictures."""

import matplotlib.image
import numpy as np

from train.reporting import examples
from train.reporting.examples import Cell, Example, Line, Matrix, Schedule

EXAMPLE = Example(
    [
        [
            Line("text", [Cell("[CLS]", "special"), Cell("cat"), Cell("$at$", "target")]),
            Line("input", [Cell("[CLS]", "special"), Cell("cat"), Cell("[MASK]", "masked")]),
        ],
        [Line("other", [Cell("[bold]")])],
    ],
    ["A note with [bold] words."],
    Matrix("mask", ["a", "bb"], np.array([[True, False], [True, True]])),
)


def test_tokens_stand_below_each_other(capsys):
    examples.print_example(EXAMPLE)
    assert capsys.readouterr().out.splitlines() == [
        "text   [CLS] cat $at$",
        "input  [CLS] cat [MASK]",
        "",
        "other  [bold]",
        "",
        "A note with [bold] words.",
        "colors:  special   masked or removed   predicted",
        "mask (rows attend to the columns marked █)",
        " a █·",
        "bb ██",
    ]


def test_a_terminal_has_colors(capsys, monkeypatch):
    for name, value in (("FORCE_COLOR", "1"), ("COLORTERM", "truecolor"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    examples.print_example(EXAMPLE)
    orange = "\x1b[30;48;2;240;182;77m"  # of COLORS["masked"]
    assert f"{orange}[MASK]\x1b[0m" in capsys.readouterr().out


def test_lines_are_broken_at_the_same_tokens(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    words = [Cell(f"word{number}") for number in range(4)]
    long = [Cell("x" * 9) for _ in words]
    examples.print_example(Example([[Line("a", words), Line("b", long)]]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == ["a  word0", "b  xxxxxxxxx", "a  word1", "b  xxxxxxxxx"]


def test_bars_rise_with_the_learning_rate():
    values = np.array([0.0, 0.5, 1.0])
    assert examples.bars(Schedule("step", np.arange(3), values)) == " ▄█"
    assert examples.bars(Schedule("step", np.arange(2), np.zeros(2))) == "  "


def test_the_meanings_of_a_masked_example_fit_on_one_line():
    kinds = ("special", "masked", "random", "kept", "target", "second")
    words = [f" {examples.MEANINGS[kind]} " for kind in kinds]
    assert len(" ".join(words)) <= examples.COLUMNS


def test_a_picture_has_the_example_its_mask_and_the_schedule(tmp_path):
    schedule = Schedule("step", np.arange(3), np.array([0.0, 1.0, 0.5]))
    heights = []
    for number, drawn in enumerate((EXAMPLE, EXAMPLE._replace(matrix=None))):
        file = tmp_path / f"{number}.png"
        examples.draw(drawn, schedule, file, "name")
        heights.append(matplotlib.image.imread(file).shape[0])
    examples.draw(EXAMPLE._replace(matrix=None), None, tmp_path / "2.png", "name")
    heights.append(matplotlib.image.imread(tmp_path / "2.png").shape[0])
    assert heights[0] > heights[1] > heights[2]
