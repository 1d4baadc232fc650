"""ResNet against transformers on wide random weights, and the facts of the zoo for pictures."""

import copy
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import zoo
from tests import shapes
from tests.parity.test_parity import as_published
from tests.wide import relative, widen
from zoo.checkpoints import model_folder
from zoo.formats import huggingface
from zoo.models import resnet
from zoo.params import abstract, flatten

TOLERANCE = 1e-5
BLOCKS = ("basic", "bottleneck")
TARGETS_B = np.array([1, 4, 0])
STATISTICS = ("/mean", "/variance")


@pytest.fixture(scope="module", params=BLOCKS)
def published(request, tmp_path_factory):
    config = transformers.ResNetConfig(
        num_channels=2,
        embedding_size=7,
        hidden_sizes=[8, 12, 12, 20],
        depths=[1, 2, 1, 1],
        layer_type=request.param,
        num_labels=5,
    )
    model = transformers.ResNetForImageClassification(config).eval()
    widen(model)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight += 1
                module.running_mean.normal_(0, 0.2, generator=draw)
                module.running_var.uniform_(0.3, 2, generator=draw)
    folder = tmp_path_factory.mktemp("published")
    model.save_pretrained(folder)
    return model, folder


@pytest.fixture(scope="module")
def pixels():
    """Odd sizes, so that the edges count."""
    return np.random.default_rng(0).normal(size=(3, 37, 45, 2)).astype(np.float32)


def theirs_of(pixels):
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())


def outputs(model, pixels):
    """The classes, the vector they are read from, and each stage."""
    return model(pixels), model.vectors(pixels), model.trunk.features(pixels)


def test_every_output_equals(published, pixels):
    theirs, folder = published
    model, params, tokenizer = zoo.load(folder)
    run = jax.jit(lambda params: model.apply({"params": params}, pixels, method=outputs))
    logits_BC, vectors_BD, features = run(params)
    with torch.no_grad():
        expected = theirs(theirs_of(pixels), output_hidden_states=True)
        pooled = theirs.resnet(theirs_of(pixels)).pooler_output
    assert relative(logits_BC, expected.logits.numpy()) < TOLERANCE
    assert relative(vectors_BD, pooled.numpy()[..., 0, 0]) < TOLERANCE
    for x_BYXD, x_BDYX in zip(features, expected.hidden_states, strict=True):
        assert relative(x_BYXD, x_BDYX.numpy().transpose(0, 2, 3, 1)) < TOLERANCE
    assert tokenizer is None


@pytest.mark.parametrize(
    ("published", "train"),
    [("basic", False), ("bottleneck", False), ("basic", True)],
    indirect=["published"],
)
def test_every_gradient_equals(published, pixels, train, tmp_path):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    theirs = copy.deepcopy(theirs).train(train)
    theirs(theirs_of(pixels), labels=torch.from_numpy(TARGETS_B)).loss.backward()

    def loss(params):
        logs_BC = jax.nn.log_softmax(model.apply({"params": params}, pixels, train=train))
        return -logs_BC[jnp.arange(3), TARGETS_B].mean()

    gradient = jax.jit(jax.grad(loss))(params)
    assert all((x == 0).all() for p, x in flatten(gradient).items() if p.endswith(STATISTICS))
    found = as_published(model, gradient, tmp_path)
    for name, parameter in theirs.named_parameters():
        assert relative(found[name], parameter.grad.numpy()) < 1e-4, name


def test_a_step_in_training_has_the_statistics_of_its_batch_and_remembers_them(
    published, pixels, tmp_path
):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    theirs = copy.deepcopy(theirs).train()
    with torch.no_grad():
        expected = theirs(theirs_of(pixels)).logits.numpy()
    step = jax.jit(
        lambda params: model.apply({"params": params}, pixels, train=True, mutable="statistics")
    )
    logits_BC, state = step(params)
    assert relative(logits_BC, expected) < TOLERANCE
    before = flatten(params)
    remembered = resnet.remember(params, state["statistics"])
    after = flatten(remembered)
    assert after.keys() == before.keys()
    for path, array in after.items():
        moved = path.endswith(STATISTICS)
        assert not np.array_equal(array, before[path]) if moved else array is before[path], path
    found, held = as_published(model, remembered, tmp_path), theirs.state_dict()
    for name in (n for n in held if n.endswith(("running_mean", "running_var"))):
        assert relative(found[name], held[name].numpy()) < TOLERANCE, name


def test_one_value_a_channel_is_refused_in_training():
    model = resnet.Model(resnet.SIZES["resnet-tiny"])
    params = jax.eval_shape(model.init, jax.random.key(0))["params"]
    train = lambda p: model.apply({"params": p}, jnp.zeros((1, 32, 32, 1)), train=True)
    with pytest.raises(ValueError, match="more than one value per channel"):
        jax.eval_shape(train, params)


