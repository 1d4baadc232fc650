"""transformers on PyTorch, one training step: as shipped, tuned by hand, each with or without
torch.compile; bfloat16 by autocast, unless the variant says float32."""

import itertools
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from torch import nn

from tests.speed.competitor import Run, serve
from tests.speed.work import BETAS, EPSILON, LEARNING_RATE, WEIGHT_DECAY, Work, batches

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MODELS = {"gpt2": transformers.GPT2LMHeadModel, "bert": transformers.BertForMaskedLM}


def shipped_loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the library's own examples do: logits for every position, -100 where none counts."""
    return model(input_ids=batch["tokens"], labels=batch["labels"]).loss


def tuned_gpt2_loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Only positions with a successor meet the vocabulary, and no logits are copied."""
    hidden = model.transformer(batch["tokens"]).last_hidden_state[:, :-1]
    return F.cross_entropy(model.lm_head(hidden).flatten(0, 1), batch["tokens"][:, 1:].flatten())


def tuned_bert_loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Only the predicted positions meet the head."""
    hidden = model.bert(batch["tokens"]).last_hidden_state
    index = batch["positions"][..., None].expand(-1, -1, hidden.shape[-1])
    scores = model.cls(hidden.gather(1, index))
    return F.cross_entropy(scores.flatten(0, 1), batch["targets"].flatten())


def tensors(batch: dict) -> dict[str, torch.Tensor]:
    batch = {name: torch.from_numpy(array).long().to(DEVICE) for name, array in batch.items()}
    batch["labels"] = batch["tokens"]
    if "positions" in batch:
        ignored = torch.full_like(batch["tokens"], -100)
        batch["labels"] = ignored.scatter(1, batch["positions"], batch["targets"])
    return batch


def build(work: Work, folder: Path, variant: str) -> tuple[dict, Run]:
    torch.manual_seed(0)
    model = MODELS[work.model].from_pretrained(folder)
    tuned = {"gpt2": tuned_gpt2_loss, "bert": tuned_bert_loss}[work.model]
    loss_of = tuned if "tuned" in variant else shipped_loss
    data = [tensors(batch) for batch in batches(work)]
    return stepped(work, variant, model, loss_of, data, data[0])


def stepped(work: Work, variant: str, model: nn.Module, loss_of, data, first) -> tuple[dict, Run]:
    """Steps over the batches of `data`; the loss before training is that of the batch `first`."""
    model.to(DEVICE)
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        learned,
        LEARNING_RATE,
        BETAS,
        EPSILON,
        WEIGHT_DECAY,
        fused=True if "tuned" in variant else None,
    )
    half = work.dtype == "bfloat16" and "float32" not in variant
    precision = torch.autocast(DEVICE, torch.bfloat16, enabled=half)

    model.eval()
    with torch.no_grad(), precision:
        loss = loss_of(model, first).item()
    model.train()

    if "compiled" in variant:
        loss_of = torch.compile(loss_of)
    feed = itertools.cycle(data)

    def run(steps: int) -> None:
        for _ in range(steps):
            with precision:
                loss = loss_of(model, next(feed))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        loss.item()  # waits for a GPU

    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {"loss": loss, "parameters": weights(model), "versions": versions}, run


def weights(model: nn.Module) -> int:
    """How many numbers a model learns: Marian's bias, a buffer, is one, its waves are not."""
    named = [*model.named_parameters(), *model.named_buffers()]
    learned = lambda name, x: x.requires_grad or name == "final_logits_bias"
    return sum(x.numel() for name, x in named if learned(name, x) and "positions" not in name)


if __name__ == "__main__":
    serve(build)
