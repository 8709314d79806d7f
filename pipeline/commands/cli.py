"""The command line, ``slt``. Heavy imports stay inside the commands, so that ``slt --help`` answers at once."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from extract.errors import SOME_FAILED, InputError, SltError, suggestion, visible
from pipeline.commands import (
    ablate_command,
    config_command,
    data_command,
    features_command,
    grounding_command,
    score_command,
    translate_command,
    trim_command,
)
from pipeline.commands.arguments import AsJson, Config, DryRun, Force, Manifest, Out, Set, open_run
from pipeline.commands.full_disk import full_disk
from pipeline.commands.printing import print_json, show_scores, show_states
from pipeline.commands.single_stage import single_stage
from pipeline.experiment.progress_bars import Bars

ORDER = (
    "demo", "corpus", "config", "index", "data", "pack", "train", "extract", "translate", "score", "report", "run",
    "status", "features", "ablate", "grounding", "trim",
)  # fmt: skip
"""The commands in the order of use."""


class InOrderOfUse(TyperGroup):
    """Typer would list groups of commands last."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self.commands, key=ORDER.index)


app = typer.Typer(
    cls=InOrderOfUse, no_args_is_help=True, add_completion=False, rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)  # fmt: skip
train_app = typer.Typer(help="Train one stage.", no_args_is_help=True)
app.add_typer(train_app, name="train")
app.add_typer(features_command.app, name="features")
app.add_typer(data_command.app, name="data")
app.command()(trim_command.trim)


def _tell_version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        typer.echo(f"fla-slt {importlib.metadata.version('fla-slt')}")
        raise typer.Exit


@app.callback()
def slt(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version, and end.")
    ] = False,
) -> None:
    """Sign videos to text without glosses: visual initialing, cached features, LLM fine-tuning, scores."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the demo.")] = Path("runs/demo"),
    preset: Annotated[str, typer.Option(help="Size: tiny or demo.")] = "demo",
    seed: Annotated[int, typer.Option(help="Of the corpus.")] = 0,
    overrides: Set = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """The whole pipeline on the built-in corpus; ends with the score table and report.html."""
    from pipeline.corpus.layout import DATASET_FOLDER, TEXT_FILE
    from pipeline.experiment.config import load_config
    from pipeline.experiment.run import Run

    corpus = out / "corpus"
    places = [f"data.root={corpus / DATASET_FOLDER}", f"train.lm.text={corpus / TEXT_FILE}"]
    experiment = load_config(preset, [*places, *(overrides or [])])
    if dry_run and not corpus.is_dir():
        typer.echo(f"the built-in corpus ({preset}) would be drawn in {corpus}, and every stage run after it")
        return
    if not dry_run:
        _write_corpus(corpus, preset, seed)
    if preset == "tiny":
        typer.echo("the preset tiny only tries the path: scores near 0 are expected", err=True)
    _run(Run(experiment, out), dry_run=dry_run, as_json=as_json)


@app.command()
def run(
    config: Config,
    out: Out = None,
    start: Annotated[str | None, typer.Option("--from", help="Begin with this stage, done or not.")] = None,
    overrides: Set = None,
    manifest: Manifest = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """The whole pipeline of a config; stages whose inputs have not changed are skipped."""
    _run(open_run(config, out, overrides, manifest), start=start, dry_run=dry_run, as_json=as_json)


@app.command()
def status(
    config: Config, out: Out = None, overrides: Set = None, manifest: Manifest = None, as_json: AsJson = False
) -> None:
    """What is done, stale or missing."""
    show_states(open_run(config, out, overrides, manifest), as_json)


def _stage_command(group: typer.Typer, name: str, stage: str, about: str, instead: str = "") -> None:
    """Register the command that runs one stage of a config; one with a new name ``instead`` says so, and is hidden."""

    @group.command(name, help=about, hidden=bool(instead))
    def run_stage(
        config: Config,
        out: Out = None,
        overrides: Set = None,
        manifest: Manifest = None,
        force: Force = False,
        dry_run: DryRun = False,
        as_json: AsJson = False,
    ) -> None:
        if instead:
            typer.echo(f"`slt train {name}` is `{instead}` now; the old name goes with version 0.3", err=True)
        single_stage(stage, open_run(config, out, overrides, manifest), force, dry_run, as_json)


_stage_command(app, "index", "index", "Which clips there are: annotations to the clip index (Parquet).")
_stage_command(train_app, "tokenizer", "tokenizer", "The pieces of a language model that is trained here.")
_stage_command(train_app, "trim", "trim", "The tokenizer's pieces that the train split needs, for both stages.")
_stage_command(train_app, "lm", "lm", "Denoising on plain text: of a small language model, or a pre-trained one.")
_stage_command(train_app, "stage1", "stage1", "Stage 1, visual initialing: encoder and Light-T from pixels.")
_stage_command(train_app, "joint", "joint", "The joint baseline: encoder and language model end to end from pixels.")
_stage_command(train_app, "stage2", "stage2", "Stage 2, LLM fine-tuning on cached features only.")
_stage_command(train_app, "visual", "stage1", "Old name of slt train stage1.", instead="slt train stage1")
_stage_command(train_app, "translate", "stage2", "Old name of slt train stage2.", instead="slt train stage2")
app.command()(translate_command.translate)
_stage_command(app, "report", "report", "One self-contained HTML page of scores, curves, examples and provenance.")


@app.command()
def pack(
    config: Config,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read the packs and compare them with their digests.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option(help="Try clips again that failed before.")] = False,
    out: Out = None,
    overrides: Set = None,
    manifest: Manifest = None,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """The frames of each split in a few HDF5 files, in parallel, for disks that are slow with many small ones."""
    chosen = [*(overrides or []), *(["pack.retry_failed=true"] if retry_failed else [])]
    run = open_run(config, out, chosen, manifest)
    if not verify:
        single_stage("pack", run, force or retry_failed, dry_run, as_json)
        return
    from pipeline.stages.run_pack import verify_packs

    problems = verify_packs(run)
    if as_json:
        print_json({"problems": problems})
    else:
        typer.echo("\n".join(problems) or f"{run.packs}: whole")
    raise typer.Exit(2 if problems else 0)


@app.command()
def extract(
    config: Config,
    retry_failed: Annotated[bool, typer.Option(help="Try clips again that failed before.")] = False,
    max_failure_rate: Annotated[
        float | None, typer.Option(help="Share of a split's clips that may fail, 0 to 1, before the job stops.")
    ] = None,
    scheduler: Annotated[str | None, typer.Option(help="Address of a running Dask scheduler: tcp://host:port.")] = None,
    cluster: Annotated[str | None, typer.Option(help="slurm, or the import path of a Dask cluster class.")] = None,
    out: Out = None,
    overrides: Set = None,
    manifest: Manifest = None,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Every clip once through the frozen encoder, in parallel, to a Zarr store."""
    chosen = [
        *(overrides or []),
        *(["extract.retry_failed=true"] if retry_failed else []),
        *([f"extract.max_failure_rate={max_failure_rate}"] if max_failure_rate is not None else []),
        *([f"extract.scheduler={scheduler}"] if scheduler else []),
        *([f"extract.cluster.type={cluster}"] if cluster else []),
    ]
    run = open_run(config, out, chosen, manifest)
    if dry_run and not as_json and (wanted := run.experiment.extract.cluster) and wanted.type == "slurm":
        from extract.jobs.cluster import job_script

        typer.echo(job_script(wanted))
    single_stage("extract", run, force or retry_failed, dry_run, as_json)


