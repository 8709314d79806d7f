"""``slt features``: what a feature store holds, whether it is whole, and features in and out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from extract.errors import InputError
from pipeline.commands.arguments import AsJson, DryRun
from pipeline.commands.printing import print_json
from pipeline.experiment.progress_bars import Bars

app = typer.Typer(help="Look into a feature store, or carry features in and out.", no_args_is_help=True)

Store = Annotated[str, typer.Argument(help="Path or URL of a split's store, .../train.zarr.")]

_SHOWN = 5


@app.command("info")
def info(store: Store, as_json: AsJson = False) -> None:
    """What a store holds, and which clips failed."""
    import dataclasses

    from extract.store.feature_store import FeatureStore
    from extract.store.inventory import take

    opened = FeatureStore.open(store)
    held, failed = take(opened)
    facts = dataclasses.asdict(held)
    failures = {id: {"kind": f.kind, "detail": f.detail} for id, f in failed.items()}
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
    from extract.store import upkeep
    from extract.store.feature_store import FeatureStore

    problems = upkeep.verify(FeatureStore.open(store))
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
    from extract.store import upkeep
    from extract.store.feature_store import FeatureStore

    removed = upkeep.gc(FeatureStore.open(store), grace_hours * 3600)
    if as_json:
        print_json({"removed": removed})
    else:
        typer.echo("\n".join(removed) or f"{store}: nothing to remove")


@app.command("export")
def export(
    store: Store,
    target: Annotated[str, typer.Argument(help="File (.h5, .hdf5), or folder of .npy files. Not there yet.")],
    format: Annotated[str | None, typer.Option(help="hdf5 or npy; default: by the target's suffix.")] = None,
    view: Annotated[str, typer.Option(help="Which view of the clips.")] = "plain",
    force: Annotated[bool, typer.Option("--force", help="Replace an older export.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Features for other people's code: one HDF5 file, or a folder of .npy files."""
    import dataclasses

    from extract.store.exports import export_features, format_of
    from extract.store.feature_store import FeatureStore

    if "://" in target:
        raise InputError(target, expected="a local path", found="a URL",
                         remedy="Export to a local path, then copy it there.")  # fmt: skip
    chosen = format_of(Path(target), format)
    opened = FeatureStore.open(store)
    with Bars(quiet=dry_run).bar("exporting", "clips") as tick:
        done = export_features(opened, Path(target), chosen, view=view, force=force, dry_run=dry_run, on_clip=tick)
    if as_json:
        print_json({**dataclasses.asdict(done), "written": not dry_run})
        return
    if done.failures:
        typer.echo(f"{done.failures} clips that failed have no features and are not in it", err=True)
    if done.other_views:
        typer.echo(f"other views are not in it: {', '.join(done.other_views)} (--view)", err=True)
    said = "would be exported" if dry_run else "exported"
    typer.echo(f"{done.clips} clips, {done.steps} features of width {done.width}, {said} to {target} ({done.format})")


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="HDF5 file, folder of .npy files, or gzip-packed pickle.")],
    store: Annotated[str, typer.Argument(help="Path or URL of the split's store, .../train.zarr; made when absent.")],
    name: Annotated[str, typer.Option(help="Of the extractor. Features of two names are never mixed.")],
    dtype: Annotated[str | None, typer.Option(help="float16 or float32; default: the source's, or float32.")] = None,
    drop_prefix: Annotated[str, typer.Option(help="Taken off the start of every id, e.g. train/")] = "",
    view: Annotated[str | None, typer.Option(help="Of the clips; default: the export's, or plain.")] = None,
    index: Annotated[Path | None, typer.Option(help="Clip index to compare with; needs --split.")] = None,
    split: Annotated[str | None, typer.Option(help="Of the index.")] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Features that others computed, into a feature store that stage 2 can read."""
    import dataclasses

    from extract.dataset.clip_index import ClipIndex
    from extract.store.import_sources import open_source
    from extract.store.imports import import_features

    if dtype not in (None, "float16", "float32"):
        raise InputError("--dtype", expected="float16 or float32", found=repr(dtype), remedy="Leave it away.")
    if (index is None) != (split is None):
        raise InputError("--index and --split", expected="both or neither", found="one",
                         remedy="Give the index and one of its splits.")  # fmt: skip
    of_index = None if index is None else {clip.id for clip in ClipIndex(index, split).clips()}
    with open_source(source) as opened:
        with Bars().bar("checking" if dry_run else "checking and importing", "clips read") as tick:
            done = import_features(
                opened, store, name, dtype=dtype, drop_prefix=drop_prefix, view=view, dry_run=dry_run, on_clip=tick
            )
        ids = {id.removeprefix(drop_prefix) for id in opened.clips}
    facts = {**dataclasses.asdict(done), "written": not dry_run}
    lacking = besides = None
    if of_index is not None:
        lacking, besides = sorted(of_index - ids), sorted(ids - of_index)
        facts |= {"lacking": lacking, "besides": besides}
    if as_json:
        print_json(facts)
        return
    said = "would be imported" if dry_run else "imported"
    kind = f"{done.format}, width {done.width}, {done.dtype}"
    typer.echo(f"{done.imported} of {done.clips} clips {said} to {store} ({kind})")
    if lacking is not None and besides is not None:
        typer.echo(f"of the {len(of_index or ())} clips of {split} in {index}: {_listed(lacking)} are lacking")
        typer.echo(f"besides them, the source has {_listed(besides)}")


def _listed(ids: list[str]) -> str:
    shown = ", ".join(ids[:_SHOWN]) + (", …" if len(ids) > _SHOWN else "")
    return f"{len(ids)} ({shown})" if ids else "none"
