"""What an ablation found: ``table4.json`` and its like, with what made it, and its table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from eval.metrics.measures import Counts
from eval.predictions.prediction_file import Prediction, read_predictions
from eval.results.comparison import compare
from eval.results.scores import complete, count
from eval.results.table_formats import Sheet, cells
from extract.atomic_write import write_atomic
from extract.errors import InputError
from extract.fingerprint import file_sha256
from pipeline.ablation.arm import Arm, identity
from pipeline.ablation.tables import Table

METRICS = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge", "chrf")
LEVEL = 0.05
"""Of significance."""


class Measured(BaseModel):
    """One row with one seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bleu1: float
    bleu2: float
    bleu3: float
    bleu4: float
    rouge: float
    chrf: float
    cost: dict[str, dict[str, float]]
    """Stage to clip passes and wall-clock seconds, of the run that made it, where it was interrupted since its last
    start."""
    experiment: str
    """Digest of every setting that decides the result (``arm.identity``)."""
    predictions: str
    """SHA-256 of the predictions file."""


class RowOutcome(BaseModel):
    """One row over its seeds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    changes: dict[str, Any]
    """What differs from the config, by dotted keys."""
    paper: float | None
    """BLEU-4 in the paper, on PHOENIX14T's test split."""
    seeds: dict[int, Measured]
    mean: dict[str, float]
    deviation: dict[str, float] | None
    """Standard deviation over the seeds (n - 1); None of one seed."""


class Claim(BaseModel):
    """Whether one row is better than another, in BLEU-4."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    better: str
    worse: str
    paper: float | None
    """The difference in the paper."""
    difference: float
    """Mean over the seeds."""
    differences: dict[int, float]
    p_values: dict[int, float]
    """Of each seed: sacreBLEU's paired test over the clips of the test split. Its bootstrap looks at one tail."""
    p_value: float
    """The largest of them: a claim must hold with every seed."""
    holds: bool
    """With every seed the difference is above 0 at p < 0.05."""


