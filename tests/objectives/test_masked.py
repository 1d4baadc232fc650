"""Masked language modelling against slow obvious references, and what it promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.data.tiny_corpus import KINDS, prepared, tokenizer
from tests.wide import relative
from train.data.batches import segment_pairs
from train.objectives import masked
from train.objectives.next_sentence import NextSentence, WholeWordNextSentence
from zoo.models import bert

V, L, P = 60, 40, 6
PAD, CLS, SEP, MASK = 0, 1, 2, 3
OBJECTIVES = [
    objective(vocab_size=V, mask=MASK, specials=(CLS, SEP), num_predictions=P)
    for objective in (NextSentence, WholeWordNextSentence)
]
BOTH = pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)


def example(real, seed=0):
    """A pair of `real` tokens, the special ones included, in words of one to four tokens."""
    random = np.random.default_rng((seed, real))
    tokens = np.where(np.arange(L) < real, random.integers(4, V, L), PAD)
    middle = real // 2
    tokens[[0, middle, real - 1]] = CLS, SEP, SEP
    words = random.random(L) < 0.5
    words[[1, middle + 1]] = True
    words[[0, middle, real - 1]] = False
    words[real:] = False
    return {
        "tokens": jnp.array(tokens, jnp.int32),
        "segments": jnp.array((np.arange(L) > middle) & (np.arange(L) < real), jnp.int32),
        "mask": jnp.arange(L) < real,
        "words": jnp.array(words),
        "next": jnp.int32(seed % 2),
    }


def stacked(examples):
    return jax.tree.map(lambda *rows: jnp.stack(rows), *examples)


@functools.cache
def jitted(objective):
    return jax.jit(jax.vmap(objective.corrupt))


def corrupted(objective, batch, seed=0):
    keys = jax.random.split(jax.random.key(seed), len(batch["next"]))
    return jax.tree.map(np.asarray, jitted(objective)(keys, batch))


def many(objective, row, count, seed=0):
    """One row, hidden under many keys."""
    return corrupted(objective, jax.tree.map(lambda x: jnp.repeat(x[None], count, 0), row), seed)


def hidden(found, i):
    """The positions that row i is to predict."""
    return found["predictions"][i][found["weights"]["masked"][i] > 0]


def batch_of_many_lengths(seed=0):
    return stacked([example(real, seed) for real in range(5, L + 1)])


shuffled = jax.jit(jax.random.permutation, static_argnums=1)


# The rules, one after the other


def slow_choice(tokens, real, word, order, most, rate):
    """The positions hidden if words come in this order, as a loop."""
    budget = min(most, max(1, round(int(real.sum()) * rate)))
    chosen = []
    for number in order:
        pieces = [
            i
            for i in range(len(tokens))
            if word[i] == number and real[i] and tokens[i] not in (CLS, SEP)
        ]
        if len(chosen) + len(pieces) <= budget:
            chosen += pieces
    return sorted(chosen)


@BOTH
def test_what_is_hidden_is_what_the_loop_hides(objective):
    for seed in range(4):
        batch = jax.tree.map(np.asarray, batch_of_many_lengths(seed))
        found = corrupted(objective, batch, seed)
        for i, key in enumerate(jax.random.split(jax.random.key(seed), len(batch["next"]))):
            order = np.asarray(shuffled(jax.random.split(key)[0], L + 1))
            whole = isinstance(objective, WholeWordNextSentence)
            word = np.cumsum(batch["words"][i]) if whole else np.arange(L)
            expected = slow_choice(batch["tokens"][i], batch["mask"][i], word, order, P, 0.15)
            assert hidden(found, i).tolist() == expected


def test_words_are_taken_while_they_fit():
    fitting = jax.jit(masked._fitting)
    random = np.random.default_rng(0)
    passed_over = 0
    for _ in range(300):
        sizes, budget = random.integers(0, 6, 12), int(random.integers(0, 16))
        left, expected = budget, []
        for size in sizes:
            expected.append(0 < size <= left)
            left -= size * expected[-1]
            passed_over += 0 < left < size
        assert fitting(jnp.array(sizes), budget).tolist() == expected
    assert passed_over > 100


def test_80_10_10_and_random_ids_from_the_whole_vocabulary():
    count, target = 300_000, 7
    found = masked.replacements(jax.random.key(0), jnp.full(count, target), V, MASK)
    share = np.bincount(np.asarray(found), minlength=V) / count
    expected = np.full(V, 0.1 / V)
    expected[MASK] += 0.8
    expected[target] += 0.1
    assert len(share) == V
    assert (np.abs(share - expected) < 4.5 * np.sqrt(expected / count)).all()


@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_counts_are_exact(rate):
    objective = NextSentence(V, MASK, (CLS, SEP), num_predictions=P, rate=rate)
    batch = batch_of_many_lengths()
    found = corrupted(objective, batch)
    for i, real in enumerate(range(5, L + 1)):
        expected = min(P, max(1, round(real * rate)), real - 3)
        assert len(set(hidden(found, i).tolist())) == expected
        assert found["weights"]["masked"][i].sum() == expected


def test_halves_round_as_in_the_original():
    # 0.15 of 30 is 4.5, which Python rounds to the even 4; 0.15 of 10 is 1.5, rounded to 2.
    objective = NextSentence(V, MASK, (CLS, SEP), num_predictions=20)
    found = corrupted(objective, stacked([example(30), example(10)]))
    assert found["weights"]["masked"].sum(1).tolist() == [4, 2]


def test_every_token_and_every_pair_is_as_likely_as_any_other():
    real, count = 24, 20_000
    row = example(real)
    found = many(NextSentence(V, MASK, (CLS, SEP), P), row, count)
    chosen = np.zeros((count, L))
    np.put_along_axis(chosen, found["predictions"], found["weights"]["masked"], 1)
    text = np.setdiff1d(np.arange(real), [0, real // 2, real - 1])
    assert chosen.sum() == chosen[:, text].sum() == 4 * count  # round(24 * 0.15)
    alone = 4 / len(text)
    together = alone * 3 / (len(text) - 1)
    shares = chosen[:, text].T @ chosen[:, text] / count
    off_diagonal = shares[np.triu_indices(len(text), 1)]
    assert np.abs(np.diag(shares) - alone).max() < 4.5 * (alone * (1 - alone) / count) ** 0.5
    assert np.abs(off_diagonal - together).max() < 4.5 * (together / count) ** 0.5


# What both promise


@BOTH
def test_only_hidden_tokens_change_and_targets_are_the_originals(objective):
    batch = batch_of_many_lengths()
    tokens, real = np.asarray(batch["tokens"]), np.asarray(batch["mask"])
    changed = 0
    for seed in range(20):
        found = corrupted(objective, batch, seed)
        for i in range(len(tokens)):
            at = hidden(found, i)
            others = np.setdiff1d(np.arange(L), at)
            assert (found["tokens"][i][others] == tokens[i][others]).all()
            assert (found["targets"][i][: len(at)] == tokens[i][at]).all()
            assert real[i][at].all()
            assert not np.isin(tokens[i][at], (CLS, SEP)).any()
            changed += (found["tokens"][i] != tokens[i]).sum()
        assert (found["documents"] == real).all()
        assert (found["segments"] == batch["segments"]).all()
        assert (found["next"] == batch["next"]).all()
        assert (found["weights"]["next"] == 1).all()
    assert changed > 1000


@BOTH
def test_no_more_than_asked_for_and_room_for_more_than_there_is(objective):
    found = corrupted(objective, batch_of_many_lengths())
    assert found["predictions"].shape[1] == P
    assert found["weights"]["masked"].sum(1).max() == P
    roomy = type(objective)(V, MASK, (CLS, SEP), num_predictions=2 * L, rate=1.0)
    found = corrupted(roomy, batch_of_many_lengths())
    assert (found["weights"]["masked"].sum(1) == np.arange(5, L + 1) - 3).all()


@BOTH
def test_a_filler_weighs_nothing(objective):
    filler = jax.tree.map(jnp.zeros_like, example(20))
    found = corrupted(objective, stacked([filler, example(20)]))
    assert found["weights"]["masked"].sum(1).tolist()[0] == 0
    assert found["weights"]["next"].tolist() == [0, 1]
    assert (found["tokens"][0] == 0).all()


def continues(kind: str, piece: str, before: str) -> bool:
    """Whether a token goes on with the word of the token before it, by its spelling."""
    if kind == "wordpiece":
        return piece.startswith("##")
    if kind == "unigram":
        return not piece.startswith("▁")
    return piece.isalpha() and piece.isascii() and before.lstrip("Ġ").isalpha() and before.isascii()


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_hidden_whole(kind, tmp_path):
    words = tokenizer(kind)
    size = words.get_vocab_size()
    # Ids past the vocabulary, since not every tokenizer has these special tokens.
    cls, sep, mask = size, size + 1, size + 2
    batch = segment_pairs.NextSegmentPairs(length=64, cls=cls, sep=sep).train(
        prepared(tmp_path, kind), 32, seed=0
    )(0)
    split = dict.fromkeys((NextSentence, WholeWordNextSentence), 0)
    together = 0
    for kind_of in split:
        objective = kind_of(size, mask, (cls, sep), num_predictions=20, rate=0.3)
        found = corrupted(objective, jax.tree.map(jnp.asarray, batch))
        assert found["weights"]["masked"].sum() > 200
        for i, tokens in enumerate(batch["tokens"]):
            at = set(hidden(found, i).tolist())
            for place in range(2, int(batch["mask"][i].sum())):
                if max(tokens[place - 1], tokens[place]) >= size:
                    continue
                before, piece = map(words.id_to_token, tokens[place - 1 : place + 1].tolist())
                if continues(kind, piece, before):
                    split[kind_of] += (place in at) != (place - 1 in at)
                    together += kind_of is WholeWordNextSentence and {place, place - 1} <= at
    assert split[WholeWordNextSentence] == 0
    assert together > 20
    assert split[NextSentence] > 20  # the test can fail


# With the network


@pytest.fixture(scope="module")
def network():
    model = bert.Model(
        bert.Config(
            vocab_size=V,
            max_length=L,
            num_layers=2,
            num_heads=2,
            width=16,
            mlp_width=32,
            head_width=8,
        )
    )
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"]
    # Wide, so that a leak or a wrong loss shows.
    return model, jax.tree.map(
        lambda x: x + 0.3 * jax.random.normal(jax.random.key(x.size), x.shape), params
    )


@BOTH
def test_who_a_masked_token_was_is_nowhere_to_be_seen(objective, network):
    model, params = network
    batch = batch_of_many_lengths()
    found = corrupted(objective, batch)
    masked_BL = np.asarray((found["tokens"] == MASK) & (batch["tokens"] != MASK))
    assert masked_BL.sum() > 50
    other = 4 + (batch["tokens"] - 4 + 11) % (V - 4)
    other_batch = batch | {"tokens": jnp.where(masked_BL, other, batch["tokens"])}
    other_found = corrupted(objective, other_batch)
    assert (other_found["targets"] != found["targets"]).sum() >= masked_BL.sum()
    look = jax.jit(
        lambda batch: model.apply(
            {"params": params}, batch["tokens"], batch["segments"], batch["documents"]
        )
    )
    for ours, theirs in zip(look(found), look(other_found), strict=True):
        assert (ours == theirs).all()


@BOTH
def test_the_loss_is_that_of_the_whole_row(objective, network):
    model, params = network
    filler = jax.tree.map(jnp.zeros_like, example(20))
    batch = stacked([example(20, 0), example(L, 1), example(31, 2), filler])
    found = corrupted(objective, batch)
    assert found["next"].tolist() == [0, 1, 0, 0]
    terms, carry = jax.jit(
        lambda found: objective.loss(model, params, found, (), jax.random.key(0), train=False)
    )(found)
    assert carry == objective.initial_carry(model, 4) == ()
    output = model.apply({"params": params}, found["tokens"], found["segments"], found["documents"])
    logs_BLV = np.asarray(jax.nn.log_softmax(output.logits_BLV), np.float64)
    logs_B2 = np.asarray(jax.nn.log_softmax(output.next_B2), np.float64)
    loss = right = 0
    for i in range(3):
        for at in hidden(found, i):
            target = int(np.asarray(batch["tokens"])[i, at])
            loss -= logs_BLV[i, at, target]
            right += logs_BLV[i, at].argmax() == target
    assert relative([terms["masked"].loss], [loss]) < 1e-5
    assert terms["masked"].right == right
    assert relative([terms["next"].loss], [-logs_B2[range(3), [0, 1, 0]].sum()]) < 1e-5
    assert terms["next"].right == (logs_B2[:3].argmax(1) == [0, 1, 0]).sum()


@BOTH
def test_a_filler_gives_no_gradient(objective, network):
    model, params = network
    filler = jax.tree.map(jnp.zeros_like, example(20))
    found = corrupted(objective, stacked([filler, filler]))

    def loss(params):
        terms, _ = objective.loss(model, params, found, (), jax.random.key(0), train=True)
        return terms["masked"].loss + terms["next"].loss

    gradient = jax.jit(jax.grad(loss))(params)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient))
