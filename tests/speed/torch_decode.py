"""transformers on PyTorch, greedy decoding: `generate` as shipped, or over a static cache with the
forward pass compiled."""

from pathlib import Path

import torch
import transformers

from tests.speed.competitor import Run, serve
from tests.speed.torch_step import DEVICE
from tests.speed.work import Work, tokens


def build(work: Work, folder: Path, variant: str) -> tuple[dict, Run]:
    model = transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=getattr(torch, work.dtype))
    model = model.to(DEVICE).eval()
    prompt = torch.from_numpy(tokens(work, work.prompt, seed=0)).long().to(DEVICE)
    options = {"max_new_tokens": work.new_tokens, "do_sample": False, "pad_token_id": 0}
    if variant == "compiled":
        options["cache_implementation"] = "static"
        model.forward = torch.compile(model.forward)

    def run(times: int) -> list:
        for _ in range(times):
            ids = model.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
        return ids[:, work.prompt :].tolist()

    parameters = sum(p.numel() for p in model.parameters())
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {"parameters": parameters, "versions": versions}, run


if __name__ == "__main__":
    serve(build)
