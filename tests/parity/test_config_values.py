"""Values of config.json other than the usual ones, against transformers, there and back."""

import dataclasses

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import zoo
from tests.parity import table
from tests.parity.table import ROWS
from tests.parity.test_parity import build, call
from tests.wide import relative
from zoo.formats.huggingface.format import PUBLISHED_ACTIVATIONS, our_activation
from zoo.layers.feed_forward import ACTIVATIONS
from zoo.params import flatten

TOLERANCE = 1e-5
UNTIED = {"tie_word_embeddings": False}
# Of an untied head, whose bias has another name.
UNUSED = ("cls.predictions.bias", "lm_head.bias", "predictions.bias")
# The class -> rows of values that differ from those of the table, more than one at once.
CASES = {
    "BertForPreTraining": [UNTIED | {"hidden_act": "relu", "type_vocab_size": 3}],
    "BertForMaskedLM": [
        UNTIED | {"hidden_act": "gelu_fast", "layer_norm_eps": 1e-3},
        {"hidden_act": "gelu_python", "type_vocab_size": 1},
    ],
    "RobertaForMaskedLM": [
        UNTIED | {"hidden_act": "silu", "type_vocab_size": 2, "layer_norm_eps": 1e-3},
        {"hidden_act": "gelu_pytorch_tanh"},
    ],
    "DistilBertForMaskedLM": [UNTIED | {"activation": "tanh"}, {"activation": "gelu_new"}],
    "AlbertForPreTraining": [UNTIED | {"inner_group_num": 3, "num_hidden_groups": 1}],
    "AlbertForMaskedLM": [
        UNTIED | {"inner_group_num": 2, "hidden_act": "gelu", "type_vocab_size": 4},
        {"num_hidden_layers": 5, "num_hidden_groups": 3, "layer_norm_eps": 1e-3},
    ],
    "ElectraForMaskedLM": [UNTIED | {"hidden_act": "tanh", "layer_norm_eps": 1e-3}],
    "ElectraForPreTraining": [UNTIED | {"hidden_act": "gelu_new", "type_vocab_size": 4}],
    "GPT2LMHeadModel": [
        UNTIED | {"activation_function": "gelu_python", "layer_norm_epsilon": 1e-3},
        {"activation_function": "relu", "n_inner": 30},
    ],
    "XLNetLMHeadModel": [{"ff_activation": "silu", "layer_norm_eps": 1e-3}],
    "MarianMTModel-relu": [
        UNTIED | {"scale_embedding": False, "decoder_attention_heads": 6, "decoder_ffn_dim": 30},
        {"activation_function": "gelu_new"},
    ],
    "T5ForConditionalGeneration": [
        {"feed_forward_proj": "gelu_new"} | UNTIED,  # unscaled
        {"feed_forward_proj": "gated-silu", "num_decoder_layers": 1},  # scaled
        {"feed_forward_proj": "gated-gelu_python", "layer_norm_epsilon": 1e-3} | UNTIED,
    ],
    # With a head of its own.
    "T5ForConditionalGeneration-v1_1": [
        {"feed_forward_proj": "relu", "tie_word_embeddings": True},
        {"feed_forward_proj": "gated-relu", "tie_word_embeddings": False},
    ],
    "MT5ForConditionalGeneration": [{"feed_forward_proj": "gated-gelu"}],
}
MT5 = dataclasses.replace(
    ROWS["T5ForConditionalGeneration-v1_1"], published="MT5ForConditionalGeneration"
)


def rows():
    """Yield the rows of the table with other values."""
    for name, changes in CASES.items():
        for values in changes:
            row = ROWS.get(name, MT5)
            config = row.config | values
            has_segments = "segments" in row.inputs and config.get("type_vocab_size") != 1
            inputs = row.inputs if has_segments else tuple(set(row.inputs) - {"segments"})
            row = dataclasses.replace(row, config=config, inputs=inputs)
            shown = " ".join(f"{key}={value}" for key, value in values.items())
            yield pytest.param(row, values, id=f"{name} {shown}")


@pytest.mark.parametrize(("row", "values"), list(rows()))
def test_logits_equal_and_a_folder_goes_there_and_back(row, values, tmp_path):
    theirs = build(row)
    if row.published == "MarianMTModel":  # which unties all of its tables, where we have two
        for side in (theirs.model.encoder, theirs.model.decoder):
            side.embed_tokens.weight.data.copy_(theirs.model.shared.weight)
    theirs.save_pretrained(tmp_path / "published")
    loaded = zoo.load(tmp_path / "published")
    batch = table.batch(row)
    inputs = table.our_inputs(row, batch)
    output = jax.jit(lambda params: loaded.model.apply({"params": params}, **inputs))(loaded.params)
    outputs = output if isinstance(output, tuple) else (output,)
    before = {name: x.detach().clone() for name, x in theirs.named_parameters()}
    with torch.no_grad():
        expected = call(row, theirs.double(), batch)
    is_token_BL = batch["written" if "targets" in row.inputs else "documents"] > 0
    is_token_BL[3:] &= row.left != "last"
    for ours, name in zip(outputs, row.outputs, strict=True):
        real = is_token_BL if ours.shape[:2] == is_token_BL.shape else slice(3)
        assert relative(np.asarray(ours)[real], expected[name].numpy()[real]) < TOLERANCE

    zoo.export(loaded, tmp_path / "exported")
    again = zoo.load(tmp_path / "exported")
    assert again.model == loaded.model
    for path, array in flatten(loaded.params).items():
        assert np.array_equal(flatten(again.params)[path], array), path
    cls = transformers.T5ForConditionalGeneration if "T5" in row.published else type(theirs)
    reloaded, report = cls.from_pretrained(
        tmp_path / "exported", attn_implementation="eager", output_loading_info=True
    )
    assert not any(report.values()), report
    for name, parameter in reloaded.named_parameters():
        if name not in UNUSED or values.get("tie_word_embeddings", True):
            assert torch.equal(parameter, before[name]), name
    for name, value in values.items():
        written = getattr(reloaded.config, name)
        if isinstance(value, str):
            assert written == value or our_activation(written) == our_activation(value)
        elif "T5" not in row.published or name != "tie_word_embeddings":  # it always writes true
            assert written == value, name


def test_every_published_name_of_an_activation_is_that_of_transformers():
    x = np.linspace(-6, 6, 1001).astype(np.float32)
    for ours, function in ACTIVATIONS.items():
        for published in PUBLISHED_ACTIVATIONS.get(ours, (ours,)):
            theirs = transformers.activations.ACT2FN[published](torch.from_numpy(x)).numpy()
            assert our_activation(published) == ours
            assert np.abs(function(x) - theirs).max() < 1e-6, published


def test_a_byte_tokenizer_has_the_ids_of_transformers(tmp_path):
    theirs = transformers.ByT5Tokenizer()
    theirs.save_pretrained(tmp_path)
    ours = zoo.tokenizers.load(tmp_path)
    assert ours.get_vocab_size() == len(theirs) == 384
    texts = [
        "Hello, wörld",
        "a </s> b",
        "x<extra_id_0> y <extra_id_124>.",
        "日本 \n\t 😀",
        "",
        " ĠÄ ",
    ]
    for text in texts:
        ids = ours.encode(text).ids
        assert ids == theirs(text).input_ids
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    assert ours.encode("ab", "c").ids == theirs("ab", "c").input_ids
