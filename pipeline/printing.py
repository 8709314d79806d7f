"""What commands print as their result: for people as a table, with ``--json`` for machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from extract.errors import InputError, suggestion


def show_states(run: Any, as_json: bool, only: str | None = None) -> None:
    from rich.console import Console
    from rich.table import Table

    from pipeline.stages import stages

    rows = [
        {"stage": stage.name, "state": state, "why": why, "about": stage.about}
        for stage, state, why in run.states(stages(run.experiment))
        if only in (None, stage.name)
    ]
    if as_json:
        print_json(rows)
        return
    table = Table(title=f"{run.experiment.name} in {run.folder}", title_justify="left")
    for column in ("stage", "state", "why", "about"):
        table.add_column(column)
    colours = {"done": "green", "stale": "yellow", "missing": "red"}
    for row in rows:
        table.add_row(row["stage"], f"[{colours[row['state']]}]{row['state']}[/]", row["why"], row["about"])
    Console().print(table)


def show_scores(run: Any, as_json: bool) -> None:
    from rich.console import Console

    from eval.published import published
    from eval.scores import read_scores
    from eval.table import comparison_table, score_table

    scores = read_scores(run.folder / "scores.json")
    if as_json:
        print_json({row: score.model_dump() for row, score in scores.items()})
        return
    console = Console()
    console.print(score_table(scores))
    if published(run.dataset.name):
        console.print(comparison_table(run.dataset.name, scores))
    report = run.folder / "report.html"
    typer.echo(f"scores: {run.folder / 'scores.json'}" + (f"   report: {report}" if report.is_file() else ""))


def show_score_of(path: Path, level: str, as_json: bool) -> None:
    from pydantic import ValidationError
    from rich.console import Console

    from eval.predictions import read_predictions
    from eval.scores import score
    from eval.settings import ScoreSettings
    from eval.table import score_table

    try:
        settings = ScoreSettings.model_validate({"level": level})
    except ValidationError as error:
        raise InputError("--level", expected="word or char", found=repr(level),
                         remedy=suggestion(level, ("word", "char"))) from error  # fmt: skip
    measured = score(read_predictions(path), settings)
    if as_json:
        print_json(measured.model_dump())
    else:
        Console().print(score_table({path.stem: measured}))


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))
