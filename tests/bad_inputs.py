"""Generated bad inputs for every command: none may end in a traceback.

python -m tests.bad_inputs --number 5000 --seed 0

An input is a command line that works, over tiny folders and files, of which one or two parts are
wrong: a folder or file is damaged or something else than a file, a number is out of range, a text
is odd, an argument is missing, unknown or there twice. It must be accepted, or be refused in one
line that says nothing of the program's internals. Training itself is left out: an input that gets
as far as the first step is accepted.
"""

import argparse
import contextlib
import dataclasses
import gzip
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin
from unittest import mock

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import zoo
from tests import tiny, tiny_run, tiny_task
from tests.counting import tiny_text
from tests.inference import tiny_words
from train import __main__ as cli
from zoo.checkpoints.load import Loaded
from zoo.models import bert, electra, gpt2, luong, wavenet
from zoo.tokenizers import mu_law, units

PIPE = "fifo"
USED = ("text.txt", "rows.tsv")  # beside what a line names
SECONDS = 60  # that an input may take
MEMORY = 6 << 30  # bytes that the process may have
# What no user should have to read.
INTERNALS = re.compile(
    r"Traceback|ndarray|[Tt]racer|jaxlib|XlaRuntime|has no attribute|not subscriptable|NoneType"
    r"|unhashable|unexpected keyword|positional argument|out of range\b.*index|index out of range"
    r"|codec can't|not supported between|must be str|must be real|not iterable|broadcast"
    r"|could not convert|invalid literal|Panic|pyo3|object is not|KeyError|TypeError|unpack"
)
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = [*SPECIALS, *tiny_task.WORDS, *(f"w{number}" for number in range(40))]
NUMBERS = (
    *("0", "-1", "-0", "1.5", "nan", "inf", "-inf", "1e400", "1e-400", "2147483648", "", " "),
    *("9" * 30, "9" * 5000, "0x10", "1_000", "\u0663", "one", "1,5", "None", "--", "True"),
)
TEXTS = (
    *("", " ", "\n", "\t\r\n", "\u3000", "\u200b", "\ufeff", "\x01\x1b[31m", "\udcff", "\ud800"),
    *("\u0301" * 9, "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\u202eabc", "ﷺ" * 3, "e" * 300),
    *("w1 " * 400, "[MASK]", "[MASK] " * 60, "[CLS] [SEP]", "w1\\n\\nw2", "-", "--", "-1", "="),
    *(
        "{}",
        "%s",
        "a\x0bb\x85c\u2028d",
        "\uffff",
        "١٢٣",
        "<|endoftext|>",
        "'\"`$",
        "." * 5,
        "字" * 120,
    ),
)
NAMES = (
    "",
    ".",
    "..",
    "/dev/null/none",
    "none",
    "none/none",
    "a" * 300,
    "a\nb",
    "\udcff",
    "none.json",
    "é",
)


class Input(NamedTuple):
    """A command line, and what was done to it."""

    arguments: list[str]
    change: str


# Folders and files


def word_tokenizer() -> Tokenizer:
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(VOCABULARY)}, "[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.add_special_tokens([*SPECIALS])
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return words


