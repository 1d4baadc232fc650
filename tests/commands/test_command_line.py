"""The command line: what the user can mend is one line that says how, and no traceback."""

import json
import os
import pickle
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import zoo
from tests import tiny, tiny_run
from train import __main__ as cli
from train.commands import command
from train.data.sources import dates
from train.recipes import RECIPES
from zoo import tokenizers
from zoo.checkpoints import model_folder
from zoo.tokenizers import published

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Each test in an empty folder, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def refusal(monkeypatch, capsys, *arguments) -> str:
    """The one line with which a command is refused."""
    monkeypatch.setattr(sys, "argv", ["zoo", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    captured = capsys.readouterr()
    assert caught.value.code == 2
    assert captured.err.startswith("zoo: ")
    assert captured.err.count("\n") == 1
    return captured.err.strip()


def run(monkeypatch, *arguments, read=None) -> str | None:
    """What a command prints, where `read` is capsys."""
    monkeypatch.setattr(sys, "argv", ["zoo", *map(str, arguments)])
    cli.main()
    return read and read.readouterr().out


def test_a_recipe_that_does_not_exist_is_answered_with_the_nearest(monkeypatch, capsys):
    line = refusal(monkeypatch, capsys, "pretrain", "gpt2-tinny")
    assert line == "zoo: unknown recipe 'gpt2-tinny'; did you mean 'gpt2-tiny'?"
    assert "zoo list" in refusal(monkeypatch, capsys, "pretrain", "@@@@")


def test_a_file_that_does_not_exist_is_named(monkeypatch, capsys):
    line = refusal(monkeypatch, capsys, "pretrain", "gpt2-tiny", "--text", "no/such.txt")
    assert line == "zoo: no such text file: no/such.txt"


def test_an_empty_text_is_named(monkeypatch, capsys):
    Path("empty.txt").write_text(" \n\n")
    line = refusal(monkeypatch, capsys, "pretrain", "gpt2-tiny", "--text", "empty.txt")
    assert line == "zoo: no text in empty.txt"


def test_a_text_that_holds_what_a_recipe_puts_there_is_refused(monkeypatch, capsys):
    Path("sentinels.txt").write_text("A text with <extra_id_3> in it.")
    line = refusal(monkeypatch, capsys, "pretrain", "t5-tiny", "--text", "sentinels.txt")
    assert "document 0 of the text contains '<extra_id_3>'" in line
    assert "remove it" in line


def test_a_text_too_short_for_its_vocabulary_says_so(monkeypatch, capsys):
    Path("short.txt").write_text("A short text.")
    line = refusal(monkeypatch, capsys, "pretrain", "gpt2-tiny", "--text", "short.txt")
    assert "the text yields a vocabulary of" in line
    assert "give more text" in line


def test_a_text_too_short_for_one_window_says_so(monkeypatch, capsys):
    Path("short.txt").write_text("w1 w2 w3. W4 w5 w6. W7 w8.")
    tokenizers.save(tiny_run.tokenizer(), "words")
    line = refusal(
        monkeypatch, capsys, "pretrain", "gpt2-tiny", "--text", "short.txt", "--tokenizer", "words"
    )
    assert "a window of length 128 needs 129: give more text, or a shorter length" in line


def test_bytes_that_are_not_utf8_are_named_with_file_and_place(monkeypatch, capsys):
    Path("good.txt").write_text("good")
    Path("bad.txt").write_bytes(b"good \xff bad")
    line = refusal(monkeypatch, capsys, "pretrain", "gpt2-tiny", "--text", "good.txt", "bad.txt")
    assert line.startswith("zoo: bad.txt is not UTF-8 at byte 5 ")


def test_a_length_over_that_of_the_model_is_refused(monkeypatch, capsys):
    line = refusal(monkeypatch, capsys, "pretrain", "gpt2-tiny", "--length", "257")
    assert line == "zoo: --length 257 is too long: gpt2-tiny supports at most 256 tokens"


@pytest.mark.parametrize("name", ["steps", "batch", "length", "accumulate"])
def test_a_count_below_one_is_refused(name, monkeypatch, capsys):
    line = refusal(monkeypatch, capsys, "pretrain", "gpt2-tiny", f"--{name}", "0")
    assert line == f"zoo: --{name} must be at least 1, not 0"


def test_a_tokenizer_with_more_words_than_the_model_is_refused(monkeypatch, capsys):
    Path("text.txt").write_text("a text")
    large = tiny_run.tokenizer()
    large.add_tokens([f"more{number}" for number in range(5000)])
    tokenizers.save(large, "large")
    line = refusal(
        monkeypatch, capsys, "pretrain", "gpt2-tiny", "--text", "text.txt", "--tokenizer", "large"
    )
    assert "the tokenizer has 5064 entries, but the vocabulary of gpt2-tiny is 4096" in line
    assert "--vocab-size 5064" in line


def test_a_tokenizer_without_the_end_of_a_document_is_refused(monkeypatch, capsys):
    Path("text.txt").write_text("a text")
    wordless = published.wordpiece(tiny_run.tokenizer().model, lowercase=True)
    tokenizers.save(wordless, "wordless")
    line = refusal(
        monkeypatch, capsys, "pretrain", "gpt2-tiny", "--text", "text.txt", "--tokenizer",
        "wordless",
    )  # fmt: skip
    assert line.startswith("zoo: the tokenizer has no token that ends a document: use one with <|")


def test_two_kinds_of_text_at_once_are_refused(monkeypatch, capsys):
    line = refusal(
        monkeypatch, capsys, "pretrain", "gpt2-tiny", "--text", "a.txt", "--tfds", "wikipedia"
    )
    assert line == "zoo: --text and --tfds cannot be combined"


@pytest.mark.parametrize("command", ["generate", "evaluate", "export"])
def test_a_folder_that_does_not_exist_is_named(command, monkeypatch, capsys):
    rest = {"generate": ["The"], "evaluate": [], "export": ["out"]}[command]
    assert "no/such" in refusal(monkeypatch, capsys, command, "no/such", *rest)


def test_a_pickle_that_calls_a_function_is_refused_by_its_name(monkeypatch, capsys):
    class Trap:
        def __reduce__(self):
            return Path.touch, (Path("opened"),)

    folder = Path("pickled")
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    for arguments in (["generate", folder], ["import", folder, "out"]):
        assert "pathlib.Path.touch" in refusal(monkeypatch, capsys, *arguments)
    assert not Path("opened").exists()


def test_a_command_that_is_refused_leaves_no_run_behind(monkeypatch, capsys):
    refusal(monkeypatch, capsys, "pretrain", "gpt2-tiny", "--length", "257", "--out", "run")
    refusal(monkeypatch, capsys, "pretrain", "gpt2-tiny", "--text", "none.txt", "--out", "run")
    assert not Path("run").exists()


def test_a_model_is_evaluated_and_continued(monkeypatch, capsys):
    words = tiny_run.tokenizer()
    model_folder.write("folder", "gpt2", tiny_run.CONFIG, tiny_run.wide_params(), words)
    Path("text.txt").write_text("\n\n".join(tiny_run.documents(count=4)))
    arguments = ["evaluate", "folder", "--text", "text.txt", "--length", "16"]
    monkeypatch.setattr(sys, "argv", ["zoo", *arguments])
    cli.main()
    figures = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert figures.keys() == {"loss", "token accuracy", "perplexity", "bits per byte"}
    monkeypatch.setattr(
        sys, "argv", ["zoo", "generate", "folder", "w1 w2", "--max-new-tokens", "5"]
    )
    cli.main()
    assert capsys.readouterr().out.startswith("w1 w2")
    line = refusal(monkeypatch, capsys, "evaluate", "folder", "--length", "33")
    assert line == "zoo: --length 33 is too long: folder supports at most 32 tokens"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--cache-theta 1", "--cache-theta is for a cache: give --cache-window"),
        ("--dynamic-decay 0.1", "--dynamic-decay is for dynamic evaluation: give --dynamic-learn"),
        ("--dynamic-text text.txt", "--dynamic-text is for dynamic evaluation: give --dynamic-l"),
        (
            "--cache-window 9 --dynamic-learning-rate 1",
            "--cache-window and --dynamic-learning-rate cannot be combined",
        ),
        ("--cache-window 9", "--cache-window is for recurrent language models, such as lstm-lm-"),
        ("--cache-window 9 --data text.txt", "--cache-window is for the --text of a recurrent"),
    ],
)
def test_adaptation_that_does_not_apply_is_refused(flags, message, monkeypatch, capsys):
    words = tiny_run.tokenizer()
    model_folder.write("folder", "gpt2", tiny_run.CONFIG, tiny_run.wide_params(), words)
    Path("text.txt").write_text("w1 w2 w3")
    command = ["evaluate", "folder", "--text", "text.txt", *flags.split()]
    assert refusal(monkeypatch, capsys, *command).startswith(f"zoo: {message}")


