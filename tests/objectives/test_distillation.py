"""Distillation against its formulas in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.wide import draw, relative
from train.objectives.cross_entropy import divergence, squared_error
from train.objectives.distillation import Distillation, LogitMatching, direction
from train.objectives.masked import MaskedLanguageModeling
from train.pretraining.distill import inherited
from zoo.layers.embedding import UnprojectedLogits
from zoo.models import bert, distilbert
from zoo.params import abstract, flatten

B, L, D, V = 3, 8, 5, 11
MASKED = MaskedLanguageModeling(tiny.V, 4, (2, 3), 3)
TEACHER = bert.Model(
    bert.Config(
        vocab_size=tiny.V,
        max_length=32,
        num_layers=4,
        num_heads=3,
        width=24,
        mlp_width=40,
        head_width=8,
        dropout=0.1,
        num_segments=2,
    )
)
STUDENT = distilbert.Model(
    distilbert.Config(
        vocab_size=tiny.V,
        max_length=32,
        num_layers=2,
        num_heads=3,
        width=24,
        mlp_width=40,
        head_width=8,
        dropout=0.0,
    )
)
TEACHER_PARAMS, PARAMS = tiny.wide(TEACHER), tiny.wide(STUDENT, seed=1)
OBJECTIVE = Distillation(MASKED, TEACHER, TEACHER_PARAMS)


def unprojected(seed, width=D):
    return UnprojectedLogits(
        draw(B, L, width, seed=seed), draw(V, width, seed=seed + 1), draw(V, seed=seed + 2)
    )


def log_softmax(x):
    x = np.float64(x)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def batch():
    random = np.random.default_rng(0)
    mask = np.arange(20) < np.array([[20], [13], [1]])
    rows = {"tokens": np.int32(random.integers(5, tiny.V, mask.shape) * mask), "mask": mask}
    keys = jax.random.split(jax.random.key(0), 3)
    return jax.vmap(OBJECTIVE.corrupt)(keys, rows), mask


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_divergence_and_its_gradient_equal_their_formulas(temperature):
    student, teacher, weights_BL = (
        unprojected(0),
        unprojected(9, width=7),
        jnp.abs(draw(B, L, seed=5)),
    )

    def formula(student, teacher):
        p = jax.nn.log_softmax(student.logits() / temperature)
        q = jax.nn.log_softmax(teacher.logits() / temperature)
        return temperature**2 * (weights_BL * (jnp.exp(q) * (q - p)).sum(-1)).sum()

    term = divergence(student, teacher, weights_BL, temperature)
    p = log_softmax(np.float64(student.logits()) / temperature)
    q = log_softmax(np.float64(teacher.logits()) / temperature)
    exact = temperature**2 * (np.asarray(weights_BL) * (np.exp(q) * (q - p)).sum(-1)).sum()
    assert relative(term.loss, exact) < 1e-5
    right = student.logits().argmax(-1) == teacher.logits().argmax(-1)
    assert relative(term.right, (weights_BL * right).sum()) < 1e-5
    loss = lambda student, teacher: divergence(student, teacher, weights_BL, temperature).loss
    ours, theirs = jax.grad(loss, (0, 1))(student, teacher), jax.grad(formula)(student, teacher)
    for actual, expected in zip(jax.tree.leaves(ours[0]), jax.tree.leaves(theirs), strict=True):
        assert relative(actual, expected) < 1e-4
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(ours[1]))


def test_squared_error_and_direction_equal_their_formulas():
    student, teacher, weights_BL = unprojected(0), unprojected(9), jnp.abs(draw(B, L, seed=5))
    square = np.square(np.float64(student.logits()) - np.float64(teacher.logits())).mean(-1)
    exact = (np.asarray(weights_BL) * square).sum()
    assert relative(squared_error(student, teacher, weights_BL).loss, exact) < 1e-5
    x, y = np.float64(student.x_BLD), np.float64(teacher.x_BLD)
    cosine = (x * y).sum(-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(y, axis=-1)
    term = direction(student.x_BLD, teacher.x_BLD, weights_BL)
    assert relative(term.loss, (np.asarray(weights_BL) * (1 - cosine)).sum()) < 1e-5


@pytest.mark.parametrize("kind", [Distillation, LogitMatching])
def test_a_student_equal_to_its_teacher_has_a_loss_of_zero(kind):
    rows, _ = batch()
    without_dropout = bert.Model(
        bert.Config(
            vocab_size=tiny.V,
            max_length=32,
            num_layers=4,
            num_heads=3,
            width=24,
            mlp_width=40,
            head_width=8,
            dropout=0.0,
            num_segments=2,
        )
    )
    objective = kind(MASKED, without_dropout, TEACHER_PARAMS)
    loss = lambda params: objective.loss(
        without_dropout, params, rows, (), jax.random.key(0), train=True
    )[0]
    terms = loss(TEACHER_PARAMS)
    assert abs(float(terms["soft"].loss)) < 1e-4
    assert terms["soft"].right == rows["weights"]["soft"].sum()
    if kind is Distillation:
        assert abs(float(terms["states"].loss)) < 1e-4
    assert loss(tiny.wide(without_dropout, seed=3))["soft"].loss > 1


def test_padding_changes_no_loss_and_the_teacher_has_no_dropout():
    rows, mask = batch()
    assert (np.asarray(rows["weights"]["soft"]) == mask).all()
    loss_terms = lambda batch, key: OBJECTIVE.loss(
        STUDENT, PARAMS, batch, (), jax.random.key(key), train=True
    )[0]
    before = loss_terms(rows, 0)
    noise = np.random.default_rng(1).integers(5, tiny.V, mask.shape)
    changed = rows | {"tokens": jnp.where(mask, rows["tokens"], noise)}
    for name, term in loss_terms(changed, 0).items():
        assert relative(term.loss, before[name].loss) < 1e-5
    for name, term in loss_terms(
        rows, 1
    ).items():  # the student has no dropout, but the config of the teacher has
        assert term.loss == before[name].loss


def test_the_terms_are_those_of_the_factors():
    rows, _ = batch()
    for objective in (OBJECTIVE, Distillation(MASKED, TEACHER, TEACHER_PARAMS, states=0.0)):
        terms, _ = objective.loss(STUDENT, PARAMS, rows, (), jax.random.key(0), train=False)
        assert {name for name, factor in objective.factors.items() if factor} == set(terms)
    assert OBJECTIVE.factors == {"soft": 5.0, "masked": 2.0, "states": 1.0}


def test_the_teacher_is_an_argument_of_the_step_and_not_a_constant():
    leaves, tree = jax.tree.flatten(OBJECTIVE)
    assert len(leaves) == len(jax.tree.leaves(TEACHER_PARAMS))
    rows, _ = batch()

    def loss(objective, params):
        return objective.loss(STUDENT, params, rows, (), jax.random.key(0), train=True)[0]

    largest = max(x.size for x in leaves)
    program = jax.jit(loss).lower(jax.tree.unflatten(tree, leaves), PARAMS).as_text()
    assert f"dense<{largest}" not in program
    assert len(program) < 40 * 1024 * 8


def test_a_student_inherits_evenly_spaced_layers_of_its_teacher():
    teacher_config = bert.Config(
        vocab_size=50,
        max_length=32,
        num_layers=12,
        num_heads=3,
        width=24,
        mlp_width=40,
        head_width=8,
    )
    params = tiny.wide(bert.Model(teacher_config))
    student_config = distilbert.Config(
        vocab_size=50,
        max_length=32,
        num_layers=6,
        num_heads=3,
        width=24,
        mlp_width=40,
        head_width=8,
    )
    shapes = flatten(abstract(distilbert.Model(student_config)))
    student_params = inherited(shapes, flatten(params), 6, teacher_config.num_layers)
    assert set(student_params) == set(
        shapes
    )  # every parameter of the student is in the teacher too
    for layer, teacher_layer in enumerate((0, 2, 4, 7, 9, 11)):
        kernel = student_params[f"trunk/blocks_{layer}/mlp/up/kernel"]
        assert (kernel == params["trunk"][f"blocks_{teacher_layer}"]["mlp"]["up"]["kernel"]).all()
    narrow = distilbert.Config(
        vocab_size=50,
        max_length=32,
        num_layers=6,
        num_heads=3,
        width=24,
        mlp_width=44,
        head_width=8,
    )
    shapes = flatten(abstract(distilbert.Model(narrow)))
    student_params = inherited(shapes, flatten(params), 6, teacher_config.num_layers)
    assert "trunk/blocks_0/mlp/up/kernel" not in student_params
    assert "trunk/blocks_0/attention/query/kernel" in student_params
