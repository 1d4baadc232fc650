"""Generation against a simple loop that runs the model on the whole text for every token."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import zoo
from tests import tiny
from tests.wide import relative
from zoo.checkpoints.load import Loaded
from zoo.inference import beam_search, decoding, generate
from zoo.models import gpt2

ROW = tiny.TABLE["gpt2"]
MODEL = ROW.model
PARAMS = tiny.wide(MODEL)
PROMPTS = [[5, 9, 2], [7], [3, 3, 8, 1, 60, 4]]


@pytest.fixture(scope="module")
def next_token_logits():
    """Return a function for the logits of the next token; with one length, it is compiled once."""
    forward = jax.jit(lambda tokens_BL: MODEL.apply({"params": PARAMS}, tokens_BL))

    def next_logits(tokens):
        padded = np.zeros((1, 32), np.int32)  # on the right, where a causal model does not attend
        padded[0, : len(tokens)] = tokens
        return np.asarray(forward(padded))[0, len(tokens) - 1]

    return next_logits


def greedy(next_token_logits, prompt, length):
    tokens = list(prompt)
    for _ in range(length):
        tokens.append(int(next_token_logits(tokens).argmax()))
    return tokens[len(prompt) :]


def run(prompts, length=9, **settings):
    return generate.generate_ids(MODEL, PARAMS, prompts, max_new_tokens=length, **settings)


def test_greedy_is_the_argmax_of_a_forward_pass_over_the_whole_text(next_token_logits):
    continuations = run(PROMPTS, temperature=0.0)
    assert continuations == [greedy(next_token_logits, prompt, 9) for prompt in PROMPTS]
    assert len({token for row in continuations for token in row}) > 5


def test_rows_are_independent():
    in_one_batch = run(PROMPTS, temperature=0.0)
    assert [run([prompt], temperature=0.0)[0] for prompt in PROMPTS] == in_one_batch
    assert run(PROMPTS[::-1], temperature=0.0) == in_one_batch[::-1]


def test_top_1_is_greedy():
    assert run(PROMPTS, top_k=1, seed=3) == run(PROMPTS, temperature=0.0)


def test_the_seed_determines_the_samples():
    assert run(PROMPTS, seed=1) == run(PROMPTS, seed=1)
    assert run(PROMPTS, seed=1) != run(PROMPTS, seed=2)


def test_a_continuation_ends_before_the_end_token():
    full = run(PROMPTS, temperature=0.0)
    end = full[0][4]
    for row, ended in zip(full, run(PROMPTS, temperature=0.0, end=end), strict=True):
        assert ended == (row[: row.index(end)] if end in row else row)


def test_every_length_up_to_the_size_of_the_bucket_is_generated():
    longest = run(PROMPTS, length=20, temperature=0.0)
    for length in (1, 15, 16, 17):
        continuations = run(PROMPTS, length=length, temperature=0.0)
        assert continuations == [row[:length] for row in longest]


def test_a_length_bucket_is_compiled_once():
    generate.decode.clear_cache()
    for length, settings in (
        (9, {"temperature": 0.7, "top_k": 5}),
        (11, {"temperature": 1.3, "top_p": 0.4, "seed": 8, "end": 3}),
        (12, {}),
    ):
        run([[1, 2], [3] * (length % 7 + 1)], length=length, **settings)
    assert generate.decode._cache_size() == 1
    run([[1, 2], [3]], length=13)
    assert generate.decode._cache_size() == 2
    run([[1, 2], [3]], length=2, temperature=0.0)
    assert generate.decode._cache_size() == 3


LOGITS = np.log([0.4, 0.25, 0.2, 0.1, 0.05]).astype(np.float32)
ORDER = np.array([3, 0, 4, 1, 2])  # so that the most probable tokens do not come first
COUNT = 20_000


def sample_frequencies(temperature=1.0, top_k=5, top_p=1.0):
    """Return the frequency of every token in samples, from the most probable token on."""
    logits_BV = jnp.broadcast_to(jnp.asarray(LOGITS[np.argsort(ORDER)]), (COUNT, 5))
    settings = (jnp.float32(temperature), jnp.int32(top_k), jnp.float32(top_p))
    keys_B = jax.random.split(jax.random.key(0), COUNT)
    token_B = np.asarray(generate.sample(keys_B, logits_BV, settings))
    return np.bincount(token_B, minlength=5)[ORDER] / COUNT


@pytest.mark.parametrize(
    ("settings", "kept", "temperature"),
    [
        ({}, 5, 1.0),
        ({"temperature": 0.5}, 5, 0.5),
        ({"temperature": 2.0}, 5, 2.0),
        ({"top_k": 2}, 2, 1.0),
        ({"top_p": 0.3}, 1, 1.0),
        ({"top_p": 0.6}, 2, 1.0),
        ({"top_p": 0.7}, 3, 1.0),
        ({"top_k": 3, "top_p": 0.7}, 2, 1.0),  # of three, the first two have 0.76
        ({"temperature": 0.5, "top_p": 0.7}, 2, 0.5),  # sharpened, the first two have 0.79
    ],
)
def test_samples_follow_temperature_top_k_and_top_p(settings, kept, temperature):
    expected = np.where(np.arange(5) < kept, np.exp(LOGITS) ** (1 / temperature), 0)
    expected /= expected.sum()
    frequencies = sample_frequencies(**settings)
    assert (frequencies[kept:] == 0).all()
    assert (
        np.abs(frequencies - expected) <= 4.5 * np.sqrt(expected * (1 - expected) / COUNT)
    ).all()


@pytest.mark.parametrize(
    ("prompts", "settings", "message"),
    [
        ([[]], {}, "a prompt is empty"),
        ([[1] * 30], {"length": 3}, "30 tokens; with 3 more it would exceed the 32"),
        ([[61]], {}, "token id 61 is outside the vocabulary, 0 to 60"),
        ([[-1]], {}, "token id -1 is outside the vocabulary, 0 to 60"),
        ([[1]], {"temperature": -1.0}, "temperature must be a number of at least 0, not -1.0"),
        ([[1]], {"temperature": np.nan}, "temperature must be a number of at least 0, not nan"),
        ([[1]], {"temperature": np.inf}, "temperature must be a number of at least 0, not inf"),
        ([[1]], {"top_k": -1}, "top_k must be an integer from 0 to 2147483647, not -1"),
        ([[1]], {"top_k": 2.5}, "top_k must be an integer from 0 to 2147483647, not 2.5"),
        ([[1]], {"top_p": 0.0}, "top_p must be a number above 0 and at most 1, not 0.0"),
        ([[1]], {"top_p": np.nan}, "top_p must be a number above 0 and at most 1, not nan"),
        ([[1]], {"seed": -1}, "seed must be an integer from 0"),
        ([[1]], {"length": 0}, "max_new_tokens must be an integer from 1"),
        ([[1]], {"min_new_tokens": 10}, "min_new_tokens is 10, but max_new_tokens only 9"),
        ([[1]], {"repetition_penalty": 0.0}, "repetition_penalty must be a number above 0, not 0"),
        ([[1]], {"repetition_penalty": np.nan}, "repetition_penalty must be a number above 0, not"),
        ([[1]], {"no_repeat_ngram_size": -1}, "no_repeat_ngram_size must be an integer from 0"),
        ([[1]], {"suppress_tokens": [61]}, "suppress_tokens has the token id 61, outside"),
        ([[1]], {"suppress_tokens": range(61)}, "leave no token to generate"),
        ([[1]], {"bad_words_ids": [[3, -1]]}, "a token id of bad_words must be an integer from 0"),
        ([[1]], {"bad_words_ids": [[]]}, "a word of bad_words is empty"),
    ],
)
def test_an_impossible_request_is_an_error_of_one_line(prompts, settings, message):
    with pytest.raises(ValueError, match=message) as error:
        run(prompts, **settings)
    assert "\n" not in str(error.value)


def test_a_prompt_and_its_continuation_may_reach_the_maximum_length():
    assert len(run([[1] * 30], length=2, temperature=0.0)[0]) == 2


def beams(prompts, length=9, **settings):
    return beam_search.beam_search_ids(MODEL, PARAMS, prompts, max_new_tokens=length, **settings)


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.5])
def test_a_wide_beam_finds_the_best_of_all_texts(penalty):
    V, length, end = 5, 3, 2
    model = gpt2.Model(
        gpt2.Config(
            vocab_size=V,
            max_length=32,
            num_layers=2,
            num_heads=3,
            width=24,
            mlp_width=40,
            head_width=8,
        )
    )
    params = tiny.wide(model)
    prompts = [[4, 0], [1]]

    texts = [
        text
        for n in range(1, length + 1)
        for text in itertools.product(range(V), repeat=n)
        if end not in text[:-1] and (n == length or text[-1] == end)
    ]
    beams_of_rows = beam_search.beam_search_ids(
        model,
        params,
        prompts,
        max_new_tokens=length,
        end=end,
        beams=125,
        length_penalty=penalty,
        best=10,
    )
    for prompt, row in zip(prompts, beams_of_rows, strict=True):
        inputs = [prompt + list(text) + [0] * (length - len(text)) for text in texts]
        log_probabilities = jax.nn.log_softmax(model.apply({"params": params}, np.array(inputs)))
        log_probabilities = np.asarray(log_probabilities)[:, len(prompt) - 1 :]
        scores = [
            sum(log_probabilities[i, position, token] for position, token in enumerate(text))
            / len(text) ** penalty
            for i, text in enumerate(texts)
        ]
        ranked = sorted(zip(scores, texts, strict=True), reverse=True)[:10]
        assert relative([score for _, score in row], [score for score, _ in ranked]) < 1e-5
        expected = [list(text[:-1] if text[-1] == end else text) for _, text in ranked]
        assert [text for text, _ in row] == expected


def test_a_beam_of_one_that_stops_early_is_greedy():
    end = run(PROMPTS, temperature=0.0)[0][4]
    results = beams(PROMPTS, end=end, beams=1, early=True)
    assert [row[0][0] for row in results] == run(PROMPTS, temperature=0.0, end=end)


def test_rows_of_a_beam_search_are_independent():
    end = run(PROMPTS, temperature=0.0)[0][4]
    for early in (False, True):
        in_one_batch = beams(PROMPTS, end=end, early=early)
        for prompt, row in zip(PROMPTS, in_one_batch, strict=True):
            ((text, score),) = beams([prompt], end=end, early=early)[0]
            assert text == row[0][0]
            assert abs(score / row[0][1] - 1) < 1e-5


def test_a_length_bucket_of_beams_is_compiled_once():
    beam_search.search.clear_cache()
    beams([[1, 2], [3]], length=9, length_penalty=0.6, best=2)
    beams([[1], [2, 3]], length=12, end=5, early=True, best=3)
    assert beam_search.search._cache_size() == 1
    beams([[1, 2], [3]], beams=2)
    assert beam_search.search._cache_size() == 2


def test_a_beam_returns_no_more_texts_than_its_width():
    with pytest.raises(ValueError, match="best must be between 1 and the beam width"):
        beams(PROMPTS, best=5)


def test_a_source_may_have_any_length_and_is_not_repeated():
    row = tiny.TABLE["t5"]
    params = tiny.wide(row.model)
    prompts = [[5] * 40, [7, 9]]
    outputs = generate.generate_ids(row.model, params, prompts, max_new_tokens=3, temperature=0.0)
    for prompt, text in zip(prompts, outputs, strict=True):
        inputs = np.array([prompt]), np.array([[0, *text[:-1]]])
        logits = row.model.apply({"params": params}, *inputs)
        assert logits[0].argmax(-1).tolist() == text


def test_a_source_of_text_ends_as_in_training_and_may_have_sentinels():
    names = ["<pad>", "</s>", *(f"w{i}" for i in range(2, 60)), "<extra_id_0>"]
    tokenizer = Tokenizer(models.WordLevel(dict(zip(names, range(61), strict=True)), "w2"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(["<pad>", "</s>", "<extra_id_0>"])
    row = tiny.TABLE["t5"]
    params = tiny.wide(row.model)
    settings = {"max_new_tokens": 12, "temperature": 0.0}
    generated = generate.generate(
        Loaded(row.model, params, tokenizer), "w5 <extra_id_0>w9", **settings
    )
    (ids,) = generate.generate_ids(row.model, params, [[5, 60, 9, 1]], end=1, **settings)
    assert generated == "".join(names[i] for i in ids)
    for prompt in ("", "w7 w8"):  # a causal model continues the prompt
        generated = generate.generate(Loaded(MODEL, PARAMS, tokenizer), prompt, **settings)
        ids = [names.index(word) for word in prompt.split()] or [1]
        (ids,) = generate.generate_ids(MODEL, PARAMS, [ids], end=1, **settings)
        assert generated == "".join(names[i] for i in ids)


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"seed": 5, "top_k": 3}])
def test_finished_rows_leave_the_batch_and_change_nothing(settings, monkeypatch):
    prompts = [[1 + row, 2 * row] for row in range(12)]
    settings |= {"length": 25, "end": run(prompts, **settings)[0][2]}
    sizes, select_rows = [], decoding._select_rows
    monkeypatch.setattr(
        decoding, "_select_rows", lambda *a: sizes.append(len(a[1])) or select_rows(*a)
    )
    continuations = run(prompts, **settings)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == decoding.FEW
    generate.decode.clear_cache()
    generate.resume.clear_cache()
    monkeypatch.setattr(decoding, "FEW", 12)  # no row leaves
    assert continuations == run(prompts, **settings)
    assert len(sizes) < 3


def test_functions_accept_one_text_or_a_list_and_nothing_else():
    names = ["<pad>", "</s>", *(f"w{i}" for i in range(2, tiny.V))]
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "w2"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    loaded = Loaded(MODEL, PARAMS, tokenizer)
    settings = {"max_new_tokens": 9, "temperature": 0.0}
    first, second = (zoo.generate(loaded, text, **settings) for text in ("w5 w6", "w7"))
    assert zoo.generate(loaded, ["w5 w6", "w7"], **settings) == [first, second]
    with pytest.raises(TypeError, match="a text must be a string, not int: 5"):
        zoo.generate(loaded, [5])
    bert = tiny.TABLE["bert"]
    with pytest.raises(
        ValueError, match="BertPretraining does not generate text: use `zoo fill-mask`"
    ):
        zoo.generate(Loaded(bert.model, {}, tokenizer), "w5")


def test_the_package_lists_only_its_public_names():
    assert dir(zoo) == sorted(zoo.__all__)
    assert {"load", "save", "export", "generate", "classify", "architectures"} <= set(dir(zoo))
