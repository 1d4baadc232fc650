"""Every head for fine-tuning against transformers, on wide random weights and padded rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.wide import relative, widen
from zoo import registry
from zoo.formats import huggingface
from zoo.params import flatten

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOLERANCE, GRADIENT = 1e-5, 1e-4
V, B, L = 97, 3, 20
LABELS = ("bad", "middling", "good")
BERT = {
    "vocab_size": V,
    "max_position_embeddings": 34,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 112,
}
DISTIL = {"vocab_size": V, "dim": 48, "n_layers": 2, "n_heads": 4, "hidden_dim": 112}
XLNET = {"vocab_size": V, "d_model": 48, "n_layer": 2, "n_head": 4, "d_inner": 112}
GPT2 = {"vocab_size": V, "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 32}
GPT2 |= {"pad_token_id": 0}
FAMILIES = {
    "Bert": (BERT, True),
    "Roberta": (BERT | {"type_vocab_size": 1, "layer_norm_eps": 1e-5}, False),
    "Albert": (BERT | {"embedding_size": 24, "hidden_act": "gelu_new"}, True),
    "Electra": (BERT | {"embedding_size": 24}, True),
    "DistilBert": (DISTIL, False),
    "XLNet": (XLNET, True),
    "GPT2": (GPT2, False),
}
SUFFIXES = {
    "classification": "ForSequenceClassification",
    "tagging": "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
}
families = pytest.mark.parametrize("family", FAMILIES)
tasks = pytest.mark.parametrize("task", SUFFIXES)


@pytest.fixture(scope="module")
def batch():
    """Tokens, segments and a mask; XLNet's rows are padded on the left, as it was trained."""
    draw = np.random.default_rng(0)
    lengths_B1, turns_B1 = np.array([[20], [13], [5]]), np.array([[9], [4], [2]])
    tokens_BL = draw.integers(2, V, (B, L))  # 1 is RoBERTa's padding
    segments_BL = (np.arange(L) >= turns_B1).astype(np.int64)
    return tokens_BL, segments_BL, (np.arange(L) < lengths_B1).astype(np.int64)


def suffix(family, task):
    return SUFFIXES[task] + ("Simple" if (family, task) == ("XLNet", "question-answering") else "")


def build(family, task, folder, **more):
    sizes, _ = FAMILIES[family]
    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {x: i for i, x in enumerate(LABELS)}}
    labels = {} if task == "question-answering" else labels
    config = getattr(transformers, f"{family}Config")(
        **sizes, **labels, **more, attn_implementation="eager"
    )
    model = getattr(transformers, family + suffix(family, task))(config).eval()
    widen(model)
    with torch.no_grad():  # norms about 1, or every score is small and attention has no gradient
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 and name.endswith("weight"):
                parameter += 1
    model.save_pretrained(folder)
    return model


def asked(family, theirs, batch):
    tokens_BL, segments_BL, documents_BL = map(torch.from_numpy, batch)
    inputs = {"input_ids": tokens_BL, "attention_mask": documents_BL}
    if FAMILIES[family][1]:
        inputs["token_type_ids"] = segments_BL
    with torch.no_grad():
        found = theirs(**inputs)
    if "logits" in found:
        return found.logits.numpy()
    return np.stack([found.start_logits.numpy(), found.end_logits.numpy()], -1)


def turned(family, task, batch):
    """XLNet's texts end in their last column: padding on the left, where transformers looks."""
    if (family, task) != ("XLNet", "classification"):
        return batch
    shift = lambda row, count: np.roll(row, L - count)
    lengths = batch[2].sum(1)
    return tuple(np.stack([shift(r, n) for r, n in zip(x, lengths, strict=True)]) for x in batch)


def without_padding_tokens(family, batch):
    """GPT-2 finds its last token where the padding's id begins."""
    tokens_BL, _, documents_BL = batch
    return (np.where(documents_BL, tokens_BL, 0) if family == "GPT2" else tokens_BL), *batch[1:]


