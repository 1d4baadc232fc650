"""The contract of all commands, the parsing of their arguments, and the help."""

import contextlib
import dataclasses
import difflib
import io
import re
import sys
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, NoReturn, Protocol, get_args, get_origin

import tyro

from train import ranges

CONFIG = (
    tyro.conf.DisallowNone,
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.PositionalMetavarFromFieldName,
)
# Patterns of error messages of tyro, and their replacements.
REWORDED = (
    (r"Missing value for argument '(\S+)'\. Expected 1 values\.", r"\1 needs a value"),
    (r"Missing value for argument '(\S+)'\. Expected (\d+) values\.", r"\1 needs \2 values"),
    (r"invalid choice (\S+) for argument '(\S+)'\. Expected one of \((.*)\)\.",
     r"\2 must be one of \3, not \1"),
    (r"no type matching \{(.*)\{(.*)\}\} could", r"no type matching \1\2 could"),
    (r"Error parsing (\S+): no type matching {?(.*?)}? could .* from \[(.*)\]\.",
     r"\1 must be \2, not \3"),
    (r"Error parsing (\S+): invalid literal for int\(\) with base 10: (.*)",
     r"\1 must be INT, not \2"),
    (r"Error parsing (\S+): could not convert string to float: (.*)", r"\1 must be FLOAT, not \2"),
    (r"Error parsing (\S+): Exceeds the limit .*", r"\1 has too many digits"),
    (r"Error parsing (\S+): Could not (?:find valid parse for|parse) arguments:? \[(.*?)\].*",
     r"\1 cannot be \2"),
    (r"Error parsing ", ""),
    (r"'None', ", ""),
)  # fmt: skip
NO_DEFAULT = tyro.conf.arg(help_behavior_hint="")


class Command(Protocol):
    """A command: a dataclass whose docstring and fields are its help and its arguments."""

    example: ClassVar[str]
    """A command line that is shown at the end of the help."""

    def run(self) -> None:
        """Run the command, and print the result."""


def parse(name: str, command: type[Command], arguments: Sequence[str]) -> Command:
    """Return the command with its arguments.

    Raises:
      ValueError: If the arguments are wrong; the message is one line.
      SystemExit: After the help has been printed.
    """
    _hide_empty_defaults(command)
    read = partial(tyro.cli, command, prog=f"zoo {name}", args=arguments, config=CONFIG)
    if {"-h", "--help"} & set(arguments):
        with contextlib.suppress(SystemExit):
            read()
        print(f"\nExample:\n  {command.example}")
        sys.exit(0)
    error = io.StringIO()
    try:
        # tyro prints a plain table, without colors, if standard output is not a terminal.
        with contextlib.redirect_stdout(error), contextlib.redirect_stderr(error):
            parsed = read()
    except SystemExit:
        raise ValueError(_one_line(error.getvalue(), name, command)) from None
    _check_text(parsed)
    ranges.check(parsed)
    return parsed


def _check_text(arguments: Any) -> None:
    """Raise ValueError for a text that is not UTF-8; the name of a file may be any bytes."""
    for field in dataclasses.fields(arguments):
        value = getattr(arguments, field.name)
        if dataclasses.is_dataclass(value):
            _check_text(value)
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and not text.isascii() and re.search("[\ud800-\udfff]", text):
                raise ValueError(f"{field.name.replace('_', '-')} is not UTF-8: {text!r:.60}")


def unknown(name: str, commands: Sequence[str]) -> NoReturn:
    """Raise ValueError with the command that is closest to an unknown one."""
    matches = difflib.get_close_matches(name, commands, n=1)
    hint = f"did you mean {matches[0]!r}?" if matches else "`zoo --help` lists the commands"
    raise ValueError(f"unknown command {name!r}; {hint}")


def summary(command: type[Command]) -> str:
    """Return the first sentence of the help of a command."""
    return (command.__doc__ or "").split("\n")[0]


def unescaped(text: str | None) -> str | None:
    r"""Replace `\n` and `\t` by line breaks and tabs, which are hard to type in a shell."""
    return text and text.replace("\\n", "\n").replace("\\t", "\t")


def print_skipped(skipped: Sequence[str] | None) -> None:
    """Print how many pairs --skip-invalid skipped, and the first three."""
    if skipped:
        print(f"{len(skipped)} pairs are invalid and are skipped, such as:", *skipped[:3], sep="\n")


def _hide_empty_defaults(cls: Any) -> None:
    """Omit "(default: None)" and similar from the help; the texts describe these defaults."""
    for field in dataclasses.fields(cls):
        kind, metadata = _unwrapped(field)
        if dataclasses.is_dataclass(kind):
            _hide_empty_defaults(kind)
        elif field.default is None or field.default is False or field.default in ("", ()):
            cls.__annotations__[field.name] = Annotated[kind, NO_DEFAULT, *metadata]


def _flags(cls: Any) -> dict[str, bool]:
    """Return the arguments of a command as flags, and whether they are given without the flag."""
    flags: dict[str, bool] = {}
    for field in dataclasses.fields(cls):
        kind, metadata = _unwrapped(field)
        if dataclasses.is_dataclass(kind):
            flags |= _flags(kind)
        else:
            flags["--" + field.name.replace("_", "-")] = tyro.conf.Positional in metadata
    return flags


def _unwrapped(field: dataclasses.Field) -> tuple[Any, list[Any]]:
    """Return the type of a field, and its annotations."""
    if get_origin(field.type) is not Annotated:
        return field.type, []
    kind, *metadata = get_args(field.type)
    return kind, metadata


def _one_line(error: str, name: str, command: type[Command]) -> str:
    """Return an error of tyro, which is printed as a table, as one line."""
    more = f"`zoo {name} --help` shows all arguments"
    lines = [line[2:].rstrip() for line in error.splitlines()[2:]]  # below title and rule
    end = next(number for number, line in enumerate(lines) if set(line) <= {"-"})
    lines = lines[:end]
    message = " ".join(line.strip() for line in lines)
    if match := re.match(r"Unrecognized options: ([^, ]+)", message):
        flags = _flags(command)
        closest = next(iter(difflib.get_close_matches(match[1], flags, n=1)), None)
        if closest and flags[closest]:
            return f"unknown argument {match[1]!r}; {closest[2:].upper()} is given without a flag"
        return f"unknown argument {match[1]!r}; {f'did you mean {closest}?' if closest else more}"
    if message.startswith("Missing from"):
        missing = re.findall(r"^ {4}(\S+)", "\n".join(lines), re.M)
        return f"zoo {name} needs {' and '.join(missing)}; {more}"
    for pattern, words in REWORDED:
        message = re.sub(pattern, words, message)
    return f"{message}; {more}"


def print_help(groups: dict[str, dict[str, type[Command]]]) -> None:
    """Print all commands in groups, with an example for each group."""
    width = max(len(name) for commands in groups.values() for name in commands)
    print("Usage: zoo COMMAND ...\n\nLanguage models on JAX and Flax, from n-grams to ELECTRA.")
    for title, commands in groups.items():
        print(f"\n{title}:")
        for name, command in commands.items():
            print(f"  {name:{width}}  {summary(command)}")
        print(f"  Example: {next(iter(commands.values())).example}")
    print("\n`zoo COMMAND --help` shows the arguments of a command, `zoo --version` the version.")
    sys.stdout.flush()
