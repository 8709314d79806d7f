"""``slt score``: of an experiment, or of anybody's predictions in files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from extract.errors import SOME_FAILED, InputError
from pipeline.commands.arguments import AsJson, DryRun, Force, Manifest, Out, Set, open_run
from pipeline.commands.printing import show_results, show_states
from pipeline.experiment.progress_bars import Bars

UNTOLD = {
    "word": "Tokenizer none, because no --dataset says otherwise: BLEU counts the words between spaces, right for text "
    "that is tokenised, such as PHOENIX14T's; sacrebleu's default is 13a, which cuts off punctuation, right for "
    "How2Sign: --set score.tokenizer=13a.",
    "char": "Tokenizer none, because no --dataset says otherwise: BLEU counts single characters, as published scores "
    "of CSL-Daily do; sacrebleu's tokenizer zh would keep Latin words whole: --set score.tokenizer=zh.",
}
"""What is said of BLEU's tokenizer where nobody has chosen one."""


def score(
    sources: Annotated[
        list[str], typer.Argument(help="A config, or a file of predictions per system: jsonl, json, csv, tsv, lines.")
    ],
    references: Annotated[
        Path | None, typer.Option(help="A file of texts by id, or a clip index. Default: those beside the hypotheses.")
    ] = None,
    split: Annotated[Literal["train", "dev", "test"], typer.Option(help="Of the clip index.")] = "test",
    ids: Annotated[Path | None, typer.Option(help="One clip id per line, for files of one text per line.")] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Lines are sentences and nothing else, whatever they look like.")
    ] = False,
    missing: Annotated[
        Literal["error", "empty"], typer.Option(help="A clip without a hypothesis: error, or empty.")
    ] = "error",
    baseline: Annotated[str | None, typer.Option(help="The system that the others are compared with.")] = None,
    test: Annotated[str | None, typer.Option(help="Behind p-values: bootstrap or randomisation.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="One more: see docs/scores.md. May be repeated.")] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Of the manifest: its level, tokenizer and published results. Default: the index's."),
    ] = None,
    language: Annotated[str | None, typer.Option(help="mBART code, for numbers and function words.")] = None,
    level: Annotated[str | None, typer.Option(help="word or char; default: the config's, or word.")] = None,
    form: Annotated[
        Literal["latex", "markdown", "csv"] | None, typer.Option("--format", help="Instead of tables for the terminal.")
    ] = None,
    table: Annotated[list[str] | None, typer.Option(help="Only this table. May be repeated.")] = None,
    out: Out = None,
    overrides: Set = None,
    manifest: Manifest = None,
    force: Force = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Scores, intervals, comparisons and slices of an experiment, or of anybody's predictions."""
    from pipeline.experiment.scored_files import dataset_of, is_config, read_results, score_files, settings_of
    from pipeline.stages.stage_list import stages

    chosen = [*(overrides or []), *([f"score.level={level}"] if level else []),
              *([f"score.test={test}"] if test else []), *([f"score.more={metric}"] if metric else [])]  # fmt: skip
    if len(sources) == 1 and is_config(sources[0]):
        of_files = {
            "references": references,
            "ids": ids,
            "baseline": baseline,
            "dataset": dataset,
            "language": language,
        }
        if given := [f"--{name}" for name, value in of_files.items() if value is not None]:
            raise InputError(given[0], expected="a file of predictions", found=f"the config {sources[0]}",
                             remedy="A config says these things itself.")  # fmt: skip
        run = open_run(sources[0], out, chosen, manifest)
        if dry_run:
            show_states(run, as_json, only="score")
            return
        run.execute(stages(run.experiment), Bars(), only="score", force=force)
        failed = run.records.read("score").failed
        show_results(read_results(run.folder, run.dataset.name), form, table, as_json)
        typer.echo(f"{run.folder}/scores.json, comparison.json, slices.json; next stage: report", err=True)
        raise typer.Exit(SOME_FAILED if failed else 0)
    paths = [Path(source) for source in sources]
    dataset = dataset or dataset_of(references, manifest)
    settings, spoken = settings_of(dataset, manifest, chosen)
    if dataset is None and not any("tokenizer=" in override for override in chosen):
        typer.echo(UNTOLD[settings.level], err=True)
    if dry_run:
        typer.echo(f"{', '.join(sources)} would be scored: {settings.model_dump_json()}")
        return
    results = score_files(
        paths, settings, references=references, split=split, ids=ids, plain=plain, missing=missing,
        baseline=baseline, dataset=dataset, language=language or spoken,
    )  # fmt: skip
    show_results(results, form, table, as_json, out)
    if out is not None:
        from pipeline.report_page.page_content import write_page_of_files

        typer.echo(f"report: {write_page_of_files(out / 'report.html', results, settings)}", err=True)
    raise typer.Exit(SOME_FAILED if results.missing else 0)
