"""A model with a longer vocabulary, exported: transformers has the same tokens and outputs."""

import dataclasses

import numpy as np
import pytest

import zoo
from tests import tiny
from tests.wide import relative
from train.data import train_tokenizer
from train.data.sources import builtin
from zoo.checkpoints.load import Loaded
from zoo.models import electra

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-5
WORDS = ["Zolgensma", "COVID", "remdesivir"]
TEXT = "the COVID and Zolgensma of it, covid."
# Our tokenizer, the published class, and what it is called with beside tokens.
FAMILIES = {
    "bert": (train_tokenizer.wordpiece, "BertForPreTraining"),
    "distilbert": (train_tokenizer.wordpiece, "DistilBertForMaskedLM"),
    "electra": (train_tokenizer.wordpiece, "ElectraForMaskedLM"),
    "roberta": (train_tokenizer.roberta, "RobertaForMaskedLM"),
    "albert": (train_tokenizer.albert, "AlbertForPreTraining"),
    "gpt": (train_tokenizer.end_of_word_bpe, "OpenAIGPTLMHeadModel"),
    "gpt2": (train_tokenizer.byte_level_bpe, "GPT2LMHeadModel"),
    "xlnet": (train_tokenizer.unigram, "XLNetLMHeadModel"),
    "t5": (train_tokenizer.t5, "T5ForConditionalGeneration"),
    "t5_v1_1": (train_tokenizer.t5, "T5ForConditionalGeneration"),
    "transformer": (train_tokenizer.pairs, "MarianMTModel"),
}


@pytest.fixture(scope="module")
def texts():
    return [document[:3000] for document in builtin.documents()[:60]]


@pytest.mark.parametrize("name", FAMILIES)
def test_transformers_reads_and_writes_the_new_words(name, texts, tmp_path):
    train, published = FAMILIES[name]
    tokenizer = train(texts, 1000)
    config = dataclasses.replace(tiny.TABLE[name].config, vocab_size=tokenizer.get_vocab_size())
    architecture = tiny.TABLE[name].architecture
    cls = electra.ElectraGenerator if name == "electra" else architecture.Model
    model = cls(config)
    start = Loaded(model, tiny.wide(model), tokenizer)
    longer = zoo.extend_vocabulary(start, WORDS)
    zoo.export(longer, tmp_path)
    theirs = getattr(transformers, published).from_pretrained(tmp_path).eval()
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ids = longer.tokenizer.encode(TEXT).ids
    assert {config.vocab_size + n for n in range(2)} <= set(ids)
    assert their_tokenizer(TEXT).input_ids == ids
    tokens = np.array([ids], np.int32)
    given = {"input_ids": torch.from_numpy(tokens.astype(np.int64))}
    more = {}
    if tiny.TABLE[name].sees == "source":
        targets = np.roll(tokens, 1)
        targets[:, 0] = getattr(config, "start", 0)
        more["targets_BT"] = targets
        given["decoder_input_ids"] = torch.from_numpy(targets.astype(np.int64))
    ours = tiny.logits(longer.model.apply({"params": longer.params}, tokens, **more))
    with torch.no_grad():
        output = theirs(**given)
    expected = output["prediction_logits" if "prediction_logits" in output else "logits"].numpy()
    assert expected.shape[-1] == config.vocab_size + len(WORDS)
    assert relative(np.asarray(ours), expected) < TOLERANCE
