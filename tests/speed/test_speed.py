"""The arithmetic of the comparison with peers; the races themselves are a command."""

import json

import numpy as np
import pytest

from tests.speed import contest, gpu
from tests.speed.contest import check
from tests.speed.table import ahead, append, leads, newest, speeds, summary, table
from tests.speed.work import END, FIRST_WORD, MASK, WORKS, batches, published_shapes


def row(name, wall, cpu):
    return {"name": name, "wall": wall, "cpu": cpu, "first_call": 12.34}


SLOW = row("peer", [2.0, 4.0, 9.0], [3.0, 6.0, 6.0])
FAST = row("zoo", [1.0, 2.0, 8.0], [3.0, 3.0, 3.5])
RECORD = {
    "work": vars(WORKS["bert"][0]),
    "when": "2026-11-23T10:00+00:00",
    "commit": "abc1234",
    "processor": "a processor, 2 cores",
    "versions": {"python": "3.11.7"},
    "matrix_rate": [10e9, 200e9, 300e9],
    "competitors": [SLOW, {"name": "absent", "missing": "it cannot be installed here"}, FAST],
}


def test_speeds_are_ratios_of_medians_of_minima_and_of_cpu_time():
    assert speeds(FAST, SLOW) == {"median": 2.0, "minimum": 2.0, "CPU": 2.0}
    assert speeds(SLOW, FAST) == {"median": 0.5, "minimum": 0.5, "CPU": 0.5}


@pytest.mark.parametrize(
    ("wall", "cpu", "is_lead"),
    [
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], True),
        ([1.0, 3.9, 3.9], [1.0, 1.0, 1.0], False),  # the median leads by too little
        ([1.95, 1.95, 1.95], [1.0, 1.0, 1.0], False),  # the minimum does
        ([1.0, 1.0, 1.0], [5.9, 5.9, 5.9], False),  # the CPU time does
    ],
)
def test_a_lead_needs_all_three_measures(wall, cpu, is_lead):
    assert ahead(row("zoo", wall, cpu), SLOW) is is_lead


def test_zoo_is_held_against_the_fastest_peer():
    faster = row("faster", [0.5, 1.0, 1.0], [1.0, 1.0, 1.0])
    assert leads([SLOW, FAST]) == ["zoo against peer: 2.00, ahead.", ""]
    assert leads([SLOW, faster, FAST]) == ["zoo against faster: 0.50, behind.", ""]
    assert leads([FAST, row("twin", FAST["wall"], FAST["cpu"])])[0].endswith("no clear lead.")
    assert leads([SLOW, faster]) == []


def test_the_table_shows_every_competitor_and_who_could_not_run():
    lines = table(RECORD).splitlines()
    share = [RECORD_FLOPS / seconds / 200e9 for seconds in (4.0, 2.0)]
    assert lines[4] == f"| peer | 1.00 | 1.00 | 1.00 | 4.000 | {share[0]:.0%} | 12.3 |"
    assert lines[5] == "| absent | it cannot be installed here | | | | | |"
    assert lines[6] == f"| zoo | 2.00 | 2.00 | 2.00 | 2.000 | {share[1]:.0%} | 12.3 |"
    assert "zoo against peer: 2.00, ahead." in lines
    assert "200 GFLOP/s in float32 products; 3 rounds; commit abc1234, 2026-11-23" in lines[-1]


# 2048 tokens, each 6 FLOP a weight of the blocks, the attention, and 20 of 128 times the head.
RECORD_FLOPS = 2048 * (
    6 * 4 * (4 * 256**2 + 2 * 256 * 1024) + 12 * 4 * 256 * 128 + 6 * 8192 * 256 * 20 / 128
)


def test_the_newest_result_of_each_work_counts(tmp_path):
    path = tmp_path / "results.jsonl"
    other = RECORD | {"work": vars(WORKS["gpt2"][0])}
    for record in (RECORD, other, RECORD | {"commit": "newer"}):
        append(record, path)
    assert [record["commit"] for record in newest(path)] == ["newer", "abc1234"]
    assert newest(path)[1] == json.loads(json.dumps(other))


def test_the_summary_has_a_line_a_race():
    title = RECORD["work"]["title"]
    assert summary([RECORD]).splitlines()[2:] == [f"| {title} | peer | peer: 1.00 | 2.00 | 2.00 |"]


@pytest.mark.parametrize(
    ("model", "index", "parameters"),
    [("decode", 1, 124_439_808), ("gpt2", 0, 5_289_472), ("bert", 0, 5_364_480)],
)
def test_the_weights_are_the_published_ones(model, index, parameters):
    shapes = published_shapes(WORKS[model][index])
    assert sum(np.prod(shape) for shape in shapes.values()) == parameters


def test_hidden_words_can_be_put_back_and_frequent_words_are_frequent():
    work = WORKS["bert"][0]
    for hidden, plain in zip(batches(work), batches(WORKS["gpt2"][0]), strict=True):
        positions, targets, words = hidden["positions"], hidden["targets"], hidden["tokens"].copy()
        assert (np.diff(positions, axis=1) > 0).all()
        assert 0.7 < (np.take_along_axis(words, positions, axis=1) == MASK).mean() < 0.9
        np.put_along_axis(words, positions, targets, axis=1)
        assert (words == plain["tokens"]).all()
        assert words.min() >= FIRST_WORD
        # The first word of 8187 has a share of 1 / (1 + 1/2 + ... + 1/8187) = 0.104.
        assert 0.08 < (words == FIRST_WORD).mean() < 0.13