def test_recipes_are_listed_by_architecture_with_the_tiny_ones_first(monkeypatch, capsys):
    recipes = {name: RECIPES[name] for name in ("gpt2", "seq2seq-tiny", "gpt2-tiny")}
    monkeypatch.setattr("train.recipes.RECIPES", recipes)
    head, *table = run(monkeypatch, "list", read=capsys).splitlines()
    assert head.split() == ["recipe", "parameters", "steps", "batch", "x", "length"]
    assert [line.split()[0] for line in table] == [
        "ngram", "ngram", "gpt2", "gpt2-tiny", "gpt2", "seq2seq", "seq2seq-tiny",
    ]  # fmt: skip
    assert table[4].split() == ["gpt2", "124,439,808", "300,000", "512", "x", "1024"]
    _, *table = run(monkeypatch, "list", "--architecture", "seq2seq", read=capsys).splitlines()
    assert [line.split()[0] for line in table] == ["seq2seq", "seq2seq-tiny"]
    assert "no recipe trains t5" in refusal(monkeypatch, capsys, "list", "--architecture", "t5")
    assert "zoo supports albert" in refusal(monkeypatch, capsys, "list", "--architecture", "t6")


def test_every_command_is_in_the_help_with_an_example(monkeypatch, capsys):
    page = run(monkeypatch, "--help", read=capsys)
    assert run(monkeypatch, read=capsys) == page
    assert [line for line in page.splitlines() if re.fullmatch(r"\w+:", line)] == [
        "Train:", "Use:", "Measure:", "Convert:",
    ]  # fmt: skip
    assert page.count("Example: zoo ") == 4
    assert all(re.search(rf"^  {name}  +[A-Z].*\.$", page, re.M) for name in cli.COMMANDS)
    assert all(len(line) <= 100 for line in page.splitlines())
    assert run(monkeypatch, "--version", read=capsys) == f"zoo {zoo.__version__}\n"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_ends_with_an_example_that_can_be_parsed(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, name, "--help")
    assert caught.value.code == 0
    page = capsys.readouterr().out
    assert not re.search(r"\{None|\(default: (None|False)?\)|None:", page)
    *_, title, example = page.splitlines()
    zoo_, name_, *arguments = shlex.split(example)
    assert (title, zoo_, name_) == ("Example:", "zoo", name)
    assert type(command.parse(name, cli.COMMANDS[name], arguments)) is cli.COMMANDS[name]


