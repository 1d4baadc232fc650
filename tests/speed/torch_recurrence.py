"""torch.nn.LSTM alone: the gradients of its weights and of what it reads."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from tests.speed.competitor import Run, serve
from tests.speed.work import Work, waves


def build(work: Work, folder: Path, _: str) -> tuple[dict, Run]:
    model = nn.LSTM(work.width, work.width, work.num_layers)
    weights = load_file(folder / "model.safetensors")
    model.load_state_dict({n.removeprefix("rnn."): x for n, x in weights.items() if "rnn." in n})
    x_LBD = torch.from_numpy(waves(work)).transpose(0, 1).contiguous().requires_grad_()
    loss = lambda: model(x_LBD)[0].square().mean()

    def run(steps: int) -> None:
        for _ in range(steps):
            torch.autograd.grad(loss(), [*model.parameters(), x_LBD])

    parameters = sum(p.numel() for p in model.parameters())
    versions = {"torch": torch.__version__}
    return {"loss": loss().item(), "parameters": parameters, "versions": versions}, run


if __name__ == "__main__":
    serve(build)
