"""Metrics of generated texts against references: BLEU, chrF, ROUGE and exact matches.

BLEU and chrF come from sacrebleu, ROUGE from the package rouge-score, as in papers.
"""

import itertools
import warnings
from collections.abc import Sequence
from typing import NamedTuple

SOURCE_LENGTHS = (10, 15, 20, 30, 50)  # upper limits of the groups of `by_length`, in words
ROUGE = ("rouge1", "rouge2", "rougeL")


def score(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Return BLEU, chrF, ROUGE (F measures) and exact matches, all from 0 to 100.

    Raises:
      ValueError: If the numbers of predictions and references differ, or are 0.
    """
    import sacrebleu

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in a dependency
        from rouge_score.rouge_scorer import RougeScorer

    if len(predictions) != len(references) or not references:
        raise ValueError(
            f"{len(predictions)} texts cannot be scored against {len(references)} references"
        )
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
    """Sources of similar length: the limits in words, the number of texts, and their BLEU."""

    min_words: int
    max_words: int
    num_texts: int
    bleu: float


def by_length(
    sources: Sequence[str], predictions: Sequence[str], references: Sequence[str]
) -> list[LengthGroup]:
    """Return BLEU by length of the source."""
    import sacrebleu

    lengths = [len(source.split()) for source in sources]
    groups = []
    longest = max(*lengths, SOURCE_LENGTHS[-1] + 1)
    for below, most in itertools.pairwise((0, *SOURCE_LENGTHS, longest)):
        indices = [index for index, length in enumerate(lengths) if below < length <= most]
        if indices:
            texts = [[side[index] for index in indices] for side in (predictions, references)]
            bleu = sacrebleu.corpus_bleu(texts[0], [texts[1]]).score
            groups.append(LengthGroup(below + 1, most, len(indices), bleu))
    return groups
