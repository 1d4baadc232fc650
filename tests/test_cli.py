"""The command line: what the user can mend is one line that says how, and no traceback."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny_run
from train import __main__ as cli
from zoo import checkpoint, published_tokenizers
from zoo import tokenizer as tokenizers

ROOT = Path(__file__).parents[1]


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
    said = capsys.readouterr()
    assert caught.value.code == 2
    assert said.err.startswith("zoo: ")
    assert said.err.count("\n") == 1
    return said.err.strip()


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
    assert "document 0 of the text holds '<extra_id_3>'" in line
    assert "remove it" in line


def test_a_text_too_short_for_its_vocabulary_says_so(monkeypatch, capsys):
    Path("short.txt").write_text("A short text.")
    line = refusal(monkeypatch, capsys, "pretrain", "gpt2-tiny", "--text", "short.txt")
    assert "the text gives a vocabulary of" in line
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
    assert line == "zoo: --length 257 is over the 256 of gpt2-tiny"


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
    assert "the tokenizer has 5064 words, gpt2-tiny has room for 4096" in line


def test_a_tokenizer_without_the_end_of_a_document_is_refused(monkeypatch, capsys):
    Path("text.txt").write_text("a text")
    wordless = published_tokenizers.wordpiece(tiny_run.tokenizer().model, lowercase=True)
    tokenizers.save(wordless, "wordless")
    line = refusal(
        monkeypatch, capsys, "pretrain", "gpt2-tiny", "--text", "text.txt", "--tokenizer",
        "wordless",
    )  # fmt: skip
    assert line == "zoo: the tokenizer has no <|endoftext|>, which gpt2-tiny needs"


def test_two_kinds_of_text_at_once_are_refused(monkeypatch, capsys):
    line = refusal(
        monkeypatch, capsys, "pretrain", "gpt2-tiny", "--text", "a.txt", "--tfds", "wikipedia"
    )
    assert line == "zoo: --text and --tfds exclude each other"


@pytest.mark.parametrize("command", ["generate", "evaluate", "export"])
def test_a_folder_that_does_not_exist_is_named(command, monkeypatch, capsys):
    rest = {"generate": ["The"], "evaluate": [], "export": ["out"]}[command]
    assert "no/such" in refusal(monkeypatch, capsys, command, "no/such", *rest)


def test_weights_in_a_pickle_are_refused_and_never_opened(monkeypatch, capsys):
    class Trap:
        def __reduce__(self):
            return Path.touch, (Path("opened"),)

    folder = Path("pickled")
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    for command in (["generate", folder], ["import", folder, "out"]):
        assert "safetensors" in refusal(monkeypatch, capsys, *command)
    assert not Path("opened").exists()


def test_a_command_that_is_refused_leaves_no_run_behind(monkeypatch, capsys):
    refusal(monkeypatch, capsys, "pretrain", "gpt2-tiny", "--length", "257", "--out", "run")
    refusal(monkeypatch, capsys, "pretrain", "gpt2-tiny", "--text", "none.txt", "--out", "run")
    assert not Path("run").exists()


def test_a_model_is_evaluated_and_continued(monkeypatch, capsys):
    words = tiny_run.tokenizer()
    checkpoint.write("folder", "gpt2", tiny_run.CONFIG, tiny_run.wide_params(), words)
    Path("text.txt").write_text("\n\n".join(tiny_run.documents(count=4)))
    arguments = ["evaluate", "folder", "--text", "text.txt", "--length", "16"]
    monkeypatch.setattr(sys, "argv", ["zoo", *arguments])
    cli.main()
    figures = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert figures.keys() == {"loss", "token accuracy", "perplexity", "bits per byte"}
    monkeypatch.setattr(sys, "argv", ["zoo", "generate", "folder", "w1 w2", "--tokens", "5"])
    cli.main()
    assert capsys.readouterr().out.startswith("w1 w2")
    line = refusal(monkeypatch, capsys, "evaluate", "folder", "--length", "33")
    assert line == "zoo: --length 33 is over the 32 of folder"


def test_every_recipe_is_listed(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["zoo", "list"])
    monkeypatch.setattr("train.recipes.RECIPES", {"gpt2-tiny": lambda: tiny_run.recipe()})
    cli.main()
    assert "gpt2-tiny" in capsys.readouterr().out


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
    said = lambda *flags: refusal(monkeypatch, capsys, "pretrain", *flags)
    assert "give --source" in said("luong-tiny", "--text", "a")
    assert "give --text or --tfds" in said("gpt2-tiny", "--source", "a", "--target", "b")
    assert "give both" in said("luong-tiny", "--target", "b")
    assert "has 2 lines" in said("luong-tiny", "--source", "a", "--target", "c")
    assert "has 2 lines" in said("luong-tiny", "--dev", "a", "c")
    assert "not in 3" in said("luong-tiny", "--dev", "a", "b", "c")
    assert "cannot take --separate" in said("transformer-tiny", "--separate")
