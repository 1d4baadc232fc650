"""Minimal pairs and candidates: files, and what the scores of a model make of them."""

import pytest

from train.data.examples.candidates import Candidate, rank, read_candidates
from train.data.examples.minimal_pairs import MinimalPair, read_minimal_pairs
from train.metrics.minimal_pairs import accuracy

PAIRS = [
    MinimalPair("a", "b", "agreement", "morphology"),
    MinimalPair("c", "d", "agreement", "morphology"),
    MinimalPair("e", "f", "islands", "syntax"),
]


def write(tmp_path, content, name="pairs.tsv"):
    path = tmp_path / name
    path.write_text(content, "utf-8")
    return path


def test_a_tie_counts_a_half():
    assert accuracy(PAIRS[:1], [-2.0], [-2.0])["all"] == 0.5


def test_paradigms_have_the_same_weight_whatever_their_number_of_pairs():
    result = accuracy(PAIRS, [-1.0, -3.0, -1.0], [-2.0, -2.0, -2.0])
    assert result == {
        "agreement": 0.5,
        "islands": 1.0,
        "morphology": 0.5,
        "syntax": 1.0,
        "all": 0.75,
    }


def test_pairs_without_paradigms_have_one_accuracy():
    assert accuracy([MinimalPair("a", "b")] * 2, [0, -2], [-1, -1]) == {"all": 0.5}


def test_a_table_and_json_lines_give_the_same_pairs(tmp_path):
    table = write(tmp_path, "UID\tfield\tgood\tbad\nx\ty\tThey go.\tThey goes.\n")
    lines = write(
        tmp_path,
        '{"sentence_good": "They go.", "sentence_bad": "They goes.", "field": "y", "UID": "x"}\n',
        "pairs.jsonl",
    )
    expected = [MinimalPair("They go.", "They goes.", "x", "y")]
    assert read_minimal_pairs(table) == read_minimal_pairs(lines) == expected


def test_the_limit_counts_the_pairs_of_a_paradigm(tmp_path):
    rows = "".join(f"{uid}\tgood {i}\tbad {i}\n" for uid in "xy" for i in range(4))
    path = write(tmp_path, "UID\tgood\tbad\n" + rows)
    pairs = read_minimal_pairs(path, limit=2)
    assert [pair.good for pair in pairs] == ["good 0", "good 1"] * 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("good\tbad\na\n", "columns"),
        ("good\tworse\na\tb\n", "no column 'bad'"),
        ("good\tbad\na\t\n", "empty sentence"),
        ("good\tbad\n", "no minimal pairs"),
    ],
)
def test_a_bad_file_of_pairs_is_refused_in_one_line(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as error:
        read_minimal_pairs(write(tmp_path, content))
    assert "\n" not in str(error.value)


def test_candidates_of_a_source_are_between_empty_lines(tmp_path):
    path = write(tmp_path, "one\ntwo\n\nthree\n")
    assert [[c.text for c in group] for group in read_candidates(path)] == [
        ["one", "two"],
        ["three"],
    ]


def test_the_weighted_log_probability_is_added_to_the_score_of_moses(tmp_path):
    path = write(tmp_path, "0 ||| a b ||| LM= -3 ||| -1.5\n0 ||| b a ||| LM= -2 ||| -1\n")
    (group,) = read_candidates(path)
    assert group == [Candidate("0", "a b", -1.5), Candidate("0", "b a", -1.0)]
    ranked = rank(group, [-2.0, -4.0], weight=0.5)
    assert [(value, candidate.text) for value, candidate in ranked] == [(-2.5, "a b"), (-3, "b a")]


@pytest.mark.parametrize("content", ["", "0 ||| a b ||| x\n", "0 ||| a ||| x ||| best\n"])
def test_bad_candidates_are_refused(tmp_path, content):
    with pytest.raises(ValueError, match=r"no candidates|source \|\|\| text"):
        read_candidates(write(tmp_path, content))
