"""Measures translations against references: BLEU, chrF, ROUGE and exact matches.

BLEU and chrF are sacrebleu's, ROUGE is that of the package rouge-score, which are those that papers
report.
"""

import itertools
import warnings
from collections.abc import Sequence

LONGEST = (10, 15, 20, 30, 50)  # words of a source, where one group ends and the next begins
ROUGE = ("rouge1", "rouge2", "rougeL")


def score(found: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """BLEU, chrF, ROUGE (F measures) and exact matches, all from 0 to 100.

    Raises ValueError where there are not as many references as translations.
    """
    import sacrebleu

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a dependency's old escapes
        from rouge_score.rouge_scorer import RougeScorer

    if len(found) != len(references) or not references:
        raise ValueError(f"{len(found)} translations cannot be held against {len(references)}")
    pairs = list(zip(found, references, strict=True))
    scorer = RougeScorer(ROUGE)
    rouge = [scorer.score(reference, one) for one, reference in pairs]
    mean = lambda values: 100 * sum(values) / len(pairs)
    return {
        "bleu": sacrebleu.corpus_bleu(found, [references]).score,
        "chrf": sacrebleu.corpus_chrf(found, [references]).score,
        **{name: mean(row[name].fmeasure for row in rouge) for name in ROUGE},
        "exact_match": mean(one == reference for one, reference in pairs),
    }


def by_length(sources, found, references) -> list[tuple[int, int, int, float]]:
    """BLEU in groups of sources of about one length: (least words, most words, texts, BLEU)."""
    import sacrebleu

    lengths = [len(source.split()) for source in sources]
    groups = []
    for below, most in itertools.pairwise((0, *LONGEST, max(*lengths, LONGEST[-1] + 1))):
        places = [place for place, length in enumerate(lengths) if below < length <= most]
        if places:
            some = [[texts[place] for place in places] for texts in (found, references)]
            bleu = sacrebleu.corpus_bleu(some[0], [some[1]]).score
            groups.append((below + 1, most, len(places), bleu))
    return groups
