"""The race: measure what steps cost, share the minutes out, train, and keep race.json.

Every network gets the same seconds of training: the minutes, divided by the number of entrants. How
many steps that is has been measured before, so that the learning rates decay just as the budget
ends. Compilation, evaluations and samples come on top; so does counting, which takes what it takes.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import zoo
from train.counting import loop as counting
from train.counting import text as counting_text
from train.counting.evaluate import Evaluation
from train.data.corpus.corpus import Corpus
from train.data.sources.source import Source
from train.data.sources.text import TextFiles
from train.loop import check_same_run
from train.pretraining import corpus
from train.pretraining.pretrain import pretrain
from train.racing import results
from train.racing.entrants import ENTRANTS, CountedEntrant, check, entrant_recipe
from train.racing.measure import Cost, measure
from train.recipes.ngram import NGramRecipe
from train.recipes.roberta import RobertaRecipe
from train.reporting.manifest import environment
from train.reporting.progress import read_log
from zoo import tokenizers, untrusted
from zoo.checkpoints.lock import locked
from zoo.tokenizers import Tokenizer, end_of_document

FILE, TOKENIZER, WORDS = "race.json", "tokenizer", "ngram-of-words"
# Fewer are no training, and more passes over a text only make a network learn it by heart.
LEAST_STEPS, MOST_EPOCHS = 10, 20
# By each evaluation on the way, as a share of all that is trained on; the last one reads all.
EVALUATED, LEAST_EVALUATED, MOST_EVALUATED = 1 / 16, 1 << 12, 1 << 15


@dataclass(frozen=True, kw_only=True)
class Race:
    """A race.

    Attributes:
      source: The text.
      dev: The text to evaluate on. None: the last part of the text.
      out: The folder to write: race.json, and a model folder for each entrant.
      entrants: The names of the entrants.
      minutes: The minutes of training, divided equally over the entrants.
      vocab_size: The pieces of the tokenizer, which all entrants share.
      prompt: What the samples begin with.
      seed: Random seed of weights, order, masks, dropout and samples.
    """

    source: Source
    dev: Source | None
    out: Path
    entrants: tuple[str, ...]
    minutes: float
    vocab_size: int
    prompt: str = "The"
    seed: int = 0

    @property
    def seconds(self) -> float:
        """The seconds of training of each entrant."""
        return 60 * self.minutes / len(self.entrants)

    def settings(self) -> dict[str, Any]:
        """Return what decides the results, as JSON."""
        dev = None if self.dev is None else self.dev.fingerprint
        data = {"data": self.source.fingerprint, "dev": dev}
        own = {name: getattr(self, name) for name in ("minutes", "vocab_size", "prompt", "seed")}
        return {"zoo": zoo.__version__, "entrants": list(self.entrants), **own, **data}


def run(
    race: Race,
    *,
    resume: bool = False,
    overwrite: bool = False,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Run a race, and return the content of race.json.

    Ctrl-C and SIGTERM save the entrant that is being trained and stop; then its result is missing.

    Args:
      race: The race.
      resume: Whether the race in its folder is to be continued: an entrant that has finished is
        not trained again, and one that was interrupted goes on from its last checkpoint.
      overwrite: Whether a race in the folder may be replaced.
      report: What is called with every line of progress.

    Raises:
      ValueError: If an entrant is unknown, if the folder holds another race, or if the text is too
        short for the budget, or the budget for an entrant.
      FileExistsError: If the folder holds a race that must not be replaced.
    """
    check(race.entrants)
    with locked(race.out):
        record = _begin(race, resume=resume, overwrite=overwrite)
        tokenizer = _tokenizer(race)
        train, text = _texts(race, tokenizer)
        record["text"] = {"tokens": train.num_tokens, "bytes": text.bytes, "words": text.words}
        networks = [name for name in race.entrants if not _is_counted(name)]
        for name in networks:
            if name not in record["planned"]:
                record["planned"][name] = _planned(race, name, report)
                _write(race, record)
        for number, name in enumerate(race.entrants, 1):
            if name in record["results"]:
                report(f"== {name} has finished ({number} of {len(race.entrants)})")
                continue
            report(f"== {name} ({number} of {len(race.entrants)})")
            counts = _is_counted(name)
            result = _count(race, name, text) if counts else _train(race, name, record, text)
            if result is None:
                return record
            record["results"][name] = {**result, **_described(race, name, result, text)}
            _write(race, record)
        if "word_ngram" not in record:
            record["word_ngram"] = _count_words(race)
            _write(race, record)
        return record


