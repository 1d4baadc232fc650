"""Twenty steps of fine-tuning have the losses of transformers and torch.optim."""

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import zoo
from tests.wide import relative, widen
from train.data.examples.tables import TextExample
from train.devices.mesh import MeshPlacement
from train.devices.placement import Training
from train.finetuning import transfer, unfreezing
from train.finetuning.finetune import finetune
from train.finetuning.objective import TaskObjective
from train.finetuning.settings import Settings
from train.finetuning.tasks.registry import TASKS
from train.finetuning.tasks.task import IGNORED
from zoo.checkpoints import model_folder
from zoo.models import bert
from zoo.params import flatten

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

STEPS, ROWS, LENGTH, WORDS, LEARNING_RATE = 20, 6, 24, 90, 1e-3
TOLERANCE = 1e-4  # of the loss; rounding errors grow with every step
NAMES = {"classification": "SequenceClassification", "tagging": "TokenClassification"}
NAMES |= {"regression": NAMES["classification"], "question-answering": "QuestionAnswering"}
LABELS = {
    "classification": ("bad", "so", "good"),
    "tagging": ("A", "B", "O"),
    "regression": ("score",),
}


def build(task, folder):
    labels = LABELS.get(task, ("LABEL_0", "LABEL_1"))
    config = transformers.BertConfig(
        vocab_size=WORDS,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        hidden_dropout_prob=0,
        attention_probs_dropout_prob=0,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
        attn_implementation="eager",
    )
    model = getattr(transformers, f"BertFor{NAMES[task]}")(config)
    widen(model)
    model.save_pretrained(folder)
    return model


def batches(task):
    """Yield rows of different lengths, but full ones for answers (transformers scores padding)."""
    random = np.random.default_rng(0)
    for _ in range(STEPS):
        lengths = (
            random.integers(4, LENGTH + 1, ROWS)
            if task != "question-answering"
            else [LENGTH] * ROWS
        )
        real = np.arange(LENGTH) < np.array(lengths)[:, None]
        draw_targets = {
            "classification": lambda: random.integers(3, size=ROWS),
            "regression": lambda: random.normal(2, 1, ROWS),
            "tagging": lambda real=real: np.where(
                real & (random.random(real.shape) < 0.7),
                random.integers(3, size=real.shape),
                IGNORED,
            ),
            "question-answering": lambda: np.sort(random.integers(LENGTH, size=(ROWS, 2))),
        }
        targets = draw_targets[task]()
        yield {
            "tokens": np.int32(random.integers(1, WORDS, (ROWS, LENGTH)) * real),
            "segments": np.int32((np.arange(LENGTH) > 9) & real),
            "documents": np.int32(real),
            "targets": targets.astype(np.float32 if task == "regression" else np.int32),
        }


def their_loss(task, model, batch):
    tokens, segments, documents, targets = (torch.from_numpy(x) for x in batch.values())
    inputs = {
        "input_ids": tokens.long(),
        "token_type_ids": segments.long(),
        "attention_mask": documents,
    }
    if task == "question-answering":
        start, end = targets.long().T
        return model(**inputs, start_positions=start, end_positions=end).loss
    if task == "regression":
        return model(**inputs, labels=targets).loss
    return model(**inputs, labels=torch.where(targets == IGNORED, -100, targets).long()).loss


def test_a_fine_tuned_folder_is_exported_to_transformers_with_head_and_labels(tmp_path):
    config = bert.Config(
        vocab_size=90,
        max_length=32,
        num_layers=2,
        num_heads=2,
        width=16,
        mlp_width=32,
        head_width=8,
        dropout=0.0,
    )
    model = bert.Model(config)
    params = model.init(jax.random.key(0), np.zeros((1, 8), np.int32))["params"]
    word_tokenizer = Tokenizer(
        models.WordLevel({f"w{number}": number for number in range(90)}, "w0")
    )
    word_tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    word_tokenizer.post_processor = processors.TemplateProcessing(
        single="w1 $A w2", pair="w1 $A w2 $B:1 w2:1", special_tokens=[("w1", 1), ("w2", 2)]
    )
    model_folder.write(tmp_path / "pretrained", "bert", config, params, word_tokenizer)
    texts = [
        TextExample(f"w{5 + n % 7} w{3 + n % 2}", None, ("no", "yes")[n % 2]) for n in range(64)
    ]
    settings = Settings(learning_rate="1e-2", epochs=2.0, batch=16, length=8)
    data = {"train": texts, "dev": texts[:8]}
    finetune(tmp_path / "pretrained", TASKS["classification"], data, tmp_path / "ours", settings)
    zoo.export(zoo.load(tmp_path / "ours"), tmp_path / "theirs")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "theirs")
    assert theirs.config.id2label == {0: "no", 1: "yes"}
    model, params, word_tokenizer = zoo.load(tmp_path / "ours")
    ours = model.apply({"params": params}, np.array([word_tokenizer.encode("w6 w4").ids]))
    with torch.no_grad():
        expected = theirs.eval()(torch.tensor([word_tokenizer.encode("w6 w4").ids])).logits.numpy()
    assert relative(ours, expected) < 1e-5


@pytest.mark.parametrize("task", NAMES)
def test_twenty_steps_have_the_losses_of_transformers(task, tmp_path):
    theirs, our_task = build(task, tmp_path), TASKS[task]
    loaded, new_paths = transfer.load_for_task(
        tmp_path, our_task.head, LABELS.get(task), key=jax.random.key(0)
    )
    assert not new_paths
    params = flatten(loaded.params)
    schedule = unfreezing.SCHEDULES["linear"](STEPS)
    peaks = dict.fromkeys(params, LEARNING_RATE)
    training = Training(
        model=loaded.model,
        init=lambda: params,
        objective=TaskObjective(our_task, 0.0, {}),
        optimizer=unfreezing.optimizer(schedule, peaks, 0.01),
        schedule=schedule,
        axes=bert.AXES,
        batch_size=ROWS,
        seed=0,
        dtype="float32",
        accumulate=1,
    )
    placement = MeshPlacement(training)
    state = placement.begin(params)

    decayed = lambda name: not (name.endswith("bias") or "LayerNorm" in name)
    groups = [
        {
            "params": [x for n, x in theirs.named_parameters() if decayed(n) == is_decayed],
            "lr": LEARNING_RATE,
        }
        | {"weight_decay": 0.01 * is_decayed}
        for is_decayed in (True, False)
    ]
    torch_optimizer = torch.optim.AdamW(groups)
    torch_schedule = transformers.get_linear_schedule_with_warmup(
        torch_optimizer, STEPS // 10, STEPS
    )
    losses, expected_losses = [], []
    for batch in batches(task):
        state, metrics = placement.step(state, placement.put(batch))
        losses.append(float(metrics["loss"]))
        loss = their_loss(task, theirs, batch)
        torch_optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        torch_optimizer.step()
        torch_schedule.step()
        expected_losses.append(loss.item())
    np.testing.assert_allclose(losses, expected_losses, rtol=TOLERANCE)
    assert losses[0] != losses[-1]
