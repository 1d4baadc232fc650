"""transformers on PyTorch, fine-tuning: the loop of the library's own example for classes.

As shipped: texts in random order, each batch padded to its longest. Tuned: texts of about one
length share a batch, as the library offers, and the optimizer is fused. Runs go one after another.
"""

import itertools
from pathlib import Path

import numpy as np
import torch
import transformers

from tests.speed.competitor import Run, serve
from tests.speed.torch_step import weights
from tests.speed.work import BETAS, EPSILON, LEARNING_RATE, WEIGHT_DECAY, Work, labelled


def freeze(model: torch.nn.Module, work: Work) -> None:
    """All but the last groups stay as they are."""
    if work.trained:
        parts = [model.bert.embeddings, *model.bert.encoder.layer]
        for part in parts[: len(parts) + 1 - work.trained]:
            part.requires_grad_(False)


def orders(work: Work, lengths, variant: str):
    """The places of each batch of an epoch, epoch after epoch."""
    random = np.random.default_rng(0)
    while True:
        order = random.permutation(len(lengths))
        if "tuned" in variant:
            order = order[np.argsort(lengths[order], kind="stable")]
        batches = np.split(order, range(work.rows, len(order), work.rows))
        yield [batches[i] for i in random.permutation(len(batches))]


def build(work: Work, folder: Path, variant: str) -> tuple[dict, Run]:
    torch.manual_seed(0)
    tokens, lengths, classes = labelled(work)

    def batch(places) -> dict[str, torch.Tensor]:
        longest = lengths[places].max()
        real = np.arange(longest) < lengths[places][:, None]
        found = {
            "input_ids": np.where(real, tokens[places][:, :longest], 0),
            "attention_mask": real,
            "labels": classes[places],
        }
        return {name: torch.from_numpy(array).long() for name, array in found.items()}

    models = [
        transformers.BertForSequenceClassification.from_pretrained(folder) for _ in range(work.runs)
    ]
    with torch.no_grad():
        loss = models[0].eval()(**batch(np.arange(work.rows))).loss.item()
    parameters = weights(models[0])
    steps = []
    for model in models:
        model.train()
        freeze(model, work)
        learned = [p for p in model.parameters() if p.requires_grad]
        fused = True if "tuned" in variant else None
        optimizer = torch.optim.AdamW(
            learned, LEARNING_RATE, BETAS, EPSILON, WEIGHT_DECAY, fused=fused
        )
        called = torch.compile(model) if "compiled" in variant else model
        steps.append((called, learned, optimizer))
    epochs = orders(work, lengths, variant)
    feed = itertools.chain.from_iterable(epochs)

    def step(places) -> None:
        for model, learned, optimizer in steps:
            model(**batch(places)).loss.backward()
            torch.nn.utils.clip_grad_norm_(learned, 1.0)
            optimizer.step()
            optimizer.zero_grad()

    def run(turns: int) -> None:
        for _ in range(turns):
            for places in next(epochs) if work.texts else [next(feed)]:
                step(places)

    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {"loss": loss, "parameters": parameters, "versions": versions}, run


if __name__ == "__main__":
    serve(build)
