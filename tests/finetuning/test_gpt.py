"""GPT's fine-tuning: its special tokens, both orders of a pair, choices, the auxiliary loss."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.tiny_task import BAD, DATA, DULL, GOOD, SETTINGS, SIZES, folder, tokenizer, tune
from train.data.examples.choices import Choice
from train.data.examples.tables import TextExample
from train.finetuning import evaluate, finetune
from train.finetuning.objective import TaskObjective
from train.finetuning.tasks.registry import TASKS
from train.finetuning.tasks.similarity import in_both_orders
from train.finetuning.weighting import configured
from zoo.inference.batching import Row
from zoo.inference.classify import both_orders, encode
from zoo.models import bert, gpt

MARKS = ("_start_", "_delimiter_", "_classify_")
WORDS = tokenizer(("_start_",))
CONFIG = gpt.Config(vocab_size=WORDS.get_vocab_size(), **SIZES | {"mlp_width": 64})


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("gpt"), gpt, CONFIG, WORDS)


def similar(count, seed=0):
    """Pairs that are alike if one of both texts, whichever, has a good word."""
    draw, examples = np.random.default_rng(seed), []
    for number in range(count):
        words = draw.permutation([draw.choice((BAD, GOOD)[number % 2]), draw.choice(DULL)])
        first, second = (f"{draw.choice(DULL)} {word}" for word in words)
        examples.append(TextExample(first, second, ("no", "yes")[number % 2]))
    return tuple(examples)


PAIRS = {"train": similar(96), "dev": similar(32, 1)}


def marked(start, head="classification"):
    task = in_both_orders(TASKS["classification"]) if head == "similarity" else TASKS[head]
    return finetune.load(start, task, ("no", "yes"), SETTINGS)[0]


# Special tokens


def test_texts_and_pairs_are_read_between_start_and_extract(start):
    words = marked(start).tokenizer
    assert words.encode("a film").tokens == ["_start_", "a", "film", "_classify_"]
    pair = words.encode("a film", "is fine").tokens
    assert pair == ["_start_", "a", "film", "_delimiter_", "is", "fine", "_classify_"]


@pytest.mark.parametrize("head", ["classification", "multi-label", "similarity", "multiple-choice"])
def test_only_missing_tokens_are_new_rows(start, head):
    before = zoo.load(start).params["trunk"]["token_embedding"]["embedding"]
    loaded = marked(start, head)
    assert type(loaded.model) is gpt.TASKS[head]
    table_VD = loaded.params["trunk"]["token_embedding"]["embedding"]
    assert loaded.model.config.vocab_size == len(table_VD) == CONFIG.vocab_size + 2
    assert np.array_equal(table_VD[:-2], before)
    assert 0.01 < np.std(table_VD[-2:]) < 0.03
    ids = [loaded.tokenizer.token_to_id(mark) for mark in MARKS]
    assert ids == [WORDS.token_to_id("_start_"), CONFIG.vocab_size, CONFIG.vocab_size + 1]


def test_truncation_keeps_the_special_tokens(start):
    words = marked(start).tokenizer
    row = encode(words, "a " * 20, "the " * 9, max_length=10)
    names = [words.id_to_token(id) for id in row.tokens]
    assert names == ["_start_", *"aaaa", "_delimiter_", *["the"] * 3, "_classify_"]
    assert row.truncated == 22


def test_a_length_without_room_for_text_is_one_line(start):
    words = marked(start).tokenizer
    with pytest.raises(ValueError, match=r"a length of 4 leaves no room for text beside 3 special"):
        encode(words, "a", "the", max_length=4)


# Both orders


def test_similarity_is_learned_and_does_not_depend_on_the_order(start, tmp_path):
    settings = replace(SETTINGS, both_orders=True, epochs=6.0)
    metrics, _ = tune(tmp_path, settings, data=PAIRS, start=start)
    assert metrics["dev"][0]["accuracy"] > 0.9
    tuned = zoo.load(tmp_path / "out")
    assert type(tuned.model) is gpt.GPTSimilarity
    for first, second in (("a fine", "the awful film"), ("is great", "a film is lovely")):
        one, other = zoo.classify(tuned, first, second), zoo.classify(tuned, second, first)
        assert one == pytest.approx(other, abs=1e-6)
    file = tmp_path / "dev.jsonl"
    fields = ({"text": x.text, "pair": x.pair, "label": x.label} for x in PAIRS["dev"])
    file.write_text("\n".join(map(json.dumps, fields)))
    evaluation = evaluate.evaluate_folder(tmp_path / "out", file)
    assert evaluation.metrics == metrics["dev"][0]
    with pytest.raises(ValueError, match=r"leave out the stride$"):
        zoo.classify(tuned, "a", "the", stride=4)
    with pytest.raises(ValueError, match=r"^the text 'a' has no second text"):
        zoo.classify(tuned, "a")
    with pytest.raises(ValueError, match=r"^transformers has no GPTSimilarity"):
        zoo.export(tuned, tmp_path / "published")


def test_the_logits_of_both_orders_are_the_head_of_their_summed_vectors(start):
    loaded = marked(start, "similarity")
    rows = both_orders(loaded.tokenizer, "a fine film", "the awful film", max_length=32)
    tokens_B2L = jnp.array([[row.tokens for row in rows]])
    variables = {"params": loaded.params}
    x_B2D = loaded.model.apply(variables, tokens_B2L, method="features")
    logits_B2C = loaded.model.apply(variables, tokens_B2L)
    expected_BC = x_B2D.sum(1) @ loaded.params["score"]["kernel"]
    np.testing.assert_allclose(logits_B2C.sum(1), expected_BC, atol=1e-6)


def test_degrees_of_similarity_are_a_regression_in_both_orders(start, tmp_path):
    data = {
        name: [pair._replace(label=str(float(pair.label == "yes"))) for pair in pairs]
        for name, pairs in PAIRS.items()
    }
    settings = replace(SETTINGS, both_orders=True, unfreeze="head", epochs=1.0)
    metrics, _ = tune(tmp_path, settings, TASKS["regression"], data, start)
    assert {"spearman", "pearson"} <= metrics["dev"][0].keys()
    tuned = zoo.load(tmp_path / "out")
    assert type(tuned.model) is gpt.GPTSimilarity
    assert evaluate.task_for(tuned.model) == in_both_orders(TASKS["regression"])
    assert zoo.classify(tuned, "a", "the") == pytest.approx(zoo.classify(tuned, "the", "a"))


def test_what_cannot_read_both_orders_is_one_line(start, tmp_path):
    both = replace(SETTINGS, both_orders=True)
    with pytest.raises(ValueError, match=r"this task needs gpt"):
        tune(tmp_path, both, data=PAIRS, start=folder(tmp_path, bert))
    with pytest.raises(ValueError, match=r"has no second text: the model compares two texts$"):
        tune(tmp_path, both, data=DATA, start=start)
    with pytest.raises(ValueError, match=r"^--both-orders needs --task classification or regr"):
        configured(TASKS["tagging"], (), (), both)
    with pytest.raises(ValueError, match=r"^--both-orders reads whole pairs: leave out --stride$"):
        tune(tmp_path, replace(both, stride=4), data=PAIRS, start=start)


# Choices


def test_the_right_ending_is_learned_with_the_auxiliary_loss(start, tmp_path):
    draw = np.random.default_rng(0)

    def choices(count):
        for _ in range(count):
            right = int(draw.integers(3))
            words = [draw.choice(GOOD if n == right else BAD) for n in range(3)]
            yield Choice("the film is", tuple(f"a {word}" for word in words), right)

    data = {"train": [*choices(64)], "dev": [*choices(16)]}
    settings = replace(SETTINGS, auxiliary=0.5, epochs=6.0)
    metrics, _ = tune(tmp_path, settings, TASKS["multiple-choice"], data, start)
    assert metrics["dev"][0]["accuracy"] > 0.9
    tuned = zoo.load(tmp_path / "out")
    assert next(iter(zoo.choose(tuned, "the film is", ["a poor", "a lovely"]))) == "a lovely"
    zoo.export(tuned, tmp_path / "published")
    again = zoo.load(tmp_path / "published")
    assert type(again.model) is gpt.GPTMultipleChoice
    assert zoo.choose(again, "the film is", ["a poor", "a lovely"]) == pytest.approx(
        zoo.choose(tuned, "the film is", ["a poor", "a lovely"])
    )


# The auxiliary loss


def batch_of(rows: list[list[Row]]):
    length = 8
    of = lambda values: np.array(
        [[[*x, *[0] * (length - len(x))] for x in row] for row in values], np.int32
    )
    return {
        "tokens": of([[row.tokens for row in parts] for parts in rows]),
        "segments": of([[row.segments for row in parts] for parts in rows]),
        "documents": of([[[1] * len(row.tokens) for row in parts] for parts in rows]),
        "targets": np.zeros(len(rows), np.int32),
    }


def test_the_auxiliary_loss_is_the_mean_over_rows_of_the_mean_over_tokens(start):
    loaded = marked(start, "similarity")
    pairs = [("a fine film", "the"), ("awful", "a")]
    rows = [both_orders(loaded.tokenizer, *pair, max_length=8) for pair in pairs]
    task = in_both_orders(TASKS["classification"])
    objective, alone = TaskObjective(task, 0.5, {}), TaskObjective(task, 0.0, {})
    key = jax.random.key(0)
    batch = jax.vmap(lambda row: objective.corrupt(key, row))(batch_of(rows))
    assert objective.factors == {"task": 1.0, "next_token": 0.5}

    def terms(params, objective=objective):
        return objective.loss(loaded.model, params, batch, (), key, train=False)[0]

    assert terms(loaded.params)["task"] == terms(loaded.params, alone)["task"]
    actual = terms(loaded.params)["next_token"].loss / batch["weights"]["next_token"].sum()
    language_model = gpt.GPTLM(loaded.model.config)
    losses = []
    for row in (row for parts in rows for row in parts):
        tokens_BL = jnp.array([row.tokens])
        logits_BLV = language_model.apply({"params": {"trunk": loaded.params["trunk"]}}, tokens_BL)
        logs_LV = jax.nn.log_softmax(logits_BLV[0, :-1])
        losses.append(-logs_LV[jnp.arange(len(row.tokens) - 1), tokens_BL[0, 1:]].mean())
    assert float(actual) == pytest.approx(float(np.mean(losses)), rel=1e-5)
    gradient = jax.grad(lambda params: terms(params)["next_token"].loss)(loaded.params)
    assert np.abs(gradient["trunk"]["blocks_0"]["mlp"]["up"]["kernel"]).max() > 0
    assert not np.abs(gradient["score"]["kernel"]).any()


def test_the_auxiliary_loss_lowers_the_loss_of_the_next_token(start, tmp_path):
    def next_token_loss(auxiliary):
        tune(tmp_path, replace(SETTINGS, auxiliary=auxiliary, epochs=4.0), start=start)
        tuned = zoo.load(tmp_path / "out")
        row = tuned.tokenizer.encode("the film is a great film").ids
        tokens_BL = jnp.array([row])
        variables = {"params": tuned.params}
        words = tuned.model.apply(variables, tokens_BL, None, None, method="with_words")[1]
        logs_LV = jax.nn.log_softmax(words.logits()[0, :-1])
        return float(-logs_LV[jnp.arange(len(row) - 1), tokens_BL[0, 1:]].mean())

    assert next_token_loss(0.5) < 0.8 * next_token_loss(0.0)


def test_a_task_without_next_tokens_refuses_the_auxiliary_loss(start, tmp_path):
    with pytest.raises(ValueError, match=r"^a GPTTagger predicts no next token: leave out --aux"):
        finetune.load(start, TASKS["tagging"], ("A", "B"), replace(SETTINGS, auxiliary=0.5))