def test_wrong_arguments_are_one_line(monkeypatch, capsys):
    refused = lambda *arguments: refusal(monkeypatch, capsys, *arguments).removeprefix("zoo: ")
    assert refused("pretrian") == "unknown command 'pretrian'; did you mean 'pretrain'?"
    assert refused("@@@") == "unknown command '@@@'; `zoo --help` lists the commands"
    assert refused("pretrain", "x", "--stepz", "3") == (
        "unknown argument '--stepz'; did you mean --steps?"
    )
    assert refused("finetune", "x", "--task", "regression", "--epoch", "3") == (
        "unknown argument '--epoch'; did you mean --epochs?"
    )
    assert refused("generate", "x", "--prompt", "The") == (
        "unknown argument '--prompt'; PROMPT is given without a flag"
    )
    more = "; `zoo pretrain --help` shows all arguments"
    assert refused("pretrain") == "zoo pretrain needs RECIPE" + more
    assert refused("pretrain", "x", "--steps", "y") == "--steps must be INT, not 'y'" + more
    assert refused("pretrain", "x", "--steps") == "--steps needs a value" + more
    assert refused("pretrain", "x", "--mesh", "1") == "--mesh needs 3 values" + more
    line = refused("pretrain", "x", "--dtype", "y")
    assert re.fullmatch(r"--dtype must be one of '\w+', '\w+', not 'y'" + re.escape(more), line)


def test_a_separator_may_be_written_with_escapes(monkeypatch):
    given = []
    keep = lambda recipe, source, out, **choices: given.extend(source.documents())
    monkeypatch.setattr("train.pretraining.pretrain.pretrain", keep)
    Path("text.txt").write_text("one\n\ntwo")
    run(monkeypatch, "pretrain", "gpt2-tiny", "--text", "text.txt", "--separator", r"\n\n")
    assert given == ["one", "two"]


