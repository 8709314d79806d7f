"""``scores.json``: one whole-split score per row of the score table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from eval.metrics.bootstrap import interval, resample
from eval.metrics.measures import Counts, Measures
from eval.metrics.scored_text import apply_convention
from eval.predictions.prediction_file import Prediction, Predictions
from eval.settings import ScoreSettings
from extract.atomic_write import write_atomic
from extract.dataset.text_convention import FULL_STOPS
from extract.errors import InputError, suggestion

Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]

ROW_LABELS = {
    "stage1": "stage 1", "stage2": "stage 2", "joint": "joint", "shuffled": "shuffled", "text_prior": "text prior",
    "constant": "constant",
}  # fmt: skip
"""The pipeline's rows, in the order of the table."""


class Interval(BaseModel):
    """Bounds that hold 95 % of the resamples."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    low: Annotated[float, Field(allow_inf_nan=False)]
    high: Annotated[float, Field(allow_inf_nan=False)]


class Score(BaseModel):
    """Scores of one system on one split, x100."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    bleu1: Percent
    bleu2: Percent
    bleu3: Percent
    bleu4: Percent
    rouge: Percent
    chrf: Percent | None = None
    wer: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Errors per word of the references: above 100 where a system says much more than there is to say."""
    more: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = {}
    """Metrics that the settings name besides."""
    intervals: dict[str, Interval] = {}
    """Of every metric by its name here or in ``more``; empty without resamples."""
    final_dot: Literal["with", "without"] | None = None
    """Whether most references end with a full stop as scored; of datasets whose published systems differ in it."""
    other_dot: dict[str, Percent] = {}
    """BLEU-1..4 and ROUGE-L in the other of the two conventions, on both sides."""
    signature: Annotated[str, Field(min_length=1)]
    """Of BLEU, the text convention and ROUGE-L."""
    signatures: dict[str, str] = {}
    """Of the other metrics."""
    n: Annotated[int, Field(ge=1)]
    """Clips in the denominator: the whole split."""

    def __str__(self) -> str:
        """One line; a score does not travel without its signature."""
        bleu = " ".join(f"{value:.2f}" for value in (self.bleu1, self.bleu2, self.bleu3, self.bleu4))
        found = self.intervals.get("bleu4")
        within = f" (95 %: {found.low:.2f} to {found.high:.2f})" if found else ""
        return f"BLEU-1..4 {bleu}{within}, ROUGE-L {self.rouge:.2f}, {self.n} clips, {self.signature}"


Scores = dict[str, Score]


def score(rows: Sequence[Prediction], settings: ScoreSettings | None = None) -> Score:
    """Score a whole split at once; the caller passes a row for every clip of it (see ``complete``).

    Args:
        settings: None: those that the predictions of an experiment come with, else the defaults.

    Raises:
        InputError: no rows, or a metric whose package is absent.
    """
    own = rows.scoring if isinstance(rows, Predictions) else ScoreSettings()
    return score_of(count(rows, settings or own))


def count(rows: Sequence[Prediction], settings: ScoreSettings) -> Counts:
    """What the metrics need of every row. Errors as ``score``."""
    return Measures(settings).count([row.hypothesis for row in rows], [row.reference for row in rows])


def score_of(counts: Counts) -> Score:
    """The scores of a system that was counted, with their intervals."""
    found: dict[str, Any] = counts.scores()
    signatures = counts.measures.signatures()
    settings = counts.measures.settings
    resamples = resample(counts, settings.bootstrap) if settings.bootstrap else {}
    return Score(
        **{name: found.pop(name) for name in ("bleu1", "bleu2", "bleu3", "bleu4", "rouge", "chrf", "wer")},
        more=found,
        intervals={name: bounds(values) for name, values in resamples.items()},
        signature=signatures.pop("bleu"),
        signatures=signatures,
        n=len(counts),
    )


def with_both_dots(score: Score, rows: Sequence[Prediction], settings: ScoreSettings) -> Score:
    """The score beside that with a final full stop on both sides, or without where it has them."""
    dotted = sum(apply_convention(row.reference, settings).endswith(tuple(FULL_STOPS)) for row in rows) * 2 > len(rows)
    other = settings.model_copy(update={"final_dot": "strip" if dotted else "add", "more": ()})
    found = count(rows, other).scores()
    values = {name: found[name] for name in ("rouge", "bleu1", "bleu2", "bleu3", "bleu4")}
    return score.model_copy(update={"final_dot": "with" if dotted else "without", "other_dot": values})


def bounds(values: NDArray[np.float64]) -> Interval:
    """The interval of a metric's resamples."""
    low, high = interval(values)
    return Interval(low=low, high=high)


def complete(rows: Sequence[Prediction], references: Mapping[str, str]) -> list[Prediction]:
    """One row per clip of the split, in the order of ``references`` (id to text).

    A clip without a prediction gets an empty hypothesis, so that the whole split stays the denominator.

    Raises:
        InputError: an id that the split does not have, an id twice, or a reference other than the split's
            (the predictions were made from other annotations).
    """
    given: dict[str, Prediction] = {}
    for row in rows:
        where = f"prediction of clip {row.id!r}"
        if row.id not in references:
            remedy = f"Is it the right split? {suggestion(row.id, list(references)[:1000])}"
            raise InputError(where, expected="an id of the split", found="none such", remedy=remedy)
        if row.id in given:
            raise InputError(where, expected="one per clip", found="two", remedy="Keep one of the two.")
        if row.reference != references[row.id]:
            raise InputError(
                where,
                expected=f"the split's reference {references[row.id]!r}",
                found=repr(row.reference),
                remedy="The predictions were made from other annotations: translate the split again.",
            )
        given[row.id] = row
    return [given.get(clip) or Prediction(clip, "", text) for clip, text in references.items()]


def write_scores(path: str | Path, scores: Mapping[str, Score]) -> Path:
    """Write ``scores.json`` (row name to score) atomically, in the order given.

    Raises:
        InputError: no rows.
    """
    if not scores:
        remedy = "Score a split first."
        raise InputError(path, expected="at least one row of scores", found="none", remedy=remedy)
    entries = {name: entry.model_dump() for name, entry in scores.items()}
    text = json.dumps(entries, ensure_ascii=False, indent=2)
    return write_atomic(path, text + "\n")


def read_scores(path: str | Path) -> Scores:
    """Read ``scores.json``.

    Raises:
        InputError: no such file, no JSON, no rows, or the first row and key that is missing or out of range.
    """
    path = Path(path)
    remedy = "Write the file again with 'slt score'."
    try:
        scores = TypeAdapter(Scores).validate_json(path.read_bytes())
    except OSError as error:
        found = error.strerror or str(error)
        raise InputError(path, expected="a scores file", found=found, remedy="Check the path.") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        where = f"{path}, {place}" if place else str(path)
        raise InputError(where, expected="valid scores", found=first["msg"], remedy=remedy) from error
    if not scores:
        raise InputError(path, expected="at least one row of scores", found="none", remedy=remedy)
    return scores
