"""``comparison.json``: is one system better than another, and does a translator look at the video at all?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from eval.metrics.bootstrap import interval, resample, seed
from eval.metrics.measures import Counts
from eval.predictions.prediction_file import Prediction
from eval.predictions.text_lines import refuse
from eval.results.controls import controlled, strongest
from eval.settings import ScoreSettings
from extract.atomic_write import write_atomic
from extract.errors import InputError, suggestion

COMPARED = ("bleu4", "chrf", "rouge")
FEW = 30
"""Sentences below which resampling them says little about others."""
TRIALS = {"bootstrap": 1000, "randomisation": 10_000}
"""Resamples or trials of a test: sacreBLEU's defaults."""


class Difference(BaseModel):
    """One metric of a system beside the baseline's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    score: float
    difference: float
    """The system's score minus the baseline's."""
    low: float
    high: float
    """Bounds of the difference that hold 95 % of the paired resamples."""
    p_value: float
    """How often chance alone makes a difference as large, in either direction."""


class Grounding(BaseModel):
    """What a translator owes to the video: BLEU-4 with each clip's own features, and of the controls."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: str
    right_clip: float
    other_clip: float
    """With another clip's, the mean of some shuffles."""
    text_prior: float | None
    """BLEU-4 of the one sentence that it says without features."""
    constant: float | None = None
    """BLEU-4 of the train sentence that is best for all dev clips alike."""
    control: str = "shuffled"
    """The strongest of the three, which the system is measured against."""
    difference: float
    low: float
    high: float
    """95 % of the paired resamples: a translator whose ``low`` is not above 0 has learnt the language alone."""


class Comparison(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    baseline: str | None
    test: Literal["bootstrap", "randomisation"]
    samples: int
    seed: int
    n: int
    systems: dict[str, dict[str, Difference]]
    """System to metric to difference from the baseline."""
    doubts: dict[str, str] = {}
    """System to why its p-values say little."""
    grounding: Grounding | None


def compare(
    rows: Mapping[str, Sequence[Prediction]],
    counts: Mapping[str, Counts],
    baseline: str | None,
    settings: ScoreSettings,
    systems: Sequence[str] | None = None,
) -> Comparison:
    """Differences from the baseline, with p-values, and the grounding where there are control rows.

    Args:
        rows: system to predictions, of the same clips in the same order.
        counts: the same, counted.
        baseline: None: no differences.
        systems: which rows to compare; None: all but the baseline.

    Raises:
        InputError: no such baseline, or systems of other clips.
    """
    if baseline is not None and baseline not in rows:
        raise InputError("--baseline", expected="one of the systems", found=repr(baseline),
                         remedy=suggestion(baseline, rows))  # fmt: skip
    _check_clips(rows)
    chosen = [name for name in (systems if systems is not None else rows) if name != baseline]
    found = {name: _differences(counts[name], counts[baseline], settings) for name in chosen if baseline is not None}
    return Comparison(
        baseline=baseline, test=settings.test, samples=TRIALS[settings.test], seed=seed(),
        n=len(next(iter(counts.values()))), systems=found,
        doubts={name: doubt for name in found if (doubt := _doubt(rows[name], rows[baseline or name]))},
        grounding=grounding(counts, settings),
    )  # fmt: skip


def grounding(counts: Mapping[str, Counts], settings: ScoreSettings) -> Grounding | None:
    """Of the system whose control rows were scored too; None where there is no such."""
    system = controlled(counts)
    if system is None or "shuffled" not in counts:
        return None
    bleu4 = {row: counted.scores()["bleu4"] for row, counted in counts.items()}
    control = strongest(bleu4)
    samples = settings.bootstrap or TRIALS["bootstrap"]
    paired = [resample(counts[row], samples, ("bleu4",))["bleu4"] for row in (system, control)]
    low, high = interval(paired[0] - paired[1])
    return Grounding(
        system=system, right_clip=bleu4[system], other_clip=bleu4["shuffled"], text_prior=bleu4.get("text_prior"),
        constant=bleu4.get("constant"), control=control, difference=bleu4[system] - bleu4[control], low=low, high=high,
    )  # fmt: skip


def write_comparison(path: str | Path, comparison: Comparison) -> Path:
    """Write ``comparison.json`` atomically."""
    return write_atomic(path, comparison.model_dump_json(indent=2) + "\n")


def _doubt(ours: Sequence[Prediction], theirs: Sequence[Prediction]) -> str | None:
    """Why a test of significance between two systems says little; None where it does not."""
    if len(ours) < FEW:
        return f"{len(ours)} clips; resampling fewer than {FEW} says little"
    for rows, name in ((ours, "it says"), (theirs, "the baseline says")):
        empty = sum(not row.hypothesis.strip() for row in rows)
        if empty * 2 > len(rows):
            return f"{name} nothing of {'all' if empty == len(rows) else 'most'} clips; any system is better"
    return None


def _differences(ours: Counts, theirs: Counts, settings: ScoreSettings) -> dict[str, Difference]:
    """Of a system from the baseline, metric by metric."""
    number = settings.bootstrap or TRIALS["bootstrap"]
    resamples = [resample(counts, max(number, TRIALS["bootstrap"]), COMPARED) for counts in (ours, theirs)]
    apart = {metric: resamples[0][metric] - resamples[1][metric] for metric in COMPARED}
    if settings.test == "bootstrap":  # how far resamples lie from their mean
        sizes = {metric: np.abs(values[: TRIALS["bootstrap"]]) for metric, values in apart.items()}
        chance = {metric: values - values.mean() for metric, values in sizes.items()}
    else:
        chance = _randomised(ours, theirs)
    found: dict[str, Difference] = {}
    for metric in COMPARED:
        score, baseline = ours.scores()[metric], theirs.scores()[metric]
        low, high = interval(apart[metric][:number])
        as_large = int((chance[metric] > abs(score - baseline)).sum())
        # sacreBLEU calls a difference of exactly nothing significant (no resample is larger than the mean of equals).
        p_value = (as_large + 1) / (len(chance[metric]) + 1) if score != baseline else 1.0
        found[metric] = Difference(score=score, difference=score - baseline, low=low, high=high, p_value=p_value)
    return found


def _randomised(ours: Counts, theirs: Counts) -> dict[str, NDArray[np.float64]]:
    """Sizes of the differences when each sentence's two hypotheses change systems or not, by chance: Riezler and
    Maxwell 2005, drawn as sacreBLEU draws them."""
    drawn = np.random.default_rng(seed()).integers(2, size=(TRIALS["randomisation"], len(ours)), dtype=bool)
    left, right = ours.matrix, theirs.matrix
    sums = (
        pair
        for some in np.array_split(drawn, 100)  # as numbers, all of them at once would take 80 kB for each clip
        for pair in zip(some @ left + ~some @ right, some @ right + ~some @ left, strict=True)
    )
    scores = [[ours.measures.scores(side, COMPARED) for side in pair] for pair in sums]
    return {metric: np.array([abs(one[metric] - other[metric]) for one, other in scores]) for metric in COMPARED}


def _check_clips(rows: Mapping[str, Sequence[Prediction]]) -> None:
    (first, expected), *others = ((name, [(row.id, row.reference) for row in given]) for name, given in rows.items())
    for name, found in others:
        if found != expected:
            place = next((n for n, pair in enumerate(zip(found, expected, strict=False)) if pair[0] != pair[1]), None)
            said = f"{len(found)} rather than {len(expected)}" if place is None else f"{found[place]} there"
            refuse(f"predictions {name}", f"the clips of {first}, in order", said, "Score one split at a time.")