def test_text_and_targets_of_spans_make_up_the_whole():
    work = WORKS["t5"][0]
    for batch in batches(work, count=2):
        assert batch["tokens"].shape == (16, 128)
        assert batch["targets"].shape == (16, work.targets) == (16, 29)
        assert (batch["decoder_inputs"][:, 1:] == batch["targets"][:, :-1]).all()
        assert (batch["decoder_inputs"][:, 0] == 0).all()
        assert (batch["tokens"][:, -1] == END).all()
        assert (batch["targets"][:, -1] == END).all()
        marks = [work.vocab_size - 1 - i for i in range(work.spans)]
        seen = np.concatenate([batch["tokens"], batch["targets"]], axis=1)
        for row, text in zip(seen, batch["text"], strict=True):
            assert sorted(row) == sorted([*text, *marks, *marks, END, END])


def test_recurrent_and_translated_texts_tell_the_next_word_and_end():
    batch = batches(WORKS["lstm"][0], count=1)[0]
    assert batch["tokens"].shape == batch["targets"].shape == (32, 64)
    assert (batch["tokens"][:, 1:] == batch["targets"][:, :-1]).all()
    batch = batches(WORKS["transformer"][0], count=1)[0]
    for side in ("tokens", "targets"):
        assert batch[side].shape == (16, 128)
        assert (batch[side][:, -1] == END).all()
    assert (batch["tokens"] != batch["targets"]).any()


def test_products_of_every_step_are_counted():
    count = {name: WORKS[name][0].flops() / 1e9 for name in WORKS if name != "decode"}
    assert count["roberta"] == count["bert"] == RECORD_FLOPS / 1e9
    assert count["albert"] < count["bert"] < count["electra"] < count["distilbert"]
    assert 1.3 < count["t5"] / count["bert"] < 1.8
    # Two layers of four gates read 512 and have 512, and the head tells 10,000.
    assert count["recurrence"] * 1e9 == 2048 * 6 * 2 * 4 * 512 * (512 + 512)
    assert count["lstm"] - count["recurrence"] == 2048 * 6 * 10_000 * 512 / 1e9
    # An encoder more, and four maps and a mix in each layer that looks at it.
    encoder = 6 * 4 * (4 * 256**2 + 2 * 256 * 1024) + 12 * 4 * 256 * 128
    source = 6 * 4 * 4 * 256**2 + 12 * 4 * 256 * 128
    more = count["transformer"] - count["gpt2"]
    assert more == pytest.approx(2048 * (encoder + source) / 1e9)


@pytest.mark.parametrize(
    ("facts", "complaint"),
    [
        ({"parameters": 6, "tokens": None, "loss": 9.0}, "parameters"),
        ({"parameters": 5, "tokens": [[1]], "loss": 9.0}, "tokens"),
        ({"parameters": 5, "tokens": None, "loss": 9.001}, "loss"),
    ],
)
def test_unequal_work_is_refused(facts, complaint):
    expected = {"parameters": 5, "tokens": None, "loss": 9.0}
    check(expected, expected, 1e-5)
    with pytest.raises(ValueError, match=complaint):
        check(facts, expected, 1e-5)


def test_a_gpu_is_measured_row_by_row_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    results, measured = tmp_path / "gpu.jsonl", []

    def measure(row, rates, seconds):
        measured.append(row.name)
        if len(measured) == 4:
            raise TimeoutError
        record = {"work": row.name[0], "competitor": row.name[1], "seconds": 0.5, "first_call": 9.0}
        if row.entry.module == "matrix_rate":
            return record | {"rate": 2e12, "device": "cpu"}
        assert rates == {"matrix rate": 2e12, "memory rate": 2e12}
        return record | {"tokens_per_second": 1000.0, "share": 0.25}

    monkeypatch.setattr(gpu, "measure", measure)
    first = list(gpu.run(results, 540, small=True))
    assert first[-1].startswith("stopped after ")
    assert first[-2] == "| GPT-2 124M, small | zoo | 1,000 | 25.0% | 500.0 | 9.0 |"
    assert len(gpu.read(results)) == 3
    second = list(gpu.run(results, 540, small=True))
    assert second[:4] == first[:4]
    assert second[-1] == "all measured: gpu.jsonl"
    assert len(measured) == len(gpu.rows(small=True)) + 1
    assert list(gpu.run(tmp_path / "new", 10, small=True))[-1].startswith("stopped")


def test_the_peers_of_a_gpu_come_last_and_have_equal_work():
    rows = gpu.rows(small=False)
    assert [row.entry.name for row in rows[:3]] == ["matrix rate", "memory rate", "zoo"]
    zoo = [row.work for row in rows if row.entry.name == "zoo"]
    peers = [row.work for row in rows[2 + len(zoo) :]]
    assert list(dict.fromkeys(work.title for work in peers)) == [work.title for work in zoo]
    assert len({row.name for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("title", "parameters", "body"),
    [
        ("GPT-2 124M", 124_439_808, 84_934_656),
        ("BERT large", 335_174_458, 301_989_888),
        ("GPT-2 XL", 1_557_611_200, 1_474_560_000),
    ],
)
def test_sizes_on_a_gpu_are_the_published_ones(title, parameters, body):
    work = next(work for work, _ in gpu.WORKS if work.title.startswith(title))
    assert sum(np.prod(shape) for shape in published_shapes(work).values()) == parameters
    assert work.num_layers * (4 * work.width**2 + 2 * work.width * work.mlp_width) == body


def test_a_row_that_runs_out_of_time_is_ended(monkeypatch):
    start = contest.subprocess.Popen
    endless = lambda command, **options: start(["sleep", "60"], **options)
    monkeypatch.setattr(gpu, "prepare", lambda work, folder: folder)
    monkeypatch.setattr(contest.subprocess, "Popen", endless)
    with pytest.raises(TimeoutError):
        gpu.measure(gpu.rows(small=True)[2], {}, seconds=1.5)