def build(root: Path) -> None:
    """Write one folder or file of every kind that a command reads."""
    words = word_tokenizer()
    size = {"vocab_size": len(VOCABULARY), "num_layers": 1}
    config = bert.Config(**{**tiny_task.SIZES, **size, "labels": ("bad", "good")})
    saved = {
        "gpt2": Loaded(*model(gpt2.Model(tiny_run.CONFIG)), tiny_run.tokenizer()),
        "bert": Loaded(*model(bert.Model(config)), words),
        "luong": Loaded(*model(luong.Model(luong_config())), translator_tokenizer()),
        "wavenet": Loaded(*model(wavenet.WaveNetSound(sound_config())), mu_law.tokenizer()),
        "word2vec": tiny_words.by_hand(),
        "fasttext": tiny_words.with_ngrams(),
        "electra": Loaded(*model(electra.Model(electra_config(size))), words),
        **{name: Loaded(*model(cls(config)), words) for name, cls in bert.TASKS.items()},
    }
    of_words = saved["fasttext"]
    vocab_size = of_words.model.config.vocab_size
    more = {
        "outputs": np.zeros((vocab_size, 8), np.float32),
        "counts": np.ones(vocab_size, np.int32),
    }
    saved["fasttext"] = of_words._replace(params=of_words.params | more)
    for name, loaded in saved.items():
        zoo.save(loaded, root / name)
    for name in ("gpt2", "bert", "classification", "question-answering"):
        zoo.export(saved[name], root / f"hf-{name}")
    zoo.export(saved["word2vec"], root / "vectors.txt")
    zoo.export(saved["word2vec"], root / "vectors.bin")
    zoo.export(saved["fasttext"], root / "fasttext.bin")
    ngram, tables = tiny_text.model(root / "counts", tiny_text.sentences())
    counted = units.words(["<unk>", "</s>", *(f"w{number}" for number in range(98))])
    zoo.save(Loaded(ngram, tables, counted), root / "ngram")
    zoo.export(Loaded(ngram, tables, counted), root / "ngram.arpa")
    for name, content in data_files().items():
        (root / name).write_bytes(content)


def model(network: Any) -> tuple[Any, dict]:
    return network, tiny.wide(network)


def luong_config() -> luong.Config:
    return dataclasses.replace(tiny.TABLE["luong"].config, dropout=0.0)


def sound_config() -> wavenet.Config:
    return wavenet.Config(
        num_layers=2, width=8, gate_width=8, skip_width=8, max_dilation=2, rate=100
    )


def electra_config(size: dict) -> electra.Config:
    return dataclasses.replace(tiny.TABLE["electra"].config, **size)


def translator_tokenizer() -> Tokenizer:
    names = ["<pad>", "</s>", "<unk>", *(f"w{number}" for number in range(tiny.V - 3))]
    words = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return words


def data_files() -> dict[str, bytes]:
    """Return the files of data by name."""
    rows = [f"{text.text}\t{text.label}" for text in tiny_task.texts(12)]
    text = "\n\n".join(tiny_run.documents(count=6))
    questions = [
        {
            "question": "w1 w2",
            "context": "w3 w4 w5",
            "answers": {"text": ["w4"], "answer_start": [3]},
        }
    ] * 4
    contents = {
        "text.txt": text,
        "rows.tsv": "\n".join(["text\tlabel", *rows]) + "\n",
        "rows.csv": "\n".join(["text,label", *(row.replace("\t", ",") for row in rows)]) + "\n",
        "rows.jsonl": "".join(
            json.dumps({"text": "the film", "label": "good"}) + "\n" for _ in rows
        ),
        "tags.txt": "the O\nfilm B-X\n\na O\nfilm B-X\n" * 6,
        "questions.json": json.dumps(questions),
        "choices.jsonl": '{"context": "a film", "endings": ["w1", "w2"], "label": 0}\n' * 6,
        "pairs.tsv": "w1 w2\tw3\nw4\tw5 w6\n" * 6,
        "source.txt": "w1 w2\nw3\n" * 6,
        "words.txt": "man\twoman\t5.0\nking\tqueen\t7\nbank\triver\t1\n",
        "analogies.txt": ": family\nman king woman queen\n",
        "minimal.tsv": "good\tbad\nw1 w2\tw2 w1\n",
        "candidates.txt": "w1 w2\nw2\n\nw3\n",
        "new.txt": "covid\n",
    }
    files = {name: content.encode() for name, content in contents.items()}
    sound = b"\0\1" * 800
    header = struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", 36 + len(sound), b"WAVEfmt ", 16, 1, 1,
                         100, 200, 2, 16, b"data", len(sound))  # fmt: skip
    return files | {"sound.wav": header + sound, "text.txt.gz": gzip.compress(text.encode())}


