"""Examples of recipes: what is shown is what the objective did."""

import functools
import re

import pytest

from train.pretraining import example
from train.recipes import RECIPES, ngram, recipe
from train.reporting.examples import Example

# One recipe for each way of making an objective, and each kind of word vectors.
NAMES = (
    *("gpt2-tiny", "gpt-tiny", "rnn-lm-tiny", "awd-lstm-tiny", "elmo-tiny", "flair-tiny"),
    *("bytenet", "wavenet-sound-tiny", "luong-tiny", "roberta-tiny", "bert-tiny", "albert-tiny"),
    *("electra-tiny", "xlnet-tiny", "t5-tiny", "word2vec-tiny", "skip-gram-hs-tiny"),
    *("fasttext-tiny", "glove-tiny"),
)


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory):
    """A smaller vocabulary, which is learned sooner, and a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(example, "VOCABULARY", 400)
        patch.setattr(example, "NUM_TEXTS", 8)
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@functools.cache
def example_of(name: str, length: int = 32, seed: int = 0) -> Example:
    return example.example(recipe(name), length, seed)


def lines(shown: Example) -> dict[str, list]:
    return {line.name: line.cells for group in shown.groups for line in group}


def of_kind(cells, kind) -> list[str]:
    return [cell.text for cell in cells if cell.kind == kind]


@pytest.mark.parametrize("name", NAMES)
def test_every_objective_has_an_example(name):
    shown = example_of(name)
    for group in shown.groups:
        assert len({len(line.cells) for line in group}) == 1
        assert group[0].cells
    assert shown.notes
    assert any(of_kind(cells, "target") for cells in lines(shown).values())
    assert (shown.matrix is not None) == (name == "xlnet-tiny")


def test_every_recipe_has_the_objective_of_one_of_these():
    objectives = {type(recipe(name)).objective for name in NAMES}
    assert {type(recipe(name)).objective for name in RECIPES} == objectives


def test_masked_tokens_are_marked_in_the_text_and_in_the_input():
    shown = lines(example_of("roberta-tiny", 64, 3))
    pairs = zip(shown["text"], shown["input"], strict=True)
    differ = [i for i, (text, read) in enumerate(pairs) if text.text != read.text]
    assert differ
    for i in differ:
        assert shown["text"][i].kind == "target"
        is_mask = shown["input"][i].text == "<mask>"
        assert shown["input"][i].kind == ("masked" if is_mask else "random")
    assert set(of_kind(shown["input"], "masked")) == {"<mask>"}
    assert shown["text"][0].kind == "special"


def test_removed_spans_and_sentinels_give_the_text_back():
    shown = lines(example_of("t5-tiny", 64))
    read = [cell.text for cell in shown["encoder reads"]]
    targets = [cell.text for cell in shown["and predicts"]]
    spans = {}
    for token in targets[:-1]:
        if token.startswith("<extra_id_"):
            spans[token] = []
        else:
            spans[list(spans)[-1]].append(token)
    assert len(spans) > 1
    restored = [part for token in read[:-1] for part in spans.get(token, [token])]
    assert restored == [cell.text for cell in shown["text"]]
    assert of_kind(shown["text"], "masked") == [x for span in spans.values() for x in span]


def test_a_target_attends_to_the_targets_before_it_in_the_order():
    shown = example_of("xlnet-tiny", 64)
    order = [cell.text for cell in lines(shown)["order"]]
    places = {int(number): i for i, number in enumerate(order) if number}
    assert sorted(places) == list(range(1, 11))
    allowed = shown.matrix.allowed_LL
    for first, earlier in places.items():
        for second, later in places.items():
            assert allowed[later, earlier] == (first < second)


def test_the_discriminator_predicts_which_tokens_differ():
    shown = lines(example_of("electra-tiny", 64))
    pairs = zip(shown["text"], shown["discriminator reads"], shown["it predicts"], strict=True)
    for text, read, label in pairs:
        assert label.text == ("replaced" if text.text != read.text else "original")


def test_the_words_of_a_context_are_in_its_window():
    shown = lines(example_of("word2vec-tiny", 64))
    kinds = [cell.kind for cell in shown["text"]]
    assert kinds.count("target") == 1
    center = kinds.index("target")
    context = [i for i, kind in enumerate(kinds) if kind == "context"]
    assert 0 < max(abs(i - center) for i in context) <= 5
    assert len(shown["negatives"]) == 5


def test_an_n_gram_model_shows_an_n_gram():
    shown = example.of_counts(ngram.ngram(), 16)
    assert [cell.kind for cell in lines(shown)["5-gram"]] == ["context"] * 4 + ["target"]
    assert re.search("nothing is corrupted", shown.notes[0])


def test_another_seed_is_another_example():
    one, other, again = (example.example(recipe("roberta-tiny"), 32, seed) for seed in (0, 1, 0))
    assert one == again
    assert one != other


def test_a_length_that_cannot_be_shown_is_refused():
    for length in (3, 5000):
        with pytest.raises(ValueError, match=f"--length must be from 12 to 256, not {length}"):
            example.example(recipe("gpt2-tiny"), length)
