"""Numbers on the command line: what a setting cannot be is refused by its flag."""

import dataclasses
import shlex
from typing import Annotated, Any, get_args, get_origin

import pytest

from train import __main__ as cli
from train import ranges
from train.commands import command


def numbers(cls) -> dict[str, tuple[type, Any]]:
    """The type of number and the type of the field, of every flag of a command with numbers."""
    found = {}
    for field in dataclasses.fields(cls):
        kind = get_args(field.type)[0] if get_origin(field.type) is Annotated else field.type
        if dataclasses.is_dataclass(kind):
            found |= numbers(kind)
        for number in (int, float):
            if number in parts(field.type):
                found["--" + field.name.replace("_", "-")] = number, field.type
    return found


def parts(kind) -> set:
    """All types within a type."""
    return {kind}.union(*(parts(part) for part in get_args(kind)))


def refusal(name: str, *arguments: str) -> str:
    """The line with which the example of a command is refused after arguments are added."""
    _, _, *example = shlex.split(cli.COMMANDS[name].example)
    with pytest.raises(ValueError, match="--") as caught:
        command.parse(name, cli.COMMANDS[name], [*example, *arguments])
    message = str(caught.value)
    assert "\n" not in message
    return message


FLAGS = [(name, flag) for name, cls in cli.COMMANDS.items() for flag in numbers(cls)]


def test_every_number_has_a_range():
    assert len(FLAGS) > 80
    for name, flag in FLAGS:
        _, kind = numbers(cli.COMMANDS[name])[flag]
        assert next(ranges.ranges(kind), None) is not None, f"{name} {flag}"


@pytest.mark.parametrize(("name", "flag"), FLAGS)
def test_a_number_that_no_device_has_is_refused_by_its_flag(name, flag):
    number, _ = numbers(cli.COMMANDS[name])[flag]
    count = 3 if flag == "--mesh" else 1
    for value in ["99999999999"] if number is int else ["nan", "inf"]:
        assert refusal(name, flag, *[value] * count).startswith(f"{flag} must be ")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("pretrain --steps 0", "--steps must be at least 1, not 0"),
        ("pretrain --steps 2147483648", "--steps must be at most 2,147,483,647, not 2147483648"),
        ("pretrain --seed -1", "--seed must be at least 0, not -1"),
        ("pretrain --epochs inf", "--epochs must be more than 0 and finite, not inf"),
        ("pretrain --mesh 1 0 1", "--mesh must be at least 1, or -1 for all that remain, not 0"),
        ("pretrain --prune 0 -1", "--prune must be at least 0, not -1"),
        ("finetune --dropout 1", "--dropout must be at least 0 and less than 1, not 1.0"),
        ("finetune --label-smoothing nan", "--label-smoothing must be at least 0 and less than 1 "),
        ("finetune --teacher-weight 2", "--teacher-weight must be from 0 to 1, not 2.0"),
        ("finetune --limit 0", "--limit must be at least 1, not 0"),
        ("generate --top-p 0", "--top-p must be more than 0 and at most 1, not 0.0"),
        ("generate --temperature -1", "--temperature must be at least 0, not -1.0"),
        ("generate-sound --seconds nan", "--seconds must be more than 0 and finite, not nan"),
        ("translate --length-penalty inf", "--length-penalty must be a finite number, not inf"),
        ("prompt --shots 1 -2", "--shots must be at least 0, not -2"),
        ("embed --layer -1", "--layer must be at least 0, not -1"),
        ("map --perplexity 0", "--perplexity must be more than 0, not 0.0"),
        ("evaluate --batch 1.5", "--batch must be "),
    ],
)
def test_a_number_out_of_its_range_is_one_line(arguments, line):
    name, *flags = arguments.split()
    assert refusal(name, *flags).startswith(line)