# Command lines that work; a name of the folder above is a path there.
TRAINED = "--task classification --train rows.tsv --length 16 --batch 4 --epochs 1 --out out"
WORKING: dict[str, tuple[str, ...]] = {
    "generate": ("gpt2 'w1 w2' --max-new-tokens 3", "ngram.arpa w1 --max-new-tokens 3", "hf-gpt2"),
    "generate-sound": ("wavenet out.wav --seconds 0.1",),
    "prompt": ("gpt2 --data rows.tsv --train rows.tsv --shots 1",),
    "score": ("gpt2 'w1 w2' --top 2", "gpt2 --candidates candidates.txt", "bert 'w1 w2'"),
    "translate": ("luong 'w1 w2' --beams 2",),
    "fill-mask": ("bert '[MASK] w2' --top 2", "hf-bert '[MASK] w2'"),
    "detect-replaced": ("electra 'w1 w2'",),
    "classify": ("classification 'the film'", "hf-classification 'the film' 'a film'"),
    "tag": ("tagging 'the film'",),
    "answer": ("question-answering w1 'w1 w2'", "hf-question-answering w1 text.txt"),
    "choose": ("multiple-choice 'the film' w1 w2",),
    "attend": (
        *("bert 'the film' --layer 1 --html out.html", "luong 'w1 w2' --picture out.png"),
        *("gpt2 'w1 w2' --rollout", "hf-bert 'the film' --tokens", "luong w1 --target 'w1 w2'"),
    ),
    "embed": ("bert 'the film' w1", "word2vec bank --out out.npy", "gpt2 w1 --layer 1"),
    "neighbors": ("word2vec bank --count 2", "vectors.txt man", "fasttext.bin running"),
    "analogy": ("word2vec man king woman", "vectors.bin man king woman"),
    "similarity": ("word2vec man king", "fasttext run bank", "word2vec --data words.txt"),
    "map": ("word2vec man king woman bank --out out.html",),
    "evaluate": (
        *("gpt2 --text text.txt --length 16", "ngram --text text.txt", "gpt2 --text text.txt.gz"),
        *("classification --data rows.tsv", "classification --data rows.csv"),
        "wavenet --sound sound.wav",
        *("tagging --data tags.txt", "question-answering --data questions.json"),
        *("multiple-choice --data choices.jsonl", "luong --source pairs.tsv"),
        *("luong --source source.txt --target source.txt", "word2vec --data words.txt"),
        *("word2vec --data analogies.txt", "gpt2 --minimal-pairs minimal.tsv"),
    ),
    "plan": ("gpt2-tiny --on h100:8 --batch 16", "gpt2-tiny --on v5e:2x2 --price 1"),
    "show": ("gpt2-tiny --length 16", "ngram --picture out.png"),
    "list": ("--architecture gpt2",),
    "import": ("hf-gpt2 out", "hf-classification out", "vectors.txt out", "ngram.arpa out"),
    "export": ("gpt2 out", "word2vec out.txt", "ngram out.arpa", "electra out"),
    "pretrain": (
        "gpt2-tiny --text text.txt --tokenizer gpt2 --length 8 --steps 2 --out out",
        "gpt2-tiny --init gpt2 --text text.txt --length 8 --pack 4 --out out",
        "luong-tiny --source pairs.tsv --out out",
        "ngram --text text.txt --order 2 --out out",
        "word2vec-tiny --text text.txt --out out",
        "wavenet-sound-tiny --sound sound.wav --out out",
    ),
    "finetune": (
        f"bert {TRAINED}",
        f"hf-bert {TRAINED}",
        "bert --task tagging --train tags.txt --pack 4 --out out",
        "bert --task question-answering --train questions.json --out out",
        "bert --task multiple-choice --train choices.jsonl --out out",
        "luong --task text-to-text --train pairs.tsv --out out",
        "fasttext --task classification --train rows.tsv --out out",
        "bert --task classification --train rows.jsonl --add-tokens new.txt --out out",
    ),
    "find-learning-rate": ("bert --task classification --train rows.tsv --steps 2 --out out.png",),
    "race": ("--text text.txt --minutes 1 --vocab-size 261 --entrants gpt2 --out out",),
}  # fmt: skip


