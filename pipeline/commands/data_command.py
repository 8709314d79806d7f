"""``slt data``: what a careful researcher looks at before training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from extract.errors import InputError
from pipeline.commands.arguments import AsJson, Config, DryRun, Manifest, Out, Set, open_run
from pipeline.commands.printing import print_json
from pipeline.experiment.progress_bars import Bars

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(help="Look at a dataset before training on it.", no_args_is_help=True)

WRONG = 3
SHOWN = 5
COLOURS = {"error": "red", "warning": "yellow", "note": "dim"}


@app.callback()
def group() -> None:
    """A group even while it has one command."""


@app.command("check")
def check(
    config: Config,
    out: Out = None,
    index: Annotated[Path | None, typer.Option(help="Another clip index than the experiment's.")] = None,
    clips: Annotated[int, typer.Option(min=0, help="Random clips per split on the contact sheet; 0: none.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Draws those clips.")] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors: exit code 3.")] = False,
    overrides: Set = None,
    manifest: Manifest = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Counts, damaged and leaking clips, lengths, vocabulary, signers, text; and a contact sheet of what the encoder
    will see. Reads the clip index, writes data.html, data.png and data.json."""
    from pipeline.data_check import checking

    run = open_run(config, out, overrides, manifest)
    if index is None and not run.index.is_file():
        raise InputError(run.index, expected="a clip index", found="no such file",
                         remedy=f"Run `slt index {config}` first, or name one with --index.")  # fmt: skip
    checked = checking.check(run, index, clips, seed, Bars(quiet=as_json))
    written = [] if dry_run else checking.write_check(run, checked)
    if as_json:
        print_json(checked.facts)
    else:
        show(checked.facts)
        typer.echo(", ".join(map(str, written)) or "nothing was written")
    raise typer.Exit(WRONG if checked.worst(strict) else 0)


def show(facts: dict[str, Any]) -> None:
    """Tables on standard output."""
    from rich.console import Console
    from rich.text import Text

    from pipeline.data_check.checking import LEVELS, UNREADABLE

    console = Console()
    console.print(_splits(facts, LEVELS[facts["level"]]))
    console.print(_lengths(facts))
    if not facts["findings"]:
        console.print("nothing found")
    for finding in facts["findings"]:
        line = Text(f"{finding['severity']:8}", style=COLOURS[finding["severity"]])
        console.print(
            line + Text(f"{finding['split'] or 'all':6}{finding['count']:6}  {finding['what']}"), soft_wrap=True
        )
        if finding["severity"] == "note":
            continue
        for example in finding["examples"][:SHOWN]:
            said = example["problem" if finding["check"] in UNREADABLE else "text"]
            console.print(Text(f"{'':22}{example['id']}: {said!r}", style="dim"), soft_wrap=True)
        if (more := finding["clips"] - SHOWN) > 0:
            console.print(Text(f"{'':22}and {more} more", style="dim"))


def _splits(facts: dict[str, Any], level: str) -> Table:
    """A column per split, so that it fits into a narrow terminal."""
    from rich.table import Table

    from pipeline.data_check.checking import percent

    splits = facts["splits"]
    rows = {
        "clips expected": ["any" if of["expected"] is None else str(of["expected"]) for of in splits.values()],
        "clips found": [str(of["found"]) for of in splits.values()],
        "unreadable": [str(sum(of["unreadable"].values())) for of in splits.values()],
        "signers": [str(len(of["signers"])) for of in splits.values()],
        f"different {level}": [str(of["vocabulary"]["size"]) for of in splits.values()],
        "of those once": [str(of["vocabulary"]["singletons"]) for of in splits.values()],
        "not in train": [percent(of["vocabulary"]["unseen"]) for of in splits.values()],
        f"of all {level}": [percent(of["vocabulary"]["unseen_tokens"]) for of in splits.values()],
    }
    table = Table(title=f"{facts['dataset']}: splits", title_justify="left")
    table.add_column("")
    for name in splits:
        table.add_column(name, justify="right")
    for row, cells in rows.items():
        table.add_row(row, *cells)
    return table


def _lengths(facts: dict[str, Any]) -> Table:
    from rich.table import Table

    from extract.dataset.index_statistics import MEASURES
    from pipeline.data_check.checking import figure

    table = Table(title="Lengths", title_justify="left")
    parts = ("min", "median", "mean", "max")
    for column in ("", "split"):
        table.add_column(column)
    for part in parts:
        table.add_column(part, justify="right")
    for measure in MEASURES:
        for place, (name, of) in enumerate(facts["splits"].items()):
            known = of["lengths"][measure]
            cells = [figure(known[part] if known else None) for part in parts]
            table.add_row("" if place else measure, name, *cells)
        table.add_section()
    return table