def test_a_broken_pipe_is_silent():
    zoo_list = f"{sys.executable} -m train list --architecture gpt2"
    done = subprocess.run(
        ["bash", "-c", f"{zoo_list} | head -1"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("recipe")
    assert done.stderr == ""


def test_a_refused_program_exits_with_2_and_one_line():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "train", "pretrain", "gpt2-tinny"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


def test_what_a_translator_reads_is_checked_before_it_is_read(monkeypatch, capsys):
    for name, lines in (("a", "one\ntwo\n"), ("b", "eins\nzwei\n"), ("c", "eins\n")):
        Path(name).write_text(lines)
    refused = lambda *flags: refusal(monkeypatch, capsys, "pretrain", *flags)
    assert "give --source" in refused("luong-tiny", "--text", "a")
    assert "give --text or --tfds" in refused("gpt2-tiny", "--source", "a", "--target", "b")
    assert "needs --source" in refused("luong-tiny", "--target", "b")
    assert "has 2 lines" in refused("luong-tiny", "--source", "a", "--target", "c")
    assert "has 2 lines" in refused("luong-tiny", "--dev", "a", "c")
    assert "not as 3" in refused("luong-tiny", "--dev", "a", "b", "c")
    assert "does not support --separate-vocabularies" in refused(
        "transformer-tiny", "--separate-vocabularies"
    )
    Path("d").write_text("eins\n\n")
    assert "line 2 of d is empty: remove both sides" in refused(
        "luong-tiny", "--source", "a", "--target", "d"
    )


def test_sizes_are_checked_by_name_and_value(monkeypatch, capsys):
    refused = lambda setting: refusal(
        monkeypatch, capsys, "pretrain", "luong-tiny", "--config", setting
    )
    assert "widht=3: use NAME=VALUE with one of the names vocab_size, max_length" in refused(
        "widht=3"
    )
    assert refused("widht=3").endswith("; did you mean width?")
    assert refused("width=wide") == "zoo: --config width=wide: use an integer like 256"
    assert refused("width=1.5") == "zoo: --config width=1.5: use an integer like 256"
    assert refused("width=-1") == "zoo: --config width must be from 1 to 1,000,000, not -1"
    assert refused("num_layers=1000000000").endswith("must be from 1 to 1,000, not 1000000000")
    assert refused("vocab_size=99999999999").endswith("at most 2,147,483,647, not 99999999999")
    assert refused("dropout=2").endswith("must be at least 0 and less than 1, not 2.0")
    assert refused("dropout=nan").endswith("must be at least 0 and less than 1 and finite, not nan")
    assert refused("score=cosine").endswith("use one of dot, scaled_dot, general, additive")
    assert refused("cell=elman").endswith("use one of rnn, gru, lstm")


SECRET = str.maketrans("0123456789", "абвгдежзик")  # digits in letters that no source has


def pairs(count: int) -> list[tuple[str, str]]:
    texts = list(dates.read(count).documents())
    return [(a, b.translate(SECRET)) for a, b in zip(texts[::2], texts[1::2], strict=True)]


def lines(name: str, texts) -> None:
    Path(name).write_text("".join(f"{text}\n" for text in texts), "utf-8")


def test_every_form_of_pairs_is_the_same_to_a_run(monkeypatch):
    sides = list(zip(*pairs(20), strict=True))
    lines("a", sides[0])
    lines("b", sides[1])
    lines("c.tsv", map("\t".join, pairs(20)))
    lines("d.jsonl", (json.dumps({"text": a, "id": 1, "summary": b}) for a, b in pairs(20)))
    given = []
    keep = lambda recipe, source, out, *, dev, **choices: given.append((source, dev))
    monkeypatch.setattr("train.pretraining.pretrain.pretrain", keep)
    table = ["--source", "d.jsonl", "--dev", "d.jsonl", "--fields", "text", "summary"]
    run(monkeypatch, "pretrain", "seq2seq-tiny", *table)
    run(monkeypatch, "pretrain", "seq2seq-tiny", "--source", "c.tsv", "--dev", "c.tsv")
    sides = ["--source", "a", "--target", "b", "--dev", "a", "b"]
    run(monkeypatch, "pretrain", "seq2seq-tiny", *sides)
    assert len({source.fingerprint for pair in given for source in pair}) == 1
    assert len(given) == 3


def test_a_translator_is_trained_measured_and_used(monkeypatch, capsys):
    # All about equally long: few lengths of batches, few programs.
    found = [pair for pair in pairs(1500) if len(pair[0]) in (18, 19, 20)]
    for name, place, some in (("a", 0, 100), ("b", 1, 100), ("c", 0, -7), ("d", 1, -7)):
        lines(name, [pair[place] for pair in (found[:some] if some > 0 else found[some:])])
    flags = ["--steps", "2", "--batch", "4", "--length", "16", "--vocab-size", "90"]
    files = ["--source", "a", "--target", "b", "--dev", "c", "d"]
    output = run(
        monkeypatch, "pretrain", "seq2seq-tiny", *files, *flags, "--out", "run", read=capsys
    )
    assert "the two sides share no letters, so they divide the joint vocabulary" in output
    assert re.search("dropped [1-9][0-9]? of 100 pairs", output)
    assert "step 2 held out:" in output

    # Two steps write one translation for all; wide weights tell every source from the others.
    model, _, words = zoo.load("run")
    model_folder.write("wide", "seq2seq", model.config, tiny.wide(model), words)
    lines("e.jsonl", (json.dumps({"text": a, "summary": b}) for a, b in found[-7:]))
    test = ["--source", "e.jsonl", "--fields", "text", "summary", "--length", "16"]
    beams = ["--beams", "2"]
    output = run(monkeypatch, "evaluate", "wide", *test, *beams, "--out", "f", read=capsys)
    assert {"loss", "bleu", "rouge1", "exact match"} <= {
        x.split(":")[0] for x in output.splitlines()
    }
    *written, rest = Path("f").read_text("utf-8").split("\n")
    assert (len(written), len(set(written)), rest) == (7, 7, "")
    for place in (-7, -1):
        output = run(monkeypatch, "translate", "wide", found[place][0], *beams, read=capsys)
        assert output == f"{written[place]}\n"
    source = found[-1][0]
    output = run(monkeypatch, "translate", "wide", source, *beams, "--best", "2", read=capsys)
    (score, best), (less, other) = (line.split("  ", 1) for line in output.splitlines())
    assert best == written[-1] != other
    assert float(score) >= float(less)
    line = refusal(monkeypatch, capsys, "translate", "run", "1 May 2020", "--beams", "91")
    assert line == "zoo: the beam width 91 is larger than the vocabulary of 90"


def test_a_context_of_many_chinese_characters_is_text_and_no_file_name(monkeypatch, capsys):
    context = "字" * 120  # a name may have 255 bytes, not characters
    given = []
    answer = lambda loaded, question, text, **options: (
        given.append(text) or SimpleNamespace(text="")
    )
    monkeypatch.setattr(zoo, "load", lambda folder: None)
    monkeypatch.setattr(zoo, "answer", answer)
    run(monkeypatch, "answer", "folder", "?", context)
    Path("context.txt").write_text("a text", "utf-8")
    run(monkeypatch, "answer", "folder", "?", "context.txt")
    assert given == [context, "a text"]


def test_a_text_that_is_not_utf8_is_refused_by_its_argument(monkeypatch, capsys):
    refused = lambda *arguments: refusal(monkeypatch, capsys, *arguments)
    assert refused("choose", "x", "a", "b", "\udcff") == r"zoo: endings is not UTF-8: '\udcff'"
    assert refused("pretrain", "x", "--separator", "\udcff") == (
        r"zoo: separator is not UTF-8: '\udcff'"
    )


def test_a_number_that_is_none_is_one_line_without_the_name_of_a_function(monkeypatch, capsys):
    refused = lambda *arguments: refusal(monkeypatch, capsys, *arguments).split(";")[0]
    assert refused("generate", "x", "--top-k", "y") == "zoo: --top-k must be INT, not 'y'"
    assert refused("generate", "x", "--top-p", "y") == "zoo: --top-p must be FLOAT, not 'y'"
    assert refused("generate", "x", "--top-k", "9" * 5000) == "zoo: --top-k has too many digits"
    assert (
        refused("pretrain", "x", "--mesh", "1", "1", "y") == "zoo: --mesh cannot be '1', '1', 'y'"
    )


def test_too_little_memory_of_a_device_is_one_line_that_names_the_options(monkeypatch, capsys):
    def run(arguments):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nBuffers:")

    monkeypatch.setattr(cli, "_run", run)
    assert "use a smaller --batch or --length" in refusal(monkeypatch, capsys, "pretrain")
