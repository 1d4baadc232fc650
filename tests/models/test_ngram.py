"""Facts of an n-gram model: those of every language model, as far as it has no gradient."""

import json

import jax
import numpy as np
import pytest

import zoo
from tests import shapes
from tests.counting import tiny_text
from tests.counting.tiny_text import END, V
from zoo import registry
from zoo.checkpoints import model_folder
from zoo.checkpoints.load import Loaded
from zoo.contracts import CountModel, LanguageModel
from zoo.inference.generate import generate_ids
from zoo.params import abstract, flatten
from zoo.tokenizers import units

TOLERANCE = 1e-6
B, L = 3, 9


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """A model, its tables, and texts to read."""
    model, tables = tiny_text.model(tmp_path_factory.mktemp("counts"), tiny_text.sentences(), 3)
    tokens_L = tiny_text.stream(tiny_text.sentences(seed=9))[: B * L].astype(np.int32)
    return model, tables, tokens_L.reshape(B, L)


@pytest.fixture(scope="module")
def full(counted):
    """The compiled model: tokens_BL, document_ids_BL -> logits_BLV."""
    model, tables, _ = counted
    apply = jax.jit(lambda tokens, ids: model.apply({"params": tables}, tokens, ids))
    return lambda tokens, ids=None: np.asarray(
        apply(tokens, np.ones_like(tokens) if ids is None else ids)
    )


def test_it_is_a_language_model_and_no_flax_module(counted):
    model = counted[0]
    assert isinstance(model, LanguageModel)
    assert isinstance(model, CountModel)
    assert registry.name_of(model) == "ngram"
    assert hash(model) == hash(type(model)(model.config))


def test_shapes_are_what_names_say(counted):
    model, tables, tokens_BL = counted
    ones_BL = np.ones_like(tokens_BL)

    def everything(tables):
        model.apply({"params": tables}, tokens_BL)
        model.apply({"params": tables}, tokens_BL, ones_BL, method="score")
        _, cache = model.apply({"params": tables}, tokens_BL, ones_BL, 4, method="start")
        model.apply({"params": tables}, tokens_BL[:, 0], cache, method="step")

    with shapes.checked() as seen:
        jax.eval_shape(everything, tables)
    assert any(place.endswith(":rows_BLO") for place in seen)


def test_config_describes_the_tables(counted):
    model, tables, _ = counted
    expected = {path: (x.shape, x.dtype) for path, x in flatten(abstract(model)).items()}
    assert {path: (x.shape, x.dtype) for path, x in flatten(tables).items()} == expected


def test_every_position_has_a_distribution(counted, full):
    p_BLV = np.exp(full(counted[2]).astype(np.float64))
    assert np.abs(p_BLV.sum(-1) - 1).max() < TOLERANCE


def test_jit_changes_nothing(counted, full):
    model, tables, tokens_BL = counted
    plain = np.asarray(model.apply({"params": tables}, tokens_BL))
    assert np.abs(full(tokens_BL) - plain).max() < TOLERANCE


@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 0), (1, 1)])
def test_padding_changes_nothing(counted, full, before, after):
    tokens_BL = counted[2][:, :7]
    pad = ((0, 0), (before, after))
    ids_BL = np.pad(np.ones_like(tokens_BL), pad)
    draw = np.random.default_rng(0).integers(0, V, ids_BL.shape)
    padded = full(np.where(ids_BL, np.pad(tokens_BL, pad), draw).astype(np.int32), ids_BL)
    alone = full(counted[2])[:, :7]
    assert (padded[:, before : before + 7] == alone).all()


def test_documents_in_one_row_do_not_see_each_other(counted, full):
    tokens_BL = counted[2]
    ids_BL = np.repeat([[1, 2]], [5, 4], 1) * np.ones_like(tokens_BL)
    second_BL = np.pad(tokens_BL[:, 5:], ((0, 0), (0, 5)))
    assert (full(tokens_BL, ids_BL)[:, 5:] == full(second_BL)[:, :4]).all()


def test_the_future_is_not_seen_and_the_past_only_as_far_as_the_order(counted, full):
    tokens_BL = counted[2]
    changed_BL = tokens_BL.copy()
    changed_BL[:, 4] = 2 + tokens_BL[:, 4] % 7
    same_BL = (full(tokens_BL) == full(changed_BL)).all(-1)
    assert same_BL[:, :4].all()
    assert same_BL[:, 6:].all()  # order 3: two tokens of context
    assert not same_BL[:, 4].any()


