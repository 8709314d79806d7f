"""What a system scores without looking: the controls that its own score must stand above."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from eval.metrics.bleu import ORDERS, bleu_of_counts, bleu_tokens
from eval.metrics.measures import Counts
from eval.predictions.prediction_file import Prediction
from eval.settings import ScoreSettings

CONTROLS = ("shuffled", "text_prior", "constant")
"""Rows of the score table."""
SHUFFLES = 5
"""Whose mean is the row ``shuffled``."""
CONTROL_NOTE = (
    "Controls: shuffled = {system}'s translations of other clips, the mean of {shuffles} shuffles; "
    "text prior = {system} without features; constant = one train sentence for all clips, the best on dev. "
    "What they score is owed to the text alone."
)
"""What the last rows are for."""


def controlled(rows: Iterable[str]) -> str | None:
    """Whose controls they are: stage 2's, else those of the one system there is."""
    own = [name for name in rows if name not in CONTROLS]
    return "stage2" if "stage2" in own else own[0] if len(own) == 1 else None


def of_other_clips(rows: Sequence[Prediction], seed: int) -> list[Prediction]:
    """Each clip with the translation of another one; those without a translation stay so.

    A translation does not depend on the clip that asks for it, so nothing is translated anew.
    """
    said = [place for place, row in enumerate(rows) if row.hypothesis]
    source = dict(zip(said, derange(said, seed), strict=True))
    others = [rows[source.get(place, place)] for place in range(len(rows))]
    return [
        replace(row, hypothesis=other.hypothesis, score=other.score) for row, other in zip(rows, others, strict=True)
    ]


def derange(places: Sequence[int], seed: int) -> list[int]:
    """The places so rearranged that none stays where it was (one alone does)."""
    order = np.random.default_rng([seed, 0x53687566]).permutation(len(places))
    moved = dict(zip(order, np.roll(order, 1), strict=True))
    return [places[moved[position]] for position in range(len(places))]


def mean_of(counts: Sequence[Counts]) -> Counts:
    """Of several systems on the same clips: what a clip counts on average."""
    return Counts(np.mean([one.matrix for one in counts], axis=0), counts[0].measures)


def best_constant(train: Iterable[str], dev: Sequence[str], settings: ScoreSettings) -> str:
    """The train sentence with the best BLEU-4 when it is said of every dev clip; of equals the best by lower orders.

    Exact, without counting every pair: how many references have an n-gram at least k times is counted once.
    """
    references = [_grams(bleu_tokens(text, settings)) for text in dev]
    having = Counter((gram, k) for grams in references for gram, n in grams.items() for k in range(1, n + 1))
    length = sum(n for grams in references for gram, n in grams.items() if len(gram) == 1)

    def scores(text: str) -> list[float]:
        words = bleu_tokens(text, settings)
        matches = Counter[int]()
        for gram, n in _grams(words).items():
            matches[len(gram)] += sum(having[gram, k] for k in range(1, n + 1))
        totals = [max(0, len(words) - order + 1) * len(dev) for order in ORDERS]
        sums = [len(words) * len(dev), length, *(matches[order] for order in ORDERS), *totals]
        return [bleu_of_counts(sums, order, settings.smoothing) for order in reversed(ORDERS)]

    return max(sorted(set(train)), key=scores)


def always(sentence: str, rows: Sequence[Prediction]) -> list[Prediction]:
    """The rows of a system that says one sentence of every clip."""
    return [replace(row, hypothesis=sentence, score=None) for row in rows]


def strongest(scores: Mapping[str, float]) -> str:
    """The control with the best score."""
    return max((name for name in CONTROLS if name in scores), key=lambda name: scores[name])


def _grams(words: Sequence[str]) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + order]) for order in ORDERS for start in range(len(words) - order + 1))
