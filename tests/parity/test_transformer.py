"""The Transformer against Marian in transformers on wide random weights."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.wide import relative, widen
from zoo.formats import huggingface
from zoo.inference import beam_search, generate
from zoo.models import transformer
from zoo.params import abstract, flatten

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
save_file = pytest.importorskip("safetensors.torch").save_file

TOLERANCE = 1e-5
V, B, L, T = 97, 4, 50, 12


@pytest.fixture(scope="module", params=[("swish", 96, 0), ("relu", 0, 1)], ids=lambda p: p[0])
def published(request, tmp_path_factory):
    """A wide random model of transformers; the first has Marian's own ids for start and end."""
    activation, start, end = request.param
    config = transformers.MarianConfig(
        vocab_size=V,
        max_position_embeddings=64,
        d_model=48,
        encoder_layers=3,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=112,
        decoder_ffn_dim=112,
        activation_function=activation,
        scale_embedding=True,
        decoder_start_token_id=start,
        pad_token_id=start,
        eos_token_id=end,
        forced_eos_token_id=None,
        dropout=0.0,
        attn_implementation="eager",
    )
    model = transformers.MarianMTModel(config).eval()
    widen(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("layer_norm.weight"):
                parameter += 1  # or every score is small and attention has no gradient
        for side in (model.model.encoder, model.model.decoder):
            side.embed_positions.weight.copy_(side.embed_positions.create_weight())
        bias_V = np.random.default_rng(1).normal(0, 0.2, V)
        model.final_logits_bias.copy_(torch.from_numpy(bias_V))
    folder = tmp_path_factory.mktemp("published")
    model.save_pretrained(folder)
    return model, folder


@pytest.fixture(scope="module")
def batch():
    """Sources and targets, padded, and what of them is real."""
    draw = np.random.default_rng(0)
    tokens_BL, targets_BT = draw.integers(2, V - 1, (B, L)), draw.integers(2, V - 1, (B, T))
    source_BL = (np.arange(L) < np.array([[50], [33], [9], [1]])).astype(np.int64)
    target_BT = (np.arange(T) < np.array([[7], [12], [1], [10]])).astype(np.int64)
    return tokens_BL, targets_BT, source_BL, target_BT


def asked(model, batch, **options):
    tokens_BL, targets_BT, source_BL, target_BT = map(torch.from_numpy, batch)
    labels_BT = torch.where(target_BT > 0, targets_BT, -100)
    return model(tokens_BL, attention_mask=source_BL, labels=labels_BT, **options)


def inputs(batch, start):
    """Sources, targets shifted right, documents."""
    shifted_BT = np.pad(batch[1], ((0, 0), (1, 0)), constant_values=start)[:, :-1]
    return tuple(jnp.asarray(x, jnp.int32) for x in (batch[0], shifted_BT, batch[2]))


def loss(model, params, batch):
    read = inputs(batch, model.config.start)
    logs_BTV = jax.nn.log_softmax(model.apply({"params": params}, *read))
    logs_BT = jnp.take_along_axis(logs_BTV, batch[1][..., None], 2)[..., 0]
    return -(logs_BT * batch[3]).sum() / batch[3].sum()


def test_logits_and_loss_equal_on_padded_batches(published, batch):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    with torch.no_grad():
        expected = asked(theirs, batch)
    real = batch[3].astype(bool)
    logits_BTV = np.asarray(model.apply({"params": params}, *inputs(batch, model.config.start)))
    assert relative(logits_BTV[real], expected.logits.numpy()[real]) < TOLERANCE
    assert abs(loss(model, params, batch) / expected.loss.item() - 1) < TOLERANCE


def test_every_layer_equals(published, batch):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    with torch.no_grad():
        expected = asked(theirs, batch, output_hidden_states=True)
    _, state = model.apply(
        {"params": params},
        *inputs(batch, model.config.start),
        capture_intermediates=lambda module, _: isinstance(module, zoo.attention.PostNormBlock),
        mutable="intermediates",
    )
    trunk = state["intermediates"]["trunk"]
    for side, hidden, real, count in (
        ("encoder", expected.encoder_hidden_states, batch[2].astype(bool), 3),
        ("decoder", expected.decoder_hidden_states, batch[3].astype(bool), 2),
    ):
        assert len(hidden) == count + 1  # the embeddings too
        for i, theirs_BLD in enumerate(hidden[1:]):
            (ours_BLD,) = trunk[f"{side}_{i}"]["__call__"]
            found = relative(np.asarray(ours_BLD)[real], theirs_BLD.numpy()[real])
            assert found < TOLERANCE, (side, i)


def test_every_gradient_equals(published, batch):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    theirs.zero_grad()
    bias = theirs.final_logits_bias.requires_grad_(True)  # a buffer there
    asked(theirs, batch).loss.backward()
    named = dict(theirs.named_parameters()) | {"final_logits_bias": bias}
    gradient = jax.jit(jax.grad(lambda params: loss(model, params, batch)))(params)
    for path, ours in flatten(gradient).items():
        name, layout = huggingface._row(transformer.WEIGHTS, path)
        expected = huggingface._to_ours(layout, ours.shape, named[name].grad.numpy())
        if path == "trunk/token_embedding/embedding":  # torch gives a padding id no input gradient
            ours, expected = (np.delete(x, model.config.start, 0) for x in (ours, expected))
        if path.endswith("key/bias"):  # exactly zero: a shift of all scores
            assert np.abs(ours).max() < 1e-5
        else:
            assert relative(ours, expected) < 1e-4, path
    bias.requires_grad_(False)


def test_export_then_transformers_then_equal(published, batch, tmp_path):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    huggingface.write(tmp_path, transformer, model.config, params)
    again, info = transformers.MarianMTModel.from_pretrained(
        tmp_path, output_loading_info=True, attn_implementation="eager"
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    start, end, settings = model.config.start, model.config.end, again.generation_config
    assert (settings.decoder_start_token_id, settings.pad_token_id) == (start, start)
    assert (settings.eos_token_id, settings.forced_eos_token_id) == (end, end)
    assert settings.bad_words_ids == [[start]]
    for (name, a), (_, b) in zip(theirs.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    with torch.no_grad():
        assert torch.equal(asked(again.eval(), batch).logits, asked(theirs, batch).logits)
    again.save_pretrained(tmp_path / "again")
    assert zoo.load(tmp_path / "again")[0] == model


def sources(count=6):
    """Sources of several lengths: our prompts, and the padded batch and mask of transformers."""
    draw = np.random.default_rng(1)
    prompts = [draw.integers(2, V - 1, n).tolist() for n in draw.integers(1, 20, count)]
    ids = torch.zeros(count, 20, dtype=torch.long)
    for row, prompt in zip(ids, prompts, strict=True):
        row[: len(prompt)] = torch.tensor(prompt)
    real = torch.tensor([[1] * len(p) + [0] * (20 - len(p)) for p in prompts])
    return prompts, {"input_ids": ids, "attention_mask": real}


def asked_to_write(theirs, padded, end, **options):
    """As its authors had it: the start never comes, and the other words share its probability."""
    return theirs.generate(
        **padded,
        max_new_tokens=15,
        do_sample=False,
        eos_token_id=end,
        bad_words_ids=[[theirs.config.decoder_start_token_id]],
        renormalize_logits=True,
        **options,
    )


def written(row, end):
    """The tokens of an output of transformers: behind the start token, up to the end."""
    row = row.tolist()[1:]
    return row[: row.index(end)] if end in row else row


def test_transformers_writes_the_same(published):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    prompts, padded = sources()
    settings = {"length": 15, "temperature": 0.0}
    free = generate.generate(model, params, prompts, **settings)
    end = free[0][5]  # a token that comes
    found = generate.generate(model, params, prompts, end=end, **settings)
    assert found == [written(row, end) for row in asked_to_write(theirs, padded, end)]
    assert len({len(row) for row in found}) > 1


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
def test_transformers_finds_the_same_beams(published, penalty, early):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    prompts, padded = sources()
    free = beam_search.beam_search(model, params, prompts, length=15)
    end = free[0][0][0][5]
    found = beam_search.beam_search(
        model, params, prompts, length=15, end=end, penalty=penalty, early=early, best=3
    )
    whole = asked_to_write(
        theirs,
        padded,
        end,
        num_beams=4,
        num_return_sequences=3,
        length_penalty=penalty,
        early_stopping=early,
        output_scores=True,
        return_dict_in_generate=True,
    )
    texts = [text for row in found for text, _ in row]
    assert texts == [written(row, end) for row in whole.sequences]
    scores = [score for row in found for _, score in row]
    assert relative(scores, whole.sequences_scores.numpy()) < TOLERANCE
    assert len({len(text) for text in texts}) > 1


def test_folders_of_old_versions_hold_copies_and_waves(published, tmp_path):
    theirs, folder = published
    tensors = {name: x.detach().clone().contiguous() for name, x in theirs.state_dict().items()}
    assert {"lm_head.weight", "model.encoder.embed_positions.weight"} < set(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    shutil.copy(folder / "config.json", tmp_path)
    model, params, _ = zoo.load(folder)
    again, old, _ = zoo.load(tmp_path)
    assert again == model
    assert jax.tree.all(jax.tree.map(jnp.array_equal, old, params))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale_embedding", False),
        ("static_position_embeddings", False),
        ("normalize_before", True),
        ("decoder_vocab_size", 98),
        ("decoder_attention_heads", 6),
        ("activation_function", "gelu_new"),
    ],
)
def test_a_folder_of_other_mathematics_is_refused(published, name, value, tmp_path):
    _, folder = published
    fields = json.loads((folder / "config.json").read_text()) | {name: value}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=f"has {name} = {value!r}; zoo has"):
        zoo.load(tmp_path)


def test_sinusoids_are_those_of_transformers():
    for width in (48, 512):
        theirs = transformers.models.marian.modeling_marian.MarianSinusoidalPositionalEmbedding
        table = theirs(2048, width).create_weight().numpy()
        assert np.abs(np.asarray(transformer.sinusoids(2048, width)) - table).max() < 1e-7


def test_sizes_count_as_transformers_does():
    for config in transformer.SIZES.values():
        ours = flatten(abstract(transformer.Model(config)))
        with torch.device("meta"):
            fields = transformers.MarianConfig(**transformer.published(config))
            theirs = transformers.MarianMTModel(fields)
        waves = 2 * config.max_length * config.width
        expected = sum(p.numel() for p in theirs.parameters()) - waves + config.vocab_size
        assert sum(x.size for x in ours.values()) == expected
