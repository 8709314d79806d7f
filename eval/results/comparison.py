"""``comparison.json``: is one system better than another, and does a translator look at the video at all?"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict
from sacrebleu.significance import PairedTest

from eval.metrics.bootstrap import interval, resample, seed
from eval.metrics.measures import Counts, Measures
from eval.predictions.prediction_file import Prediction
from eval.predictions.text_lines import refuse
from eval.results.scores import controlled
from eval.settings import ScoreSettings
from extract.atomic_write import write_atomic
from extract.errors import InputError, suggestion

COMPARED = {"BLEU": "bleu4", "chrF2": "chrf", "ROUGE-L": "rouge"}
"""sacreBLEU's name of a metric to ours."""
TRIALS = {"bootstrap": ("bs", 1000), "randomisation": ("ar", 10_000)}
"""sacreBLEU's names of the tests, and how many resamples or trials it makes."""
MOST = 30_000
"""Sentences: sacreBLEU's tests hold every resample of every sentence at once, 5 GB here."""


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
    """What a translator owes to the video: BLEU-4 with each clip's own features, and with another clip's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: str
    right_clip: float
    other_clip: float
    text_prior: float | None
    """BLEU-4 of the one sentence that it says without features."""
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
    grounding: Grounding | None


def compare(
    rows: Mapping[str, Sequence[Prediction]],
    counts: Mapping[str, Counts],
    baseline: str | None,
    settings: ScoreSettings,
    systems: Sequence[str] | None = None,
) -> Comparison:
    """Differences from the baseline, with p-values, and the grounding where there is a row ``shuffled``.

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
    code, trials = TRIALS[settings.test]
    found: dict[str, dict[str, Difference]] = {}
    if baseline is not None and chosen:
        found = _differences({name: rows[name] for name in (baseline, *chosen)}, counts, settings, code, trials)
    return Comparison(
        baseline=baseline, test=settings.test, samples=trials, seed=seed(), n=len(next(iter(counts.values()))),
        systems=found, grounding=grounding(counts, settings),
    )  # fmt: skip


def grounding(counts: Mapping[str, Counts], settings: ScoreSettings) -> Grounding | None:
    """Of the system whose control rows were scored too; None where there is no such."""
    system = controlled(counts)
    if system is None or "shuffled" not in counts:
        return None
    right, other = counts[system].scores()["bleu4"], counts["shuffled"].scores()["bleu4"]
    samples = settings.bootstrap or TRIALS["bootstrap"][1]
    paired = [resample(counts[row], samples, ("bleu4",))["bleu4"] for row in (system, "shuffled")]
    low, high = interval(paired[0] - paired[1])
    prior = counts["text_prior"].scores()["bleu4"] if "text_prior" in counts else None
    return Grounding(system=system, right_clip=right, other_clip=other, text_prior=prior, difference=right - other,
                     low=low, high=high)  # fmt: skip


def write_comparison(path: str | Path, comparison: Comparison) -> Path:
    """Write ``comparison.json`` atomically."""
    return write_atomic(path, comparison.model_dump_json(indent=2) + "\n")


def _differences(
    rows: Mapping[str, Sequence[Prediction]],
    counts: Mapping[str, Counts],
    settings: ScoreSettings,
    code: str,
    trials: int,
) -> dict[str, dict[str, Difference]]:
    """The first of the rows is the baseline."""
    baseline, *others = rows
    if len(rows[baseline]) > MOST:
        refuse("comparison", f"at most {MOST:,} clips", f"{len(rows[baseline]):,}", "Leave --baseline away.")
    metrics = Measures(settings.model_copy(update={"more": ()})).metrics
    references = [[row.reference for row in rows[baseline]]]
    named = [(name, [row.hypothesis for row in predictions]) for name, predictions in rows.items()]
    with _quiet():
        test = PairedTest(named, {name: metrics[name] for name in ("bleu", "chrf", "rouge")}, references, code, trials)
        _, results = test()
    samples = {name: resample(counts[name], settings.bootstrap or trials, tuple(COMPARED.values())) for name in rows}
    found: dict[str, dict[str, Difference]] = {}
    for place, name in enumerate(others, start=1):
        found[name] = {}
        for theirs, ours in COMPARED.items():
            low, high = interval(samples[name][ours] - samples[baseline][ours])
            scores = [counts[system].scores()[ours] for system in (name, baseline)]
            difference = scores[0] - scores[1]
            # sacreBLEU calls a difference of exactly nothing significant (`stats > difference` is never true).
            p_value = float(results[theirs][place].p_value) if difference else 1.0
            found[name][ours] = Difference(
                score=scores[0], difference=difference, low=low, high=high, p_value=p_value
            )  # fmt: skip
    return found


def _check_clips(rows: Mapping[str, Sequence[Prediction]]) -> None:
    (first, expected), *others = ((name, [(row.id, row.reference) for row in given]) for name, given in rows.items())
    for name, found in others:
        if found != expected:
            place = next((n for n, pair in enumerate(zip(found, expected, strict=False)) if pair[0] != pair[1]), None)
            said = f"{len(found)} rather than {len(expected)}" if place is None else f"{found[place]} there"
            refuse(f"predictions {name}", f"the clips of {first}, in order", said, "Score one split at a time.")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without sacreBLEU's running commentary."""
    logger = logging.getLogger("sacrebleu")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
