"""The recipes of single documents can be packed, and the others say so."""

from dataclasses import replace

import pytest

from tests.data.tiny_corpus import documents, prepared, tokenizer
from train.objectives.masked import MaskedLanguageModeling, WholeWordMasking
from train.recipes import recipe
from train.recipes.recipe import with_fields
from zoo.models import bert

PACKED = (
    *("gpt2-tiny", "gpt-tiny", "gpt3-tiny", "bytenet-tiny", "wavenet-tiny", "bert-tiny"),
    *("roberta-tiny", "distilbert-tiny", "electra-tiny", "t5-tiny", "t5-v1_1-small"),
)
NOT_PACKED = (
    *("albert-tiny", "xlnet-tiny", "lstm-lm-tiny", "awd-lstm-tiny", "elmo-tiny", "flair-tiny"),
    *("wavenet-sound-tiny", "word2vec-tiny", "luong-tiny", "transformer-tiny"),
)


@pytest.mark.parametrize("name", PACKED)
def test_packing_is_part_of_what_a_run_is(name):
    packed = with_fields(recipe(name), pack=5)
    assert packed.identity()["pack"] == 5
    assert "pack" not in recipe(name).identity()


@pytest.mark.parametrize("name", NOT_PACKED)
def test_packing_is_refused_where_rows_are_no_single_documents(name):
    with pytest.raises(ValueError, match=f"^{name} is not trained on single documents.*--pack$"):
        with_fields(recipe(name), pack=5)


def test_bert_packed_with_single_documents_predicts_no_next_sentence():
    packed = with_fields(recipe("bert-tiny"), pack=5)
    assert packed.model_class() is bert.BertLM
    assert type(packed.objective(tokenizer("wordpiece"))) is MaskedLanguageModeling
    whole_words = with_fields(recipe("bert-tiny-whole-word-masking"), pack=5)
    assert type(whole_words.objective(tokenizer("wordpiece"))) is WholeWordMasking


def test_an_epoch_of_packed_rows_reads_every_row_once(tmp_path):
    texts = tuple(text[:200] for text in documents())
    corpus, words = prepared(tmp_path, "wordpiece", texts=texts), tokenizer("wordpiece")
    roberta = replace(recipe("roberta-tiny"), epochs=3.0, batch=8)
    packed = with_fields(roberta, pack=4)
    rows = packed.batches(words).train(corpus, 8, 0).num_examples
    assert packed.for_text(words, corpus).steps == -(-3 * rows // 8)
    (note,) = packed.notes(None, corpus, words)
    assert f"{len(texts)} documents in {rows} rows" in note
    assert not roberta.notes(None, corpus, words)