def test_decoding_step_by_step_equals_the_whole(counted, full):
    model, tables, tokens_BL = counted
    lengths_B1 = np.array([[5], [3], [1]])
    ids_BL = (np.arange(L) >= 5 - lengths_B1).astype(np.int32)
    expected = full(tokens_BL, ids_BL)[:, 4:]
    start = jax.jit(lambda t, d: model.apply({"params": tables}, t, d, 3, method="start"))
    step = jax.jit(lambda t, c: model.apply({"params": tables}, t, c, method="step"))
    logits_BV, cache = start(tokens_BL[:, :5], ids_BL[:, :5])
    actual = [np.asarray(logits_BV)]
    for place in range(5, L):
        logits_BV, cache = step(tokens_BL[:, place], cache)
        actual.append(np.asarray(logits_BV))
    assert np.abs(np.stack(actual, 1) - expected).max() < TOLERANCE


def test_scores_are_those_of_the_distributions_and_of_the_longest_ngram(counted, full):
    model, tables, tokens_BL = counted
    p_BL, found_BL = model.apply({"params": tables}, tokens_BL, method="score")
    next_BL1 = tokens_BL[:, 1:, None]
    expected = np.take_along_axis(full(tokens_BL)[:, :-1], next_BL1, -1)[..., 0]
    assert np.abs(np.log(np.asarray(p_BL)[:, 1:]) - expected).max() < TOLERANCE
    known = {tuple(row) for row in _ngrams(tables, 3)}
    for row, found_L in zip(tokens_BL.tolist(), np.asarray(found_BL), strict=True):
        for place in range(2, L):
            assert (found_L[place] == 3) == (tuple(row[place - 2 : place + 1]) in known)


def _ngrams(tables, order):
    rows = np.arange(V)[:, None]
    for n in range(2, order + 1):
        table = tables[f"order_{n}"]
        context = np.repeat(np.arange(len(rows)), np.diff(table["first"]))
        rows = np.concatenate([rows[context], table["last"][:, None]], 1)
    return rows.tolist()


def test_generation_is_greedy_or_by_chance_and_ends(counted):
    model, tables, _ = counted
    greedy = generate_ids(model, tables, [[END]] * 4, max_new_tokens=8, end=END, temperature=0)
    assert greedy == greedy[:1] * 4
    sampled = generate_ids(model, tables, [[END]] * 4, max_new_tokens=8, end=END)
    assert len({tuple(row) for row in sampled}) > 2
    assert any(len(row) < 8 for row in sampled)


def test_a_folder_gives_back_the_tables_mapped_into_memory(counted, tmp_path):
    model, tables, _ = counted
    tokenizer = units.words(["<unk>", "</s>", *(f"w{i}" for i in range(2, V))])
    zoo.save(Loaded(model, tables, tokenizer), tmp_path / "model")
    loaded = zoo.load(tmp_path / "model")
    assert loaded.model == model
    for path, array in flatten(tables).items():
        assert (np.asarray(flatten(loaded.params)[path]) == array).all()
    mapped = flatten(model_folder.read(tmp_path / "model"))["order_3/last"]
    assert isinstance(mapped.base, np.memmap)
    assert jax.device_put(mapped).unsafe_buffer_pointer() == mapped.ctypes.data  # not copied
    assert zoo.generate(loaded, "w2", max_new_tokens=3)


def test_damaged_tables_are_named(counted, tmp_path):
    model, tables, _ = counted
    zoo.save(Loaded(model, tables, None), tmp_path)
    file = tmp_path / "params" / "order_2.last.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"wrong checksum of order_2/last"):
        zoo.load(tmp_path)
    file.write_bytes(content[:-8])
    with pytest.raises(ValueError, match=r"order_2.last.npy cannot be read"):
        zoo.load(tmp_path)
    manifest = json.loads((tmp_path / "model.json").read_text())
    manifest["config"]["ngrams"][2] += 1
    del manifest["checksums"]
    (tmp_path / "model.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"order_2.last.npy cannot be read"):
        zoo.load(tmp_path)
