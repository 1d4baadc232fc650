r"""What pretraining objectives are worth at equal compute: one text, one size, one protocol.

python -m tests.equal_compute --text wiki.train.tokens.gz --dev wiki.valid.tokens.gz \
    --separator "\n \n = " --flop 2e13 --classification sst.train.tsv sst.dev.tsv \
    --tagging train.conllu dev.conllu --out runs/equal

All models have two layers of width 128 (T5: two and two; DistilBERT, a student of the BERT: one),
and 8,192 pieces of the text in the way of their family. Each has the objective and the optimizer of
its recipe, and as many steps as its products of matrices take `--flop`; what DistilBERT's teacher
takes in a step counts, its training does not. Fine-tuning has the same settings for all, and keeps
the last model, so nothing is chosen on the development data. A row is kept in OUT/NAME.json, and is
not computed again.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from train.data.sources import text
from train.data.sources.source import Source
from train.finetuning import data
from train.finetuning.finetune import finetune
from train.finetuning.settings import DataSettings, Settings
from train.finetuning.tasks.registry import TASKS
from train.pretraining.distill import distilled
from train.pretraining.pretrain import pretrain
from train.pretraining.run import prepare
from train.racing.measure import step_flop
from train.recipes import recipe
from train.recipes.recipe import Recipe, with_fields
from zoo import registry
from zoo.checkpoints.load import saved_class

NAMES = ("bert", "roberta", "gpt2", "xlnet", "albert", "t5", "electra", "distilbert")
WIDTH, LAYERS, LENGTH, PIECES = 128, 2, 128, 8192
SIZE = {
    **{"max_length": LENGTH, "num_layers": LAYERS, "num_decoder_layers": LAYERS, "width": WIDTH},
    **{"num_heads": 2, "head_width": 64, "mlp_width": 4 * WIDTH, "vocab_size": PIECES},
    **{"embed_width": WIDTH, "generator_layers": LAYERS, "generator_heads": 1},
    **{"generator_width": WIDTH // 4, "generator_mlp_width": WIDTH},
    "init_std": WIDTH**-0.5,
}
RATE, ADAFACTOR_RATE = 1e-3, 1e-2  # the latter is multiplied by the size of the weights
RATES = {"classification": "5e-4", "tagging": "2e-3", "text-to-text": "2e-3"}
SEEDS, EPOCHS = 3, 3.0


def sized(name: str, out: Path) -> Recipe:
    """Return the recipe of a model at the size of all."""
    base = recipe(f"{name}-tiny")
    changes: dict[str, Any] = {k: v for k, v in SIZE.items() if k in vars(base.config)}
    if name == "albert":
        changes["embed_width"] = WIDTH // 4
    if name == "distilbert":
        changes["num_layers"] = LAYERS // 2
    rate = ADAFACTOR_RATE if name == "t5" else RATE
    base = replace(base, config=replace(base.config, **changes))
    chosen = with_fields(base, length=LENGTH, batch=16, learning_rate=rate)
    return distilled(chosen, out / "bert") if name == "distilbert" else chosen


def pretrained(name: str, source: Source, dev: Source | None, out: Path, flop: float) -> dict:
    """Pretrain a model for a budget, and return its size, steps and held-out metrics."""
    chosen = sized(name, out)
    run = prepare(chosen, source, out / "trial", dev=dev)
    steps = max(2, round(flop / step_flop(run)))
    chosen = with_fields(chosen, steps=steps)
    chosen = replace(chosen, evaluate_every=steps, save_every=steps, report_every=steps // 10 + 1)
    metrics = pretrain(chosen, source, out / name, dev=dev, overwrite=True)
    if not metrics:
        raise SystemExit(f"{name} was stopped: it is computed again from its start next time")
    parameters = sum(x.size for x in jax.tree.leaves(run.placement.abstract.params))
    return {
        "parameters": parameters,
        "steps": steps,
        "epochs": steps * chosen.batch * chosen.length / run.amounts[0],
        "loss": float(metrics["loss"]),
    }


def tuned(folder: Path, task: str, files: Sequence[Path], limit: int, *, scratch: bool) -> list:
    """Return the scores of fine-tuning with every seed, or [] if the model has no such task."""
    kind = task
    if task not in registry.of(saved_class(folder)).TASKS:
        if task != "classification":
            return []
        kind = "text-to-text"
    train, dev = files
    examples, _ = data.load(DataSettings(task=task, train=train, dev=dev, limit=limit))
    training = Settings(
        epochs=EPOCHS,
        learning_rate=RATES[kind],
        dropout=0.1,
        scratch=scratch,
        seeds=SEEDS,
        keep="last",
    )
    out = folder.parent / f"{folder.name}-{task}{'-scratch' * scratch}"
    metrics, _ = finetune(folder, TASKS[kind], examples, out, training, overwrite=True)
    if kind == "text-to-text":
        return [seed["exact_match"] for seed in metrics["dev"]]
    return [100 * seed["accuracy"] for seed in metrics["dev"]]


def row(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the row of a model, from its file if there is one."""
    file = arguments.out / f"{name}.json"
    if not file.exists():
        source, dev = (
            paths and text.files(paths, arguments.separator.encode().decode("unicode_escape"))
            for paths in (arguments.text, arguments.dev)
        )
        result = pretrained(name, source, dev or None, arguments.out, arguments.flop)
        for task in ("classification", "tagging"):
            if files := getattr(arguments, task):
                folder, limit = arguments.out / name, arguments.limit
                result[task] = tuned(folder, task, files, limit, scratch=False)
                if name == "bert":
                    result[f"{task}, scratch"] = tuned(folder, task, files, limit, scratch=True)
        file.write_text(json.dumps(result))
    return json.loads(file.read_text())


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute all rows that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--text", nargs="+", type=Path, required=True)
    parser.add_argument("--dev", nargs="+", type=Path)
    parser.add_argument("--separator", default="\\n\\n")
    parser.add_argument("--flop", type=float, default=1e13)
    parser.add_argument("--models", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--classification", nargs=2, type=Path)
    parser.add_argument("--tagging", nargs=2, type=Path)
    parser.add_argument("--limit", type=int, default=3000)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    os.makedirs(given.out, exist_ok=True)
    shown = lambda scores: f"{np.mean(scores):.1f} ± {np.std(scores):.1f}" if scores else ""
    lines = ["| | parameters | steps | epochs | loss | classes | tags |", "|---" * 7 + "|"]
    for name in given.models:
        result = row(name, given)
        scores = [shown(result.get(task)) for task in ("classification", "tagging")]
        lines.append(
            f"| {name} | {result['parameters']:,} | {result['steps']:,} | {result['epochs']:.1f} | "
            f"{result['loss']:.3f} | {' | '.join(scores)} |"
        )
        if name == "bert":
            scores = [shown(result.get(f"{x}, scratch")) for x in ("classification", "tagging")]
            lines.append(f"| bert, from scratch | | | | | {' | '.join(scores)} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
