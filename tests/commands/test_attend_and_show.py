"""`zoo attend` and `zoo show`: what they print and write, and what they refuse."""

import pytest

import zoo
from tests import bad_inputs
from tests.commands.test_command_line import refusal, run
from train.pretraining import example
from zoo.checkpoints.load import Loaded
from zoo.models import bert, luong
from zoo.tokenizers import units

LINE = "attention within the text, mean of 3 heads of 1 layers:"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny models of the three kinds of attention, and one without, by name."""
    root = tmp_path_factory.mktemp("folders")
    words = bad_inputs.word_tokenizer()
    config = bert.Config(
        vocab_size=len(bad_inputs.VOCABULARY),
        max_length=400,
        num_layers=1,
        num_heads=3,
        width=24,
        mlp_width=40,
        head_width=8,
        dropout=0.0,
    )
    saved = {
        "bert": Loaded(*bad_inputs.model(bert.Model(config)), words),
        "luong": Loaded(
            *bad_inputs.model(luong.Model(bad_inputs.luong_config())),
            bad_inputs.translator_tokenizer(),
        ),
    }
    for name, loaded in saved.items():
        zoo.save(loaded, root / name)
    zoo.export(saved["bert"], root / "hf-bert")
    model = bad_inputs.tiny.TABLE["rnn"].model
    rnn_words = units.words(["<unk>", "</s>", *(f"w{number}" for number in range(59))])
    zoo.save(Loaded(*bad_inputs.model(model), rnn_words), root / "rnn")
    return root


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def test_attention_is_printed_drawn_and_written_as_a_page(folders, monkeypatch, capsys, tmp_path):
    options = ("--html", "a.html", "--picture", "a.png")
    out = run(monkeypatch, "attend", folders / "bert", "w1 w2", *options, read=capsys).splitlines()
    assert out[0] == LINE
    assert [line.split()[0] for line in out[1:5]] == ["[CLS]", "w1", "w2", "[SEP]"]
    assert out[5:] == ["picture: a.png", "page: a.html"]
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert '"name":"rollout"' in (tmp_path / "a.html").read_text()
    line = refusal(monkeypatch, capsys, "attend", folders / "bert", "w1", *options)
    assert "a.html" in line
    assert "--overwrite" in line


def test_a_folder_of_another_library_has_the_same_attention(folders, monkeypatch, capsys):
    ours, theirs = (
        run(monkeypatch, "attend", folders / name, "w1 w2", read=capsys)
        for name in ("bert", "hf-bert")
    )
    assert ours == theirs


def test_one_layer_one_head_and_rollout_can_be_chosen(folders, monkeypatch, capsys):
    attend = ("attend", folders / "bert", "w1 w2")
    out = run(monkeypatch, *attend, "--layer", "1", "--head", "2", read=capsys)
    assert out.startswith("attention within the text, layer 1, head 2:")
    out = run(monkeypatch, *attend, "--rollout", read=capsys)
    assert out.startswith("attention within the text, rollout:")
    line = refusal(monkeypatch, capsys, *attend, "--head", "4")
    assert line == "zoo: the model has no head 4: it has 3, counted from 1"
    line = refusal(monkeypatch, capsys, *attend, "--head", "1", "--rollout")
    assert line == "zoo: --head has no effect with --rollout: leave it out"


def test_a_translator_attends_to_its_source(folders, monkeypatch, capsys):
    out = run(monkeypatch, "attend", folders / "luong", "w1 w2", "--target", "w3", read=capsys)
    assert out.startswith("attention of the output to the source, layer 1, head 1:\nw3")
    line = refusal(monkeypatch, capsys, "attend", folders / "luong", "w1", "--rollout")
    assert line == "zoo: LuongLM attends to its source only: leave out --rollout"


def test_a_folder_without_attention_and_a_text_too_long_are_one_line(folders, monkeypatch, capsys):
    line = refusal(monkeypatch, capsys, "attend", folders / "rnn", "w1")
    assert line.startswith("zoo: RNNLM has no attention: use a model of one of bahdanau, luong, ")
    long = "w1 " * 300
    line = refusal(monkeypatch, capsys, "attend", folders / "bert", long, "--picture", "a.png")
    assert line == (
        "zoo: a picture of 1 x 3 heads shows at most 106 words, and the text has 302: choose "
        "--layer and --head, or shorten the text"
    )
    line = refusal(monkeypatch, capsys, "attend", folders / "bert", "w1", "--picture", "a.txt")
    assert line == "zoo: a picture is written as .png, .svg, .pdf, not as a.txt"
    line = refusal(monkeypatch, capsys, "attend", folders / "bert", "w1", "--html", "a.txt")
    assert line == "zoo: a page is written as .html, not as a.txt"


def test_a_recipe_is_shown_with_its_parameters_and_its_schedule(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(example, "VOCABULARY", 400)
    monkeypatch.setattr(example, "NUM_TEXTS", 8)
    out = run(monkeypatch, "show", "bert-tiny", "--picture", "show.png", read=capsys).splitlines()
    assert out[0].startswith("text     [CLS]")
    assert "model: BertPretraining" in out
    assert any(
        line.split() == ["trunk/blocks_*/mlp/up/kernel", "256", "x", "1024", "4", "1,048,576"]
        for line in out
    )
    (total,) = [line.split()[-1] for line in out if line.startswith("sum")]
    assert total == "4,378,114"  # as in SIZES
    assert "schedule: 1,200 steps of 16 x 128 tokens, learning rate up to 0.0003" in out
    assert out[-1] == "picture: show.png"
    assert (tmp_path / "show.png").stat().st_size > 10_000


def test_a_recipe_of_packed_documents_is_shown_without_the_next_sentence(monkeypatch, capsys):
    monkeypatch.setattr(example, "VOCABULARY", 400)
    monkeypatch.setattr(example, "NUM_TEXTS", 8)
    out = run(monkeypatch, "show", "bert-shallow-masked", read=capsys)
    assert "model: BertLM" in out
    assert "next_head" not in out


def test_an_n_gram_model_is_shown_without_steps(monkeypatch, capsys):
    out = run(monkeypatch, "show", "ngram", read=capsys)
    assert "schedule: none, the text is counted once" in out
    line = refusal(monkeypatch, capsys, "show", "ngram", "--seed", "1")
    assert line == "zoo: --seed has no effect on an n-gram model: leave it out"
    line = refusal(monkeypatch, capsys, "show", "ngrams")
    assert line == "zoo: unknown recipe 'ngrams'; did you mean 'ngram'?"
