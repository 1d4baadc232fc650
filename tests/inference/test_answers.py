"""Texts are encoded as rows without loss, and outputs do not depend on the batch."""

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
from zoo.inference import words as reading
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
TRAINERS = {
    "wordpiece": train_tokenizer.wordpiece,
    "gpt2": train_tokenizer.byte_level_bpe,
    "roberta": train_tokenizer.roberta,
    "xlnet": train_tokenizer.unigram,
    "albert": train_tokenizer.albert,
}


@pytest.fixture(scope="module")
def trained_tokenizers():
    texts = [document[:2000] for document in builtin.documents()[:60]]
    return {name: make(texts, CONFIG.vocab_size) for name, make in TRAINERS.items()}


@pytest.fixture(params=TRAINERS)
def tokenizer(trained_tokenizers, request):
    return trained_tokenizers[request.param]


@pytest.fixture
def wordpiece(trained_tokenizers):
    return trained_tokenizers["wordpiece"]


@cache
def model(task, config=CONFIG):
    """Return a model whose parameters are large enough for an error to show."""
    net = bert.TASKS[task](config)
    params = net.init(jax.random.key(0), np.zeros((1, 8), np.int32))["params"]
    return net, jax.tree.map(lambda leaf: 5 * leaf, params)


def text(draw, count):
    """Return words with occasional punctuation, double spaces and letters of more than one byte."""
    letters, marks = list("abcdefghinorstuéß😀"), ["", "", "", "", ",", ".", " ", "?", "\n"]
    words = ["".join(draw.choice(letters, draw.integers(1, 9))) for _ in range(count)]
    return " ".join(word + draw.choice(marks) for word in words)


# Rows


def random_rows(draw, lengths):
    tokens = [draw.integers(5, CONFIG.vocab_size, length).tolist() for length in lengths]
    return [
        Row(ids, [int(2 * position > len(ids)) for position in range(len(ids))]) for ids in tokens
    ]


def test_rows_of_many_lengths_compile_a_handful_of_times():
    lengths = np.random.default_rng(0).integers(1, 49, 200)
    rows = random_rows(np.random.default_rng(1), lengths)
    before = batching.apply._cache_size()
    batching.outputs(*model("classification"), rows, 16)
    assert batching.apply._cache_size() - before <= 6
    batch_shapes = {batch.tokens.shape for _, batch in batching.batches(rows, 16, 48)}
    assert {count for count, _ in batch_shapes} == {16}


@pytest.mark.parametrize("task", ["classification", "tagging"])
def test_outputs_are_those_of_each_row_alone_in_the_order_of_the_rows(task):
    (net, params), lengths = model(task), [7, 30, 1, 48, 7, 30, 1]
    rows = random_rows(np.random.default_rng(2), lengths)
    apply = jax.jit(lambda *inputs: net.apply({"params": params}, *inputs)[0])
    single_outputs = [apply(np.array([row.tokens]), np.array([row.segments])) for row in rows]
    for batch_size in (1, 4, 32):
        with shapes.checked():
            outputs = batching.outputs(net, params, rows, batch_size)
        for predicted, expected in zip(outputs, single_outputs, strict=True):
            np.testing.assert_allclose(predicted, expected, atol=1e-5)


def test_rows_that_a_model_does_not_support_are_errors():
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


def test_texts_are_truncated_like_the_tokenizers_library_does_the_longest_first(tokenizer):
    draw = np.random.default_rng(3)
    before, truncating = tokenizer.to_str(), Tokenizer.from_str(tokenizer.to_str())
    for _ in range(60):
        a, b = (text(draw, draw.integers(1, 12)) for _ in range(2))
        length = int(draw.integers(8, 60))
        truncating.enable_truncation(length, strategy="longest_first")
        for pair in (None, b):
            row = classify.encode(tokenizer, a, pair, max_length=length)
            encoding = truncating.encode(a, pair)
            assert (row.tokens, row.segments) == (encoding.ids, encoding.type_ids)
            assert row.truncated == len(tokenizer.encode(a, pair).ids) - len(row.tokens)
    assert tokenizer.to_str() == before


