"""Every published class against transformers, on large random weights and padded rows."""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import zoo
from tests.parity import table
from tests.parity.table import MODELS, ROWS, Row
from tests.wide import relative, widen
from zoo import registry
from zoo.checkpoints import model_folder
from zoo.formats import huggingface
from zoo.params import abstract, flatten

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOLERANCE, GRADIENT = 1e-5, 1e-4
rows = pytest.mark.parametrize("name", ROWS)


def build(row: Row):
    """Return a model of transformers with large random weights."""
    cls = getattr(transformers, row.published)
    model = cls(cls.config_class(**row.config, attn_implementation="eager")).eval()
    if row.variant == "v1_1":  # an untied head differs from the embedding table
        model.lm_head.weight = torch.nn.Parameter(torch.empty(table.V, 48))
    widen(model)
    with (
        torch.no_grad()
    ):  # norms about 1, otherwise attention logits are small and have no gradient
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 and name.endswith("weight"):
                parameter += 1
            if name.endswith("Attention.q.weight"):  # T5 does not scale its attention logits
                parameter *= row.config["d_kv"] ** -0.5
            if name.endswith("attention.q_proj.weight"):  # nor does GPT-Neo
                parameter *= (row.config["hidden_size"] // row.config["num_heads"]) ** -0.5
        if row.published == "MarianMTModel":
            for side in (model.model.encoder, model.model.decoder):
                side.embed_positions.weight.copy_(side.embed_positions.create_weight())
            bias_V = np.random.default_rng(1).normal(0, 0.2, table.V)
            model.final_logits_bias.copy_(torch.from_numpy(bias_V))
    return model


def call(row: Row, theirs, batch, **options):
    """Return their outputs."""
    arrays = {name: torch.from_numpy(array) for name, array in batch.items()}
    inputs = {"attention_mask": arrays["documents"]}
    if "segments" in row.inputs:
        inputs["token_type_ids"] = arrays["segments"]
    if row.positions:
        inputs["position_ids"] = arrays["positions"]
    if "targets" in row.inputs:
        inputs["labels"] = torch.where(arrays["written"] > 0, arrays["targets"], -100)
    return theirs(arrays["tokens"], **inputs, **options)


def as_published(model, tree, folder) -> dict[str, np.ndarray]:
    """Return a tree shaped like the parameters, such as gradients, in their names and layouts."""
    huggingface.write(folder, huggingface.find_class(type(model)), model, tree)
    return load_file(folder / "model.safetensors")


class Case:
    """The outputs, hidden states and gradients of both models of a row, computed once."""

    def __init__(self, row: Row, folder):
        self.row, self.folder = row, folder
        self.theirs = build(row)
        self.theirs.save_pretrained(folder)
        if row.variant == "v1_1":  # as in the published folders
            fields = json.loads((folder / "config.json").read_text())
            assert (fields["tie_word_embeddings"], fields.pop("scale_decoder_outputs")) == (
                True,
                False,
            )
            fields["tie_word_embeddings"] = False
            (folder / "config.json").write_text(json.dumps(fields))
        self.model, self.params, _ = zoo.load(folder)
        self.batch = table.batch(row)
        self.real = self._real()
        self.expected, self.gradients = self._theirs()
        self.outputs, self.hidden, self.gradient = self._ours()

    def _real(self):
        """Return a function of an output that returns which of its entries are compared."""
        is_token = self.batch["written" if "targets" in self.row.inputs else "documents"] > 0
        compared_rows = np.arange(table.B) < (3 if self.row.left == "last" else 4)
        return lambda x: is_token if x.shape[:2] == is_token.shape else compared_rows

    def _weights(self, outputs):
        random = np.random.default_rng(2)
        weights = [random.normal(size=x.shape).astype(np.float32) for x in outputs]
        for x in weights:
            x[~self.real(x)] = 0
        return [x / np.sqrt((x != 0).sum()) for x in weights]

    def _theirs(self):
        exact = build(self.row).double()  # otherwise rounding errors of both add up
        bias = None
        if self.row.published == "MarianMTModel":
            bias = exact.final_logits_bias.requires_grad_(True)  # a buffer in transformers
        output = call(self.row, exact, self.batch, output_hidden_states=True)
        outputs = [output[name] for name in self.row.outputs]
        if "start_logits" in self.row.outputs:
            outputs = [torch.stack(outputs, -1)]
        weights = self._weights(outputs)
        loss = sum(
            (torch.from_numpy(w).double() * torch.sin(x)).sum()
            for w, x in zip(weights, outputs, strict=True)
        )
        loss.backward()
        parameters = dict(exact.named_parameters())
        if bias is not None:
            parameters["final_logits_bias"] = bias
        gradients = {n: None if p.grad is None else p.grad.numpy() for n, p in parameters.items()}
        arrays = [x.detach().numpy() for x in outputs]
        states = {name: [x.detach().numpy() for x in output[name]] for name in self.row.hidden}
        self.loss = output.loss.item() if "targets" in self.row.inputs else None
        return (arrays, states), gradients

    def _ours(self):
        inputs = table.our_inputs(self.row, self.batch)
        names = {name for side in self.row.hidden.values() for name in side}
        weights = self._weights(self.expected[0])

        def loss(params):
            output, state = self.model.apply(
                {"params": params},
                **inputs,
                capture_intermediates=lambda module, _: module.name in names,
                mutable="intermediates",
            )
            outputs = output if isinstance(output, tuple) else (output,)
            total = sum((w * jnp.sin(x)).sum() for w, x in zip(weights, outputs, strict=True))
            trunk = state.get("intermediates", {}).get("trunk", {})
            return total, (outputs, {name: trunk[name]["__call__"] for name in names})

        (_, (outputs, hidden)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(
            self.params
        )
        return [np.asarray(x) for x in outputs], hidden, gradient


@functools.cache
def _case(name: str, folder) -> Case:
    return Case(ROWS[name], folder)


@pytest.fixture(scope="module")
def case_of(tmp_path_factory):
    root = tmp_path_factory.mktemp("published")
    return lambda name: _case(name, root / name)


@rows
def test_outputs_equal_on_padded_rows(name, case_of):
    case = case_of(name)
    assert type(case.model).__name__.endswith(case.row.ours)
    for ours, theirs in zip(case.outputs, case.expected[0], strict=True):
        real = case.real(ours)
        assert relative(ours[real], theirs[real]) < TOLERANCE
    if case.loss is not None:
        logs_BTV = jax.nn.log_softmax(case.outputs[0])
        logs_BT = np.take_along_axis(logs_BTV, case.batch["targets"][..., None], 2)[..., 0]
        loss = -logs_BT[case.batch["written"] > 0].mean()
        assert abs(loss / case.loss - 1) < TOLERANCE
    if "id2label" in case.row.config:
        assert case.model.config.labels == table.LABELS


@pytest.mark.parametrize("name", [row.name for row in MODELS if "targets" not in row.inputs])
def test_tokens_alone_are_one_full_segment(name, case_of):
    case = case_of(name)
    tokens_BL = np.random.default_rng(1).integers(2, table.V, (2, table.L))
    with torch.no_grad():
        their_output = case.theirs(torch.from_numpy(tokens_BL))
    output = jax.jit(lambda params: case.model.apply({"params": params}, tokens_BL))(case.params)
    outputs = output if isinstance(output, tuple) else (output,)
    for ours, theirs in zip(outputs, case.row.outputs, strict=True):
        assert relative(ours, their_output[theirs].numpy()) < TOLERANCE


@pytest.mark.parametrize("name", [row.name for row in MODELS if row.hidden])
def test_every_layer_equals(name, case_of):
    case = case_of(name)
    for side, names in case.row.hidden.items():
        ours = [x[0] if isinstance(x, tuple) else x for n in names for x in case.hidden[n]]
        theirs = case.expected[1][side][1:]  # without the embeddings, which the first block tests
        real = case.batch["written" if side.startswith("decoder") else "documents"] > 0
        for x, expected in zip(ours, theirs, strict=True):
            if expected.shape[:2] != real.shape:  # XLNet has the length first
                expected = expected.swapaxes(0, 1)
            assert relative(np.asarray(x)[real], expected[real]) < TOLERANCE


@rows
def test_every_gradient_equals(name, case_of, tmp_path):
    case = case_of(name)
    ours = as_published(case.model, case.gradient, tmp_path)
    assert ours.keys() & case.gradients.keys()
    missing = case.gradients.keys() - ours.keys()
    assert all("embed_positions" in name for name in missing), missing  # Marian's are constants
    for name in case.gradients.keys() - missing:
        actual, expected = ours[name], case.gradients[name]
        if expected is None:  # of XLNet's query stream, which classifiers do not run
            assert not actual.any(), name
            continue
        if re.search(r"word_embeddings.weight|shared.weight", name):
            # torch gives the embedding of a padding id no gradient
            keep = np.arange(len(actual)) != case.row.padding
            actual, expected = actual[keep], expected[keep]
        if not np.abs(expected).max() > 1e-9:
            # The bias of keys: exactly zero, as it shifts all logits of a query.
            assert np.abs(actual).max() < 1e-5, name
        else:
            assert relative(actual, expected) < GRADIENT, name


@rows
def test_a_folder_is_converted_to_ours_and_back_to_transformers_bit_for_bit(
    name, case_of, tmp_path
):
    case = case_of(name)
    cls = type(case.model)
    model_fields = registry.name_of(case.model), case.model.config, case.params
    model_folder.write(tmp_path / "ours", *model_fields, cls=cls.__name__)
    model, params, _ = zoo.load(tmp_path / "ours")
    assert model == case.model
    assert jax.tree.all(jax.tree.map(np.array_equal, params, case.params))
    zoo.export(zoo.load(tmp_path / "ours"), tmp_path / "theirs")
    reloaded, report = type(case.theirs).from_pretrained(
        tmp_path / "theirs", attn_implementation="eager", output_loading_info=True
    )
    assert not any(report.values()), report
    assert reloaded.config.architectures == [case.row.published]
    before, after = dict(case.theirs.named_parameters()), dict(reloaded.named_parameters())
    assert before.keys() == after.keys()
    for path, parameter in before.items():
        assert torch.equal(parameter, after[path]), path
    if "id2label" in case.row.config:
        assert tuple(reloaded.config.id2label.values()) == table.LABELS
    reloaded.config.pad_token_id = case.theirs.config.pad_token_id
    with torch.no_grad():
        actual = call(case.row, reloaded.eval(), case.batch)[case.row.outputs[0]].numpy()
        expected = call(case.row, case.theirs, case.batch)[case.row.outputs[0]].numpy()
    real = case.real(actual)
    assert np.array_equal(actual[real], expected[real])


@pytest.mark.parametrize("name", [row.name for row in table.TASKS if "Sequence" in row.name])
def test_one_label_is_regression(name, case_of, tmp_path):
    case = case_of(name)
    params = jax.tree.map(lambda x: x, case.params)
    config = type(case.model.config)(**(vars(case.model.config) | {"labels": ("score",)}))
    model = type(case.model)(config)
    params = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), abstract(model))
    format_ = huggingface.find_class(type(model))
    huggingface.write(tmp_path / "one", format_, model, params)
    assert huggingface.read_config(tmp_path / "one")["problem_type"] == "regression"
    cls = getattr(transformers, case.row.published)
    theirs = cls.from_pretrained(tmp_path / "one")
    assert theirs.config.num_labels == 1
    theirs.save_pretrained(tmp_path / "again")
    assert zoo.load(tmp_path / "again")[0].config.labels == ("score",)


@pytest.mark.parametrize("row", [row for row in MODELS if row.sizes], ids=lambda row: row.name)
def test_sizes_have_the_parameter_counts_of_transformers(row):
    for name in row.sizes:
        config = zoo.sizes()[name]
        ours = next(
            cls
            for architecture in registry.ARCHITECTURES.values()
            for cls in registry.classes(architecture)
            if cls.__name__ == row.ours and name in architecture.SIZES
        )
        cls = getattr(transformers, row.published)
        fields = huggingface.find_class(ours).from_config(config)
        with torch.device("meta"):
            theirs = cls(cls.config_class(**fields))
        count = sum(p.numel() for p in theirs.parameters())
        if row.variant == "v1_1":  # the untied head, which transformers would tie
            count += config.vocab_size * config.width
        assert sum(x.size for x in flatten(abstract(ours(config))).values()) == count, name
