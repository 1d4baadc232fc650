"""T5 and T5 1.1 against transformers on wide random weights."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.wide import relative, widen
from zoo import registry
from zoo.formats import huggingface
from zoo.inference import beam_search, generate
from zoo.layers import relative_bias
from zoo.layers.norm import RMSNorm
from zoo.models import t5, t5_v1_1
from zoo.models.t5 import DecoderBlock, EncoderBlock
from zoo.params import abstract, flatten

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-5
V, B, L, T = 97, 4, 50, 12


def drawn(**fields):
    """A wide random model of transformers. A head of its own is one that differs from the table."""
    config = transformers.T5Config(
        vocab_size=V,
        d_model=48,
        d_kv=10,
        d_ff=112,
        num_layers=3,
        num_decoder_layers=2,
        num_heads=5,
        relative_attention_num_buckets=16,
        relative_attention_max_distance=40,
        decoder_start_token_id=0,
        attn_implementation="eager",
        **fields,
    )
    model = transformers.T5ForConditionalGeneration(config).eval()
    if not config.scale_decoder_outputs:
        model.lm_head.weight = torch.nn.Parameter(torch.empty(V, 48))
    widen(model)
    with torch.no_grad():  # norms about 1, or every score is small and attention has no gradient
        for name, parameter in model.named_parameters():
            if name.endswith("layer_norm.weight"):
                parameter += 1
    return model


def first(folder):
    model = drawn()
    model.save_pretrained(folder)
    return model


def later(folder):
    model = drawn(feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    model.save_pretrained(folder)
    fields = json.loads((folder / "config.json").read_text())
    assert (fields["tie_word_embeddings"], fields.pop("scale_decoder_outputs")) == (True, False)
    fields["tie_word_embeddings"] = False  # as in the published folders
    (folder / "config.json").write_text(json.dumps(fields))
    return model


def later_saved_anew(folder):
    model = drawn(feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    model.save_pretrained(folder)  # which says that the head is tied, though it is not
    return model


@pytest.fixture(scope="module", params=[first, later, later_saved_anew], ids=lambda f: f.__name__)
def published(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    return request.param(folder), folder


@pytest.fixture(scope="module")
def batch():
    """Sources and targets, padded, and what of them is real."""
    draw = np.random.default_rng(0)
    tokens_BL, targets_BT = draw.integers(2, V, (B, L)), draw.integers(2, V, (B, T))
    source_BL = (np.arange(L) < np.array([[50], [33], [9], [1]])).astype(np.int64)
    target_BT = (np.arange(T) < np.array([[7], [12], [1], [10]])).astype(np.int64)
    return tokens_BL * source_BL, targets_BT * target_BT, source_BL, target_BT


def asked(model, batch, **options):
    tokens_BL, targets_BT, source_BL, target_BT = map(torch.from_numpy, batch)
    labels_BT = torch.where(target_BT > 0, targets_BT, -100)
    return model(tokens_BL, attention_mask=source_BL, labels=labels_BT, **options)


def inputs(batch):
    """Sources, targets shifted right, documents."""
    shifted_BT = np.pad(batch[1], ((0, 0), (1, 0)))[:, :-1]
    return tuple(jnp.asarray(x, jnp.int32) for x in (batch[0], shifted_BT, batch[2]))


def loss(model, params, batch):
    logs_BTV = jax.nn.log_softmax(model.apply({"params": params}, *inputs(batch)))
    logs_BT = jnp.take_along_axis(logs_BTV, batch[1][..., None], 2)[..., 0]
    return -(logs_BT * batch[3]).sum() / batch[3].sum()


def test_logits_and_loss_equal_on_padded_batches(published, batch):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    with torch.no_grad():
        expected = asked(theirs, batch)
    real = batch[3].astype(bool)
    logits_BTV = np.asarray(model.apply({"params": params}, *inputs(batch)))
    assert relative(logits_BTV[real], expected.logits.numpy()[real]) < TOLERANCE
    assert abs(loss(model, params, batch) / expected.loss.item() - 1) < TOLERANCE


def test_every_layer_equals(published, batch):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    with torch.no_grad():  # in doubles, or the rounding of both sides adds up
        expected = asked(theirs.double(), batch, output_hidden_states=True)
    theirs.float()
    _, state = model.apply(
        {"params": params},
        *inputs(batch),
        capture_intermediates=lambda module, _: isinstance(
            module, EncoderBlock | DecoderBlock | RMSNorm
        ),
        mutable="intermediates",
    )
    trunk = state["intermediates"]["trunk"]
    for side, hidden, real in (
        ("encoder", expected.encoder_hidden_states, batch[2].astype(bool)),
        ("decoder", expected.decoder_hidden_states, batch[3].astype(bool)),
    ):
        assert len(hidden) == {"encoder": 4, "decoder": 3}[side]  # the embeddings too
        for name, theirs_BLD in zip(
            [*(f"{side}_{i}" for i in range(len(hidden) - 2)), f"{side}_norm"],
            hidden[1:],
            strict=True,
        ):
            (ours_BLD,) = trunk[name]["__call__"]
            found = relative(np.asarray(ours_BLD)[real], theirs_BLD.numpy()[real])
            assert found < TOLERANCE, name


def test_every_gradient_equals(published, batch):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    theirs.zero_grad()
    asked(theirs, batch).loss.backward()
    gradient = jax.jit(jax.grad(lambda params: loss(model, params, batch)))(params)
    named = dict(theirs.named_parameters())
    weights = registry.named(registry.name_of(model)).WEIGHTS
    for path, ours in flatten(gradient).items():
        name, layout = huggingface._row(weights, path)
        expected = huggingface._to_ours(layout, ours.shape, named[name].grad.numpy())
        assert relative(ours, expected) < 1e-4, path


def test_export_then_transformers_then_equal(published, batch, tmp_path):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    architecture = registry.named(registry.name_of(model))
    huggingface.write(tmp_path, architecture, model.config, params)
    again, info = transformers.T5ForConditionalGeneration.from_pretrained(
        tmp_path, output_loading_info=True, attn_implementation="eager"
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert again.config.decoder_start_token_id == 0
    for (name, a), (_, b) in zip(theirs.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    with torch.no_grad():
        assert torch.equal(asked(again.eval(), batch).logits, asked(theirs, batch).logits)


def sources(count=6):
    """Sources of several lengths: our prompts, and the padded batch and mask of transformers."""
    draw = np.random.default_rng(1)
    prompts = [draw.integers(2, V, n).tolist() for n in draw.integers(1, 20, count)]
    ids = torch.zeros(count, 20, dtype=torch.long)
    for row, prompt in zip(ids, prompts, strict=True):
        row[: len(prompt)] = torch.tensor(prompt)
    real = torch.tensor([[1] * len(p) + [0] * (20 - len(p)) for p in prompts])
    return prompts, {"input_ids": ids, "attention_mask": real}


def written(row, end):
    """The tokens of an output of transformers: behind the start token, up to the end."""
    row = row.tolist()[1:]
    return row[: row.index(end)] if end in row else row


def test_transformers_answers_the_same(published):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    prompts, padded = sources()
    settings = {"length": 15, "temperature": 0.0}
    free = generate.generate(model, params, prompts, **settings)
    end = free[0][5]  # a token that comes
    found = generate.generate(model, params, prompts, end=end, **settings)
    whole = theirs.generate(**padded, max_new_tokens=15, do_sample=False, eos_token_id=end)
    assert found == [written(row, end) for row in whole]
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
    whole = theirs.generate(
        **padded,
        max_new_tokens=15,
        do_sample=False,
        eos_token_id=end,
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


def test_buckets_are_those_of_transformers():
    theirs = transformers.models.t5.modeling_t5.T5Attention._relative_position_bucket
    distance = np.arange(-300, 301)
    for side, both in ((relative_bias.either_side, True), (relative_bias.the_past, False)):
        expected = theirs(torch.from_numpy(distance), both, 32, 128)
        assert (np.asarray(side(distance, 32, 128)) == expected.numpy()).all()


def test_sizes_count_as_transformers_does():
    for architecture, names in ((t5, ("t5-tiny", "t5-3b")), (t5_v1_1, ("t5-v1_1-small",))):
        for name in names:
            config = architecture.SIZES[name]
            ours = flatten(abstract(architecture.Model(config)))
            with torch.device("meta"):
                theirs = transformers.T5ForConditionalGeneration(
                    transformers.T5Config(**architecture.published(config))
                )
            own = config.vocab_size * config.width * (architecture is t5_v1_1)  # there it is tied
            expected = sum(p.numel() for p in theirs.parameters()) + own
            assert sum(x.size for x in ours.values()) == expected