class Outcome(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str
    title: str
    dataset: str
    config: str
    command: str
    index: str
    """SHA-256 of the clip index: which clips, of which splits."""
    n: int
    """Clips of the test split."""
    test: str
    signature: str
    seeds: list[int]
    rows: dict[str, RowOutcome]
    claims: list[Claim]


def measure(table: Table, listed: Sequence[Arm], command: str) -> Outcome:
    """Score the arms of a table that are done, and test its claims.

    Args:
        listed: arms whose translations are there, each row with the same seeds.
        command: what was typed.
    """
    first = listed[0].run
    settings = first.scoring.model_copy(update={"bootstrap": 0})
    references = {clip.id: clip.text for clip in first.clips("test")}
    rows: dict[tuple[str, int], list[Prediction]] = {}
    counts: dict[tuple[str, int], Counts] = {}
    measured: dict[str, dict[int, Measured]] = {row.name: {} for row in table.rows}
    for arm in listed:
        key = (arm.row.name, arm.seed)
        rows[key] = complete(read_predictions(arm.predictions), references)
        counts[key] = count(rows[key], settings)
        scores = counts[key].scores()
        measured[arm.row.name][arm.seed] = Measured(
            **{metric: scores[metric] for metric in METRICS}, cost=arm.cost(),
            experiment=identity(arm.run.experiment), predictions=file_sha256(arm.predictions),
        )  # fmt: skip
    seeds = sorted({arm.seed for arm in listed})
    claims = []
    for better, worse in table.claims:
        found = {}
        for seed in seeds:
            pair = {name: rows[name, seed] for name in (worse, better)}
            of = {name: counts[name, seed] for name in pair}
            found[seed] = compare(pair, of, worse, settings).systems[better]["bleu4"]
        papers = [table.row(name).paper for name in (better, worse)]
        differences = {seed: difference.difference for seed, difference in found.items()}
        p_values = {seed: difference.p_value for seed, difference in found.items()}
        claims.append(
            Claim(
                better=better, worse=worse,
                paper=None if papers[0] is None or papers[1] is None else round(papers[0] - papers[1], 2),
                difference=statistics.fmean(differences.values()), differences=differences, p_values=p_values,
                p_value=max(p_values.values()),
                holds=all(differences[seed] > 0 and p_values[seed] < LEVEL for seed in seeds),
            )
        )  # fmt: skip
    return Outcome(
        table=table.name, title=table.title, dataset=first.dataset.name, config=first.experiment.name,
        command=command, index=file_sha256(first.index), n=len(references), test=settings.test,
        signature=counts[listed[0].row.name, listed[0].seed].measures.signatures()["bleu"], seeds=seeds,
        rows={row.name: _over_seeds(row.changes, row.paper, measured[row.name]) for row in table.rows},
        claims=claims,
    )  # fmt: skip


def read_outcome(path: Path) -> Outcome | None:
    """What an earlier command left; None where there is none.

    Raises:
        InputError: the file is damaged, or of another version.
    """
    if not path.is_file():
        return None
    try:
        return Outcome.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError(path, expected="an ablation's results", found=str(error).splitlines()[0],
                         remedy="Move it away.") from error  # fmt: skip


def require_same(path: Path, listed: Sequence[Arm]) -> None:
    """Refuse to write over the results of other settings.

    Raises:
        InputError: the file holds a row of these arms with other settings.
    """
    earlier = read_outcome(path)
    for arm in listed if earlier else ():
        row = earlier.rows.get(arm.row.name) if earlier else None
        found = row.seeds.get(arm.seed) if row else None
        if found is not None and found.experiment != identity(arm.run.experiment):
            raise InputError(path, expected="results of this config", found=f"row {arm.row.name!r} of another",
                             remedy="Name another folder with --out.")  # fmt: skip


def write_outcome(path: Path, outcome: Outcome) -> bool:
    """Write the file atomically; leaves one alone that has these results of more seeds, and returns False then."""
    earlier = read_outcome(path)
    if earlier and set(earlier.rows) == set(outcome.rows) and set(earlier.seeds) > set(outcome.seeds):
        return False
    write_atomic(path, outcome.model_dump_json(indent=2) + "\n")
    return True


def outcome_sheet(outcome: Outcome) -> Sheet:
    """The paper's row beside ours, and whether its claims hold here."""
    lines = tuple(
        cells(
            name,
            "" if row.paper is None else f"{row.paper:.2f}",
            *(_spread(row, metric) for metric in ("bleu4", "rouge")),
            *(f"{cost:,.0f}" for cost in _costs(row)),
        )
        for name, row in outcome.rows.items()
    )
    columns = ("row", "paper B4", "B4", "ROUGE", "pixels", "cached", "seconds")
    notes = [
        f"paper: BLEU-4 on PHOENIX14T; the others: {outcome.dataset}, {outcome.n} test clips, "
        f"seeds {', '.join(map(str, outcome.seeds))}, mean ± standard deviation.",
        "pixels, cached: clips that the encoder saw, and whose cached features stage 2 saw, each time counted.",
        *(_said(claim) for claim in outcome.claims),
        f"BLEU {outcome.signature}",
    ]
    return Sheet(outcome.table, f"{_heading(outcome.table)}: {outcome.title}", columns, (lines,), tuple(notes))


def _heading(table: str) -> str:
    if table.isdigit():
        return f"Table {table}"
    return {"fig4": "Figure 4", "freeze": "Freezing", "lm": "Language model"}.get(table, "Beyond the paper")


def _said(claim: Claim) -> str:
    paper = "" if claim.paper is None else f" (paper {claim.paper:+.2f})"
    opposite = all(claim.differences[seed] < 0 and p < LEVEL for seed, p in claim.p_values.items())
    verdict = "holds" if claim.holds else "the opposite holds" if opposite else "does not hold"
    return f"{claim.better} > {claim.worse}: {claim.difference:+.2f}{paper}, p = {claim.p_value:.3g}: {verdict}."


def _spread(row: RowOutcome, metric: str) -> str:
    return f"{row.mean[metric]:.2f}" + (f" ± {row.deviation[metric]:.2f}" if row.deviation else "")


def _costs(row: RowOutcome) -> tuple[float, float, float]:
    """Clip passes over pixels and over cached features, and seconds; means over the seeds."""
    costs = [seed.cost for seed in row.seeds.values()]
    cached = [cost.get("stage2", {}).get("clip_passes", 0.0) for cost in costs]
    passes, seconds = (
        [sum(stage.get(name, 0.0) for stage in cost.values()) for cost in costs] for name in ("clip_passes", "seconds")
    )
    return statistics.fmean(passes) - statistics.fmean(cached), statistics.fmean(cached), statistics.fmean(seconds)


def _over_seeds(changes: Mapping[str, Any], paper: float | None, seeds: Mapping[int, Measured]) -> RowOutcome:
    values = {metric: [getattr(found, metric) for found in seeds.values()] for metric in METRICS}
    return RowOutcome(
        changes=dict(changes), paper=paper, seeds=dict(seeds),
        mean={metric: statistics.fmean(of) for metric, of in values.items()},
        deviation={metric: statistics.stdev(of) for metric, of in values.items()} if len(seeds) > 1 else None,
    )  # fmt: skip
