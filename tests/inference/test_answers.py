"""Texts become rows that lose nothing, and scores become the answers that one text alone has."""

import gzip
import json
import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer

from tests import shapes
from train.data import train_tokenizer
from train.data.sources import builtin
from zoo.checkpoints.load import Loaded
from zoo.inference import answer, batching, classify, tag
from zoo.inference.batching import Row
from zoo.models import bert
from zoo.tokenizers import published

LABELS = ("A", "O", "B")
CONFIG = bert.Config(
    vocab_size=400,
    max_length=48,
    num_layers=1,
    num_heads=2,
    width=32,
    mlp_width=64,
    head_width=16,
    num_segments=3,
    labels=LABELS,
)
MAKERS = {
    "wordpiece": train_tokenizer.wordpiece,
    "gpt2": train_tokenizer.byte_level_bpe,
    "roberta": train_tokenizer.roberta,
    "xlnet": train_tokenizer.unigram,
    "albert": train_tokenizer.albert,
}


@pytest.fixture(scope="module")
def made():
    texts = [document[:2000] for document in builtin.documents()[:60]]
    return {name: make(texts, CONFIG.vocab_size) for name, make in MAKERS.items()}


@pytest.fixture(params=MAKERS)
def tokenizer(made, request):
    return made[request.param]


@pytest.fixture
def wordpiece(made):
    return made["wordpiece"]


@cache
def model(task, config=CONFIG):
    """A model whose weights are large enough for an error to show."""
    net = bert.TASKS[task](config)
    params = net.init(jax.random.key(0), np.zeros((1, 8), np.int32))["params"]
    return net, jax.tree.map(lambda leaf: 5 * leaf, params)


def text(draw, count):
    """So many words, now and then with a mark, a second blank or a letter of more than one byte."""
    letters, marks = list("abcdefghinorstuéß😀"), ["", "", "", "", ",", ".", " ", "?", "\n"]
    words = ["".join(draw.choice(letters, draw.integers(1, 9))) for _ in range(count)]
    return " ".join(word + draw.choice(marks) for word in words)


# Rows


def random_rows(draw, lengths):
    tokens = [draw.integers(5, CONFIG.vocab_size, length).tolist() for length in lengths]
    return [Row(ids, [int(2 * at > len(ids)) for at in range(len(ids))]) for ids in tokens]


def test_rows_of_all_lengths_compile_a_handful_of_times():
    lengths = np.random.default_rng(0).integers(1, 49, 200)
    many = random_rows(np.random.default_rng(1), lengths)
    before = batching.apply._cache_size()
    batching.outputs(*model("classification"), many, 16)
    assert batching.apply._cache_size() - before <= 6
    found = {batch.tokens.shape for _, batch in batching.batches(many, 16, 48)}
    assert {count for count, _ in found} == {16}


@pytest.mark.parametrize("task", ["classification", "tagging"])
def test_scores_are_those_of_each_row_alone_in_the_order_of_the_rows(task):
    (net, params), lengths = model(task), [7, 30, 1, 48, 7, 30, 1]
    many = random_rows(np.random.default_rng(2), lengths)
    read = jax.jit(lambda *inputs: net.apply({"params": params}, *inputs)[0])
    alone = [read(np.array([row.tokens]), np.array([row.segments])) for row in many]
    for rows_a_batch in (1, 4, 32):
        with shapes.checked():
            found = batching.outputs(net, params, many, rows_a_batch)
        for predicted, expected in zip(found, alone, strict=True):
            np.testing.assert_allclose(predicted, expected, atol=1e-5)


def test_rows_that_a_model_cannot_read_are_errors():
    net, params = model("classification")
    good = Row([5], [0])
    with pytest.raises(ValueError, match="row 2 has 49 tokens, but the model supports at most 48"):
        batching.outputs(net, params, [good, Row([5] * 49, [0] * 49)])
    for wrong in (-1, 400):
        with pytest.raises(
            ValueError, match=f"row 2 has the token {wrong}, but the model supports 0 to"
        ):
            batching.outputs(net, params, [good, Row([wrong], [0])])
    with pytest.raises(ValueError, match="row 1 has the segment 3, but the model supports 0 to 2"):
        batching.outputs(net, params, [Row([5], [3])])
    assert batching.outputs(net, params, []) == []


# Classes


