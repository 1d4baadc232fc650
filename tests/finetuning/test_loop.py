"""Fine-tuning: what learns, what stays, several runs at once, and the commands around it."""

import itertools
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import zoo
from train.data.batches.epochs import epochs
from train.data.examples.squad import Asked
from train.data.examples.tables import Text
from train.data.examples.tagged import Tagged
from train.devices import placement
from train.finetuning import evaluate, learning_rate_finder, loop, seeds, transfer, unfreezing
from train.finetuning.loop import Choices
from train.finetuning.tasks import task
from zoo import registry
from zoo.checkpoints import model_folder
from zoo.inference import classify
from zoo.models import bert, gpt2, luong, rnn, t5, transformer
from zoo.params import abstract, flatten

GOOD, BAD, DULL = ("fine", "lovely", "great"), ("awful", "poor", "weak"), ("a", "the", "film", "is")
WORDS = [*GOOD, *BAD, *DULL]


def words(specials=("[PAD]", "[CLS]", "[SEP]")):
    """A word is a token; the first specials frame a text as BERT's do."""
    names = [*specials, *WORDS, "?"]
    made = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "?"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if len(specials) == 3:
        made.add_special_tokens(list(specials))
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
        )
    return made


def texts(count, seed=0):
    """The one telling word decides the class."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        dull = list(random.choice(DULL, random.integers(2, 9)))
        dull[random.integers(len(dull))] = random.choice((BAD, GOOD)[number % 2])
        found.append(Text(" ".join(dull), None, ("bad", "good")[number % 2]))
    return tuple(found)


def folder(tmp_path, architecture=bert, config=None, tokenizer=None):
    """A pretrained model, as far as its form goes."""
    tokenizer = tokenizer or words()
    config = config or bert.Config(tokenizer.get_vocab_size(), 32, 2, 2, 16, 32, 8, 0.0)
    model = architecture.Model(config)
    params = model.init(jax.random.key(5), jnp.zeros((1, 8), jnp.int32))["params"]
    name = next(n for n, a in registry.ARCHITECTURES.items() if a is architecture)
    model_folder.write(tmp_path / "pretrained", name, config, params, tokenizer)
    return tmp_path / "pretrained"


SENTENCE = task.named("sentence")
DATA = {"train": texts(96), "dev": texts(32, 1)}
CHOICES = Choices(rate="1e-2", epochs=8.0, batch=16, length=32)


def tune(tmp_path, choices=CHOICES, task=SENTENCE, data=None, start=None):
    start = start or folder(tmp_path)
    return loop.finetune(start, task, data or DATA, tmp_path / "out", choices)


def learnt(tmp_path, choices, data=DATA):
    """The flat parameters before, and the learner after."""
    start = transfer.start(folder(tmp_path), "text", ("bad", "good"), key=jax.random.key(0))
    made = loop.rows(SENTENCE, start, data["train"], 32, True)
    learner = loop.learn(start, SENTENCE, made, tmp_path / "run", choices)
    return flatten(start.params), learner


def test_a_task_is_learnt_and_the_folder_answers_in_three_lines(tmp_path):
    result = tune(tmp_path)
    assert result.figures["dev"][0]["accuracy"] > 0.95
    model, params, tokenizer = zoo.load(tmp_path / "out")
    assert model.config.labels == ("bad", "good")
    (found,) = classify.classify(model, params, tokenizer, ["the film is lovely"])
    assert next(iter(found)) == "good"
    assert json.loads((tmp_path / "out" / "results.json").read_text())["best"] == 0


# Ways


def test_groups_go_from_the_input_to_the_output():
    model = bert.BertClassifier(bert.Config(16, 32, 12, 2, 16, 32, 8))
    paths = list(flatten(abstract(model)))
    groups = unfreezing.groups(paths[::-1], bert.GROUPS)
    assert len(groups) == 14
    assert all("embedding" in path for path in groups[0])
    for number, group in enumerate(groups[1:-1]):
        assert all(path.startswith(f"trunk/blocks_{number}/") for path in group)
    assert {path.split("/")[0] for path in groups[-1]} == {"pooler", "classes"}
    assert sorted(itertools.chain(*groups)) == sorted(paths)


@pytest.mark.parametrize(
    "name", [n for n, a in registry.ARCHITECTURES.items() if hasattr(a, "TASKS") and n != "resnet"]
)
def test_every_model_has_groups_that_hold_every_parameter_and_a_head(name):
    from tests import tiny

    architecture = registry.named(name)
    for kind, cls in architecture.TASKS.items():
        paths = list(flatten(abstract(cls(tiny.TABLE[name].config))))
        groups = unfreezing.groups(paths, architecture.GROUPS)
        assert sorted(itertools.chain(*groups)) == sorted(paths)
        assert len(groups) >= 3
        if kind == "rewrite":  # a model that writes is all head
            continue
        assert not any(path.startswith("trunk/") for path in groups[-1])
        assert all(path.startswith("trunk/") for group in groups[:-1] for path in group)


def test_rates_grow_by_equal_factors_or_fall_by_layers():
    np.testing.assert_allclose(unfreezing.rates("1e-6:1e-4", 3), [1e-6, 1e-5, 1e-4])
    np.testing.assert_allclose(unfreezing.rates("1e-3", 3, 0.5), [2.5e-4, 5e-4, 1e-3])
    for wrong in ("fast", "1e-3:x", "0", "-1", "1e-3:0"):
        with pytest.raises(ValueError, match="--rate"):
            unfreezing.rates(wrong, 3)


def moved(before, learner):
    after = flatten(learner.params(0))
    return {path for path in before if not np.array_equal(before[path], after[path])}


def test_features_move_the_head_alone_by_not_one_bit_more(tmp_path):
    before, learner = learnt(tmp_path, CHOICES._replace(way="features"))
    changed = moved(before, learner)
    assert changed
    assert not any(path.startswith("trunk/") for path in changed)
    assert all(path.startswith("trunk/") for path in learner.shared)


def test_features_of_texts_are_never_cut_as_their_tokens_are(tmp_path):
    longer = [text._replace(text=text.text + " a" * 4) for text in DATA["train"]]
    data = {"train": longer, "dev": DATA["dev"]}  # the longest has 16 tokens, as the model is wide
    before, learner = learnt(tmp_path, CHOICES._replace(way="features", batch=4, epochs=1.0), data)
    assert all(path.startswith("trunk/") for path in before.keys() - moved(before, learner))


def test_all_moves_everything_that_has_a_gradient(tmp_path):
    before, learner = learnt(tmp_path, CHOICES)
    still = before.keys() - moved(before, learner)
    # A shift of all scores of a query, and segments and positions that no text here has.
    assert all(path.endswith("key/bias") for path in still)


@pytest.mark.parametrize("opened", [1, 3])
def test_gradual_unfreezing_leaves_the_groups_below_to_the_bit(tmp_path, monkeypatch, opened):
    whole = unfreezing.gradual
    monkeypatch.setitem(
        unfreezing.WAYS, "gradual", lambda groups, epochs: whole(groups, epochs)[:opened]
    )
    before, learner = learnt(tmp_path, CHOICES._replace(way="gradual"))
    groups = unfreezing.groups(list(before), bert.GROUPS)
    changed = moved(before, learner)
    for number, group in enumerate(groups):
        if number >= len(groups) - opened:
            assert changed & set(group)
        else:
            assert not changed & set(group)


def test_the_head_goes_first_and_then_everything(tmp_path, monkeypatch):
    whole = unfreezing.head_first
    before, learner = learnt(tmp_path, CHOICES._replace(way="head-first"))
    assert any(path.startswith("trunk/blocks_0") for path in moved(before, learner))
    monkeypatch.setitem(
        unfreezing.WAYS, "head-first", lambda groups, epochs: whole(groups, epochs)[:1]
    )
    before, learner = learnt(tmp_path, CHOICES._replace(way="head-first"))
    assert not any(path.startswith("trunk/") for path in moved(before, learner))


def test_a_rate_moves_its_group_in_proportion(tmp_path):
    one = CHOICES._replace(schedule="constant", rate="1e-6:1e-2", epochs=1 / 6, decay=0.0)
    before, learner = learnt(tmp_path, one)
    after = flatten(learner.params(0))
    groups = unfreezing.groups(list(before), bert.GROUPS)
    for group, rate in zip(groups, unfreezing.rates(one.rate, len(groups)), strict=True):
        steps = [np.abs(after[p] - before[p]).max() for p in group]
        assert 0.5 * rate < max(steps) < 1.1 * rate  # Adam's first step is the rate


# Runs at once


def test_runs_at_once_equal_runs_one_after_another(tmp_path):
    slow = CHOICES._replace(rate="1e-3", epochs=1.0)  # Adam makes much of rounding
    _, together = learnt(tmp_path, slow._replace(seeds=3))
    for run in range(3):
        _, alone = learnt(tmp_path, slow._replace(seed=run))
        one, other = flatten(together.params(run)), flatten(alone.params(0))
        for path in one:
            np.testing.assert_allclose(one[path], other[path], rtol=1e-3, atol=1e-5, err_msg=path)


def test_runs_differ_and_the_best_is_kept(tmp_path):
    result = tune(tmp_path, CHOICES._replace(seeds=3, epochs=1.0))
    figures = [run["accuracy"] for run in result.figures["dev"]]
    assert result.best == loop.best(SENTENCE, result.figures["dev"])
    found = evaluate.judge(*saved(tmp_path))
    assert found.figures["accuracy"] == pytest.approx(figures[result.best])
    assert any("3 runs" in line for line in loop.lines(result, SENTENCE))


def test_a_run_that_has_collapsed_is_the_best_only_among_its_like():
    runs = [{"accuracy": 0.7, "collapsed": 1.0}, {"accuracy": 0.6}, {"accuracy": 0.65}]
    assert loop.best(SENTENCE, runs) == 2
    assert loop.best(SENTENCE, runs[:1]) == 0


def saved(tmp_path):
    """The folder that was left, and a file of what it was judged by."""
    file = tmp_path / "dev.tsv"
    rows = [f"{text.text}\t{text.label}" for text in DATA["dev"]]
    file.write_text("\n".join(["text\tlabel", *rows]) + "\n")
    return tmp_path / "out", file


def test_runs_in_parts_are_the_same_runs(tmp_path, monkeypatch):
    choices = CHOICES._replace(seeds=3, epochs=1.0)
    whole = tune(tmp_path, choices)
    log = (tmp_path / "out" / "log.jsonl").read_text().splitlines()
    for parts in (choices._replace(together=2), choices):
        found = tune(tmp_path, parts)
        for one, other in zip(found.figures["dev"], whole.figures["dev"], strict=True):
            assert one == pytest.approx(other, abs=1e-3)
        assert (found.best, found.remarks) == (whole.best, ["the runs were trained in 2 parts"])
        again = (tmp_path / "out" / "log.jsonl").read_text().splitlines()
        assert len(again) == 2 * len(log)
        monkeypatch.setattr(seeds, "room", lambda *_: 2)  # for those that follow


def test_a_device_has_room_for_what_a_run_takes(tmp_path, monkeypatch):
    start = transfer.start(folder(tmp_path), "text", ("bad", "good"), key=jax.random.key(0))
    weights = 4 * 4 * sum(x.size for x in jax.tree.leaves(start.params))
    layers = 2 * 16 * 32 * 2 * (34 * 16 + 5 * 2 * 32)  # rows of 32 tokens, two layers
    monkeypatch.setattr(placement, "memory", lambda: 3.5 * (weights + layers))
    assert seeds.room(start.model, start.params, 16, 32) == 3
    monkeypatch.setattr(placement, "memory", lambda: 1)
    assert seeds.room(start.model, start.params, 16, 32) == 1


def test_runs_on_four_devices_equal_those_on_one(tmp_path):
    start, (_, dev) = folder(tmp_path), saved(tmp_path)
    found = {}
    for devices in (1, 4):
        out = tmp_path / str(devices)
        tuned = command(
            "finetune", start, "--task", "sentence", "--train", dev, "--dev", dev, "--out", out,
            "--batch", 16, "--seeds", 2, "--rate", "3e-3", "--epochs", 2,
            JAX_NUM_CPU_DEVICES=devices,
        )  # fmt: skip
        assert tuned.returncode == 0, tuned.stderr
        found[devices] = json.loads((out / "results.json").read_text())["figures"]["dev"]
    for one, other in zip(found[1], found[4], strict=True):
        assert other == pytest.approx(one, abs=1e-3)
    ours, theirs = (flatten(model_folder.read(tmp_path / str(devices))) for devices in (1, 4))
    for path in ours:
        np.testing.assert_allclose(ours[path], theirs[path], rtol=1e-3, atol=1e-5, err_msg=path)


def test_devices_part_the_runs_and_then_the_rows():
    for runs, rows in ((1, 16), (5, 32)):
        where = placement.over_runs(runs, rows)
        assert dict(where[1].mesh.shape) == {"runs": 1, "rows": 1}
    assert placement._divisor(5, 8) == 5
    assert placement._divisor(6, 4) == 3
    assert placement._divisor(16, 1) == 1


def test_from_scratch_every_run_draws_all_its_weights(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(loop, "updates", lambda learner, *_: drawn.update(all=learner) or [])
    tune(tmp_path, CHOICES._replace(scratch=True, seeds=2))
    held = flatten(zoo.load(folder(tmp_path))[1])
    one, other = (flatten(drawn["all"].params(run)) for run in range(2))
    for path in one.keys() - {path for path in one if path.endswith(("bias", "scale"))}:
        assert not np.array_equal(one[path], other[path]), path
        assert path not in held or not np.array_equal(one[path], held[path]), path
    with pytest.raises(ValueError, match="--scratch leaves nothing worth freezing"):
        tune(tmp_path, CHOICES._replace(scratch=True, way="features"))


def test_few_examples_are_spread_over_the_file():
    data = {"train": list(range(10)), "dev": [1]}
    assert task.split(data, 3)["train"] == [0, 3, 6]
    assert task.split(data, None) == task.split(data, 99) == data
    assert task.split({"train": list(range(20))}, None)["dev"] == [0, 10]


def test_dropout_is_that_of_the_choice_and_the_folder_keeps_it(tmp_path):
    losses = {}
    for dropout in (None, 0.5):
        tune(tmp_path, CHOICES._replace(epochs=1.0, dropout=dropout))
        assert zoo.load(tmp_path / "out")[0].config.dropout == (dropout or 0.0)
        losses[dropout] = (tmp_path / "out" / "log.jsonl").read_text().split('"loss"')[1][:20]
    assert losses[None] != losses[0.5]


def test_a_run_that_says_one_class_of_everything_is_named(tmp_path):
    result = tune(tmp_path, CHOICES._replace(rate="1e-9", epochs=0.2))
    assert result.figures["dev"][0]["collapsed"] == 1.0
    assert any("one class of everything" in line for line in loop.lines(result, SENTENCE))


def test_every_row_is_seen_once_an_epoch_by_every_run_in_its_own_order():
    lengths = np.random.default_rng(0).integers(1, 60, 500)
    order = epochs(lengths, 64, 16, (3, 4))
    for epoch in range(2):
        steps = [order(epoch * order.steps + step) for step in range(order.steps)]
        for run in range(2):
            seen = np.concatenate([numbers[run] for _, numbers in steps])
            assert sorted(seen[seen >= 0]) == list(range(500))
        for length, numbers in steps:
            assert (lengths[numbers[numbers >= 0]] <= length).all()
    first, second = (np.stack([order(s)[1][run] for s in range(order.steps)]) for run in range(2))
    assert (first != second).any()
    assert len(order.rungs) < 8
    again = epochs(lengths, 64, 16, (3, 4))(order.steps + 2)
    assert again[0] == order(order.steps + 2)[0]
    assert (again[1] == order(order.steps + 2)[1]).all()


def test_the_rate_of_the_steepest_fall_is_found_after_a_lucky_first_batch():
    tried = np.geomspace(1e-6, 1, 100)
    fall = 1 / (1 + np.exp(4 * np.log(tried / 1e-3)))  # halfway down at 1e-3
    losses = 0.3 + 0.4 * fall + np.where(tried > 3e-2, 50 * tried, 0)
    losses[0] = 0.1
    assert 5e-4 < learning_rate_finder.steepest(tried, losses) < 3e-3  # a moving mean comes late
    with pytest.raises(ValueError, match="never falls"):
        learning_rate_finder.steepest(tried, tried)


def test_the_lengths_to_pad_to_make_the_fewest_tokens():
    lengths = np.random.default_rng(1).lognormal(2.8, 0.6, 3 * 8 * 16).clip(1, 64).astype(int)

    def tokens(ends):
        counts = np.histogram(lengths, [0.5, *(end + 0.5 for end in ends)])[0]
        return sum(-(-counts // 16) * 16 * ends)

    every = [
        np.array([*few, 64]) for k in range(3) for few in itertools.combinations(range(8, 64, 8), k)
    ]
    chosen = epochs(lengths, 64, 16, (0,)).rungs
    assert tokens(np.array(list(chosen))) == min(map(tokens, every))
    few = epochs(lengths[:20], 1 << 30, 16, (0,))  # as a recurrent model takes
    assert list(few.rungs) == [-(-lengths[:20].max() // 8) * 8]


# Tasks


def test_tags_are_learnt_with_sentences_that_are_too_long(tmp_path):
    random = np.random.default_rng(0)

    def sentence(count):
        chosen = [str(word) for word in random.choice(WORDS, count)]
        return Tagged(tuple(chosen), tuple("B-x" if w in GOOD else "O" for w in chosen))

    data = {"train": [sentence(9) for _ in range(96)], "dev": [sentence(70) for _ in range(8)]}
    result = tune(tmp_path, CHOICES._replace(epochs=6.0), task.named("tag"), data)
    assert result.figures["dev"][0]["f1"] > 0.95
    file = tmp_path / "dev.jsonl"
    rows = [{"words": x.words, "labels": x.labels} for x in data["dev"]]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = evaluate.judge(tmp_path / "out", file)
    assert found.figures == pytest.approx(result.figures["dev"][0])
    line = json.loads(found.lines[0])
    assert len(line["words"]) == len(line["prediction"]) == len(line["probabilities"]) == 70
    file.write_text("".join(json.dumps({"words": x.words}) + "\n" for x in data["dev"]))
    untold = evaluate.judge(tmp_path / "out", file)  # no labels: predictions and no figures
    assert untold.figures == {}
    assert json.loads(untold.lines[0]) == {k: v for k, v in line.items() if k != "labels"}


def test_answers_are_found(tmp_path):
    random = np.random.default_rng(0)

    def asked(number):
        chosen = [str(word) for word in random.choice(DULL, 8)]
        chosen[random.integers(8)] = telling = str(random.choice(GOOD))
        context = " ".join(chosen)
        return Asked(str(number), "the", context, ((telling, context.index(telling)),))

    data = {"train": [asked(n) for n in range(160)], "dev": [asked(n) for n in range(32)]}
    result = tune(tmp_path, CHOICES._replace(epochs=8.0), task.named("question"), data)
    assert result.figures["dev"][0]["exact_match"] > 0.9


def test_a_number_is_learnt(tmp_path):
    numbered = lambda some: tuple(
        text._replace(pair="a film", label=str(float(text.label == "good"))) for text in some
    )
    data = {name: numbered(some) for name, some in DATA.items()}
    result = tune(tmp_path, CHOICES, task.named("similarity"), data)
    assert result.figures["dev"][0]["spearman"] > 0.8
    assert zoo.load(tmp_path / "out")[0].config.labels == ("score",)


# Texts for texts


def ending():
    """Words with what encoder-decoders need: padding and an end."""
    made = words(("<pad>", "</s>"))
    made.add_special_tokens(["<pad>", "</s>"])
    return made


TRANSLATORS = {
    "t5": (t5, lambda count: t5.Config(count, 32, 1, 2, 16, 32, 8, 0.0, 1)),
    "luong": (luong, lambda count: luong.Config(count, 1 << 30, 1, 24, 0.0, 24)),
    "marian": (transformer, lambda count: transformer.Config(count, 32, 1, 2, 16, 32, 8, 0.0, 1)),
}


@pytest.mark.parametrize(("name", "way"), [("t5", "all"), ("luong", "all"), ("marian", "gradual")])
def test_a_text_is_rewritten(name, way, tmp_path):
    architecture, make = TRANSLATORS[name]
    tokenizer = ending()
    start = folder(tmp_path, architecture, make(tokenizer.get_vocab_size()), tokenizer)
    told = {"bad": "poor film", "good": "lovely"}
    data = {key: [x._replace(label=told[x.label]) for x in some] for key, some in DATA.items()}
    choices = CHOICES._replace(epochs=12.0 if way == "all" else 1.0, way=way, rate="1e-2")
    result = tune(tmp_path, choices, task.named("rewrite"), data, start)
    if way == "all":
        assert result.figures["dev"][0]["exact_match"] > 90
    file = tmp_path / "dev.tsv"
    file.write_text("".join(f"{text.text}\t{text.label}\n" for text in data["dev"]))
    found = evaluate.judge(tmp_path / "out", file)
    assert found.figures == pytest.approx(result.figures["dev"][0])
    assert [json.loads(line)["text"] for line in found.lines] == [x.text for x in data["dev"]]


def test_a_rewritten_text_that_is_too_long_is_told(tmp_path):
    tokenizer = ending()
    config = t5.Config(tokenizer.get_vocab_size(), 32, 1, 2, 16, 32, 8, 0.0, 1)
    start = transfer.start(folder(tmp_path, t5, config, tokenizer), "rewrite", key=None)
    rewrite = task.named("rewrite")
    ((made,),) = loop.rows(rewrite, start, [Text("the film " * 9, None, "fine " * 12)], 10, True)
    end = tokenizer.token_to_id("</s>")
    assert (len(made.row.tokens), made.row.tokens[-1], len(made.target)) == (10, end, 10)
    assert made.row.left_out == 9 + 3
    with pytest.raises(ValueError, match="empty text"):
        loop.rows(rewrite, start, [Text("fine", None, " ")], 10, True)


# Models that read from left to right


def test_gpt_reads_start_delimiter_extract_and_learns_the_next_word_beside(tmp_path):
    tokenizer = words(())
    config = gpt2.Config(tokenizer.get_vocab_size(), 32, 2, 2, 16, 32, 8, 0.0)
    start = folder(tmp_path, gpt2, config, tokenizer)
    result = tune(tmp_path, CHOICES._replace(auxiliary=0.5, epochs=8.0), start=start)
    assert result.figures["dev"][0]["accuracy"] > 0.9
    model, _, words_after = zoo.load(tmp_path / "out")
    assert model.config.vocab_size == config.vocab_size + 3
    tokens = words_after.encode("the film", "a film").tokens
    assert tokens == ["<start>", "the", "film", "<delimiter>", "a", "film", "<extract>"]


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "concatenation"])
def test_a_recurrent_trunk_pools_what_it_put_out(tmp_path, pooling):
    tokenizer = words(())
    count = tokenizer.get_vocab_size()
    config = rnn.Config(count, 32, 1, 16, 0.0, 16, "gru", pooling=pooling)
    start = folder(tmp_path, rnn, config, tokenizer)
    assert tune(tmp_path, CHOICES, start=start).figures["dev"][0]["accuracy"] > 0.9


# What goes wrong


def test_wrong_input_is_one_clear_line(tmp_path):
    start = folder(tmp_path)
    with pytest.raises(ValueError, match="one example"):
        tune(tmp_path, data={"train": (*texts(8), Text("a", None, "odd"))}, start=start)
    with pytest.raises(ValueError, match="'middling' was never trained: there are bad, good"):
        tune(tmp_path, data=DATA | {"dev": (Text("a", None, "middling"),)}, start=start)
    with pytest.raises(ValueError, match="empty text"):
        tune(tmp_path, data=DATA | {"dev": (Text(" ", None, "good"),)}, start=start)
    with pytest.raises(ValueError, match="next word"):
        tune(tmp_path, CHOICES._replace(auxiliary=0.5), start=start)
    tune(tmp_path, CHOICES._replace(epochs=0.2), start=start)
    with pytest.raises(ValueError, match="was fine-tuned to the labels bad, good"):
        transfer.start(tmp_path / "out", "text", ("x", "y", "z"), key=jax.random.key(0))
    with pytest.raises(ValueError, match="fine-tuned to nothing"):
        evaluate.judge(start, saved(tmp_path)[1])


def test_a_model_that_cannot_do_a_task_says_which_can(tmp_path):
    tokenizer = words(())
    config = rnn.Config(tokenizer.get_vocab_size(), 32, 1, 16, 0.0, 16, "gru")
    with pytest.raises(ValueError, match=r"this task needs .*bert"):
        transfer.start(folder(tmp_path, rnn, config, tokenizer), "span", key=jax.random.key(0))


# Commands


def command(*arguments, **environment):
    run = [sys.executable, "-m", "train", *map(str, arguments)]
    environment = os.environ | {name: str(value) for name, value in environment.items()}
    return subprocess.run(run, capture_output=True, text=True, check=False, env=environment)


def test_the_commands_go_from_a_file_to_predictions(tmp_path):
    start, (out, dev) = folder(tmp_path), saved(tmp_path)
    train = tmp_path / "train.tsv"
    rows = [f"{text.label}\t{text.text}" for text in DATA["train"]]
    train.write_text("\n".join(["label\tsentence", *rows]) + "\n")
    given = ("--task", "sentence", "--train", train)
    tuned = command(
        "finetune", start, *given, "--dev", dev, "--epochs", 8, "--rate", "1e-2", "--out", out,
        "--batch", 16, "--seeds", 2,
    )  # fmt: skip
    assert tuned.returncode == 0, tuned.stderr
    assert "dev, 2 runs" in tuned.stdout
    asked = command("classify", out, "the film is lovely")
    assert asked.stdout.split()[1] == "good", asked.stderr
    predictions, picture = tmp_path / "said.jsonl", tmp_path / "confusion.png"
    judged = command("evaluate", out, "--data", dev, "--out", predictions, "--confusion", picture)
    assert "accuracy" in judged.stdout, judged.stderr
    lines = [json.loads(line) for line in predictions.read_text().splitlines()]
    assert [line["text"] for line in lines] == [text.text for text in DATA["dev"]]
    assert picture.stat().st_size > 1000
    found = command("find-rate", start, *given, "--steps", 40, "--out", tmp_path / "rates.png")
    assert "try --rate" in found.stdout, found.stderr
    wrong = command("finetune", start, "--task", "tag", "--train", tmp_path / "none.conll")
    assert wrong.returncode == 2
    assert len(wrong.stderr.strip().splitlines()) == 1
