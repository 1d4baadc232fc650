"""A config.json: all that is wrong with it is one error, by the names of its fields."""

import json
import time

import pytest

import zoo
from tests import tiny
from zoo.formats import huggingface

BERT = {"model_type": "bert", "architectures": ["BertForMaskedLM"]}
CLASSIFIER = {"model_type": "gpt2", "architectures": ["GPT2ForSequenceClassification"]}


def refused(folder, fields, error=ValueError, **options) -> str:
    """Return the error of a folder whose weights are not reached."""
    (folder / "config.json").write_text(json.dumps(fields))
    with pytest.raises(error) as caught:
        zoo.load(folder, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


def folder_of(path, name="bert"):
    model = tiny.TABLE[name].model
    huggingface.write(path, huggingface.find_class(type(model)), model, tiny.wide(model))
    return path


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"hidden_size": "768"}, "hidden_size = '768', expected a whole number from 1"),
        ({"hidden_size": -768}, "hidden_size = -768, expected"),
        ({"hidden_size": 768.0}, "hidden_size = 768.0, expected"),
        ({"hidden_size": None}, "hidden_size = None, expected"),
        ({"hidden_size": True}, "hidden_size = True, expected"),
        ({"hidden_size": 10**30}, "hidden_size = 1000000000000000000000000000000, expected"),
        ({"hidden_size": [1] * 1000}, "hidden_size = [1, 1"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers = 1000000000, expected a whole number"),
        ({"num_attention_heads": 0}, "num_attention_heads = 0, expected a whole number from 1"),
        (
            {"num_attention_heads": 7},
            "hidden_size = 768, not a multiple of num_attention_heads = 7",
        ),
        ({"type_vocab_size": 0}, "type_vocab_size = 0, expected a whole number from 1"),
        ({"layer_norm_eps": "1e-12"}, "layer_norm_eps = '1e-12', expected a number"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps = nan, expected a number"),
        ({"hidden_dropout_prob": 2}, "hidden_dropout_prob = 2, expected a number from 0 to 1"),
        ({"hidden_act": 3}, "hidden_act = 3, expected a name"),
        ({"hidden_act": "mish"}, "hidden_act = 'mish'; zoo supports relu, gelu,"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings = 'no', expected true or false"),
        ({"num_labels": 10**9}, "num_labels = 1000000000, expected up to"),
        ({"id2label": {"0": "a", "2": "b"}}, "expected names of the numbers from 0"),
        ({"id2label": ["a", "b"]}, "expected names of the numbers from 0"),
        ({"architectures": "BertModel"}, "architectures = 'BertModel', expected a list"),
    ],
)
def test_a_value_that_no_model_has_is_named(tmp_path, fields, expected):
    assert expected in refused(tmp_path, BERT | fields)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"model_type": "t5", "feed_forward_proj": "gated-mish"},
            "feed_forward_proj = 'mish'; zoo supports",
        ),
        ({"model_type": "t5", "feed_forward_proj": 3}, "feed_forward_proj = 3, expected a name"),
        ({"model_type": "t5", "num_layers": "6"}, "num_layers = '6', expected"),
        ({"model_type": "openai-gpt", "afn": "tanh"}, "GPT has relu, silu, gelu, swish"),
        ({"model_type": "gpt2", "n_embd": None}, "n_embd = None, expected"),
        ({"model_type": "xlnet", "n_head": 0}, "n_head = 0, expected"),
        ({"model_type": "xlnet", "tie_word_embeddings": False}, "tie_word_embeddings = False"),
        ({"model_type": "gpt_neo", "hidden_size": "a"}, "hidden_size = 'a', expected"),
        ({"model_type": "roberta", "max_position_embeddings": 2}, "max_position_embeddings that"),
        ({"model_type": "marian", "decoder_start_token_id": 58101}, "outside of vocab_size"),
        ({"model_type": "marian", "decoder_attention_heads": 9}, "decoder_attention_heads = 9"),
        ({"model_type": "albert", "inner_group_num": 100}, "makes more than 256 blocks"),
        ({"model_type": "resnet", "depths": 3}, "depths = 3, expected whole numbers"),
        ({"model_type": "resnet", "depths": [3, "4"]}, "depths = [3, '4'], expected"),
    ],
)
def test_so_are_those_of_other_architectures(tmp_path, fields, expected):
    assert expected in refused(tmp_path, fields)


def test_all_that_is_wrong_is_said_at_once(tmp_path):
    fields = BERT | {"is_decoder": True, "position_embedding_type": "relative_key"}
    message = refused(tmp_path, fields)
    assert "is_decoder = True; zoo supports False only" in message
    assert "position_embedding_type = 'relative_key'; zoo supports 'absolute' only" in message
    message = refused(tmp_path, fields | {"hidden_size": "768", "hidden_act": "mish"})
    for expected in ("is_decoder", "position_embedding_type", "hidden_size", "mish"):
        assert expected in message


def test_an_absurd_size_is_refused_quickly(tmp_path):
    start = time.process_time()
    for name in ("num_hidden_layers", "hidden_size", "vocab_size", "num_labels"):
        refused(tmp_path, BERT | {name: 10**9 if name == "num_hidden_layers" else 10**12})
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"problem_type": "ranking"}, "problem_type = 'ranking', expected one of"),
        ({"problem_type": "regression", "num_labels": 3}, "with 3 labels; zoo supports one"),
    ],
)
def test_another_problem_of_a_classifier_is_refused(tmp_path, fields, expected):
    assert expected in refused(tmp_path, CLASSIFIER | fields)


def test_an_unknown_class_is_refused_by_its_name(tmp_path):
    folder = folder_of(tmp_path)
    fields = json.loads((folder / "config.json").read_text())
    message = refused(folder, fields | {"architectures": ["BertForFoo"]})
    assert "class 'BertForFoo'; zoo supports BertForPreTraining, BertForMaskedLM" in message
    assert "missing" not in message
    loaded = zoo.load(folder, cls="BertForPreTraining")
    assert type(loaded.model).__name__ == "BertPretraining"


def test_the_architecture_is_given_where_config_json_has_none(tmp_path):
    folder = folder_of(tmp_path)
    fields = json.loads((folder / "config.json").read_text())
    del fields["model_type"]
    assert "has no model_type: name it, such as --architecture bert" in refused(folder, fields)
    assert "use one of albert, bert, distilbert" in refused(folder, fields, architecture="bort")
    assert zoo.load(folder, architecture="bert").model == tiny.TABLE["bert"].model
    fields["model_type"] = "gpt2"
    assert "model_type 'gpt2', not bert" in refused(folder, fields, architecture="bert")


def test_bert_config_json_is_that_of_a_bert(tmp_path):
    folder = folder_of(tmp_path)
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").unlink()
    del fields["model_type"], fields["architectures"]
    (folder / "bert_config.json").write_text(json.dumps(fields))
    assert zoo.load(folder).model == tiny.TABLE["bert"].model


@pytest.mark.parametrize("text", ["[]", "3", '"bert"', "[" * 100_000, "{", "\x00"])
def test_a_config_json_without_fields_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(
        ValueError, match=r"config\.json (is not valid JSON|has no fields)"
    ) as caught:
        zoo.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_heads_of_other_classes_are_left_out(tmp_path):
    """As in bert-base-uncased, which names BertForMaskedLM but has all that BERT's training had."""
    folder = folder_of(tmp_path)
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(fields | BERT))
    assert type(zoo.load(folder).model).__name__ == "BertLM"
