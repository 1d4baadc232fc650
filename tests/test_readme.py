"""The README can be followed: its commands run in order, its Python runs, its links exist.

Everything is scaled down: few steps on short rows, and small files of real text in place of the
built-in corpus and the files that the README names.
"""

import dataclasses
import glob
import re
import shlex
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest

import zoo
from tests.tiny import TABLE, wide
from train import __main__ as cli
from train import recipes
from train.commands import command
from train.data import train_tokenizer
from train.data.sources import builtin, dates, text
from train.data.sources.parallel_text import PairStrings
from train.devices import malloc
from zoo.models import t5_v1_1

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
RESULTS = (ROOT / "train/recipes/README.md").read_text("utf-8")
# Options of a command that make it small, in place of the README's own.
SMALL = {
    "pretrain": {"--steps": "2", "--batch": "2", "--length": "48", "--vocab-size": "400"},
    "finetune": {"--batch": "4", "--length": "32", "--epochs": "1", "--limit": "8"},
    "find-learning-rate": {"--batch": "8", "--length": "32", "--steps": "60", "--low": "1e-4"},
    "generate": {"--max-new-tokens": "3"},
    "generate-sound": {"--seconds": "0.1"},
    "translate": {"--beams": "2"},
    "evaluate": {"--batch": "4"},
}
WIDTHS = "width=32", "head_width=16", "num_heads=2"
SIZES = {
    "gpt2": ("num_layers=1", *WIDTHS, "mlp_width=64"),
    "bert": ("num_layers=1", *WIDTHS, "mlp_width=64"),
    "distilbert": ("num_layers=1", *WIDTHS, "mlp_width=64"),
    "transformer": ("num_layers=1", "num_decoder_layers=1", *WIDTHS, "mlp_width=64"),
    "luong": ("width=32", "embed_width=32"),
    "word2vec": ("width=16",),
    "lstm": ("width=16", "num_layers=1"),
    "wavenet": ("width=8", "gate_width=8", "skip_width=8", "num_layers=2"),
    "elmo": ("width=16", "cell_width=16", "num_highway=1"),
}
GOOD = "a charming film", "a moving and funny story", "an excellent cast", "a warm, clever script"
BAD = "a dull film", "a slow and empty story", "a wooden cast", "a stale, clumsy script"
TAGGED = (("Ann", "PROPN"), ("lives", "VERB"), ("in", "ADP"), ("Paris", "PROPN"), (".", "PUNCT"))


def blocks(markdown: str, language: str = "") -> list[str]:
    """Return the code blocks of a language."""
    code_blocks = re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", markdown)
    return [block for name, block in code_blocks if name == language]


def commands(markdown: str) -> list[list[str]]:
    """Return the `zoo` commands of the shell blocks in order, each split as a shell does."""
    lines = [line for block in blocks(markdown) for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("zoo ")]


def scaled_down(arguments: list[str]) -> list[str]:
    """Return a command with small values of its options, and its patterns of files expanded."""
    name, *rest = arguments
    options = SMALL.get(name, {})
    if rest[:1] in (["ngram"], ["runs/ngram"]):  # counted: no steps, batch or config to make small
        options = {}
    elif name == "pretrain":
        rest += ["--config", *SIZES[rest[0].split("-")[0]]]
    kept, skip = [], False
    for argument in rest:
        if not skip and argument not in options:
            kept += sorted(glob.glob(argument)) if "*" in argument else [argument]
        skip = not skip and argument in options
    return [name, *kept, *(word for option in options.items() for word in option)]


@pytest.fixture(scope="module")
def paragraphs():
    """Real text: the first paragraphs of the project's own documents."""
    documents = [README, RESULTS, *((ROOT / f).read_text("utf-8") for f in ("CONTRIBUTING.md",))]
    return [part for document in documents for part in document.split("\n\n") if part.strip()]