app.command()(config_command.config)
app.command()(score_command.score)
app.command()(grounding_command.grounding)
app.command()(ablate_command.ablate)


@app.command()
def corpus(
    folder: Annotated[Path, typer.Argument(help="Where to write it.")],
    preset: Annotated[str, typer.Option(help="Size: tiny, demo, large or bench.")] = "demo",
    seed: Annotated[int, typer.Option()] = 0,
    layout: Annotated[str, typer.Option(help="Of phoenix14t, csl_daily or how2sign.")] = "phoenix14t",
    texts: Annotated[
        Path | None,
        typer.Option(help="Draw the sentences of this table: columns id, split, frames, gloss, text, tabs between."),
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Draw only the first of so many frames.")] = 1,
) -> None:
    """Write the built-in corpus, or one of your own sentences, in the layout of a release."""
    if texts is not None and layout != "phoenix14t":
        raise InputError("--texts", expected="--layout phoenix14t", found=layout, remedy="Leave --layout out.")
    root = _write_corpus(folder, preset, seed, layout, texts, every)
    text = next(root.parent.glob("text.*.txt"))
    other = "" if layout == "phoenix14t" else f" --set data.dataset={layout}"
    other += f" --set frames.keep_every={max(1, 4 // every)}" if every > 1 else ""
    typer.echo(f"{root}\nnext: slt run demo{other} --set data.root={root} --set train.lm.text={text}")


def main() -> None:
    """Entry point: errors that a person can act on are one line each, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a console that is not UTF-8 shows what it can
            stream.reconfigure(errors="replace")
    try:
        app(standalone_mode=True)
    except SltError as error:
        typer.secho(f"error: {visible(str(error))}", err=True, fg="red")
        sys.exit(error.exit_code)
    except Exception as error:
        if (line := full_disk(error)) is None:
            raise
        typer.secho(f"error: {visible(line)}", err=True, fg="red")
        sys.exit(SltError.exit_code)
    except KeyboardInterrupt:
        typer.secho("interrupted: the same command goes on from here", err=True)
        sys.exit(130)


def _run(run: Any, *, start: str | None = None, dry_run: bool, as_json: bool) -> None:
    from pipeline.stages.requirements import lacking
    from pipeline.stages.stage_list import stages

    listed = stages(run.experiment)
    if dry_run:
        show_states(run, as_json)
        for line in lacking(run, listed, fetch=False, start=start):
            typer.secho(f"lacking: {line}", err=True, fg="yellow")
        return
    if absent := lacking(run, listed, fetch=True, start=start):
        raise SltError("\n".join(absent))
    failed = run.execute(listed, Bars(), start)
    show_scores(run, as_json)
    if run.experiment.data.features is None:  # others come from an encoder that is not here
        typer.echo(f"next: slt translate VIDEO --model {run.folder}", err=True)
    raise typer.Exit(SOME_FAILED if failed else 0)


def _write_corpus(
    folder: Path, preset: str, seed: int, layout: str = "phoenix14t", texts: Path | None = None, every: int = 1
) -> Path:
    from pipeline.corpus.layout import PRESETS, write_corpus
    from pipeline.corpus.released import LAYOUTS

    if layout not in LAYOUTS:
        raise InputError("--layout", expected="a layout", found=repr(layout), remedy=suggestion(layout, LAYOUTS))

    if preset not in PRESETS:
        raise InputError("--preset", expected="a preset", found=repr(preset), remedy=suggestion(preset, PRESETS))
    with Bars().bar("drawing the corpus", "clips") as tick:
        return write_corpus(folder, preset, seed, tick, layout=layout, texts=texts, every=every)
