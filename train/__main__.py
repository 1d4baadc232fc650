"""The command line: `zoo pretrain`, `generate`, `translate`, `fill`, `evaluate`, `list` and others.

Commands import what they need when they run, so that `zoo --help` is there at once.
"""

import sys
from collections.abc import Callable
from typing import Protocol

import tyro

from train.commands.convert import Export, Import
from train.commands.evaluate import Evaluate, List
from train.commands.finetune import FindLearningRate, Finetune
from train.commands.infer import Answer, Classify, Detect, Fill, Generate, Tag, Translate
from train.commands.pretrain import Pretrain


class Command(Protocol):
    """A command line, parsed."""

    def run(self) -> None:
        """Run the command."""
        ...


COMMANDS: dict[str, Callable[..., Command]] = {
    "pretrain": Pretrain,
    "finetune": Finetune,
    "find-learning-rate": FindLearningRate,
    "generate": Generate,
    "translate": Translate,
    "fill": Fill,
    "detect": Detect,
    "classify": Classify,
    "tag": Tag,
    "answer": Answer,
    "evaluate": Evaluate,
    "list": List,
    "import": Import,
    "export": Export,
}


def main() -> None:
    """Runs one command; what the user can mend is one line and exit status 2."""
    command = tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="zoo")
    try:
        command.run()
    except (ValueError, OSError) as error:
        print(f"zoo: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit("zoo: stopped")


if __name__ == "__main__":
    main()
