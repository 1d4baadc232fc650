"""Files of word vectors are those of gensim and of fastText: each reads what the other wrote."""

import os
from pathlib import Path

import numpy as np
import pytest

gensim = pytest.importorskip("gensim", reason="parity needs gensim")
fasttext = pytest.importorskip("fasttext", reason="parity needs fasttext")
from gensim.models import KeyedVectors
from gensim.models.fasttext import FastText, load_facebook_model, save_facebook_model
from gensim.models.word2vec import Word2Vec

import zoo
from zoo.checkpoints.load import Loaded
from zoo.models import glove, word2vec
from zoo.tokenizers import subwords, units

TOLERANCE = 1e-6
# The released program adds 1e-5 to a probability, and reads the sigmoid from a table.
SOFTMAX_TOLERANCE, SIGMOID_TOLERANCE = 2e-5, 1e-2
SENTENCES = [
    "the cat sat on the mat , naïve 日本 über",
    "the dog sat on the log . a naïve dog ran",
]
UNSEEN = ["cats", "日本語", "x", "über-naïve", "dogged"]
WORDS = ["</s>", "the", "naïve", "日本", "U.S.", "a\u00a0b"]
SAMPLES = Path(os.environ.get("ZOO_DATA", "data"), "emb_glove_sample")
# Name -> how a model is trained.
TRAININGS = {
    "skip-gram": {"model": "skipgram", "loss": "ns"},
    "cbow": {"model": "cbow", "loss": "hs"},
    "one vector per word": {"model": "skipgram", "loss": "softmax", "maxn": 0},
    "all outputs": {"model": "cbow", "loss": "ova"},
    "softmax": {"loss": "softmax", "wordNgrams": 3},
    "negative sampling": {"loss": "ns", "minn": 2, "maxn": 3},
    "tree": {"loss": "hs", "wordNgrams": 2, "minn": 2, "maxn": 3},
    "one-vs-all": {"loss": "ova"},
}
CLASSIFIERS = list(TRAININGS)[4:]
# gensim does not close a file without a first line.
open_files = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the model of the fasttext package, and its file, by the name of a training."""
    folder, models = tmp_path_factory.mktemp("trained"), {}
    text, labelled = folder / "text", folder / "labelled"
    text.write_text("\n".join(SENTENCES * 9) + "\n")
    labels = ["__label__a", "__label__b", "__label__ü"]
    lines = [f"{label} {line}" for label, line in zip(labels, [*SENTENCES, "oh no"], strict=True)]
    labelled.write_text("\n".join(lines * 9) + "\n")

    def train(name):
        if name not in models:
            options = {"dim": 6, "bucket": 40, "epoch": 5, "thread": 1, "verbose": 0, "lr": 0.5}
            options |= TRAININGS[name]
            if name in CLASSIFIERS:
                model = fasttext.train_supervised(str(labelled), **options)
            else:
                model = fasttext.train_unsupervised(str(text), minCount=1, **options)
            model.save_model(str(folder / f"{name}.bin"))
            models[name] = model, folder / f"{name}.bin"
        return models[name]

    return train


def vectors(loaded, words):
    model, params, tokenizer = loaded
    ids = [tokenizer.token_to_id(word) for word in words]
    return model.word_vectors(params, words, np.array([-1 if i is None else i for i in ids]))


def predictions(model, text):
    """Return the probability of every label; `predict` itself fails with NumPy 2."""
    return {label: p for p, label in model.f.predict(f"{text}\n", 9, 0.0, "strict")}


@pytest.mark.parametrize("name", TRAININGS)
def test_a_file_of_fasttext_is_read_as_the_program_reads_it(trained, name):
    theirs, file = trained(name)
    ours = zoo.load(file)
    words, counts = theirs.get_words(include_freq=True)
    assert ours.tokenizer.get_vocab() == {word: row for row, word in enumerate(words)}
    assert ours.params["counts"].tolist() == list(counts)
    assert np.array_equal(ours.params["rows"], theirs.get_input_matrix())
    assert np.array_equal(ours.params["outputs"], theirs.get_output_matrix())
    labels, counts = theirs.get_labels(include_freq=True)
    if name in CLASSIFIERS:
        assert [f"__label__{label}" for label in ours.model.config.labels] == labels
        assert ours.params["label_counts"].tolist() == list(counts)
    expected = np.array([theirs.get_word_vector(word) for word in [*words, *UNSEEN]])
    assert np.allclose(vectors(ours, [*words, *UNSEEN]), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", TRAININGS)
def test_fasttext_reads_our_file_as_its_own(trained, tmp_path, name):
    original, file = trained(name)
    zoo.export(zoo.load(file), tmp_path / "ours.bin")
    copy = fasttext.load_model(str(tmp_path / "ours.bin"))
    assert copy.get_words(include_freq=True)[0] == original.get_words(include_freq=True)[0]
    for word in [*original.get_words(), *UNSEEN]:
        assert np.array_equal(copy.get_word_vector(word), original.get_word_vector(word)), word
    if name in CLASSIFIERS:
        for text in (*SENTENCES, "oh no", "a cats dog unseen", ""):
            assert predictions(copy, text) == predictions(original, text)


# A tree is built from the counts, which are compared above.
@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if name != "tree"])
def test_the_parameters_of_a_file_give_the_predictions_of_fasttext(trained, name):
    theirs, file = trained(name)
    (model, params, tokenizer), c = zoo.load(file), zoo.load(file).model.config
    for text in (*SENTENCES, "oh no", "the unseen dog"):
        words = [*text.split(), subwords.END]
        ids = [tokenizer.token_to_id(word) for word in words]
        ids = np.array([-1 if i is None else i for i in ids])
        known = subwords.word_rows(words, ids, c.vocab_size, c.buckets, c.min_n, c.max_n).rows
        pairs = subwords.sentence_rows(words, c.vocab_size, c.buckets, c.word_ngrams)
        rows_BR = np.concatenate([known, pairs])[None]
        logits_C = np.asarray(model.apply({"params": params}, rows_BR, method="classes"))[0]
        exp_C = np.exp(logits_C)
        p_C = exp_C / exp_C.sum() if c.loss == "softmax" else exp_C / (1 + exp_C)
        expected = predictions(theirs, text)
        tolerance = SOFTMAX_TOLERANCE if c.loss == "softmax" else SIGMOID_TOLERANCE
        for label, p in zip(c.labels, p_C, strict=True):
            assert abs(expected[f"__label__{label}"] - p) < tolerance


def test_quantized_files_are_refused(trained, tmp_path):
    rows = np.random.default_rng(0).normal(size=(600, 6)).astype(np.float32)
    words = [f"w{i}" for i in range(600)]
    loaded = zoo.load(trained("softmax")[1])
    config = type(loaded.model.config)(
        **vars(loaded.model.config) | {"vocab_size": 600, "buckets": 0, "word_ngrams": 1}
    )
    params = loaded.params | {"rows": rows, "counts": np.ones(600, np.int32)}
    large = Loaded(type(loaded.model)(config), params, units.words(words))
    zoo.export(large, tmp_path / "large.bin")
    model = fasttext.load_model(str(tmp_path / "large.bin"))
    model.quantize(dsub=2, verbose=0)
    model.save_model(str(tmp_path / "large.ftz"))
    with pytest.raises(ValueError, match=r"large.ftz is quantized"):
        zoo.load(tmp_path / "large.ftz")


@pytest.mark.parametrize("name", ["skip-gram", "cbow"])
def test_gensim_reads_our_files_of_fasttext(trained, tmp_path, name):
    theirs, file = trained(name)
    zoo.export(zoo.load(file), tmp_path / "ours.bin")
    model = load_facebook_model(tmp_path / "ours.bin")
    # gensim composes </s> of n-grams, which the program does not.
    words = [word for word in theirs.get_words() if word != subwords.END]
    for word in [*words, "cats", "über-naïve"]:
        assert np.allclose(model.wv[word], theirs.get_word_vector(word), rtol=0, atol=TOLERANCE), (
            word
        )


def test_a_file_of_fasttext_that_gensim_wrote_is_read(tmp_path):
    corpus = [line.split() for line in SENTENCES]
    model = FastText(corpus, vector_size=6, min_count=1, bucket=50, epochs=1, workers=1, seed=1)
    save_facebook_model(model, str(tmp_path / "theirs.bin"))
    ours = zoo.load(tmp_path / "theirs.bin")
    words = [*model.wv.index_to_key, "cats", "日本語"]
    assert np.allclose(vectors(ours, words), model.wv[words], rtol=0, atol=TOLERANCE)


def table():
    values = np.random.default_rng(0).normal(size=(len(WORDS), 5))
    return (values * 10.0 ** np.arange(-12, 12, 5)).astype(np.float32)


@pytest.mark.parametrize("form", ["text", "text.gz", "binary", "headless"])
def test_files_of_gensim_are_read_exactly(tmp_path, form):
    theirs, file = KeyedVectors(5), tmp_path / f"x.{form}"
    theirs.add_vectors(WORDS, table())
    theirs.save_word2vec_format(file, binary=form == "binary", write_header=form != "headless")
    model, params, tokenizer = zoo.load(file)
    assert isinstance(model, glove.GloVe if form == "headless" else word2vec.Word2Vec)
    assert np.array_equal(params["words"], table())
    assert [tokenizer.token_to_id(word) for word in WORDS] == list(range(len(WORDS)))


@open_files
@pytest.mark.parametrize("name", ["x.txt", "x.vec.gz", "x.glove.txt", "x.bin", "x.bin.gz"])
def test_gensim_reads_our_files_exactly(tmp_path, name):
    config = word2vec.Config(vocab_size=len(WORDS), width=5)
    ours = Loaded(word2vec.Word2Vec(config), {"words": table()}, units.words(WORDS))
    zoo.export(ours, tmp_path / name)
    theirs = KeyedVectors.load_word2vec_format(
        tmp_path / name, binary=".bin" in name, no_header="glove" in name
    )
    assert theirs.index_to_key == WORDS
    assert np.array_equal(theirs.vectors, table())


def test_pickles_of_gensim_are_refused(tmp_path):
    model = Word2Vec([SENTENCES[0].split()], vector_size=5, min_count=1)
    model.save(str(tmp_path / "x.model"))
    model.wv.save(str(tmp_path / "x.kv"))
    for name in ("x.model", "x.kv"):
        with pytest.raises(ValueError, match=r"is a pickle, .*save_word2vec_format"):
            zoo.load(tmp_path / name)


@open_files
@pytest.mark.skipif(not SAMPLES.exists(), reason="needs emb_glove_sample in ZOO_DATA")
@pytest.mark.parametrize("width", [100, 300])
def test_published_vectors_of_glove_are_read_as_gensim_reads_them(width):
    file = SAMPLES / f"glove.6B.{width}d.sample.txt.gz"
    theirs = KeyedVectors.load_word2vec_format(file, no_header=True)
    model, params, tokenizer = zoo.load(file)
    assert isinstance(model, glove.GloVe)
    assert params["words"].shape == (100, width)
    assert np.array_equal(params["words"], theirs.vectors)
    assert [tokenizer.token_to_id(word) for word in theirs.index_to_key] == list(range(100))
