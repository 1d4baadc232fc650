"""No input that a user can give ends in a traceback, whatever the command."""

import pytest

from tests import bad_inputs
from train import __main__ as cli

NUMBER, SEED = 300, 0


def test_no_bad_input_of_any_command_ends_in_a_traceback(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    counts = bad_inputs.run(NUMBER, SEED, tmp_path)
    assert counts.keys() == cli.COMMANDS.keys()
    assert min(counts.values()) >= NUMBER // len(cli.COMMANDS)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KeyError("x"), "KeyError: 'x'"),
        (ValueError("'int' object has no attribute 'x'"), "'has no attribute' in "),
        (ValueError("a line\nand another"), None),
        (OSError("no such file"), None),
        (RecursionError("deep"), "RecursionError: deep"),
    ],
)
def test_what_is_no_line_for_a_user_is_found(error, expected, monkeypatch):
    def fail(arguments):
        raise error

    monkeypatch.setattr(cli, "_run", fail)
    problem = bad_inputs.wrong(bad_inputs.Input(["list"], ""))
    assert problem is None if expected is None else problem.startswith(expected)