def test_texts_are_cut_as_the_tokenizers_library_cuts_the_longest_first(tokenizer):
    draw = np.random.default_rng(3)
    before, cutting = tokenizer.to_str(), Tokenizer.from_str(tokenizer.to_str())
    for _ in range(60):
        a, b = (text(draw, draw.integers(1, 12)) for _ in range(2))
        length = int(draw.integers(8, 60))
        cutting.enable_truncation(length, strategy="longest_first")
        for pair in (None, b):
            row = classify.encode(tokenizer, a, pair, max_length=length)
            whole = cutting.encode(a, pair)
            assert (row.tokens, row.segments) == (whole.ids, whole.type_ids)
            assert row.truncated == len(tokenizer.encode(a, pair).ids) - len(row.tokens)
    assert tokenizer.to_str() == before


@pytest.mark.parametrize("stride", [1, 7, 100])
def test_windows_of_a_text_have_every_token_and_a_pair_its_whole_shorter_text(tokenizer, stride):
    draw = np.random.default_rng(10)
    long, short = text(draw, 40), text(draw, 3)
    for pair in (None, short):
        whole = tokenizer.encode(long, pair)
        found = classify.windows(tokenizer, long, pair, max_length=48, stride=stride)
        assert all(len(row.tokens) == 48 for row in found[:-1])
        assert len(found) > 1
        ids = [i for i, side in zip(whole.ids, whole.sequence_ids, strict=True) if side == 0]
        rest = len(whole.ids) - len(ids)
        first = whole.sequence_ids.index(0)
        parts = [row.tokens[first : len(row.tokens) - rest + first] for row in found]
        for number, part in enumerate(parts):
            start = number * min(stride, 48 - rest)
            assert part == ids[start : start + 48 - rest]
        assert start + 48 - rest >= len(ids)
        (whole_row,) = classify.windows(tokenizer, long, pair, max_length=999, stride=stride)
        assert whole_row == Row(whole.ids, whole.type_ids)
    with pytest.raises(ValueError, match="leaves no room for the other"):
        classify.windows(tokenizer, long, long[:-5], max_length=48, stride=stride)


def test_a_text_has_its_labels_the_likeliest_first(wordpiece):
    net, params = model("classification")
    texts = [text(np.random.default_rng(4), 6), "the cat", "a"]
    found = classify.classify(Loaded(net, params, wordpiece), texts, ["dog", "the", "a b c"])
    for one, a, b in zip(found, texts, ["dog", "the", "a b c"], strict=True):
        assert set(one) == set(CONFIG.labels)
        assert list(one.values()) == sorted(one.values(), reverse=True)
        assert sum(one.values()) == pytest.approx(1)
        (alone,) = classify.classify(Loaded(net, params, wordpiece), [a], [b])
        assert alone == pytest.approx(one, abs=1e-5)
    assert classify.classify(Loaded(net, params, wordpiece), []) == []


def test_a_model_of_one_label_predicts_a_number(wordpiece):
    net, params = model("classification", replace(CONFIG, labels=("likeness",)))
    (found,) = classify.classify(Loaded(net, params, wordpiece), ["the cat"], ["the dog"])
    row = classify.encode(wordpiece, "the cat", "the dog", max_length=48)
    (output,) = batching.outputs(net, params, [row])
    assert found == {"likeness": float(output[0])}


def test_a_text_is_never_cut_in_silence(wordpiece):
    net, params = model("classification")
    long = text(np.random.default_rng(5), 60)
    count = len(wordpiece.encode(long).ids) - 48
    with pytest.warns(UserWarning, match=f"1 of 2 texts are longer than the 48 .* {count} tokens"):
        assert len(classify.classify(Loaded(net, params, wordpiece), ["the", long])) == 2


def test_what_is_no_text_to_classify_is_an_error(wordpiece):
    net, params = model("classification")
    for texts, pairs in ((["the", "  "], None), (["the"], ["\n"])):
        with pytest.raises(ValueError, match="is empty: give a text with words"):
            classify.classify(Loaded(net, params, wordpiece), texts, pairs)
    with pytest.raises(ValueError, match="2 texts but 1 second texts"):
        classify.classify(Loaded(net, params, wordpiece), ["a", "b"], ["c"])
    with pytest.raises(ValueError, match="no room"):
        classify.encode(wordpiece, "a", "b", max_length=4)
    with pytest.raises(ValueError, match="no tokenizer"):
        classify.classify(Loaded(net, params, None), ["a"])