@pytest.mark.parametrize("stride", [1, 7, 100])
def test_windows_of_a_text_have_every_token_and_a_pair_has_all_of_its_shorter_text(
    tokenizer, stride
):
    draw = np.random.default_rng(10)
    long, short = text(draw, 40), text(draw, 3)
    for pair in (None, short):
        encoding = tokenizer.encode(long, pair)
        rows = classify.windows(tokenizer, long, pair, max_length=48, stride=stride)
        assert all(len(row.tokens) == 48 for row in rows[:-1])
        assert len(rows) > 1
        ids = [i for i, side in zip(encoding.ids, encoding.sequence_ids, strict=True) if side == 0]
        rest = len(encoding.ids) - len(ids)
        first = encoding.sequence_ids.index(0)
        parts = [row.tokens[first : len(row.tokens) - rest + first] for row in rows]
        for number, part in enumerate(parts):
            start = number * min(stride, 48 - rest)
            assert part == ids[start : start + 48 - rest]
        assert start + 48 - rest >= len(ids)
        (single_row,) = classify.windows(tokenizer, long, pair, max_length=999, stride=stride)
        assert single_row == Row(encoding.ids, encoding.type_ids)
    with pytest.raises(ValueError, match="leaves no room for the other"):
        classify.windows(tokenizer, long, long[:-5], max_length=48, stride=stride)


def test_a_text_has_its_labels_the_most_probable_first(wordpiece):
    net, params = model("classification")
    texts = [text(np.random.default_rng(4), 6), "the cat", "a"]
    predictions = classify.classify(Loaded(net, params, wordpiece), texts, ["dog", "the", "a b c"])
    for probabilities, a, b in zip(predictions, texts, ["dog", "the", "a b c"], strict=True):
        assert set(probabilities) == set(CONFIG.labels)
        assert list(probabilities.values()) == sorted(probabilities.values(), reverse=True)
        assert sum(probabilities.values()) == pytest.approx(1)
        (single_prediction,) = classify.classify(Loaded(net, params, wordpiece), [a], [b])
        assert single_prediction == pytest.approx(probabilities, abs=1e-5)
    assert classify.classify(Loaded(net, params, wordpiece), []) == []


def test_a_model_with_one_label_predicts_a_number(wordpiece):
    net, params = model("classification", replace(CONFIG, labels=("likeness",)))
    (prediction,) = classify.classify(Loaded(net, params, wordpiece), ["the cat"], ["the dog"])
    row = classify.encode(wordpiece, "the cat", "the dog", max_length=48)
    (output,) = batching.outputs(net, params, [row])
    assert prediction == {"likeness": float(output[0])}


def test_a_truncated_text_is_a_warning(wordpiece):
    net, params = model("classification")
    long = text(np.random.default_rng(5), 60)
    count = len(wordpiece.encode(long).ids) - 48
    with pytest.warns(UserWarning, match=f"1 of 2 texts are longer than the 48 .* {count} tokens"):
        assert len(classify.classify(Loaded(net, params, wordpiece), ["the", long])) == 2


def test_a_text_that_cannot_be_classified_is_an_error(wordpiece):
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
    ("predict", "task"),
    [
        (lambda *model: classify.classify(Loaded(*model), ["a"]), "classification"),
        (lambda *model: tag.tag(Loaded(*model), "a"), "tagging"),
        (lambda *model: answer.answer(Loaded(*model), "a", "b"), "question-answering"),
    ],
)
def test_a_model_without_the_head_is_an_error_that_names_the_task(wordpiece, predict, task):
    with pytest.raises(ValueError, match=f"BertPretraining does not .*--task {task}"):
        predict(bert.BertPretraining(CONFIG), {}, wordpiece)


# Tags