@pytest.fixture
def clone(tmp_path, monkeypatch, paragraphs):
    """An empty folder with the files that the README names, and a small built-in corpus."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(malloc, "keep_freed_memory", lambda: False)
    monkeypatch.setattr(builtin, "read", lambda: text.strings(paragraphs))
    pairs = list(dates.read(400).pairs())
    monkeypatch.setattr(dates, "read", lambda: PairStrings(tuple(pairs)))
    used = {arguments[1] for arguments in commands(README) if arguments[0] == "pretrain"}
    for name in recipes.RECIPES.keys() - used:  # in place, for modules that have imported them
        monkeypatch.delitem(recipes.RECIPES, name)
    Path("wiki").mkdir()
    for number in range(2):
        Path(f"wiki/{number}.txt").write_text("\n\n".join(paragraphs[number::2]), "utf-8")
    Path("my.txt").write_text(paragraphs[1], "utf-8")
    Path("blimp.tsv").write_text("good\tbad\nThey go.\tThey goes.\n", "utf-8")
    Path("nbest.txt").write_text("They go.\nThey goes.\n", "utf-8")
    t5 = t5_v1_1.Model(dataclasses.replace(TABLE["t5_v1_1"].config, vocab_size=300))
    t5_tokenizer = train_tokenizer.t5(paragraphs, 300)
    zoo.export(zoo.Loaded(t5, wide(t5), t5_tokenizer), "models/t5-v1_1-large")
    for name, part in (("train", pairs), ("val", pairs[:20]), ("test", pairs[:4])):
        for side, language in enumerate(("en", "de")):
            lines = [pair[side] for pair in part]
            Path(f"{name}.{language}").write_text("\n".join(lines) + "\n", "utf-8")
    rows = [f"{line}\t{label}" for label, lines in ((1, GOOD), (0, BAD)) for line in lines]
    for name in ("train", "dev"):
        Path(f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *rows * 4]) + "\n", "utf-8")
    sentence = "".join(
        f"{number}\t{word}\t_\t{tag}" + "\t_" * 6 + "\n"
        for number, (word, tag) in enumerate(TAGGED, 1)
    )
    Path("train.conllu").write_text("\n".join([sentence] * 16), "utf-8")


def run(monkeypatch, arguments: list[str]) -> None:
    """Run a command in this process."""
    monkeypatch.setattr(sys, "argv", ["zoo", *arguments])
    try:
        cli.main()
    except SystemExit as error:  # its message is in the captured output
        if error.code:
            pytest.fail(f"zoo {shlex.join(arguments)}")


def test_the_commands_of_the_readme_run_in_order(clone, monkeypatch):
    listed = commands(README)
    assert len(listed) > 15
    # What `make demo` leaves.
    for arguments in [["pretrain", "gpt2-tiny"], *listed]:
        run(monkeypatch, scaled_down(arguments))
    for file in ("alignment.png", "learning-rates.png", "confusion.png", "test.translated"):
        assert Path(file).stat().st_size, file
    namespace: dict = {}
    for block in blocks(README, "python"):
        exec(block, namespace)
    trunk, config = namespace["trunk"], namespace["model"].config
    assert len(trunk["hidden_states"]) == config.num_layers + 1
    weights = trunk["blocks_0"]["attention"]["mix"]["attention"][0]
    length = namespace["tokens"].shape[1]
    assert weights.shape == (1, config.num_heads, length, length)
    assert jnp.allclose(weights.sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("file", ["README.md", "train/recipes/README.md", "tests/speed/README.md"])
def test_every_command_parses_and_every_link_exists(file):
    markdown = (ROOT / file).read_text("utf-8")
    for arguments in commands(markdown):
        name, *rest = arguments
        assert name in cli.COMMANDS
        command.parse(name, cli.COMMANDS[name], rest)  # raises ValueError if it cannot
    for link in re.findall(r"\]\(([^)#:]+)\)", markdown):
        assert (ROOT / file).parent.joinpath(link).exists(), link


def test_no_two_commands_of_the_readme_write_to_the_same_folder():
    filled = []
    for arguments in commands(README):
        if arguments[0] == "pretrain" and "--resume" not in arguments:
            default = f"runs/{arguments[1]}"
        elif arguments[0] == "finetune":
            task = arguments[arguments.index("--task") + 1]
            default = f"runs/{Path(arguments[1]).name}-{task}"
        elif arguments[0] in ("import", "export"):
            default = arguments[2]
        else:
            continue
        named = "--out" in arguments
        filled.append(arguments[arguments.index("--out") + 1] if named else default)
    assert filled
    assert len(set(filled)) == len(filled)


def test_the_tree_of_the_readme_exists():
    (tree,) = (block for block in blocks(README) if block.startswith("zoo/models/"))
    for line in tree.splitlines():
        assert (ROOT / line.split()[0]).exists(), line
