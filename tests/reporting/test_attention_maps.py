"""Attention as pictures and lines: which layers and heads, and what is refused."""

import matplotlib.image
import numpy as np
import pytest

from train.reporting import attention_maps, pictures
from zoo.inference.attention import Attention

WORDS = ["$a$", "$\\frac$", "_^{", "a\nb"]  # which are not mathematics


def layers(count: int = 2, words=WORDS, side="text"):
    weights = np.full((3, len(words), len(words)), 1 / len(words))
    weights[2] = np.eye(len(words))
    return [Attention(f"blocks_{i}", weights, words, words, side=side) for i in range(count)]


def test_words_are_drawn_literally_on_every_side(tmp_path):
    sides = attention_maps.by_side([*layers(), *layers(1, side="encoder")])
    files = attention_maps.draw(sides, tmp_path / "out")
    assert files == [tmp_path / "out.png", tmp_path / "out_encoder.png"]
    heights = [matplotlib.image.imread(file).shape[0] for file in files]
    assert heights[0] > heights[1] > 100


def test_the_same_picture_is_the_same_file(tmp_path):
    for name in ("one.svg", "two.svg"):
        attention_maps.draw(attention_maps.by_side(layers(1)), tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_layers_and_heads_are_counted_from_one():
    sides = attention_maps.by_side(layers(3))
    (one,) = attention_maps.choose(sides, 2, 3)["text"]
    assert (one.name, one.heads, one.attention.name) == ("layer 2", ("head 3",), "blocks_1")
    np.testing.assert_array_equal(one.attention.weights, [np.eye(4)])
    assert len(attention_maps.choose(sides, None, 3)["text"]) == 3
    assert attention_maps.choose(sides, None, None) == sides
    with pytest.raises(ValueError, match="has no layer 4: it has 3, counted from 1"):
        attention_maps.choose(sides, 4, None)
    with pytest.raises(ValueError, match="has no head 4: it has 3"):
        attention_maps.choose(sides, None, 4)


def test_a_text_longer_than_a_picture_is_refused(tmp_path):
    long = attention_maps.by_side(layers(2, ["w"] * 108))
    with pytest.raises(
        ValueError,
        match="a picture of 2 x 3 heads shows at most 106 words, and the text has 108: choose "
        "--layer and --head, or shorten the text",
    ):
        attention_maps.draw(long, tmp_path / "out.png")
    single = attention_maps.choose(long, 1, 1)
    attention_maps._check_size(single["text"])
    longer = attention_maps.choose(attention_maps.by_side(layers(1, ["w"] * 300)), 1, 1)
    with pytest.raises(ValueError, match=r"one head shows at most .* words, .*: shorten the text"):
        attention_maps.draw(longer, tmp_path / "out.png")
    assert not list(tmp_path.iterdir())


def test_lines_have_the_words_with_the_largest_mean_weights():
    sides = attention_maps.by_side(layers(1, ["a", "bb"]))
    assert attention_maps.lines(sides["text"]) == ["a   a 0.67  bb 0.33", "bb  bb 0.67  a 0.33"]


def test_a_picture_has_the_name_of_one(tmp_path):
    with pytest.raises(ValueError, match=r"written as .png, .svg, .pdf, not as out.txt"):
        pictures.check_name(tmp_path / "out.txt")
    assert pictures.label("x" * 30) == "x" * 23 + "…"
    assert pictures.label("a\x1b\n") == "a··"
