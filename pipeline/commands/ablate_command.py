"""``slt ablate``: the published ablation tables of a config, one command."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from extract.errors import SOME_FAILED
from pipeline.commands.arguments import AsJson, Config, DryRun, Manifest, Out, Set, open_run
from pipeline.commands.printing import print_json
from pipeline.experiment.progress_bars import Bars

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eval.results.table_formats import Form
    from pipeline.ablation.arm import Arm
    from pipeline.ablation.outcome import Outcome
    from pipeline.ablation.tables import Table


def ablate(
    config: Config,
    tables: Annotated[
        list[str], typer.Option("--table", help="4, 5, 6, 7, 8, fig4, freeze, lm or options. May be repeated.")
    ],
    seeds: Annotated[int, typer.Option(min=1, help="How many, from the config's own upwards.")] = 3,
    form: Annotated[
        Literal["latex", "markdown", "csv"] | None, typer.Option("--format", help="Instead of tables for the terminal.")
    ] = None,
    out: Out = None,
    overrides: Set = None,
    manifest: Manifest = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """The paper's ablations on a config's dataset. Runs share every stage that is the same; what is done stays done."""
    from pipeline.ablation.arm import arms
    from pipeline.ablation.outcome import require_same
    from pipeline.ablation.tables import table

    base = open_run(config, None, overrides, manifest)
    folder = (out or Path("runs") / f"{base.experiment.name}-ablation").absolute()
    listed = {
        one: arms(one, base.experiment, range(seeds), folder / "arms", base.manifest, base.beside)
        for one in (table(name, base.experiment) for name in dict.fromkeys(tables))
    }
    for one, of in listed.items():
        require_same(folder / f"{one.file}.json", of)
    if dry_run:
        _show_plan([arm for seed in range(seeds) for of in listed.values() for arm in of if arm.seed == seed], as_json)
        return
    found, failed = _run(listed, seeds, folder)
    _show(found, form, as_json)
    typer.echo(f"{folder}: " + ", ".join(f"{name}.json, .png" for name in found), err=True)
    raise typer.Exit(SOME_FAILED if failed else 0)


def _run(listed: Mapping[Table, Sequence[Arm]], seeds: int, folder: Path) -> tuple[dict[str, Outcome], int]:
    """Seed by seed, so that the tables are whole with one seed before the next begins; and clips that failed."""
    from pipeline.ablation.figure import draw
    from pipeline.ablation.outcome import measure, write_outcome

    bars, command = Bars(), shlex.join(["slt", *sys.argv[1:]])
    total, done = sum(map(len, listed.values())), 0
    failed: dict[Path, int] = {}
    found: dict[str, Outcome] = {}
    for seed in range(seeds):
        for of in listed.values():
            for arm in (arm for arm in of if arm.seed == seed):
                done += 1
                bars.say(f"[bold cyan]{done} of {total}[/bold cyan]: {arm.row.name}, seed {seed}, in {arm.run.folder}")
                failed[arm.run.folder] = arm.run.execute(arm.stages, bars)
        for one, of in listed.items():
            name = one.file
            found[name] = measure(one, [arm for arm in of if arm.seed <= seed], command)
            if write_outcome(folder / f"{name}.json", found[name]):
                draw(found[name], folder / f"{name}.png")
    return found, sum(failed.values())


def _show(found: Mapping[str, Outcome], form: Form | None, as_json: bool) -> None:
    from rich.console import Console

    from eval.results.table_formats import export, rich_table
    from pipeline.ablation.outcome import outcome_sheet

    if as_json:
        print_json({name: outcome.model_dump() for name, outcome in found.items()})
        return
    for outcome in found.values():
        sheet = outcome_sheet(outcome)
        if form is None:
            Console().print(rich_table(sheet))
        else:
            typer.echo(export(sheet, form))


def _show_plan(listed: Sequence[Arm], as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table as Drawn

    from pipeline.ablation.arm import planned

    plan = planned(listed)
    if as_json:
        keys = ("row", "seed", "folder", "runs", "shares")
        rows = [(arm.row.name, arm.seed, str(arm.run.folder), runs, shares) for arm, runs, shares in plan]
        print_json([dict(zip(keys, row, strict=True)) for row in rows])
        return
    drawn = Drawn(title="what would run", title_justify="left")
    for column in ("row", "seed", "runs", "shares with earlier ones"):
        drawn.add_column(column)
    for arm, runs, shares in plan:
        drawn.add_row(arm.row.name, str(arm.seed), ", ".join(runs) or "[dim]nothing[/dim]", ", ".join(shares))
    Console().print(drawn)