# What is done to a command line


def damaged(path: Path, draw: random.Random) -> str:
    """Damage a file, or one file of a folder, and return what was done."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if _is_plain(file))
        # Most of the files of a folder are those of arrays.
        named = [file for file in files if file.parent == path]
        path = draw.choice(named if named and draw.random() < 0.8 else files or [path])
    if not _is_plain(path):  # it has been damaged before
        return "unchanged"
    if path.suffix in (".json", ".jsonl") and draw.random() < 0.6:
        return f"{path.name}: {_change_json(path, draw)}"
    content = path.read_bytes()
    middle = draw.randrange(len(content) or 1)
    contents: dict[str, bytes] = {
        "empty": b"",
        "truncated": content[:middle],
        "white space": b" \n\r\n\t\n",
        "binary": draw.randbytes(200),
        "UTF-16": content.decode("utf-8", "replace").encode("utf-16"),
        "a mark": b"\xef\xbb\xbf" + content,
        "NUL": b"\0" * 100,
        "a NUL inside": content[:middle] + b"\0" + content[middle:],
        "not UTF-8": content[:middle] + b"\xff\xfe" + content[middle:],
        "one byte": content[:middle] + draw.randbytes(1) + content[middle + 1 :],
        "a huge line": b"a" * 300_000,
        "twice": content + content,
        "other ends of lines": content.replace(b"\n", b"\r"),
        "no tabs": content.replace(b"\t", b" "),
        "more tabs": content.replace(b"\t", b"\t\t"),
        "HTML": b"<!DOCTYPE html>\n<html><body>404</body></html>\n",
        "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "nested": b"[" * 100_000,
        "a length of 2**60": struct.pack("<Q", 1 << 60) + content[8:],
        "gzip": gzip.compress(content),
        "lines of numbers": b"1\n2\n3\n" * 5,
    }
    others: dict[str, Callable[[], Any]] = {
        "missing": lambda: None,
        "a folder": path.mkdir,
        "a pipe": lambda: os.mkfifo(path),
        "a device": lambda: path.symlink_to("/dev/zero"),
        "a loop of links": lambda: path.symlink_to(path.name),
        "a broken link": lambda: path.symlink_to("none"),
    }
    change = draw.choice([*contents, *others])
    path.unlink()
    if change in contents:
        path.write_bytes(contents[change])
    else:
        others[change]()
    return f"{path.name}: {change}"


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _change_json(path: Path, draw: random.Random) -> str:
    """Remove or replace one field, at any depth, of a file of JSON or of its first line."""
    text = path.read_text("utf-8", "replace")
    first, *rest = text.split("\n", 1) if path.suffix == ".jsonl" else [text]
    try:
        content = json.loads(first)
    except ValueError:
        return "unchanged"
    places: list[tuple[Any, Any]] = []
    pending = [content]
    while pending:
        value = pending.pop()
        keys = list(value if isinstance(value, dict) else range(len(value)))
        places += [(value, key) for key in keys[:9]]
        pending += [value[key] for key in keys[:9] if isinstance(value[key], dict | list)]
    if not places:
        return "unchanged"
    parent, key = draw.choice(places)
    values = (
        None,
        [],
        {},
        "",
        "x",
        -1,
        0,
        1.5,
        10**9,
        10**40,
        True,
        [[]],
        {"x": 1},
        "é" * 99,
        1e308,
    )
    new = draw.choice([*values, "removed"])
    if new == "removed":
        del parent[key]
    else:
        parent[key] = new
    text = "\n".join([json.dumps(content), *rest])
    path.write_text(text.replace("1e+308", draw.choice(["1e400", "NaN", "-Infinity"])), "utf-8")
    return f"{key!r} is {new!r}"[:60]


def generate(command: str, built: Path, work: Path, draw: random.Random) -> Input:
    """Return an input of a command, and put the folders and files that it names into `work`."""
    options = list(_options(cli.COMMANDS[command]))
    names = sorted(os.listdir(built))
    arguments = _split(draw.choice(WORKING[command]))
    changes: list[str] = []
    copied: set[str] = set()  # some of which are damaged or gone by now
    for number in range(draw.choice((1, 1, 1, 2)) + 1):
        if number:
            changes.append(_change(arguments, options, names, work, draw))
        for name in ({*arguments, *USED} & {*names}) - copied:
            copy = shutil.copytree if (built / name).is_dir() else shutil.copy
            copy(built / name, work / name)
            copied.add(name)
    return Input([command, *arguments], "; ".join(changes))


def _split(line: str) -> list[str]:
    return [part[1:-1] if part[0] == "'" else part for part in re.findall(r"'[^']*'|\S+", line)]


def _change(
    arguments: list[str], options: list, names: list[str], work: Path, draw: random.Random
) -> str:
    kind = draw.choice(("part", "part", "part", "part", "option", "option", "drop", "twice", "odd"))
    if kind == "option" and options:
        name, values = draw.choice(options)
        value = draw.choice(values)
        arguments += [name, *value]
        return f"{name} {' '.join(value)!r:.40}"
    at = draw.randrange(len(arguments) or 1)
    if kind in ("drop", "twice") and arguments:
        part = arguments.pop(at)
        arguments += [part, part] if kind == "twice" else []
        return f"{part!r:.40} {'twice' if kind == 'twice' else 'left out'}"
    if kind == "odd" or not arguments:
        part = draw.choice(["--none", "-x", "--", "--help=3", *TEXTS])
        arguments.insert(at, part)
        return f"also {part!r:.40}"
    part = arguments[at]
    if part in names:  # nothing else is damaged
        if draw.random() < 0.75:
            return damaged(work / part, draw)
        arguments[at] = draw.choice([*NAMES, PIPE, "/dev/zero", "/dev/null", *names])
    elif re.fullmatch(r"[\d.]+", part):
        arguments[at] = draw.choice(NUMBERS)
    elif part.startswith("--"):
        arguments[at] = draw.choice(["", "-" + part, part[:-2], part + "x", part + "="])
    else:
        arguments[at] = draw.choice((*TEXTS, *NAMES))
    return f"{part!r} is {arguments[at]!r:.40}"


def _options(cls: Any) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Yield every option of a command with values that are wrong for its type."""
    numbers, texts = [(value,) for value in NUMBERS], [(value,) for value in (*TEXTS, *NAMES)]
    names = ["none", "text.txt", "rows.tsv", "gpt2", "bert", PIPE, "/dev/zero", "", "sound.wav"]
    for field in dataclasses.fields(cls):
        kind = field.type
        while hasattr(kind, "__metadata__"):
            kind = get_args(kind)[0]
        if dataclasses.is_dataclass(kind):
            yield from _options(kind)
            continue
        if field.name == "cluster":  # waits for other processes
            continue
        parts = {kind, *get_args(kind), *(x for part in get_args(kind) for x in get_args(part))}
        values = numbers if parts & {int, float} else texts
        if Path in parts:
            values = [(name,) for name in names]
        if kind is bool:
            values = [(), ("True",)]
        if get_origin(kind) is tuple:
            values = [*values, (), *[(*a, *b) for a, b in zip(values, values[3:], strict=False)]]
        choices = [(part,) for part in sorted(map(str, parts)) if part in parts]
        yield "--" + field.name.replace("_", "-"), [*values, *choices]


