"""A run that starts from a model begins with it, and a finished run may be lengthened."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zoo
from tests import tiny, tiny_run
from train import __main__ as cli
from train.checkpoint import Checkpoints
from train.optimization.schedules import AnyLength
from train.pretraining import evaluate, pretrain
from train.pretraining.continued import continued
from train.pretraining.run import prepare
from train.recipes import RECIPES, recipe
from train.recipes.recipe import with_fields
from train.reporting.progress import read_log
from zoo import tokenizers
from zoo.checkpoints import model_folder
from zoo.checkpoints.load import Loaded
from zoo.models import bert, electra
from zoo.params import flatten
from zoo.tokenizers import published

CONSTANT = AnyLength(optax.constant_schedule(1e-2))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def folder(tmp_path):
    """A folder with a GPT-2 of wide random weights."""
    model = tiny_run.gpt2.Model(tiny_run.CONFIG)
    zoo.save(Loaded(model, tiny_run.wide_params(), tiny_run.tokenizer()), tmp_path / "start")
    return tmp_path / "start"


def words(specials) -> tokenizers.Tokenizer:
    """A word is a token, beside the special tokens of a family."""
    names = [*specials, *tiny_run.WORDS[: tiny.V - len(specials)]]
    tokenizer = tokenizers.Tokenizer(
        tiny_run.models.WordLevel({name: i for i, name in enumerate(names)}, specials[1])
    )
    tokenizer.pre_tokenizer = tiny_run.pre_tokenizers.WhitespaceSplit()
    published.add_bert_specials(tokenizer)
    return tokenizer


def started(chosen, out):
    """The parameters before the first step, by path, and the opening lines."""
    run = prepare(chosen, tiny_run.source(), out)
    progress, _ = pretrain.begin_or_resume(run, pretrain.make_stage(run), Checkpoints(run.out))
    return flatten(progress.state.params), pretrain._introduction(run)


def short(name, start, *changes):
    return with_fields(continued(recipe(name), start, changes), steps=4, batch=4, length=16)


def published_folder(path, name, model=None, params=None):
    row = tiny.TABLE[name]
    model = model or row.model
    zoo.export(Loaded(model, params or tiny.wide(model), words(published.BERT_SPECIALS)), path)
    return path


def test_the_loss_before_the_first_step_is_that_of_the_model(folder, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("\n".join(tiny_run.documents(count=8)))
    arguments = ["--init", folder, "--text", text, "--dev", text, "--steps", 2, "--batch", 8]
    arguments += ["--length", 16, "--evaluate-tokens", "all", "--out", tmp_path / "run"]
    sys.argv = ["zoo", "pretrain", "gpt2-tiny", *map(str, arguments)]
    cli.main()
    output = capsys.readouterr().out
    expected = evaluate.evaluate(folder, tiny_run.text.files([text]), length=16)["loss"]
    before = next(event for event in read_log(tmp_path / "run") if event["kind"] == "held_out")
    assert before["step"] == 0
    np.testing.assert_allclose(before["loss"], expected, rtol=1e-5)
    assert f"before the first step the held-out loss is {expected:.3f}" in output
    assert f"init     {folder}" in output
    after = zoo.load(tmp_path / "run")
    assert after.model.config == tiny_run.CONFIG
    assert after.tokenizer.to_str() == tiny_run.tokenizer().to_str()


def test_a_published_folder_without_pretraining_heads_gets_new_ones(tmp_path):
    row = tiny.TABLE["bert"]
    model = bert.BertClassifier(dataclasses.replace(row.config, labels=("no", "yes", "maybe")))
    start = published_folder(tmp_path / "start", "bert", model)
    params, lines = started(short("bert-base-uncased", start), tmp_path / "run")
    kept = flatten(tiny.wide(model))
    fresh = flatten(
        bert.Model(row.config).init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"]
    )
    for path, array in params.items():
        if path in kept:
            np.testing.assert_array_equal(array, kept[path], err_msg=path)
        else:
            np.testing.assert_allclose(array, fresh[path], rtol=1e-5, err_msg=path)
    assert f"note     {start} has no masked_head, next_head: initialized at random" in lines
    # Our own folder of a classifier starts the same run.
    zoo.save(zoo.load(start), tmp_path / "ours")
    ours, _ = started(short("bert-base-uncased", tmp_path / "ours"), tmp_path / "again")
    for path, array in ours.items():
        np.testing.assert_array_equal(array, params[path], err_msg=path)


def test_an_electra_starts_from_its_published_discriminator(tmp_path):
    config = dataclasses.replace(tiny.TABLE["electra"].config, generator_width=8)
    start = published_folder(tmp_path / "start", "electra", electra.ElectraDiscriminator(config))
    params, lines = started(short("electra-small", start), tmp_path / "run")
    kept = flatten(zoo.load(start).params)
    assert np.array_equal(
        params["embeddings/token_embedding/embedding"],
        kept["trunk/embeddings/token_embedding/embedding"],
    )
    assert np.array_equal(
        params["discriminator/blocks_1/mlp/up/kernel"], kept["trunk/blocks_1/mlp/up/kernel"]
    )
    assert np.array_equal(params["replaced_head/dense/kernel"], kept["replaced_head/dense/kernel"])
    assert f"note     {start} has no generator, masked_head: initialized at random" in lines
    model = electra.ElectraGenerator(electra.generator(config))
    alone = published_folder(tmp_path / "generator", "electra", model)
    with pytest.raises(
        ValueError, match=r"contains a ElectraGenerator without discriminator/blocks_0"
    ):
        continued(recipe("electra-small"), alone)


def test_dropout_may_change_at_the_start_but_not_a_width(folder):
    assert short("gpt2-tiny", folder, "dropout=0.2").config.dropout == 0.2
    with pytest.raises(ValueError, match=r"--config does not fit the weights of --init .*: trunk/"):
        short("gpt2-tiny", folder, "mlp_width=128")


def test_what_cannot_start_a_run_is_one_line(folder, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"contains a GPT2LM, but bert-tiny trains a Bert"):
        continued(recipe("bert-tiny"), folder)
    zoo.save(zoo.load(folder)._replace(tokenizer=None), tmp_path / "mute")
    with pytest.raises(ValueError, match=r"mute has no tokenizer, which the text needs"):
        continued(recipe("gpt2-tiny"), tmp_path / "mute")
    for flag in ("--vocab-size", "--tokenizer", "--teacher"):
        arguments = ["zoo", "pretrain", "gpt2-tiny", "--init", str(folder), flag, "5"]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit):
            cli.main()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mute", "start"]


def test_a_run_goes_on_from_its_own_start_alone(folder, tmp_path):
    pretrain.pretrain(short("gpt2-tiny", folder), tiny_run.source(), tmp_path / "run")
    zoo.save(zoo.load(tmp_path / "run"), tmp_path / "other")
    chosen = short("gpt2-tiny", tmp_path / "other")
    with pytest.raises(ValueError, match=r"belongs to another run: init was '\w+', is '\w+'$"):
        pretrain.pretrain(chosen, tiny_run.source(), tmp_path / "run", resume=True)
    assert pretrain.pretrain(
        short("gpt2-tiny", folder), tiny_run.source(), tmp_path / "run", resume=True
    )


def lengthened(out, *steps, **fields):
    for number in steps:
        chosen = tiny_run.recipe(steps=number, **fields)
        pretrain.pretrain(chosen, tiny_run.source(), out, resume=True)
    return flatten(model_folder.read(out))


def test_a_lengthened_run_is_the_long_run(tmp_path):
    full = lengthened(tmp_path / "whole", 30, schedule=CONSTANT)
    longer = lengthened(tmp_path / "longer", 12, 30, schedule=CONSTANT)
    for path, array in full.items():
        np.testing.assert_array_equal(array, longer[path], err_msg=path)
    assert model_folder.manifest(tmp_path / "longer")["parameters"] is not None


def test_only_a_schedule_of_any_length_is_lengthened_and_none_is_shortened(tmp_path):
    lengthened(tmp_path, 10)
    with pytest.raises(ValueError, match=r"depend on the number of steps, so it cannot be lengt"):
        lengthened(tmp_path, 20)
    lengthened(tmp_path / "any", 10, schedule=CONSTANT)
    with pytest.raises(ValueError, match=r"steps was 10, is 5; a run can be lengthened, but not"):
        lengthened(tmp_path / "any", 5, schedule=CONSTANT)


def test_schedules_of_any_length_do_not_depend_on_the_number_of_steps():
    count = 0
    at = np.arange(0, 2000, 37)
    for name in RECIPES:
        factory = recipe(name).schedule
        rates = [np.asarray(jax.vmap(factory(steps))(at)) for steps in (2000, 4000)]
        assert np.array_equal(*rates) == isinstance(factory, AnyLength), name
        count += isinstance(factory, AnyLength)
    assert count > 5
