"""What fine-tuning starts with: new top layers, new words; and the optimizer's formula."""

import json
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests import tiny_task
from train.finetuning import finetune, transfer, tuning, unfreezing
from train.finetuning.tasks.task import encode
from train.step import random_params
from zoo import registry
from zoo.models import gpt2
from zoo.params import abstract, flatten

LABELS = ("bad", "good")


def loaded(folder, **settings):
    settings = replace(tiny_task.SETTINGS, **settings)
    return finetune.load(folder, tiny_task.CLASSIFICATION, LABELS, settings)


def test_new_top_layers_are_random_and_the_others_pretrained(tmp_path):
    folder = tiny_task.folder(tmp_path)
    pretrained = flatten(zoo.load(folder).params)
    settings = replace(tiny_task.SETTINGS, reinit=1, seeds=2)
    model, new_paths = loaded(folder, reinit=1)
    rows = {
        name: encode(tiny_task.CLASSIFICATION, model, tiny_task.DATA[name], 32)
        for name in tiny_task.DATA
    }
    runs = tuning.prepare(
        model, new_paths, tiny_task.CLASSIFICATION, (), rows, tmp_path / "run", settings
    )
    top = {path for path in runs.initial if path.startswith("trunk/blocks_1/")}
    assert len(top) == 16
    # BERT's pooler is above its layers.
    assert runs.new_paths == top | {path for path in runs.initial if not path.startswith("trunk/")}
    for seed in (0, 1):
        drawn = flatten(random_params(model.model, seed))
        for path, array in flatten(runs.run_params(runs.trained(0), seed)).items():
            expected = drawn[path] if path in runs.new_paths else pretrained[path]
            np.testing.assert_array_equal(array, expected, err_msg=path)


def test_top_layers_are_found_in_every_architecture():
    for name, architecture in registry.ARCHITECTURES.items():
        size = next(iter(architecture.SIZES.values()), None)
        # ResNet counts its layers otherwise, and bags of word vectors have none.
        for cls in architecture.TASKS.values() if getattr(size, "num_layers", 0) else ():
            paths = list(flatten(abstract(cls(size))))
            top = lambda count: set(unfreezing.top_layers(paths, architecture.GROUPS, count))  # noqa: B023
            assert top(0) == set(), name
            # T5's vocabulary head is a group with its embedding.
            above = {path for path in paths if not re.search(r"^trunk/|head/embedding", path)}
            assert above < top(1), name
            assert not any("token_embedding" in path for path in top(1)), name
            if size.num_layers > 1 and name != "albert":  # whose layers are one
                assert top(1) < top(2), name


def test_more_new_layers_than_there_are_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"^--reinit 3: the model has 2 layers$"):
        loaded(tiny_task.folder(tmp_path), reinit=3)
    with pytest.raises(ValueError, match=r"^--scratch initializes all layers .* leave out --rein"):
        replace(tiny_task.SETTINGS, reinit=1, scratch=True).check()
    with pytest.raises(ValueError, match=r"^--reinit needs --unfreeze all, not gradual, which fre"):
        replace(tiny_task.SETTINGS, reinit=1, unfreeze="gradual").check()
    with pytest.raises(ValueError, match=r"^--reinit must be at least 0"):
        replace(tiny_task.SETTINGS, reinit=-1).check()


def test_words_of_a_file_are_added_before_training(tmp_path):
    file = tmp_path / "words.txt"
    file.write_text("superb\n\nfilm\ndreadful \nsuperb\n", "utf-8")
    settings = replace(tiny_task.SETTINGS, epochs=1.0, add_tokens=str(file))
    _, notes = tiny_task.tune(tmp_path, settings)
    assert notes[:2] == [
        "2 of 3 words were added to the vocabulary",
        "already in the vocabulary: film",
    ]
    tuned = zoo.load(tmp_path / "out")
    size = tiny_task.tokenizer().get_vocab_size()
    assert tuned.model.config.vocab_size == size + 2
    assert tuned.tokenizer.encode("a superb film").ids[2] == size
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["settings"]["add_tokens"] == str(file)