@pytest.mark.parametrize(
    ("ask", "task"),
    [
        (lambda *model: classify.classify(Loaded(*model), ["a"]), "classification"),
        (lambda *model: tag.tag(Loaded(*model), "a"), "tagging"),
        (lambda *model: answer.answer(Loaded(*model), "a", "b"), "question-answering"),
    ],
)
def test_a_model_that_was_not_made_for_it_says_how_to_make_one(wordpiece, ask, task):
    with pytest.raises(ValueError, match=f"BertPretraining does not .*--task {task}"):
        ask(bert.BertPretraining(CONFIG), {}, wordpiece)


# Tags


@pytest.mark.parametrize("length", [16, 30, 400])
def test_every_word_is_once_in_the_pieces_where_its_first_token_stands(tokenizer, length):
    draw = np.random.default_rng(6)
    words = ["".join(draw.choice(list("abcdet-,"), draw.integers(1, 9))) for _ in range(50)]
    found, whole = tag.pieces(tokenizer, words, length), tokenizer.encode(" ".join(words))
    sides, joined = whole.sequence_ids, []
    assert [number for piece in found for number in piece.words] == list(range(50))
    for piece in found:
        tokens, places = piece.row.tokens, piece.positions
        ends = [*places[1:], len(tokens) - sides[::-1].index(0)]
        for number, start, end in zip(piece.words, places, ends, strict=True):
            assert tokenizer.decode(tokens[start:end]).replace(" ", "") == words[number]
        assert tokens[: places[0]] == whole.ids[: sides.index(0)]
        assert len(tokens) <= length
        joined += tokens[places[0] : ends[-1]]
    assert joined == [i for i, side in zip(whole.ids, sides, strict=True) if side == 0]
    sizes = [len(piece.row.tokens) for piece in found]
    assert max(sizes) - min(sizes) <= 16  # two words
    assert (len(found) == 1) == (length == 400)


def test_a_long_sentence_has_a_tag_for_every_word(tokenizer):
    net, params = model("tagging")
    words = text(np.random.default_rng(7), 80).split()
    found = tag.tag(Loaded(net, params, tokenizer), words)
    assert [one.word for one in found] == words
    assert all(one.label in CONFIG.labels and 1 / 3 < one.probability <= 1 for one in found)


def test_a_tag_is_that_of_the_first_token_and_of_a_word_without_one_unknown(wordpiece):
    net, params = model("tagging")
    found = tag.tag(Loaded(net, params, wordpiece), ["The", "\x01", "kindness"])
    encoding = wordpiece.encode("The kindness")
    (scores_LC,) = batching.outputs(
        net, params, [batching.select(encoding, range(len(encoding.ids)))]
    )
    chance_LC = batching.softmax(scores_LC)
    for word, place in ((0, 1), (2, encoding.word_ids.index(1))):
        label = chance_LC[place].argmax()
        assert found[word].label == CONFIG.labels[label]
        assert found[word].probability == pytest.approx(chance_LC[place, label], abs=1e-5)
    assert found[1] == ("\x01", "O", 0.0, 4, 5)
    assert tag.best_tags(("A", "B"), ["\x01"], [], []) == [("\x01", "A", 0.0, 0, 1)]
    assert tag.pieces(wordpiece, ["\x01"], 48) == []


def test_a_text_is_split_at_blanks_and_around_punctuation(wordpiece):
    text = " It's a cat,\nno? "
    found = tag.tag(Loaded(*model("tagging"), wordpiece), text)
    assert [one.word for one in found] == ["It", "'", "s", "a", "cat", ",", "no", "?"]
    assert [text[one.start : one.end] for one in found] == [one.word for one in found]
    found = tag.tag(Loaded(*model("tagging"), wordpiece), ["It", "'s", "é"])
    assert [(one.start, one.end) for one in found] == [(0, 2), (3, 5), (6, 7)]


def test_entities_are_those_of_seqeval_with_their_characters():
    from seqeval.metrics.sequence_labeling import get_entities

    draw = np.random.default_rng(11)
    for _ in range(100):
        words = ["".join(draw.choice(list("abc"), draw.integers(1, 5))) for _ in range(12)]
        labels = [str(x) for x in draw.choice(["O", "B-x", "I-x", "B-y", "I-y"], 12)]
        text = " ".join(words)
        tags = [
            one._replace(label=label, probability=0.5)
            for one, label in zip(tag.best_tags(["O"], words, [], []), labels, strict=True)
        ]
        found = tag.group_entities(tags, text)
        expected = get_entities(labels)
        assert [(one.label, one.text) for one in found] == [
            (label, " ".join(words[first : last + 1])) for label, first, last in expected
        ]
        for one in found:
            assert text[one.start : one.end] == one.text
            assert one.probability == 0.5


