"""The BERT family: selected positions, masked tokens, initial weights and shared parameters."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from tests import tiny
from tests.tiny import DOCUMENTS, PREDICTIONS, SEGMENTS, TOKENS
from tests.wide import relative
from zoo.models import albert, bert, distilbert, electra, roberta
from zoo.params import abstract, flatten

TOLERANCE, STD = 1e-5, 0.03
CONFIGS = {name: row.config for name, row in tiny.TABLE.items()}
GENERATOR = electra.generator(CONFIGS["electra"])
PAIRS = (
    bert.BertPretraining(CONFIGS["bert"]),
    albert.AlbertPretraining(CONFIGS["albert"]),
    albert.AlbertLM(CONFIGS["albert"]),
    electra.ElectraGenerator(GENERATOR),
)
TEXTS = (
    roberta.RobertaLM(CONFIGS["roberta"]),
    distilbert.DistilBertLM(CONFIGS["distilbert"]),
)
model_name = lambda model: type(model).__name__


def run(model, *inputs, method=None):
    call = jax.jit(lambda params: model.apply({"params": params}, *inputs, method=method))
    return call(tiny.wide(model))


def pick(logits_BLV, positions_BP):
    return np.take_along_axis(np.asarray(logits_BLV), positions_BP[..., None], 1)


def parts(output):
    return output if isinstance(output, tuple) else (output,)


@pytest.mark.parametrize("model", [*PAIRS, *TEXTS], ids=model_name)
def test_selected_positions_have_the_logits_of_the_whole_row(model):
    inputs = (TOKENS, SEGMENTS, DOCUMENTS) if model in PAIRS else (TOKENS, DOCUMENTS)
    selected_logits = lambda model, *x: jax.tree.map(
        lambda x: x.logits() if hasattr(x, "logits") else x,
        model.unprojected(*x, PREDICTIONS),
        is_leaf=lambda x: hasattr(x, "logits"),
    )
    full_outputs, selected = (
        parts(run(model, *inputs)),
        parts(run(model, *inputs, method=selected_logits)),
    )
    assert relative(selected[0], pick(full_outputs[0], PREDICTIONS)) < TOLERANCE
    for actual, expected in zip(selected[1:], full_outputs[1:], strict=True):
        assert relative(actual, expected) < TOLERANCE


@pytest.mark.parametrize("model", PAIRS, ids=model_name)
def test_a_masked_token_is_filled_with_its_prediction(model):
    logits_BLV = parts(run(model, TOKENS, SEGMENTS))[0]
    filled_BPV = run(model, TOKENS, SEGMENTS, PREDICTIONS, method="fill")
    assert relative(filled_BPV, pick(logits_BLV, PREDICTIONS)) < TOLERANCE


def test_guess_and_detect_are_the_outputs_of_the_model_and_the_generator_fills_masked_tokens():
    model, inputs = electra.ElectraPretraining(CONFIGS["electra"]), (TOKENS, SEGMENTS, DOCUMENTS)
    outputs = run(model, *inputs)
    guess = lambda model, *x: model.generator_unprojected(*x, PREDICTIONS).logits()
    assert relative(run(model, *inputs, method=guess), pick(outputs.logits_BLV, PREDICTIONS)) < 1e-5
    assert relative(run(model, *inputs, method="detect"), outputs.replaced_BL) < TOLERANCE
    masked_inputs = TOKENS, SEGMENTS, PREDICTIONS
    config, generator_params = type(model).part(
        electra.ElectraGenerator, model.config, tiny.wide(model)
    )
    generator_output = electra.ElectraGenerator(config).apply(
        {"params": generator_params}, *masked_inputs, method="fill"
    )
    assert relative(run(model, *masked_inputs, method="fill"), generator_output) < TOLERANCE


def initial_params(module) -> dict:
    row = tiny.TABLE[module.__name__.split(".")[-1]]
    config = replace(row.config, vocab_size=8192, init_std=STD)
    model = module.Model(config)
    return flatten(jax.jit(model.init)(jax.random.key(0), np.zeros((1, 8), np.int32))["params"])


@pytest.mark.parametrize("module", [bert, albert, electra], ids=lambda m: m.__name__[11:])
def test_weights_are_initialized_truncated_normal_or_uniform(module):
    uniform = ("project/kernel", "score/kernel") if module is electra else ("nothing",)
    params = initial_params(module)
    assert sum(path.endswith(uniform) for path in params) == (3 if module is electra else 0)
    for path, array in params.items():
        if path.endswith(uniform):  # Glorot and Bengio 2010, equation 16
            bound = (6 / sum(array.shape)) ** 0.5
            assert 0.8 * bound < np.abs(array).max() <= bound, path
        elif path.endswith(("kernel", "embedding")):
            assert np.abs(array).max() <= 2 * STD, path
        else:
            assert (array == float(path.endswith("scale"))).all(), path
    # Truncating a normal at two standard deviations scales its standard deviation by 0.8796.
    table = next(x for path, x in params.items() if path.endswith("token_embedding/embedding"))
    assert abs(float(table.std()) / STD - 0.8796) < 0.01


def test_every_use_of_a_shared_block_has_its_own_dropout():
    config = replace(CONFIGS["albert"], num_layers=2, num_groups=1, dropout=0.5)
    trunk = albert.Albert(config)
    params = trunk.init(jax.random.key(0), TOKENS)
    _, state = trunk.apply(
        params,
        TOKENS,
        train=True,
        rngs={"dropout": jax.random.key(0)},
        capture_intermediates=lambda module, _: module.name == "mlp_dropout",
        mutable="intermediates",
    )
    first, second = state["intermediates"]["blocks_0"]["mlp_dropout"]["__call__"]
    assert 0.3 < ((np.asarray(first) == 0) == (np.asarray(second) == 0)).mean() < 0.7


def test_parameters_that_a_student_inherits_from_a_bert_have_the_same_paths_and_shapes():
    teacher, student = (
        {path: array.shape for path, array in flatten(abstract(model)).items()}
        for model in (bert.Model(CONFIGS["bert"]), distilbert.Model(CONFIGS["distilbert"]))
    )
    assert student.items() <= teacher.items()
    not_inherited = {path.rsplit("/", 1)[0] for path in teacher.keys() - student.keys()}
    assert not_inherited == {"trunk/segment_embedding", "pooler/dense", "next_head"}