@pytest.mark.parametrize("length", [16, 30, 400])
def test_every_word_is_once_in_the_pieces_at_its_first_token(tokenizer, length):
    draw = np.random.default_rng(6)
    words = ["".join(draw.choice(list("abcdet-,"), draw.integers(1, 9))) for _ in range(50)]
    pieces, encoding = reading.pieces(tokenizer, words, length), tokenizer.encode(" ".join(words))
    sides, joined = encoding.sequence_ids, []
    assert [number for piece in pieces for number in piece.words] == list(range(50))
    for piece in pieces:
        tokens, positions = piece.row.tokens, piece.positions
        ends = [*positions[1:], len(tokens) - sides[::-1].index(0)]
        for number, start, end in zip(piece.words, positions, ends, strict=True):
            assert tokenizer.decode(tokens[start:end]).replace(" ", "") == words[number]
        assert tokens[: positions[0]] == encoding.ids[: sides.index(0)]
        assert len(tokens) <= length
        joined += tokens[positions[0] : ends[-1]]
    assert joined == [i for i, side in zip(encoding.ids, sides, strict=True) if side == 0]
    sizes = [len(piece.row.tokens) for piece in pieces]
    assert max(sizes) - min(sizes) <= 16  # two words
    assert (len(pieces) == 1) == (length == 400)


def test_a_long_sentence_has_a_tag_for_every_word(tokenizer):
    net, params = model("tagging")
    words = text(np.random.default_rng(7), 80).split()
    tags = tag.tag(Loaded(net, params, tokenizer), words)
    assert [tagged.word for tagged in tags] == words
    assert all(tagged.label in CONFIG.labels and 1 / 3 < tagged.probability <= 1 for tagged in tags)


def test_the_tag_of_a_word_is_that_of_its_first_token_and_unknown_without_tokens(wordpiece):
    net, params = model("tagging")
    tags = tag.tag(Loaded(net, params, wordpiece), ["The", "\x01", "kindness"])
    encoding = wordpiece.encode("The kindness")
    (logits_LC,) = batching.outputs(
        net, params, [batching.select(encoding, range(len(encoding.ids)))]
    )
    probability_LC = batching.softmax(logits_LC)
    for word, position in ((0, 1), (2, encoding.word_ids.index(1))):
        label = probability_LC[position].argmax()
        assert tags[word].label == CONFIG.labels[label]
        assert tags[word].probability == pytest.approx(probability_LC[position, label], abs=1e-5)
    assert tags[1] == ("\x01", "O", 0.0, 4, 5)
    assert tag.best_tags(("A", "B"), ["\x01"], [], []) == [("\x01", "A", 0.0, 0, 1)]
    assert reading.pieces(wordpiece, ["\x01"], 48) == []


def test_a_text_is_split_at_spaces_and_around_punctuation(wordpiece):
    text = " It's a cat,\nno? "
    tags = tag.tag(Loaded(*model("tagging"), wordpiece), text)
    assert [tagged.word for tagged in tags] == ["It", "'", "s", "a", "cat", ",", "no", "?"]
    assert [text[tagged.start : tagged.end] for tagged in tags] == [tagged.word for tagged in tags]
    tags = tag.tag(Loaded(*model("tagging"), wordpiece), ["It", "'s", "é"])
    assert [(tagged.start, tagged.end) for tagged in tags] == [(0, 2), (3, 5), (6, 7)]


def test_entities_are_those_of_seqeval_with_their_characters():
    from seqeval.metrics.sequence_labeling import get_entities

    draw = np.random.default_rng(11)
    for _ in range(100):
        words = ["".join(draw.choice(list("abc"), draw.integers(1, 5))) for _ in range(12)]
        labels = [str(x) for x in draw.choice(["O", "B-x", "I-x", "B-y", "I-y"], 12)]
        text = " ".join(words)
        tags = [
            tagged._replace(label=label, probability=0.5)
            for tagged, label in zip(tag.best_tags(["O"], words, [], []), labels, strict=True)
        ]
        entities = tag.group_entities(tags, text)
        expected = get_entities(labels)
        assert [(entity.label, entity.text) for entity in entities] == [
            (label, " ".join(words[first : last + 1])) for label, first, last in expected
        ]
        for entity in entities:
            assert text[entity.start : entity.end] == entity.text
            assert entity.probability == 0.5


