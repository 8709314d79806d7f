"""What commands print as their result: for people as a table, with ``--json`` for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from extract.errors import InputError, suggestion

if TYPE_CHECKING:
    from eval.results.table_formats import Form
    from pipeline.experiment.scored_files import Results


def show_states(run: Any, as_json: bool, only: str | None = None) -> None:
    from rich.console import Console
    from rich.table import Table

    from pipeline.stages.stage_list import stages

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

    from eval.results.scores import read_scores
    from eval.results.table_formats import rich_table, select
    from pipeline.experiment.scored_files import read_results

    if as_json:
        scores = read_scores(run.folder / "scores.json")
        print_json({row: score.model_dump() for row, score in scores.items()})
        return
    results = read_results(run.folder, run.dataset.name)
    for sheet in select(results.sheets(), ("scores", "grounding", "comparison", "published")):
        Console().print(rich_table(sheet))
    report = run.folder / "report.html"
    typer.echo(f"scores: {run.folder / 'scores.json'}" + (f"   report: {report}" if report.is_file() else ""))


def show_results(
    results: Results, form: Form | None, tables: Sequence[str] | None, as_json: bool, out: Path | None = None
) -> None:
    """Print every table, or those named, and write the files beside each other where ``out`` says.

    Raises:
        InputError: no such table.
    """
    from rich.console import Console

    from eval.results.table_formats import export, rich_table, select

    sheets = results.sheets()
    if unknown := [name for name in tables or () if name not in {sheet.name for sheet in sheets}]:
        raise InputError("--table", expected="a table of these results", found=repr(unknown[0]),
                         remedy=suggestion(unknown[0], {sheet.name for sheet in sheets}))  # fmt: skip
    if out is not None:
        typer.echo(", ".join(map(str, results.write(out))), err=True)
    for name, count in results.missing.items():
        typer.echo(f"{name}: {count} clips without a hypothesis count as empty ones", err=True)
    if as_json:
        print_json(results.as_json())
        return
    chosen = select(sheets, tables or ())
    if form is None:
        for sheet in chosen:
            Console().print(rich_table(sheet))
    else:
        titled = form == "csv" and len(chosen) > 1  # the other forms have their titles in them
        texts = [(f"# {sheet.title}\n" if titled else "") + export(sheet, form) for sheet in chosen]
        typer.echo("\n".join(texts), nl=False)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))
