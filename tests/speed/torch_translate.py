"""transformers on PyTorch, Marian: `generate` as shipped, or over a static cache with the decoder's
forward pass compiled."""

from pathlib import Path

import torch
import transformers

from tests.speed.competitor import Run, serve
from tests.speed.torch_step import weights
from tests.speed.work import END, Work, tokens


def build(work: Work, folder: Path, variant: str) -> tuple[dict, Run]:
    model = transformers.MarianMTModel.from_pretrained(folder).eval()
    model.generation_config.forced_eos_token_id = None  # the other ends where the room does
    prompt = torch.from_numpy(tokens(work, work.prompt, seed=0)).long()
    options = {
        "max_new_tokens": work.new_tokens,
        "do_sample": False,
        "num_beams": work.beams,
        "eos_token_id": END,
        "bad_words_ids": [[model.config.decoder_start_token_id]],
        "renormalize_logits": True,
    }
    if variant == "compiled":
        options["cache_implementation"] = "static"
        model.forward = torch.compile(model.forward)

    def run(times: int) -> list:
        for _ in range(times):
            ids = model.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
        return ids[:, 1:].tolist()

    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {"parameters": weights(model), "versions": versions}, run


if __name__ == "__main__":
    serve(build)