@pytest.mark.parametrize(
    "labels",
    [
        "O B-x I-x B-x O B-y",  # IOB2
        "O I-x I-x B-x O I-y",  # IOB1
        "O B-x E-x S-x O S-y",  # IOBES
        "O B-x L-x U-x O U-y",  # BILOU
    ],
)
def test_entities_are_those_of_every_scheme(labels):
    words = list("abcdef")
    tags = [
        tagged._replace(label=label)
        for tagged, label in zip(tag.best_tags(["O"], words, [], []), labels.split(), strict=True)
    ]
    entities = tag.group_entities(tags, "a b c d e f")
    assert [(entity.label, entity.text) for entity in entities] == [
        ("x", "b c"), ("x", "d"), ("y", "f"),
    ]  # fmt: skip


def test_entities_need_bio_labels(wordpiece):
    with pytest.raises(ValueError, match="the model has the label 'A', but entities need labels"):
        tag.entities(Loaded(*model("tagging"), wordpiece), "The cat")
    net, params = model("tagging", replace(CONFIG, labels=("O", "B-x", "I-x")))
    text = "The cat,  a dog"
    for entity in tag.entities(Loaded(net, params, wordpiece), text):
        assert text[entity.start : entity.end] == entity.text


def test_a_text_that_cannot_be_tagged_is_an_error(wordpiece):
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
    question_length = question.sequence_ids.index(1)
    windows = answer.windows(tokenizer, "who is it", context, length, stride)
    covered = {
        offset
        for window in windows
        for span in window.characters
        if span
        for offset in range(*span)
    }
    assert covered == {offset for offset, letter in enumerate(context) if not letter.isspace()}
    for window in windows:
        assert window.row.tokens[:question_length] == question.ids[:question_length]
        assert len(window.row.tokens) == len(window.characters) <= length
        assert window.characters[window.null] is None
    if length == 1000:
        assert windows[0].row == Row(question.ids, question.type_ids)
    starts = [next(span[0] for span in window.characters if span) for window in windows]
    assert starts == sorted(starts)


