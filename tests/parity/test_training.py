"""Twenty steps of pretraining have the losses of transformers and torch.optim."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zoo
from tests.wide import widen
from train.objectives.causal import Causal
from train.objectives.next_sentence import NextSentence
from train.objectives.permutation import Permutation
from train.optimization.optimizers import adamw
from train.step import State, corrupt, make_step

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

STEPS, ROWS, LENGTH, WORDS, LEARNING_RATE = 20, 4, 24, 90, 1e-3
TOLERANCE = 1e-4  # of the loss; rounding errors grow with every step
MASK, CLS, SEP = 1, 2, 3
SHARED_CONFIG = {"vocab_size": WORDS, "attn_implementation": "eager"}


def gpt2():
    config = transformers.GPT2Config(
        **SHARED_CONFIG,
        n_positions=32,
        n_embd=32,
        n_layer=2,
        n_head=2,
        embd_pdrop=0,
        attn_pdrop=0,
        resid_pdrop=0,
        bos_token_id=0,
        eos_token_id=0,
    )

    def loss(model, batch):
        # The last token of a window is only a target, so logits and labels are aligned by hand.
        logits = model(batch["tokens"]).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten())

    return transformers.GPT2LMHeadModel(config), Causal(end_of_document=WORDS - 1), loss


def bert():
    config = transformers.BertConfig(
        **SHARED_CONFIG,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        hidden_dropout_prob=0,
        attention_probs_dropout_prob=0,
    )

    def loss(model, batch):
        real = batch["weights"]["masked"].bool()
        labels = torch.full_like(batch["tokens"], -100)
        for row in range(ROWS):
            positions = batch["predictions"][row][real[row]]
            labels[row, positions] = batch["targets"][row][real[row]]
        return model(
            batch["tokens"],
            token_type_ids=batch["segments"],
            attention_mask=batch["documents"],
            labels=labels,
            next_sentence_label=batch["next"],
        ).loss

    objective = NextSentence(WORDS, MASK, (CLS, SEP), num_predictions=5)
    return transformers.BertForPreTraining(config), objective, loss


def xlnet():
    config = transformers.XLNetConfig(
        **SHARED_CONFIG, d_model=32, n_layer=2, n_head=2, d_inner=64, dropout=0, mem_len=None
    )

    def loss(model, batch):
        mapping = torch.nn.functional.one_hot(batch["predictions"], LENGTH).float()
        logits = model(
            batch["tokens"],
            token_type_ids=batch["segments"],
            perm_mask=batch["blocked"].float(),
            target_mapping=mapping,
            use_mems=False,
        ).logits
        token_losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), batch["targets"].flatten(), reduction="none"
        )
        weights = batch["weights"]["token"].flatten()
        return (token_losses * weights).sum() / weights.sum()

    objective = Permutation(
        SEP, CLS, num_predictions=6, reuse=LENGTH // 2, memory=1, perm_size=LENGTH // 2
    )
    return transformers.XLNetLMHeadModel(config), objective, loss


def batches():
    """Yield rows with the fields of every objective."""
    random = np.random.default_rng(0)
    for _ in range(STEPS):
        tokens = random.integers(4, WORDS - 1, (ROWS, LENGTH + 1)).astype(np.int32)
        tokens[:, 0], tokens[:, 12], tokens[:, LENGTH - 1] = CLS, SEP, SEP
        segments = np.broadcast_to(np.arange(LENGTH) > 12, (ROWS, LENGTH)).astype(np.int32)
        yield {
            "tokens": tokens,
            "mask": np.ones((ROWS, LENGTH + 1), bool),
            "segments": segments,
            "words": random.random((ROWS, LENGTH)) < 0.7,
            "next": random.integers(0, 2, ROWS).astype(np.int32),
            "fresh": np.ones(ROWS, bool),
        }


@pytest.mark.parametrize("build", [gpt2, bert, xlnet])
def test_twenty_steps_have_the_losses_of_transformers(build, tmp_path):
    theirs, objective, their_loss = build()
    widen(theirs)
    theirs.save_pretrained(tmp_path)
    model, params, _ = zoo.load(tmp_path)
    optimizer = adamw(optax.constant_schedule(LEARNING_RATE), decay=0.01, clip=None)
    step = jax.jit(
        make_step(
            model,
            objective,
            optimizer,
            optax.constant_schedule(LEARNING_RATE),
            seed=0,
            dtype="float32",
        )
    )
    state = State(
        jnp.int32(0), params, optimizer.init(params), objective.initial_carry(model, ROWS)
    )
    torch_optimizer = torch.optim.AdamW(theirs.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    corrupt_batch = jax.jit(lambda key, batch: corrupt(objective, key, batch))
    losses, expected_losses = [], []
    for number, batch in enumerate(batches()):
        if build is not gpt2:
            batch |= {"tokens": batch["tokens"][:, :LENGTH], "mask": batch["mask"][:, :LENGTH]}
        key = jax.random.fold_in(jax.random.key(0), number)
        torch_batch = jax.tree.map(
            lambda x: torch.from_numpy(np.array(x, np.int64 if x.dtype == np.int32 else None)),
            corrupt_batch(key, batch),
        )
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
        torch_optimizer.zero_grad()
        loss = their_loss(theirs, torch_batch)
        loss.backward()
        torch_optimizer.step()
        expected_losses.append(loss.item())
    np.testing.assert_allclose(losses, expected_losses, rtol=TOLERANCE)
    assert losses[0] != losses[-1]