def read(out: Path) -> dict[str, Any]:
    """Return race.json of a folder, or {} if there is none.

    Raises:
      ValueError: If it is damaged.
    """
    if not (out / FILE).exists():
        return {}
    record = untrusted.read_object(out / FILE)
    parts = ("settings", "planned", "results")
    if any(not isinstance(record.get(part), dict) for part in parts):
        raise ValueError(f"{out / FILE} is damaged: use --overwrite, or another --out")
    return record


def _begin(race: Race, *, resume: bool, overwrite: bool) -> dict[str, Any]:
    """Return the record of a new race, or of the one that is continued."""
    if resume and overwrite:
        raise ValueError("--resume and --overwrite cannot be combined: leave out one of them")
    settings, out = json.loads(json.dumps(race.settings())), race.out
    if (out / FILE).exists():
        if resume:
            before = read(out)
            check_same_run(out, before["settings"], settings)
            return before
        if not overwrite:
            raise FileExistsError(
                f"{out} holds a race: use --resume to continue it, --overwrite to replace it, or "
                "another --out"
            )
        for name in (*ENTRANTS, TOKENIZER, WORDS):
            shutil.rmtree(out / name, ignore_errors=True)
        (out / FILE).unlink()
    record = {"settings": settings, **environment(), "planned": {}, "results": {}}
    _write(race, record)
    return record


def _write(race: Race, record: dict[str, Any]) -> None:
    unfinished = race.out / f"{FILE}.new"
    unfinished.write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    unfinished.replace(race.out / FILE)


def _tokenizer(race: Race) -> Tokenizer:
    """Return the tokenizer of all entrants: that of RoBERTa, whose special tokens serve them all.

    Its `</s>` ends the documents of causal models, and `<mask>` is for the masked ones.
    """
    folder = race.out / TOKENIZER
    if not (folder / "tokenizer.json").exists():
        recipe = entrant_recipe("roberta", race.vocab_size, race.seed)
        assert isinstance(recipe, RobertaRecipe)
        tokenizers.save(corpus.tokenizer(recipe, race.source), folder)
    tokenizer = tokenizers.load(folder)
    assert isinstance(tokenizer, Tokenizer)
    return tokenizer


def _texts(race: Race, tokenizer: Tokenizer) -> tuple[Corpus, results.HeldOut]:
    """Return the tokens to train on, and the held-out text."""
    recipe = entrant_recipe("roberta", race.vocab_size, race.seed)
    text = corpus.corpus(recipe, race.source, tokenizer)
    if race.dev is None:
        train, rest = text.split()
    else:
        train, rest = text, corpus.corpus(recipe, race.dev, tokenizer)
    return train, results.held_out(rest, tokenizer)


def _is_counted(name: str) -> bool:
    return isinstance(ENTRANTS[name], CountedEntrant)


def _planned(race: Race, name: str, report: Callable[[str], None]) -> dict[str, Any]:
    """Return what a network costs, and how many steps its budget permits.

    Raises:
      ValueError: If these are too few, or need more text.
    """
    recipe = entrant_recipe(name, race.vocab_size, race.seed)
    tokenizer, out = race.out / TOKENIZER, race.out / name
    cost = measure(recipe, race.source, race.dev, tokenizer, out, race.seconds)
    steps = int(race.seconds / cost.step_seconds)
    per_step = recipe.batch * recipe.length
    epochs = steps * per_step / cost.tokens
    if steps < LEAST_STEPS:
        least = LEAST_STEPS * cost.step_seconds * len(race.entrants) / 60
        raise ValueError(
            f"--minutes {race.minutes:g} permits {steps} steps of {name}, which are no training: "
            f"use --minutes {2 * least:.2g} or fewer --entrants"
        )
    if epochs > MOST_EPOCHS:
        fitting = race.minutes * MOST_EPOCHS / epochs
        raise ValueError(
            f"the text is too short for --minutes {race.minutes:g}: {name} would read its "
            f"{cost.tokens:,} tokens {epochs:.0f} times, more than {MOST_EPOCHS}: use more text, "
            f"or --minutes {fitting:.2g}"
        )
    report(
        f"{name}: {cost.parameters:,} parameters, {steps:,} steps of {cost.step_seconds * 1e3:.0f} "
        f"ms and {cost.step_flop:.3g} FLOP, {epochs:.2g} epochs"
    )
    return {"steps": steps, "tokens_per_step": per_step, **cost._asdict()}