def test_a_trip_through_our_folder_and_theirs_changes_no_bit(published, tmp_path):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    model_folder.write(tmp_path / "ours", "resnet", model.config, params)
    assert zoo.load(tmp_path / "ours")[0] == model
    zoo.export(zoo.load(tmp_path / "ours"), tmp_path / "theirs")
    again, info = transformers.ResNetForImageClassification.from_pretrained(
        tmp_path / "theirs", output_loading_info=True
    )
    assert not any(info.values()), info
    expected, found = theirs.state_dict(), again.state_dict()
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        assert torch.equal(array, found[name]), name


def test_a_bare_trunk_lacks_the_head_alone(published, tmp_path):
    theirs, _ = published
    theirs.resnet.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="does not fit ResNetClassifier: missing") as error:
        zoo.load(tmp_path)
    assert re.findall(r"missing (\S+)", str(error.value)) == [
        "classifier.1.bias",
        "classifier.1.weight",
    ]


def test_what_is_not_supported_is_refused(tmp_path):
    for name, value in (("downsample_in_bottleneck", True), ("hidden_act", "gelu")):
        transformers.ResNetConfig(**{name: value}).save_pretrained(tmp_path)
        with pytest.raises(ValueError, match=f"config.json has {name} = {value!r}; zoo supports"):
            zoo.load(tmp_path)
    transformers.ResNetConfig(depths=[1, 1], hidden_sizes=[8, 8]).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"four stages .* depths=\(1, 1\)"):
        zoo.load(tmp_path)


def test_sizes_count_what_stands_beside_them():
    row = r'^    "([\w-]+)": Config\((?:.|\n(?!    "))*?\),  # ([\d,]+)$'
    written = dict(re.findall(row, Path(resnet.__file__).read_text(), re.M))
    assert written.keys() == resnet.SIZES.keys() <= zoo.sizes().keys()
    for name, config in resnet.SIZES.items():
        found = flatten(abstract(resnet.Model(config)))
        count = sum(x.size for path, x in found.items() if not path.endswith(STATISTICS))
        assert count == int(written[name].replace(",", "")), name


def test_resnet_34_is_the_model_of_transformers():
    known = huggingface.find_class(resnet.Model)
    with torch.device("meta"):
        config = transformers.ResNetConfig(**known.from_config(resnet.Config()))
        theirs = transformers.ResNetForImageClassification(config)
    assert sum(p.numel() for p in theirs.parameters()) == 21_797_672
    assert known.to_config(config.to_dict()) == resnet.Config()


def test_the_tables_name_every_parameter():
    rows, grouped = set(), 0
    for kind in BLOCKS:  # whose first stages widen, or the first would need no shortcut
        config = resnet.Config(
            num_channels=1, stem_width=4, depths=(1, 2, 1, 1), widths=(8, 8, 8, 12), block=kind
        )
        found = flatten(abstract(resnet.Model(config)))
        rows |= {re.sub(r"_\d+/", "_{}/", path) for path in found}
        for path, parameter in found.items():
            assert sum(path.startswith(group) for group in resnet.GROUPS) == 1
            axes = next((a for rule, a in resnet.AXES if re.search(rule, path)), None)
            assert axes is None or len(axes) == parameter.ndim, path
            grouped += axes is not None
    assert rows == set(huggingface.find_class(resnet.Model).weights)
    assert grouped > 20


def test_shapes_are_what_names_say(pixels):
    model = resnet.Model(
        resnet.Config(
            num_channels=2, stem_width=8, depths=(1, 1, 1, 1), widths=(8, 8, 12, 16), num_classes=5
        )
    )
    params = jax.eval_shape(model.init, jax.random.key(0))["params"]
    with shapes.checked() as seen:
        for train in (False, True):
            run = lambda p, train=train: model.apply({"params": p}, pixels, train=train)
            assert jax.eval_shape(run, params).shape == (3, 5)
    assert "resnet.py:Convolution.__call__:kernel_KKIO" in seen
    assert len(seen) > 8


@pytest.mark.parametrize("published", ["basic"], indirect=True)
def test_bfloat16_parameters_give_float32_close_by(published, pixels):
    _, folder = published
    model, params, _ = zoo.load(folder)
    run = jax.jit(lambda params: model.apply({"params": params}, pixels))
    small = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    exact, near = run(jax.tree.map(lambda x: x.astype(jnp.float32), small)), run(small)
    assert near.dtype == jnp.float32
    assert 0 < relative(near, exact) < 0.03
    gradient = jax.eval_shape(jax.grad(lambda params: jnp.sin(run(params)).sum()), small)
    assert all(x.dtype == jnp.bfloat16 for x in jax.tree.leaves(gradient))
