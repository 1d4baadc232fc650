"""The command line: `zoo pretrain`, `generate`, `translate`, `evaluate`, `list` and others.

Commands import what they need when they run, so that `zoo --help` is quick.
"""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from train.commands import command
from train.commands.attend import Attend
from train.commands.convert import Export, Import
from train.commands.evaluate import Evaluate
from train.commands.finetune import FindLearningRate, Finetune
from train.commands.infer import (
    Answer,
    Choose,
    Classify,
    DetectReplaced,
    FillMask,
    Generate,
    GenerateSound,
    Tag,
    Translate,
)
from train.commands.list import List
from train.commands.plan import Plan
from train.commands.pretrain import Pretrain
from train.commands.prompt import Prompt
from train.commands.race import Race
from train.commands.score import Score
from train.commands.show import Show
from train.commands.vectors import Analogy, Embed, Map, Neighbors, Similarity
from train.devices import start

GROUPS: dict[str, dict[str, type[command.Command]]] = {
    "Train": {
        "pretrain": Pretrain,
        "finetune": Finetune,
        "find-learning-rate": FindLearningRate,
        "race": Race,
    },
    "Use": {
        "generate": Generate,
        "generate-sound": GenerateSound,
        "prompt": Prompt,
        "score": Score,
        "translate": Translate,
        "fill-mask": FillMask,
        "detect-replaced": DetectReplaced,
        "classify": Classify,
        "tag": Tag,
        "answer": Answer,
        "choose": Choose,
        "attend": Attend,
        "embed": Embed,
        "neighbors": Neighbors,
        "analogy": Analogy,
        "similarity": Similarity,
        "map": Map,
    },
    "Measure": {"evaluate": Evaluate, "plan": Plan, "show": Show, "list": List},
    "Convert": {"import": Import, "export": Export},
}
COMMANDS = {name: cls for group in GROUPS.values() for name, cls in group.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; errors that the user can fix are one line, with exit status 2.

    Args:
      arguments: The name of the command and its arguments; None: those of the program.
    """
    try:
        _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except BrokenPipeError:  # such as `zoo list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (ValueError, OSError) as error:
        _refuse(str(error))
    except MemoryError as error:
        _refuse(f"the memory does not suffice: {error}".removesuffix(": "))
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            _refuse(
                "the memory of the device does not suffice: use a smaller --batch or --length, or "
                "train with --accumulate, --remat or a larger --mesh, which `zoo plan` computes"
            )
        if "Unable to initialize backend" not in str(error):  # JAX_PLATFORMS names another
            raise
        _refuse(str(error))
    except KeyboardInterrupt:
        print("zoo: stopped", file=sys.stderr)
        sys.exit(130)


def _refuse(message: str) -> NoReturn:
    """Print the one line of an error, in which a name may have line breaks, and exit."""
    print("zoo: " + "\\n".join(message.splitlines()), file=sys.stderr)
    sys.exit(2)


def _run(arguments: list[str]) -> None:
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        command.print_help(GROUPS)
    elif name == "--version":
        from zoo.version import __version__

        print(f"zoo {__version__}")
    elif name not in COMMANDS:
        command.unknown(name, list(COMMANDS))
    else:
        chosen = command.parse(name, COMMANDS[name], rest)
        start.begin()
        chosen.run()


if __name__ == "__main__":
    main()
