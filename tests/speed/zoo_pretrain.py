"""Zoo, one training step of a model that learns otherwise than GPT-2 and BERT: the trainer's own.

What is hidden or cut out is drawn inside the step, which the others do not do.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import zoo
from tests.speed import work as shared
from tests.speed import zoo_weights
from tests.speed.competitor import Run, serve
from tests.speed.work import Work
from tests.speed.zoo_step import stepped
from train.devices.malloc import keep_freed_memory
from train.objectives.causal_stateful import StatefulCausal
from train.objectives.distillation import Distillation
from train.objectives.masked import MaskedLanguageModeling
from train.objectives.replaced_token import ReplacedToken, detection
from train.objectives.sentence_order import SentenceOrder
from train.objectives.sequence_to_sequence import SequenceToSequence
from train.objectives.span_corruption import SpanCorruption
from train.step import cast, corrupt, total

NOTES = {"albert": "one dropout a block more", "distilbert": "one dropout a block more"}


def objective(work: Work):
    """What is learned; nothing that is drawn is a special token."""
    if work.model.startswith("t5"):
        return SpanCorruption(work.vocab_size - 1, shared.END)
    if work.model == "rnn":
        return StatefulCausal(end_of_document=0)
    if work.model == "transformer":
        return SequenceToSequence(start=0, end=shared.END)
    kinds = {"albert": SentenceOrder, "electra": ReplacedToken}
    rate = work.predictions / work.max_length
    goal = kinds.get(work.model, MaskedLanguageModeling)(
        work.vocab_size, shared.MASK, (0,), work.predictions, rate
    )
    if work.model != "distilbert":
        return goal
    model, params = zoo_weights.teacher(work)
    return Distillation(goal, model, cast(params, work.dtype))


def examples(work: Work, batch: dict) -> dict[str, np.ndarray]:
    """A batch before the objective's corruption: whole texts, and what else some of them have."""
    if work.model.startswith("t5"):
        return {"tokens": batch["text"], "mask": np.ones(batch["text"].shape, bool)}
    if work.model == "rnn":
        whole = {"tokens": batch["text"], "mask": np.ones(batch["text"].shape, bool)}
        return whole | {"fresh": np.zeros(work.rows, bool)}
    if work.model == "transformer":
        length = np.full(work.rows, work.max_length - 1, np.int32)
        lengths = {"source_length": length, "target_length": length}
        return {"source": batch["tokens"], "target": batch["targets"], **lengths}
    words, nothing = batch["tokens"].copy(), np.zeros_like(batch["tokens"])
    np.put_along_axis(words, batch["positions"], batch["targets"], axis=1)
    return {
        "tokens": words,
        "mask": np.ones(words.shape, bool),
        "words": np.ones_like(words),  # each token is a word
        "segments": batch.get("segments", nothing),
        "order": batch.get("order", nothing[:, 0]),
    }


def first_loss(work: Work, goal, model, params, batch: dict) -> float:
    """The loss before training, of the words that the other competitors hide.

    ELECTRA's discriminator reads those hidden words, as if its generator had guessed them.
    """
    whole, key = examples(work, batch), jax.random.key(0)
    seen = corrupt(goal, key, whole)
    seen |= {name: jnp.asarray(array) for name, array in batch.items() if name in seen}
    if "positions" in batch:
        seen["predictions"] = batch["positions"]
        seen["weights"]["masked"] = jnp.ones(batch["positions"].shape)
    if work.model == "electra":
        seen |= {"hidden": jnp.asarray(batch["tokens"]), "tokens": jnp.asarray(whole["tokens"])}
    params = cast(params, work.dtype)
    carry = goal.initial_carry(model, work.rows)
    terms, _ = goal.loss(model, params, seen, carry, key, train=False)
    if work.model == "electra":
        inputs = seen["hidden"], seen["segments"], seen["documents"]
        logits_BL = model.apply({"params": params}, *inputs, method="detect")
        replaced_BL = seen["hidden"] != seen["tokens"]
        terms["replaced"] = detection(logits_BL, replaced_BL, seen["weights"]["replaced"])
    return float(total(goal, terms, jax.tree.map(jnp.sum, seen["weights"])))


def build(work: Work, _folder: Path, variant: str) -> tuple[dict, Run]:
    keep_freed_memory()  # as `zoo pretrain` does
    model, params = zoo_weights.draw(work, work.model)
    data, goal = shared.batches(work), objective(work)
    # Its operations are compiled one by one, which takes a GPU a minute.
    loss = None if variant == "unchecked" else first_loss(work, goal, model, params, data[0])
    run = stepped(work, model, params, goal, [examples(work, batch) for batch in data])
    facts = {"loss": loss, "parameters": sum(x.size for x in jax.tree.leaves(params))}
    if work.model in NOTES:
        facts["note"] = NOTES[work.model]
    return facts | {"versions": {"zoo": zoo.__version__, "jax": jax.__version__}}, run


if __name__ == "__main__":
    serve(build)
