"""A sequence autoencoder repeats its text, and its encoder starts a classifier."""

from dataclasses import replace

import jax
import numpy as np
import pytest

import zoo
from tests import tiny, tiny_task
from train.data.corpus.pair_corpus import PairCorpus
from train.data.sources import parallel_text, text
from train.finetuning import finetune
from train.pretraining import corpus
from train.recipes import recipe
from train.step import corrupt
from zoo.models import seq2seq
from zoo.params import flatten

END = 1
LABELS = ("bad", "good")
QUESTIONS = "a film is the film\n\n  the film is great \n...\nawful film a\npoor\n"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def words(specials=("<pad>", "</s>")):
    return tiny_task.tokenizer(specials)


def folder(tmp_path, tokenizer=None):
    tokenizer = tokenizer or words()
    config = seq2seq.Config(
        vocab_size=tokenizer.get_vocab_size(), num_layers=2, width=16, embed_width=12
    )
    return tiny_task.folder(tmp_path, seq2seq, config, tokenizer)


def load(folder, **settings):
    settings = replace(tiny_task.SETTINGS, **settings)
    return finetune.load(folder, tiny_task.CLASSIFICATION, LABELS, settings)


def test_the_targets_are_the_inputs_line_by_line():
    autoencoder = replace(recipe("sequence-autoencoder-tiny"), length=8)
    read = corpus.corpus(autoencoder, text.strings([QUESTIONS]), words())
    assert isinstance(read, PairCorpus)
    batch = autoencoder.batches(words()).evaluate(read, 5)(0)
    example = corrupt(autoencoder.objective(words()), jax.random.key(0), batch)
    lines = [line.split() for line in QUESTIONS.split("\n") if line.strip()]
    assert example["weights"]["token"].sum() == sum(len(line) + 1 for line in lines)
    for row, line in zip(range(len(lines)), lines, strict=True):
        ids = [*(words().token_to_id(word) or words().token_to_id("?") for word in line), END]
        assert example["tokens"][row, : len(ids)].tolist() == ids
        assert example["targets"][row, : len(ids)].tolist() == ids
        assert example["documents"][row].tolist() == example["weights"]["token"][row].tolist()
        assert example["inputs"][row, 1 : len(ids)].tolist() == ids[:-1]


def test_a_text_without_a_line_to_read_is_refused():
    with pytest.raises(ValueError, match="no pairs in the text"):
        parallel_text.copies(text.strings(["\n \n"]))


def test_a_classifier_starts_from_the_encoder_and_its_embedding(tmp_path):
    start = flatten(zoo.load(folder(tmp_path)).params)
    loaded, new_paths = load(tmp_path / "pretrained")
    assert sorted(new_paths) == ["classes/bias", "classes/kernel"]
    kept = {path: x for path, x in flatten(loaded.params).items() if path not in new_paths}
    parts = {"/".join(path.split("/")[:2]) for path in kept}
    assert parts == {"trunk/source_embedding", "trunk/encoder"}
    for path, x in kept.items():
        np.testing.assert_array_equal(x, start[path], err_msg=path)
    _, from_scratch = load(tmp_path / "pretrained", scratch=True)
    assert set(from_scratch) == {*kept, *new_paths}


def test_texts_end_as_the_sources_of_the_encoder_did(tmp_path):
    loaded, _ = load(folder(tmp_path))
    assert loaded.tokenizer.encode("a film").tokens == ["a", "film", "</s>"]
    assert loaded.model.config.vocab_size == words().get_vocab_size()  # and get no other marks
    with pytest.raises(ValueError, match="the tokenizer has no </s> token: use one that has it"):
        load(folder(tmp_path / "other", words(("<pad>",))))


def test_a_separate_vocabulary_of_sources_is_that_of_the_classifier(tmp_path):
    both = zoo.tokenizers.Sides(words(), words(("</s>", "<pad>")))
    loaded, _ = load(folder(tmp_path, both))
    assert loaded.tokenizer.encode("a film").ids == [*words().encode("a film").ids, END]


def test_the_features_are_the_last_state_and_padding_changes_nothing():
    row = tiny.TABLE["seq2seq"]
    model, params = seq2seq.Seq2SeqClassifier(row.config), {"params": tiny.wide(row.model)}
    features = jax.jit(lambda *inputs: model.apply(params, *inputs, method="features"))
    padded_BD = features(tiny.TOKENS, None, tiny.DOCUMENTS)
    states = jax.jit(row.model.apply, static_argnames="method")(
        params, tiny.TOKENS, tiny.DOCUMENTS, method="encode"
    )
    np.testing.assert_allclose(padded_BD, states[-1][0], atol=1e-6)
    wider = lambda x_BL, value: np.pad(x_BL, ((0, 0), (2, 3)), constant_values=value)
    wider_BD = features(wider(tiny.TOKENS, 7), None, wider(tiny.DOCUMENTS, 0))
    np.testing.assert_allclose(wider_BD, padded_BD, atol=1e-5)


def test_a_classifier_learns_is_saved_and_classifies(tmp_path):
    settings = replace(tiny_task.SETTINGS, epochs=12.0, learning_rate="2e-2")
    metrics, _ = tiny_task.tune(tmp_path, settings, start=folder(tmp_path))
    assert metrics["dev"][0]["accuracy"] > 0.9
    tuned = zoo.load(tmp_path / "out")
    assert isinstance(tuned.model, seq2seq.Seq2SeqClassifier)
    results = zoo.classify(tuned, ["the film is great", "the film is awful"])
    assert [max(result, key=result.get) for result in results] == ["good", "bad"]
