"""``slt features``: what a feature store holds, whether it is whole, and clearing away what no commit names."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.printing import AsJson, print_json

app = typer.Typer(help="Look into a feature store.", no_args_is_help=True)

Store = Annotated[str, typer.Argument(help="Path or URL of a split's store, .../train.zarr.")]


@app.command("info")
def info(store: Store, as_json: AsJson = False) -> None:
    """What a store holds, and which clips failed."""
    import dataclasses

    from extract.store import FeatureStore

    opened = FeatureStore.open(store)
    facts = dataclasses.asdict(opened.info())
    failures = {id: {"kind": f.kind, "detail": f.detail} for id, f in opened.failures().items()}
    if as_json:
        print_json({**facts, "failed": failures, "provenance": opened.provenance})
        return
    for name, value in facts.items():
        typer.echo(f"{name:12} {value}")
    for id, failure in failures.items():
        typer.echo(f"failed       {id}: {failure['kind']}: {failure['detail']}")


@app.command("verify")
def verify(store: Store, as_json: AsJson = False) -> None:
    """Read everything and compare it with its digests."""
    from extract.store import FeatureStore

    problems = FeatureStore.open(store).verify()
    if as_json:
        print_json({"problems": problems})
    else:
        typer.echo("\n".join(problems) or f"{store}: whole")
    raise typer.Exit(2 if problems else 0)


@app.command("gc")
def gc(
    store: Store,
    grace_hours: Annotated[float, typer.Option(help="Leave younger ones: a job may be writing them.")] = 24.0,
    as_json: AsJson = False,
) -> None:
    """Remove what interrupted jobs left behind and no commit names."""
    from extract.store import FeatureStore

    removed = FeatureStore.open(store).gc(grace_hours * 3600)
    if as_json:
        print_json({"removed": removed})
    else:
        typer.echo("\n".join(removed) or f"{store}: nothing to remove")