# Running them


class Slow(BaseException):
    """Raised in an input that takes too long."""


def wrong(case: Input) -> str | None:
    """Run an input in this process, and return what is wrong with how it ends, or None."""

    def late(*_: Any) -> None:
        raise Slow

    out, error = io.StringIO(), io.StringIO()
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    status: Any = 0
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(error),
            warnings.catch_warnings(record=True),
        ):
            warnings.simplefilter("always")
            cli.main(case.arguments)
    except SystemExit as ending:
        status = ending.code
    except Slow:
        return f"takes more than {SECONDS} seconds"
    except BaseException as ending:  # a panic of a library is no Exception
        if isinstance(ending, KeyboardInterrupt):
            raise
        return f"{type(ending).__name__}: {ending}"[:300]
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    lines = error.getvalue().splitlines()
    if status in (0, None):
        return None
    if status != 2 or len(lines) != 1 or not lines[0].startswith("zoo: "):
        return f"status {status!r}, {len(lines)} lines: {error.getvalue()[:300]!r}"
    if found := INTERNALS.search(lines[0].replace("'", "")):
        return f"{found[0]!r} in {lines[0][:300]!r}"
    return None


@contextlib.contextmanager
def without_training() -> Iterator[None]:
    """Let every training end, as if it were done, before its first step."""

    def done(*_: Any, **__: Any) -> None:
        raise SystemExit(0)

    with contextlib.ExitStack() as stack:
        for name in (
            *("pretraining.pretrain.begin_or_resume", "finetuning.tuning.train_runs"),
            *("finetuning.fasttext.train_run", "finetuning.learning_rate_finder.initial_params"),
            *("planning.plan.run_shapes", "planning.run_shapes.run_shapes"),  # before tracing
            "pretraining.example._row",  # before a tokenizer is learned
            "racing.race.measure",
        ):
            stack.enter_context(mock.patch(f"train.{name}", done))
        stack.enter_context(mock.patch("huggingface_hub.constants.HF_HUB_OFFLINE", True))
        # What `zoo list` counts, for half a minute.
        stack.enter_context(mock.patch("zoo.params.num_parameters", return_value=1))
        yield


