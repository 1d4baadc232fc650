"""The models of word vectors: their formulas, initial values, and what a folder keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from zoo.contracts import Encoder, WordVectorModel
from zoo.models import fasttext, glove, word2vec
from zoo.params import num_parameters
from zoo.tokenizers import subwords, units

V, D = 11, 6
WORDS = ["<unk>", "</s>", *(f"word{number}" for number in range(V - 2))]
CONFIGS = {
    "word2vec": word2vec.Config(vocab_size=V, width=D),
    "glove": glove.Config(vocab_size=V, width=D),
    "fasttext": fasttext.Config(vocab_size=V, width=D, buckets=20, min_n=3, max_n=4),
}
ARCHITECTURES = {"word2vec": word2vec, "glove": glove, "fasttext": fasttext}
classes = pytest.mark.parametrize(
    ("name", "cls"),
    [(name, cls) for name, module in ARCHITECTURES.items() for cls in module.MODELS],
)


def random_model(name, cls):
    """Return a model with wide random tables."""
    draw = np.random.default_rng(0)
    config = CONFIGS[name]
    if cls is fasttext.FastTextClassifier:
        config = fasttext.Config(**{**vars(config), "labels": ("bad", "good", "odd")})
    model = cls(config)
    params = model.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"]
    wide = lambda x: draw.normal(0, 0.3, x.shape) if x.dtype == jnp.float32 else x
    return model, jax.tree.map(lambda x: np.asarray(wide(x), x.dtype), params)


@classes
def test_a_folder_keeps_every_table(name, cls, tmp_path):
    model, params = random_model(name, cls)
    zoo.save(zoo.Loaded(model, params, units.words(WORDS)), tmp_path)
    loaded = zoo.load(tmp_path)
    assert type(loaded.model) is cls
    assert loaded.model.config == model.config
    for path, table in params.items():
        np.testing.assert_array_equal(loaded.params[path], table, err_msg=path)


@classes
def test_word_vectors_are_what_the_model_reads(name, cls):
    model, params = random_model(name, cls)
    assert isinstance(model, WordVectorModel)
    ids = np.array([4, 2, 9])
    words = [WORDS[number] for number in ids]
    x_ND = model.word_vectors(params, words, ids)
    c = model.config
    inputs = (
        subwords.word_rows(words, ids, V, c.buckets, c.min_n, c.max_n).padded()
        if name == "fasttext"
        else ids[None]
    )
    read = jax.jit(model.apply)({"params": params}, inputs)
    np.testing.assert_allclose(x_ND, read.reshape(3, D), rtol=1e-6)


def test_fasttext_composes_words_that_it_does_not_know():
    model, params = random_model("fasttext", fasttext.FastText)
    known, unknown, short = model.word_vectors(
        params, ["word3", "wordy", ""], np.array([5, -1, -1])
    )
    rows = subwords.word_rows(["wordy"], np.array([-1]), V, 20, 3, 4).rows
    np.testing.assert_allclose(unknown, params["rows"][rows].mean(0), rtol=1e-6)
    assert rows.min() >= V
    assert np.abs(known).max() > 0
    assert not short.any()  # no n-gram is as short as "<>"


def test_skip_gram_and_cbow_have_the_logits_of_their_equations():
    params = random_model("word2vec", word2vec.SkipGram)[1]
    words, outputs = params["words"], params["outputs"]
    skip_gram, cbow = (cls(CONFIGS["word2vec"]) for cls in (word2vec.SkipGram, word2vec.CBOW))
    logits = skip_gram.apply({"params": params}, np.array([3]), np.array([[4, 5]]), method="logits")
    np.testing.assert_allclose(logits[0], outputs[[4, 5]] @ words[3], rtol=1e-5)
    logits = cbow.apply({"params": params}, np.array([[3, 6]]), np.array([[4, 5]]), method="logits")
    np.testing.assert_allclose(logits[0], outputs[[4, 5]] @ words[[3, 6]].mean(0), rtol=1e-5)


def test_glove_approximates_log_counts_by_a_product_and_two_biases():
    model, params = random_model("glove", glove.GloVePretraining)
    value = model.apply({"params": params}, np.array([3]), np.array([7]), method="log_counts")
    expected = params["words"][3] @ params["contexts"][7]
    expected += params["word_bias"][3, 0] + params["context_bias"][7, 0]
    np.testing.assert_allclose(value[0], expected, rtol=1e-5)


@pytest.mark.parametrize(("name", "bound"), [("word2vec", 0.5), ("glove", 0.5), ("fasttext", 1)])
def test_initial_vectors_are_uniform_within_the_bound_of_the_program(name, bound):
    module = ARCHITECTURES[name]
    config = module.Config(**{**vars(CONFIGS[name]), "vocab_size": 500, "width": 40})
    params = module.Model(config).init(jax.random.key(1), jnp.zeros((1, 8), jnp.int32))["params"]
    table = np.asarray(params["rows" if name == "fasttext" else "words"]) * 40
    assert -bound <= table.min() < -0.99 * bound
    assert 0.99 * bound < table.max() <= bound
    assert abs(table.mean()) < 0.02
    if "outputs" in params:
        assert not np.asarray(params["outputs"]).any()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_sizes_have_the_number_of_parameters_of_their_tables(name):
    module = ARCHITECTURES[name]
    for c in module.SIZES.values():
        expected = {
            "word2vec": 2 * c.vocab_size * c.width,
            "glove": 2 * c.vocab_size * (c.width + 1),
            "fasttext": (2 * c.vocab_size + getattr(c, "buckets", 0)) * c.width + c.vocab_size,
        }
        assert num_parameters(module.Model, c) == expected[name]


def test_vectors_can_be_the_trunk_of_a_classifier():
    assert isinstance(word2vec.Word2Vec(CONFIGS["word2vec"]), Encoder)
    classifier = word2vec.Word2VecClassifier(CONFIGS["word2vec"])
    tokens_BL = np.array([[2, 3, 4], [5, 0, 0]])
    mask_BL = np.array([[1, 1, 1], [1, 0, 0]])
    params = classifier.init(jax.random.key(0), tokens_BL)
    logits_BC = classifier.apply(params, tokens_BL, None, mask_BL)
    words = params["params"]["trunk"]["words"]
    expected = words[5] @ params["params"]["classes"]["kernel"]
    np.testing.assert_allclose(logits_BC[1], expected, rtol=1e-5)
