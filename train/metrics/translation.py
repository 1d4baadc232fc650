"""Metrics of generated texts against references: BLEU, chrF, ROUGE and exact matches.

BLEU and chrF are sacrebleu's, ROUGE is that of the package rouge-score, as papers report them.
"""

import itertools
import warnings
from collections.abc import Sequence
from typing import NamedTuple

SOURCE_LENGTHS = (10, 15, 20, 30, 50)  # words, where one group of `by_length` ends
ROUGE = ("rouge1", "rouge2", "rougeL")


def score(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Return BLEU, chrF, ROUGE (F measures) and exact matches, all from 0 to 100.

    Raises:
      ValueError: If there are not as many references as predictions.
    """
    import sacrebleu

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a dependency's old escapes
        from rouge_score.rouge_scorer import RougeScorer

    if len(predictions) != len(references) or not references:
        raise ValueError(f"{len(predictions)} texts cannot be scored against {len(references)}")
    pairs = list(zip(predictions, references, strict=True))
    scorer = RougeScorer(ROUGE)
    rouge = [scorer.score(reference, predicted) for predicted, reference in pairs]
    mean = lambda values: 100 * sum(values) / len(pairs)
    return {
        "bleu": sacrebleu.corpus_bleu(predictions, [references]).score,
        "chrf": sacrebleu.corpus_chrf(predictions, [references]).score,
        **{name: mean(row[name].fmeasure for row in rouge) for name in ROUGE},
        "exact_match": mean(predicted == reference for predicted, reference in pairs),
    }


class LengthGroup(NamedTuple):
    """Sources of similar length: the bounds in words, how many there are, and their BLEU."""

    min_words: int
    max_words: int
    num_texts: int
    bleu: float


def by_length(
    sources: Sequence[str], predictions: Sequence[str], references: Sequence[str]
) -> list[LengthGroup]:
    """Return BLEU by the length of the source."""
    import sacrebleu

    lengths = [len(source.split()) for source in sources]
    groups = []
    longest = max(*lengths, SOURCE_LENGTHS[-1] + 1)
    for below, most in itertools.pairwise((0, *SOURCE_LENGTHS, longest)):
        chosen = [number for number, length in enumerate(lengths) if below < length <= most]
        if chosen:
            texts = [[side[number] for number in chosen] for side in (predictions, references)]
            bleu = sacrebleu.corpus_bleu(texts[0], [texts[1]]).score
            groups.append(LengthGroup(below + 1, most, len(chosen), bleu))
    return groups