@contextlib.contextmanager
def written_once(folder: Path) -> Iterator[None]:
    """Let each pipe of a folder be written to once, as the program behind `<(...)` does.

    Who opens it a second time waits for ever.
    """
    pipes = [path for path in folder.rglob("*") if path.is_fifo()]

    def write(pipe: Path) -> None:
        with contextlib.suppress(OSError), pipe.open("wb") as file:
            file.write(b"w1 w2\n")

    writers = [threading.Thread(target=write, args=(pipe,), daemon=True) for pipe in pipes]
    for writer in writers:
        writer.start()
    yield
    for pipe, writer in zip(pipes, writers, strict=True):
        if writer.is_alive() and pipe.is_fifo():
            os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))  # nobody has read it
        writer.join(1)


def run(number: int, seed: int, root: Path, report: Callable[[str], None] = print) -> Counter:
    """Run so many inputs, shared evenly by the commands, and return how many each had.

    Raises:
      AssertionError: If any is wrong; it lists them.
    """
    build(root / "built")
    counts: Counter = Counter()
    found: list[str] = []
    work = root / "a" / "work"  # where ".." is of no use to others
    with without_training():
        for at in range(number):
            name = list(WORKING)[at % len(WORKING)]
            shutil.rmtree(work.parent, ignore_errors=True)
            work.mkdir(parents=True)
            os.mkfifo(work / PIPE)
            case = generate(name, root / "built", work, random.Random(f"{seed} {at}"))
            began = time.monotonic()
            with contextlib.chdir(work), written_once(work):
                problem = wrong(case)
            counts[name] += 1
            if problem:
                found.append(f"{case.arguments} ({case.change}): {problem}")
                report(f"{at}: {found[-1]}")
            elif time.monotonic() - began > 5:
                report(f"{at}: {time.monotonic() - began:.1f} s: {case}"[:300])
    assert not found, "\n".join(found)
    return counts


def main() -> None:
    """Run the inputs that the command line asks for, and print how many each command had."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    with tempfile.TemporaryDirectory() as root:
        os.environ["ZOO_CACHE"] = f"{root}/cache"
        try:
            counts = run(options.number, options.seed, Path(root))
        except AssertionError as error:
            sys.exit(f"{len(str(error).splitlines())} of {options.number} inputs are wrong")
    for name, count in counts.items():
        print(f"{count:6,} {name}")
    print(f"{counts.total():6,} inputs, no traceback")


if __name__ == "__main__":
    main()