def test_windows_begin_a_stride_apart_and_overlap(wordpiece):
    context = " ".join("abcdefgh" * 20)
    for stride, distance in ((7, 7), (128, 13)):  # 5 of 30 are the question and special tokens
        windows = answer.windows(wordpiece, "a b", context, 30, stride)
        starts = [next(span[0] for span in window.characters if span) // 2 for window in windows]
        assert starts == list(range(0, 160 - 25 + distance, distance))


def test_the_null_position_is_the_first_special_token(trained_tokenizers):
    null_positions = {}
    for name, tokenizer in trained_tokenizers.items():
        null_positions[name] = answer.windows(tokenizer, "a", "b c", 48)[0].null
    question_length = len(trained_tokenizers["xlnet"].encode("a", add_special_tokens=False).ids)
    assert null_positions == {
        "wordpiece": 0,
        "gpt2": 0,
        "roberta": 0,
        "albert": 0,
        "xlnet": question_length,
    }


def spans(draw, context, count):
    """Yield the start and end characters of some neighbouring words."""
    words = context.split()
    starts = np.cumsum([0] + [len(word) + 1 for word in words])
    for _ in range(count):
        first = int(draw.integers(len(words)))
        last = min(first + int(draw.integers(4)), len(words) - 1)
        yield int(starts[first]), int(starts[last]) + len(words[last])


def test_a_target_has_exactly_the_characters_of_the_answer(tokenizer):
    draw = np.random.default_rng(9)
    context = " ".join(text(draw, 60).split())
    windows = answer.windows(tokenizer, "what", context, 100, 20)
    for start, end in spans(draw, context, 200):
        hits = 0
        for window in windows:
            first, last = answer.target(window, start, end)
            if (first, last) != (window.null, window.null):
                hits += 1
                assert (window.characters[first][0], window.characters[last][1]) == (start, end)
            else:
                spans_of_window = [span for span in window.characters if span]
                assert start < spans_of_window[0][0] or spans_of_window[-1][1] < end
        assert hits


def test_a_target_is_not_wider_than_its_answer_and_covers_characters_within_a_token(wordpiece):
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
    bert_words = published.read_bert(vocabulary, published.PLAIN)
    gpt2_files = data / "vocab_gpt2/encoder.json", data / "vocab_gpt2/vocab.bpe"
    for tokenizer in (bert_words, published.read_bpe(*gpt2_files, published.PLAIN)):
        for paragraph in paragraphs:
            for question in paragraph["qas"][:2]:
                context, expected = paragraph["context"], question["answers"][0]
                start, answer_text = expected["answer_start"], expected["text"]
                windows = answer.windows(tokenizer, question["question"], context, 160, 64)
                scores = []
                for window in windows:
                    first, last = answer.target(window, start, start + len(answer_text))
                    scores_L2 = np.zeros((len(window.characters), 2))
                    if first != window.null:
                        scores_L2[first, 0] = scores_L2[last, 1] = 1
                    scores.append(scores_L2)
                best = answer.best_answer(context, windows, scores, 60)
                assert best.score == 2
                assert answer_text in best.text
                counts[0] += best.text == answer_text
                counts[1] += 1
    assert counts[1] > 100
    assert counts[0] / counts[1] > 0.98  # the others begin or end within a token


def test_the_best_answer_is_that_of_an_exhaustive_search(tokenizer):
    draw = np.random.default_rng(10)
    context = text(draw, 30)
    windows = answer.windows(tokenizer, "who is it", context, 60, 15)
    scores = [draw.normal(size=(len(window.row.tokens), 2)) for window in windows]
    for longest in (1, 3, 30):
        with shapes.checked():
            best = answer.best_answer(context, windows, scores, longest)
        score, start, end = max(
            (
                scores_L2[first, 0] + scores_L2[last, 1],
                window.characters[first][0],
                window.characters[last][1],
            )
            for window, scores_L2 in zip(windows, scores, strict=True)
            for first in range(len(scores_L2))
            for last in range(first, min(first + longest, len(scores_L2)))
            if window.characters[first] and window.characters[last]
        )
        assert best[:4] == (context[start:end], start, end, pytest.approx(score))
        null = min(x[window.null].sum() for x, window in zip(scores, windows, strict=True))
        assert best.null_score == pytest.approx(null)
        assert best.text == best.text.strip() != ""


def test_of_equal_answers_the_one_with_most_context_on_both_sides_wins(wordpiece):
    context, scores = " ".join("abcdefgh" * 10), []
    windows = answer.windows(wordpiece, "a", context, 24, 5)[:4]
    for position in (2, 19, 9, 17):  # of the 20 tokens of a window
        scores_L2 = np.zeros((24, 2))
        scores_L2[3 + position] = 1
        scores.append(scores_L2)
    best = answer.best_answer(context, windows, scores)
    assert (best.start, best.score) == (2 * (2 * 5 + 9), 2)


def test_an_answer_is_a_part_of_the_context(tokenizer):
    net, params = model("question-answering")
    context = text(np.random.default_rng(11), 40)
    prediction = answer.answer(
        Loaded(net, params, tokenizer), "who", context, stride=6, max_answer=5
    )
    assert prediction.text == context[prediction.start : prediction.end] == prediction.text.strip()
    assert prediction.text


def test_an_impossible_question_is_an_error(wordpiece):
    loaded = Loaded(*model("question-answering"), wordpiece)
    predict = lambda question, context, **more: answer.answer(loaded, question, context, **more)
    for question, context, problem in (
        (" ", "a", "question is empty"),
        ("a", " \n", "context is empty"),
        ("a " * 45, "b", "45 tokens, which leaves no room"),
    ):
        with pytest.raises(ValueError, match=problem):
            predict(question, context)
    with pytest.raises(ValueError, match="stride must be at least 1 token, not 0"):
        predict("a", "b", stride=0)
    with pytest.raises(ValueError, match="max_answer must be at least 1 token, not 0"):
        predict("a", "b", stride=5, max_answer=0)