def _train(
    race: Race, name: str, record: dict[str, Any], text: results.HeldOut
) -> dict[str, Any] | None:
    """Train a network, from its last checkpoint on; None if it was stopped."""
    planned = record["planned"][name]
    cost = Cost(**{field: planned[field] for field in Cost._fields})
    steps, per_step = planned["steps"], planned["tokens_per_step"]
    recipe = entrant_recipe(name, race.vocab_size, race.seed, steps)
    share = int(EVALUATED * steps * per_step)
    metrics = pretrain(
        recipe,
        race.source,
        race.out / name,
        dev=race.dev,
        resume=True,
        tokenizer=race.out / TOKENIZER,
        evaluate_tokens=min(max(share, LEAST_EVALUATED), MOST_EVALUATED),
    )
    if not metrics:
        return None
    tokens_per_byte = text.corpus.num_tokens / text.bytes
    return results.trained(race.out / name, cost, steps, per_step, tokens_per_byte)


def _count(race: Race, name: str, text: results.HeldOut) -> dict[str, Any]:
    """Count the n-grams of every order; the folder of the longest is that of the entrant."""
    entrant = ENTRANTS[name]
    assert isinstance(entrant, CountedEntrant)
    evaluations: dict[int, Evaluation] = {}
    seconds: dict[int, float] = {}
    tokenizer = race.out / TOKENIZER
    loaded = tokenizers.load(tokenizer)
    assert isinstance(loaded, Tokenizer)
    tokens = counting_text.corpus(race.source, loaded, end_of_document(loaded))
    for order in entrant.orders:
        folder = race.out / name / f"order-{order}"
        recipe = NGramRecipe(order=order, units="token")
        evaluations[order] = counting.pretrain(
            recipe, race.source, folder, dev=race.dev, tokenizer=tokenizer, overwrite=True
        )
        seconds[order] = read_log(folder)[-1]["seconds"]
    counted = tokens if race.dev is not None else tokens.split()[0]
    return results.counted(evaluations, counted.num_tokens, seconds)


def folder_of(race: Race, name: str) -> Path:
    """Return the model folder of an entrant."""
    entrant = ENTRANTS[name]
    if isinstance(entrant, CountedEntrant):
        return race.out / name / f"order-{entrant.orders[-1]}"
    return race.out / name


def _described(
    race: Race, name: str, result: dict[str, Any], text: results.HeldOut
) -> dict[str, Any]:
    """Return what is found out about a trained model: perplexity per word, and a sample."""
    entrant, loaded = ENTRANTS[name], zoo.load(folder_of(race, name))
    more: dict[str, Any] = {"paper": entrant.paper, "panel": entrant.panel}
    if entrant.panel == "masked":
        bits = results.pseudo_bits_per_byte(loaded, text, race.seed)
        more["pseudo_bits_per_byte"] = bits
        more["pseudo_perplexity_per_word"] = results.word_perplexity(bits, text)
    else:
        bits = result["bits_per_byte"]
        more["perplexity_per_word"] = results.word_perplexity(bits, text)
    return {**more, "sample": results.sample(loaded, race.prompt, entrant.panel, race.seed)}


def _count_words(race: Race) -> dict[str, Any] | None:
    """Return the perplexity of the 5-gram of words, where its vocabulary has all words.

    Only then does it predict the same text as the other entrants. The text is one stream of words,
    as in the tables of train/recipes/README.md.
    """
    if race.dev is None or "ngram" not in race.entrants:
        return None
    source, dev = map(_as_stream, (race.source, race.dev))
    known = {word for piece in source.pieces() for word in piece.text.split()}
    if any(not known.issuperset(piece.text.split()) for piece in dev.pieces()):
        return None
    folder = race.out / WORDS
    evaluation = counting.pretrain(NGramRecipe(), source, folder, dev=dev, overwrite=True)
    return {
        "perplexity_per_word": evaluation.metrics["perplexity"],
        "parameters": sum(row.ngrams for row in evaluation.orders),
        "seconds": read_log(folder)[-1]["seconds"],
    }


def _as_stream(source: Source) -> Source:
    """Return a source whose files are one document each."""
    return replace(source, separator=None) if isinstance(source, TextFiles) else source


def panels(record: dict[str, Any]) -> Sequence[tuple[str, dict[str, Any]]]:
    """Return the results of a race by panel, those that have any, from the best to the worst."""
    found = []
    for panel in ("causal", "masked"):
        own = {name: x for name, x in record["results"].items() if x["panel"] == panel}
        if own:
            key = "bits_per_byte" if panel == "causal" else "pseudo_bits_per_byte"
            found.append((panel, dict(sorted(own.items(), key=lambda item: item[1][key]))))
    return found
