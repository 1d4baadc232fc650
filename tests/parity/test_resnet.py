"""ResNet against transformers on large random weights, and properties of image models."""

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
    """Return images of odd sizes, so that the padding at edges matters."""
    return np.random.default_rng(0).normal(size=(3, 37, 45, 2)).astype(np.float32)


def theirs_of(pixels):
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())


def outputs(model, pixels):
    """Return logits, the vector that the head reads, and the output of every stage."""
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
    gradients = as_published(model, gradient, tmp_path)
    for name, parameter in theirs.named_parameters():
        assert relative(gradients[name], parameter.grad.numpy()) < 1e-4, name


def test_training_uses_batch_statistics_and_updates_the_running_ones(published, pixels, tmp_path):
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
        is_statistic = path.endswith(STATISTICS)
        assert not np.array_equal(array, before[path]) if is_statistic else array is before[path], (
            path
        )
    updated, their_state = as_published(model, remembered, tmp_path), theirs.state_dict()
    for name in (n for n in their_state if n.endswith(("running_mean", "running_var"))):
        assert relative(updated[name], their_state[name].numpy()) < TOLERANCE, name


def test_one_value_per_channel_is_refused_in_training():
    model = resnet.Model(resnet.SIZES["resnet-tiny"])
    params = jax.eval_shape(model.init, jax.random.key(0))["params"]
    train = lambda p: model.apply({"params": p}, jnp.zeros((1, 32, 32, 1)), train=True)
    with pytest.raises(ValueError, match="more than one value per channel"):
        jax.eval_shape(train, params)


def test_conversion_to_our_folder_and_back_is_bit_exact(published, tmp_path):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    model_folder.write(tmp_path / "ours", "resnet", model.config, params)
    assert zoo.load(tmp_path / "ours")[0] == model
    zoo.export(zoo.load(tmp_path / "ours"), tmp_path / "theirs")
    reloaded, info = transformers.ResNetForImageClassification.from_pretrained(
        tmp_path / "theirs", output_loading_info=True
    )
    assert not any(info.values()), info
    expected, actual = theirs.state_dict(), reloaded.state_dict()
    assert expected.keys() == actual.keys()
    for name, array in expected.items():
        assert torch.equal(array, actual[name]), name


def test_a_bare_trunk_lacks_only_the_head(published, tmp_path):
    theirs, _ = published
    theirs.resnet.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'ResNetModel'; zoo supports ResNetForImageClassifi"):
        zoo.load(tmp_path)
    with pytest.raises(ValueError, match="does not fit ResNetClassifier: missing") as error:
        zoo.load(tmp_path, cls="ResNetClassifier")
    assert re.findall(r"missing (\S+)", str(error.value)) == [
        "classifier.1.bias",
        "classifier.1.weight",
    ]


def test_unsupported_configs_are_refused(tmp_path):
    for name, value in (("downsample_in_bottleneck", True), ("hidden_act", "gelu")):
        transformers.ResNetConfig(**{name: value}).save_pretrained(tmp_path)
        with pytest.raises(ValueError, match=f"config.json has {name} = {value!r}; zoo supports"):
            zoo.load(tmp_path)
    transformers.ResNetConfig(depths=[1, 1], hidden_sizes=[8, 8]).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"four stages .* depths=\(1, 1\)"):
        zoo.load(tmp_path)


def test_sizes_have_the_number_of_parameters_in_their_comments():
    row = r'^    "([\w-]+)": Config\((?:.|\n(?!    "))*?\),  # ([\d,]+)$'
    stated = dict(re.findall(row, Path(resnet.__file__).read_text(), re.M))
    assert stated.keys() == resnet.SIZES.keys() <= zoo.sizes().keys()
    for name, config in resnet.SIZES.items():
        parameters = flatten(abstract(resnet.Model(config)))
        count = sum(x.size for path, x in parameters.items() if not path.endswith(STATISTICS))
        assert count == int(stated[name].replace(",", "")), name


def test_resnet_34_is_the_model_of_transformers():
    format_ = huggingface.find_class(resnet.Model)
    with torch.device("meta"):
        config = transformers.ResNetConfig(**format_.from_config(resnet.Config()))
        theirs = transformers.ResNetForImageClassification(config)
    assert sum(p.numel() for p in theirs.parameters()) == 21_797_672
    assert format_.to_config(config.to_dict()) == resnet.Config()


def test_the_tables_name_every_parameter():
    rows, with_axes = set(), 0
    for kind in BLOCKS:  # whose first stage widens, otherwise it would need no shortcut
        config = resnet.Config(
            num_channels=1, stem_width=4, depths=(1, 2, 1, 1), widths=(8, 8, 8, 12), block=kind
        )
        parameters = flatten(abstract(resnet.Model(config)))
        rows |= {re.sub(r"_\d+/", "_{}/", path) for path in parameters}
        for path, parameter in parameters.items():
            assert sum(path.startswith(group) for group in resnet.GROUPS) == 1
            axes = next((a for rule, a in resnet.AXES if re.search(rule, path)), None)
            assert axes is None or len(axes) == parameter.ndim, path
            with_axes += axes is not None
    assert rows == set(huggingface.find_class(resnet.Model).weights)
    assert with_axes > 20


def test_shapes_agree_with_names(pixels):
    model = resnet.Model(
        resnet.Config(
            num_channels=2, stem_width=8, depths=(1, 1, 1, 1), widths=(8, 8, 12, 16), num_classes=5
        )
    )
    params = jax.eval_shape(model.init, jax.random.key(0))["params"]
    with shapes.checked() as places:
        for train in (False, True):
            run = lambda p, train=train: model.apply({"params": p}, pixels, train=train)
            assert jax.eval_shape(run, params).shape == (3, 5)
    assert "resnet.py:Convolution.__call__:kernel_KKIO" in places
    assert len(places) > 8


@pytest.mark.parametrize("published", ["basic"], indirect=True)
def test_bfloat16_parameters_give_nearly_the_float32_logits(published, pixels):
    _, folder = published
    model, params, _ = zoo.load(folder)
    run = jax.jit(lambda params: model.apply({"params": params}, pixels))
    bfloat16_params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    exact_logits, bfloat16_logits = (
        run(jax.tree.map(lambda x: x.astype(jnp.float32), bfloat16_params)),
        run(bfloat16_params),
    )
    assert bfloat16_logits.dtype == jnp.float32
    assert 0 < relative(bfloat16_logits, exact_logits) < 0.03
    gradient = jax.eval_shape(jax.grad(lambda params: jnp.sin(run(params)).sum()), bfloat16_params)
    assert all(x.dtype == jnp.bfloat16 for x in jax.tree.leaves(gradient))