@families
@tasks
def test_heads_equal_those_of_transformers(family, task, batch, tmp_path):
    theirs = build(family, task, tmp_path)
    batch = without_padding_tokens(family, turned(family, task, batch))
    expected = asked(family, theirs, batch)
    model, params, _ = zoo.load(tmp_path)
    assert type(model) is registry.named(registry.name_of(model)).TASKS[task]
    assert task == "question-answering" or model.config.labels == LABELS
    found = np.asarray(model.apply({"params": params}, *batch))
    real = ... if task == "classification" else batch[2].astype(bool)
    assert relative(found[real], expected[real]) < TOLERANCE


@families
@tasks
def test_heads_and_labels_go_back_to_transformers(family, task, batch, tmp_path):
    theirs = build(family, task, tmp_path / "theirs")
    batch = without_padding_tokens(family, turned(family, task, batch))
    model, params, _ = zoo.load(tmp_path / "theirs")
    architecture = registry.named(registry.name_of(model))
    huggingface.write(tmp_path / "ours", architecture, model.config, params, None, type(model))
    cls = getattr(transformers, family + suffix(family, task))
    back, said = cls.from_pretrained(
        tmp_path / "ours", output_loading_info=True, attn_implementation="eager"
    )
    back.config.pad_token_id = theirs.config.pad_token_id
    assert not any(said.values()), said
    assert task == "question-answering" or tuple(back.config.id2label.values()) == LABELS
    real = ... if task == "classification" else batch[2].astype(bool)
    found, expected = asked(family, back.eval(), batch), asked(family, theirs, batch)
    assert relative(found[real], expected[real]) < 1e-6


@families
def test_every_gradient_of_the_classes_equals(family, batch, tmp_path):
    theirs = build(family, "classification", tmp_path)
    batch = without_padding_tokens(family, turned(family, "classification", batch))
    model, params, _ = zoo.load(tmp_path)
    classes_B = np.array([2, 0, 1])
    tokens_BL, segments_BL, documents_BL = map(torch.from_numpy, batch)
    segments = {"token_type_ids": segments_BL} if FAMILIES[family][1] else {}
    labels = torch.from_numpy(classes_B)
    theirs(tokens_BL, attention_mask=documents_BL, labels=labels, **segments).loss.backward()

    def loss(params):
        logits_BC = model.apply({"params": params}, *map(jnp.asarray, batch))
        return -jax.nn.log_softmax(logits_BC)[jnp.arange(B), classes_B].mean()

    weights = registry.named(registry.name_of(model)).WEIGHTS
    named = dict(theirs.named_parameters())
    for path, ours in flatten(jax.jit(jax.grad(loss))(params)).items():
        name, layout = huggingface._row(weights, path)
        name, part, parts = huggingface._slice(name)
        gradient = named[name].grad
        if gradient is None:  # of XLNet's query stream, which classes do not run
            assert not np.abs(ours).any(), path
            continue
        expected = np.split(gradient.numpy(), parts, axis=-1)[part]
        if path.endswith("token_embedding/embedding"):  # torch gives a padding id no gradient
            ours, expected = ours[2:], expected[2:]
        if path.endswith("key/bias"):  # exactly zero: a shift of all scores
            assert np.abs(ours).max() < 1e-5
        else:
            theirs_ours = huggingface._to_ours(layout, ours.shape, expected)
            assert relative(ours, theirs_ours) < GRADIENT, path


@families
def test_one_label_is_a_number_to_predict(family, batch, tmp_path):
    theirs = build(family, "classification", tmp_path / "theirs")
    config = theirs.config
    config.id2label, config.label2id = {0: "score"}, {"score": 0}
    theirs = type(theirs)(config).eval()
    theirs.save_pretrained(tmp_path / "one")
    model, params, _ = zoo.load(tmp_path / "one")
    assert model.config.labels == ("score",)
    architecture = registry.named(registry.name_of(model))
    huggingface.write(tmp_path / "ours", architecture, model.config, params, None, type(model))
    assert huggingface.read_config(tmp_path / "ours")["problem_type"] == "regression"