def test_entities_need_labels_of_names(wordpiece):
    with pytest.raises(ValueError, match="the model has the label 'A', but entities need labels"):
        tag.entities(Loaded(*model("tagging"), wordpiece), "The cat")
    net, params = model("tagging", replace(CONFIG, labels=("O", "B-x", "I-x")))
    text = "The cat,  a dog"
    for one in tag.entities(Loaded(net, params, wordpiece), text):
        assert text[one.start : one.end] == one.text


def test_what_cannot_be_tagged_is_an_error(wordpiece):
    for nothing in (" \n", []):
        with pytest.raises(ValueError, match="nothing to tag"):
            tag.tag(Loaded(*model("tagging"), wordpiece), nothing)
    with pytest.raises(ValueError, match="has 60 tokens, but a row has room for 46"):
        tag.tag(Loaded(*model("tagging"), wordpiece), ["the", "qj" * 30])


# Answers


@pytest.mark.parametrize(("length", "stride"), [(40, 5), (64, 128), (64, 20), (1000, 128)])
def test_every_character_is_in_a_window_and_every_window_has_the_question(
    tokenizer, length, stride
):
    draw = np.random.default_rng(8)
    context = text(draw, 60)
    question = tokenizer.encode("who is it", context)
    own = question.sequence_ids.index(1)
    found = answer.windows(tokenizer, "who is it", context, length, stride)
    seen = {at for one in found for span in one.characters if span for at in range(*span)}
    assert seen == {at for at, letter in enumerate(context) if not letter.isspace()}
    for window in found:
        assert window.row.tokens[:own] == question.ids[:own]
        assert len(window.row.tokens) == len(window.characters) <= length
        assert window.characters[window.null] is None
    if length == 1000:
        assert found[0].row == Row(question.ids, question.type_ids)
    starts = [next(span[0] for span in one.characters if span) for one in found]
    assert starts == sorted(starts)


