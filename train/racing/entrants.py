"""The entrants of a race: for each family its recipe, at one size.

The networks have about 1.3 million parameters with a vocabulary of 4,096 pieces, and a step reads
512 tokens. Optimizers and weight decay are those of the recipes; the learning rate of every
entrant rises for at most 50 steps, then falls to a tenth by a cosine that ends with the budget.
Departure: the windows of AWD-LSTM have one length, so that its step is compiled once.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from train.objectives.regularized_causal import RegularizedCausal
from train.optimization import schedules
from train.recipes import recipe
from train.recipes.awd_lstm import AWDLSTMRecipe
from train.recipes.recipe import Recipe, with_fields
from train.recipes.rnn import RNNRecipe
from zoo.tokenizers import AnyTokenizer, end_of_document

EVALUATIONS, REPORTS = 8, 200  # during a run
Panel = Literal["causal", "masked"]
WIDTH = 128  # of Transformers
TRANSFORMER = {
    **{"num_layers": 4, "num_heads": 4, "head_width": 32},
    **{"width": WIDTH, "mlp_width": 512, "max_length": 256},
    # Drawn with 0.02, the papers' value for a width of 768, a GPT of this width still predicts by
    # frequency after 4,000 steps.
    "init_std": WIDTH**-0.5,
}


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """A network in the race.

    Attributes:
      paper: Authors and year.
      recipe: The name of the recipe that it changes.
      config: Changes to the config of the model.
      peak: The largest learning rate.
      batch: Sequences per step.
      length: Tokens per sequence.
      panel: Whether it predicts the next token, or masked ones.
    """

    paper: str
    recipe: str
    config: Mapping[str, Any] = field(default_factory=dict)
    peak: float
    batch: int = 4
    length: int = 128
    panel: Panel = "causal"

    def schedule(self, steps: int) -> Any:
        """Return the learning-rate schedule for a number of steps."""
        return schedules.cosine(self.peak, min(50, steps // 10), steps, self.peak / 10)


@dataclass(frozen=True, kw_only=True)
class CountedEntrant:
    """The n-gram model in the race: one point of its curve for each order."""

    paper: str
    orders: tuple[int, ...]
    panel: Panel = "causal"


# In the order in which they are trained.
ENTRANTS: dict[str, Entrant | CountedEntrant] = {
    "ngram": CountedEntrant(paper="Shannon 1948; Kneser, Ney 1995", orders=(1, 2, 3, 4, 5)),
    "fixed-window": Entrant(
        paper="Bengio et al. 2003",
        recipe="fixed-window-tiny",
        config={"width": 192, "embed_width": 64},
        peak=2e-3,
        batch=8,
        length=64,
    ),
    "rnn": Entrant(
        paper="Mikolov et al. 2010",
        recipe="rnn-lm-tiny",
        config={"width": 160, "embed_width": 128},
        peak=2e-3,
        batch=8,
        length=64,
    ),
    "lstm": Entrant(
        paper="Zaremba et al. 2014",
        recipe="lstm-lm-tiny",
        config={"width": 128, "embed_width": 128},
        peak=4e-3,
        batch=8,
        length=64,
    ),
    "awd-lstm": Entrant(
        paper="Merity et al. 2017",
        recipe="awd-lstm-tiny",
        config={"width": 128, "cell_width": 192},
        peak=4e-3,
        batch=8,
        length=64,
    ),
    "wavenet": Entrant(
        paper="van den Oord et al. 2016",
        recipe="wavenet-tiny",
        config={"width": 80, "gate_width": 80, "skip_width": 80},
        peak=2e-3,
    ),
    "bytenet": Entrant(
        paper="Kalchbrenner et al. 2016",
        recipe="bytenet-tiny",
        config={"width": 104},
        peak=2e-3,
    ),
    "gpt": Entrant(paper="Radford et al. 2018", recipe="gpt-tiny", config=TRANSFORMER, peak=2e-3),
    "gpt2": Entrant(paper="Radford et al. 2019", recipe="gpt2-tiny", config=TRANSFORMER, peak=2e-3),
    "bert": Entrant(
        paper="Devlin et al. 2018",
        recipe="bert-tiny",
        config=TRANSFORMER,
        peak=1e-3,
        panel="masked",
    ),
    "roberta": Entrant(
        paper="Liu et al. 2019",
        recipe="roberta-tiny",
        config=TRANSFORMER,
        peak=1e-3,
        panel="masked",
    ),
}


class RacingAWDLSTM(RNNRecipe):
    """AWD-LSTM on windows of one length, evaluated as often as the others."""

    def objective(self, tokenizer: AnyTokenizer) -> RegularizedCausal:
        config: Any = self.config
        end = end_of_document(tokenizer)
        return RegularizedCausal(end, config.activation_penalty, config.temporal_penalty)


def check(names: Iterable[str]) -> None:
    """Raise ValueError for a name that no entrant has; the message suggests the most similar."""
    for name in names:
        if name not in ENTRANTS:
            matches = difflib.get_close_matches(name, ENTRANTS, n=1, cutoff=0.4)
            hint = (
                f"did you mean {matches[0]!r}?" if matches else f"there are {', '.join(ENTRANTS)}"
            )
            raise ValueError(f"unknown entrant {name!r}; {hint}")


def entrant_recipe(name: str, vocab_size: int, seed: int, steps: int = 100) -> Recipe:
    """Return the recipe of a network in the race, for a number of steps."""
    entrant = ENTRANTS[name]
    assert isinstance(entrant, Entrant)
    chosen = recipe(entrant.recipe)
    if isinstance(chosen, AWDLSTMRecipe):
        chosen = RacingAWDLSTM(**vars(chosen))
    config: Any = replace(chosen.config, **entrant.config)
    chosen = replace(chosen, name=name, config=config, schedule=entrant.schedule)
    each = max(1, -(-steps // EVALUATIONS))
    return with_fields(
        chosen,
        vocab_size=vocab_size,
        **{"steps": steps, "batch": entrant.batch, "length": entrant.length, "seed": seed},
        **{"evaluate_every": each, "save_every": each, "report_every": max(1, steps // REPORTS)},
    )