def test_a_file_of_words_that_cannot_be_read_is_one_line(tmp_path):
    start = zoo.load(tiny_task.folder(tmp_path))
    with pytest.raises(ValueError, match=r"^--add-tokens no/such.txt: no such file$"):
        transfer.add_words(start, "no/such.txt")
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(ValueError, match=r"empty.txt has no words: write one per line$"):
        transfer.add_words(start, tmp_path / "empty.txt")
    (tmp_path / "bad.txt").write_bytes(b"good\n\xff\n")
    with pytest.raises(ValueError, match=r"bad.txt is not UTF-8 at byte 5$"):
        transfer.add_words(start, tmp_path / "bad.txt")
    (tmp_path / "pair.txt").write_text("very good\n")
    with pytest.raises(ValueError, match=r"^'very good' cannot be added to a vocabulary"):
        transfer.add_words(start, tmp_path / "pair.txt")


def test_the_special_tokens_of_gpt_are_new_rows(tmp_path):
    words = tiny_task.tokenizer(("<|endoftext|>",))
    config = gpt2.Config(vocab_size=words.get_vocab_size(), **tiny_task.SIZES)
    folder = tiny_task.folder(tmp_path, gpt2, config, words)
    start = zoo.load(folder)
    marked, _ = loaded(folder)
    table = marked.params["trunk"]["token_embedding"]["embedding"]
    assert table.shape[0] == config.vocab_size + 3
    before = start.params["trunk"]["token_embedding"]["embedding"]
    assert np.array_equal(table[:-3], before)
    assert 0.005 < np.std(table[-3:]) < 0.05
    ids = marked.tokenizer.encode("a film").ids
    assert (ids[0], ids[-1]) == (config.vocab_size, config.vocab_size + 2)


def test_the_default_optimizer_is_adam_with_bias_correction_and_a_warm_up_over_a_tenth():
    steps, peak, decay = 40, 1e-2, 0.01
    gradients = np.random.default_rng(0).normal(size=(steps, 3)).astype(np.float32) / 9
    params = {"kernel": jnp.asarray([0.5, -1.0, 2.0])}
    schedule = unfreezing.SCHEDULES[tiny_task.Settings().schedule](steps)
    optimizer = unfreezing.optimizer(schedule, {"kernel": peak}, decay)
    state = optimizer.init(params)
    x, mean, square = np.array([0.5, -1.0, 2.0]), np.zeros(3), np.zeros(3)
    for t, gradient in enumerate(gradients, 1):
        updates, state = optimizer.update({"kernel": jnp.asarray(gradient)}, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        # Kingma and Ba 2015, algorithm 1; the learning rate of step t is that of t - 1.
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        corrected = mean / (1 - 0.9**t), square / (1 - 0.999**t)
        rate = peak * min((t - 1) / 4, (steps - (t - 1)) / 36)
        x = x - rate * (corrected[0] / (np.sqrt(corrected[1]) + 1e-8) + decay * x)
        np.testing.assert_allclose(params["kernel"], x, rtol=1e-4)


def test_adafactor_is_relative_to_the_size_of_the_weights_and_has_a_rate_of_its_own():
    x = np.array([0.5, -1.0, 2.0], np.float32)
    optimizer = unfreezing.optimizer(lambda step: 1.0, {"kernel": 1e-3}, 0.01, "adafactor")
    params = {"kernel": jnp.asarray(x)}
    gradient = jnp.asarray([0.3, -0.2, 0.1])
    updates, _ = optimizer.update({"kernel": gradient}, optimizer.init(params), params)
    # At the first step, the second moment is the squared gradient (Shazeer and Stern 2018).
    expected = -1e-3 * np.sqrt(np.mean(x**2)) * np.sign(gradient)
    np.testing.assert_allclose(updates["kernel"], expected, rtol=1e-5)
    settings = tiny_task.Settings(optimizer="adafactor", weight_decay=0.1)
    with pytest.raises(ValueError, match="--weight-decay has no effect with --optimizer adafactor"):
        settings.check()


def test_fine_tuning_changes_no_field_of_the_config_but_dropout_rates(tmp_path):
    folder = tiny_task.folder(tmp_path)
    changed, _ = loaded(folder, config=("dropout=0.25",))
    assert changed.model.config.dropout == 0.25
    with pytest.raises(
        ValueError, match="--config width=8: fine-tuning changes dropout rates only"
    ):
        loaded(folder, config=("width=8",))
