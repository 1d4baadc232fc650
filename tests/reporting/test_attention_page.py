"""The page of attention weights in a real browser, and what it refuses."""

import numpy as np
import pytest

from tests.reporting import browser
from train.reporting import attention_maps, attention_page
from zoo.inference.attention import Attention

WORDS = ["The", "<b>cat</b>", "</script>", "sat"]
WEIGHTS = np.array(
    [
        np.eye(4),
        [[0.0, 0.0, 0.0, 1.0], [0.1, 0.2, 0.3, 0.4], [1.0, 0, 0, 0], [0.0, 1.0, 0, 0]],
    ]
)


def sides(count: int = 2):
    layers = [Attention(f"blocks_{i}", WEIGHTS, WORDS, WORDS) for i in range(count)]
    layers.append(Attention("look", WEIGHTS[1:, :2], ["le", "chat"], WORDS, side="source"))
    return attention_maps.by_side(layers)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    if browser.find() is None:
        pytest.skip("no Chromium is installed")
    folder = tmp_path_factory.mktemp("page")
    attention_page.write(sides(), folder / "attention.html", "<b>name</b>")
    with browser.Page(folder / "attention.html", folder / "profile") as opened:
        yield opened
        assert not opened.problems
        assert opened.requests == [(folder / "attention.html").as_uri()]


def backgrounds(page, which: str) -> list[str]:
    return page.evaluate(
        f"[...document.querySelectorAll('#{which} span')].map(x => x.style.backgroundColor)"
    )


def choose(page, select: str, value: int) -> None:
    page.evaluate(
        f"(() => {{ const x = document.getElementById('{select}'); x.value = {value};"
        "x.dispatchEvent(new Event('change')) })()"
    )


def test_words_and_names_are_shown_literally(page):
    shown = page.evaluate("[...document.querySelectorAll('#rows span')].map(x => x.textContent)")
    assert shown == WORDS
    assert page.evaluate("document.title") == "<b>name</b>: attention"
    assert page.evaluate("document.querySelector('h1').textContent") == "<b>name</b>: attention"


def test_pointing_at_a_word_colors_what_it_attends_to(page):
    choose(page, "head", 1)
    page.point("#rows span:nth-child(1)")
    first = backgrounds(page, "columns")
    assert first == ["rgba(0, 114, 178, 0)"] * 3 + ["rgb(0, 114, 178)"]
    assert page.evaluate("document.getElementById('summary').textContent").startswith(
        "The attends to sat 1.00"
    )
    page.point("#rows span:nth-child(2)")
    second = backgrounds(page, "columns")
    assert second == [f"rgba(0, 114, 178, {x})" for x in ("0.25", "0.5", "0.75")] + [first[3]]


def test_pointing_at_a_word_that_is_attended_to_colors_what_attends(page):
    choose(page, "head", 1)
    page.point("#columns span:nth-child(3)")
    assert backgrounds(page, "rows") == [
        *("rgba(0, 114, 178, 0)", "rgb(0, 114, 178)", *["rgba(0, 114, 178, 0)"] * 2)
    ]
    page.point("h1")
    assert set(backgrounds(page, "rows")) == {""}


def test_another_layer_head_and_side_can_be_chosen(page):
    choose(page, "head", 0)
    page.point("#rows span:nth-child(4)")
    assert backgrounds(page, "columns")[3] == "rgb(0, 114, 178)"
    choose(page, "layer", 1)
    assert page.evaluate("document.getElementById('layer').selectedOptions[0].textContent") == "2"
    choose(page, "side", 1)
    rows = page.evaluate("[...document.querySelectorAll('#rows span')].map(x => x.textContent)")
    assert rows == ["le", "chat"]
    page.point("#rows span:nth-child(1)")
    assert backgrounds(page, "columns")[3] == "rgb(0, 114, 178)"
    choose(page, "side", 0)


def test_a_page_loads_nothing_and_a_text_too_long_for_it_is_refused(tmp_path, monkeypatch):
    attention_page.write(sides(), tmp_path / "a.html")
    content = (tmp_path / "a.html").read_text()
    assert "://" not in content
    assert "default-src 'none'" in content
    monkeypatch.setattr(attention_page, "MAX_WEIGHTS", 50)
    with pytest.raises(
        ValueError, match="a page of 5 heads shows at most 3 words, and the text has 4: choose"
    ):
        attention_page.write(sides(), tmp_path / "b.html")
    assert not (tmp_path / "b.html").exists()