def test_windows_begin_a_stride_apart_and_overlap(wordpiece):
    context = " ".join("abcdefgh" * 20)
    for stride, apart in ((7, 7), (128, 13)):  # 5 of 30 are the question and special tokens
        found = answer.windows(wordpiece, "a b", context, 30, stride)
        starts = [next(span[0] for span in one.characters if span) // 2 for one in found]
        assert starts == list(range(0, 160 - 25 + apart, apart))


def test_the_null_place_is_the_first_special_token(made):
    places = {}
    for name, tokenizer in made.items():
        places[name] = answer.windows(tokenizer, "a", "b c", 48)[0].null
    asked = len(made["xlnet"].encode("a", add_special_tokens=False).ids)
    assert places == {"wordpiece": 0, "gpt2": 0, "roberta": 0, "albert": 0, "xlnet": asked}


def spans(draw, context, count):
    """The characters of some neighbouring words."""
    words = context.split()
    starts = np.cumsum([0] + [len(word) + 1 for word in words])
    for _ in range(count):
        first = int(draw.integers(len(words)))
        last = min(first + int(draw.integers(4)), len(words) - 1)
        yield int(starts[first]), int(starts[last]) + len(words[last])


def test_a_target_has_exactly_the_characters_of_the_answer(tokenizer):
    draw = np.random.default_rng(9)
    context = " ".join(text(draw, 60).split())
    found = answer.windows(tokenizer, "what", context, 100, 20)
    for start, end in spans(draw, context, 200):
        hits = 0
        for window in found:
            first, last = answer.target(window, start, end)
            if (first, last) != (window.null, window.null):
                hits += 1
                assert (window.characters[first][0], window.characters[last][1]) == (start, end)
            else:
                seen = [span for span in window.characters if span]
                assert start < seen[0][0] or seen[-1][1] < end
        assert hits


def test_a_target_is_no_wider_than_its_answer_and_covers_what_begins_within_a_token(wordpiece):
    (window,) = answer.windows(wordpiece, "a", "a,b,c the", 48)  # [CLS] a [SEP] a , b , c the
    assert answer.target(window, 0, 1) == (3, 3)
    assert answer.target(window, 2, 5) == (5, 7)
    assert answer.target(window, 7, 8) == (8, 8)
    assert answer.target(window, 7, 10) == (0, 0)


def test_targets_and_answers_are_those_of_squad():
    if "ZOO_DATA" not in os.environ:
        pytest.skip("ZOO_DATA names no folder with SQuAD")
    data = Path(os.environ["ZOO_DATA"])
    with gzip.open(data / "qa_squad_v11/dev-v1.1.json.gz") as file:
        articles = json.load(file)["data"]
    paragraphs = [paragraph for article in articles[::6] for paragraph in article["paragraphs"][:5]]
    vocabulary, counts = data / "vocab_bert/bert-base-uncased-vocab.txt", [0, 0]
    bert_words = published.read_bert(vocabulary, {})
    gpt2_files = data / "vocab_gpt2/encoder.json", data / "vocab_gpt2/vocab.bpe"
    for tokenizer in (bert_words, published.read_gpt2(*gpt2_files, {})):
        for paragraph in paragraphs:
            for asked in paragraph["qas"][:2]:
                context, expected = paragraph["context"], asked["answers"][0]
                start, wanted = expected["answer_start"], expected["text"]
                found = answer.windows(tokenizer, asked["question"], context, 160, 64)
                scores = []
                for window in found:
                    first, last = answer.target(window, start, start + len(wanted))
                    scores_L2 = np.zeros((len(window.characters), 2))
                    if first != window.null:
                        scores_L2[first, 0] = scores_L2[last, 1] = 1
                    scores.append(scores_L2)
                best = answer.best_answer(context, found, scores, 60)
                assert best.score == 2
                assert wanted in best.text
                counts[0] += best.text == wanted
                counts[1] += 1
    assert counts[1] > 100
    assert counts[0] / counts[1] > 0.98  # the others begin or end within a token


def test_the_best_answer_is_that_of_trying_all(tokenizer):
    draw = np.random.default_rng(10)
    context = text(draw, 30)
    found = answer.windows(tokenizer, "who is it", context, 60, 15)
    scores = [draw.normal(size=(len(window.row.tokens), 2)) for window in found]
    for longest in (1, 3, 30):
        with shapes.checked():
            best = answer.best_answer(context, found, scores, longest)
        score, start, end = max(
            (
                scores_L2[first, 0] + scores_L2[last, 1],
                window.characters[first][0],
                window.characters[last][1],
            )
            for window, scores_L2 in zip(found, scores, strict=True)
            for first in range(len(scores_L2))
            for last in range(first, min(first + longest, len(scores_L2)))
            if window.characters[first] and window.characters[last]
        )
        assert best[:4] == (context[start:end], start, end, pytest.approx(score))
        null = min(x[window.null].sum() for x, window in zip(scores, found, strict=True))
        assert best.null_score == pytest.approx(null)
        assert best.text == best.text.strip() != ""


def test_of_equal_answers_the_one_that_sees_most_on_both_sides_is_taken(wordpiece):
    context, scores = " ".join("abcdefgh" * 10), []
    found = answer.windows(wordpiece, "a", context, 24, 5)[:4]
    for seen in (2, 19, 9, 17):  # of the 20 tokens of a window
        scores_L2 = np.zeros((24, 2))
        scores_L2[3 + seen] = 1
        scores.append(scores_L2)
    best = answer.best_answer(context, found, scores)
    assert (best.start, best.score) == (2 * (2 * 5 + 9), 2)


def test_an_answer_is_a_part_of_the_context(tokenizer):
    net, params = model("question-answering")
    context = text(np.random.default_rng(11), 40)
    found = answer.answer(Loaded(net, params, tokenizer), "who", context, stride=6, max_answer=5)
    assert found.text == context[found.start : found.end] == found.text.strip()
    assert found.text


def test_what_cannot_be_answered_is_an_error(wordpiece):
    loaded = Loaded(*model("question-answering"), wordpiece)
    ask = lambda question, context, **more: answer.answer(loaded, question, context, **more)
    for question, context, problem in (
        (" ", "a", "question is empty"),
        ("a", " \n", "context is empty"),
        ("a " * 45, "b", "45 tokens, which leaves no room"),
    ):
        with pytest.raises(ValueError, match=problem):
            ask(question, context)
    with pytest.raises(ValueError, match="stride must be at least 1 token, not 0"):
        ask("a", "b", stride=0)
    with pytest.raises(ValueError, match="max_answer must be at least 1 token, not 0"):
        ask("a", "b", stride=5, max_answer=0)
