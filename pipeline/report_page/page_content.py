"""What the report of an experiment shows: scores, curves, a look at the clips, provenance."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.predictions.prediction_file import Prediction, read_predictions
from eval.report.charts import Chart, Points, draw_curve
from eval.report.dominance_figure import draw_dominance
from eval.report.gallery import choose
from eval.report.html_report import SYSTEMS, Content, write_report
from eval.settings import ScoreSettings
from extract.errors import InputError
from pipeline.experiment.run import Run
from pipeline.experiment.scored_files import Results, read_results
from pipeline.report_page.frame_strips import read_strips
from train.provenance import versions

if TYPE_CHECKING:
    from eval.translation.cross_attention import Attention

STAGES = {"lm": "language model", "stage1": "stage 1", "joint": "joint training", "stage2": "stage 2"}
"""Stages that learn, as people know them, in the order of their curves."""
CURVES = {"loss": ("loss", "eval_loss"), "dev BLEU-4": ("eval_bleu4", "eval_text_alone")}
LABELS = {"loss": "train", "eval_loss": "dev", "eval_bleu4": "right clip", "eval_text_alone": "other clips"}


def write_page(run: Run, rows: Sequence[str], stages: Sequence[str]) -> Path:
    """``report.html`` of an experiment whose other stages are done.

    Args:
        rows: what was translated and scored, the systems before the controls.
        stages: names of the experiment's stages; an earlier config may have left results of others.
    """
    settings, scoring = run.experiment.report, run.scoring
    predictions = {row: read_predictions(run.folder / "predictions" / f"{row}.jsonl") for row in SYSTEMS if row in rows}
    main = next(iter(predictions.values()))
    clips = run.clips("test")
    chosen = choose(main, settings, scoring)
    places = {clip.id: clip for clip in clips}
    results = read_results(run.folder, run.dataset.name)
    return write_report(
        run.folder / "report.html",
        Content(
            title=f"{run.experiment.name}: {run.dataset.name}, test split",
            scores=results.scores,
            sheets=results.sheets(),
            slices=results.slices,
            predictions=predictions,
            settings=settings,
            scoring=scoring,
            curves=[curve for stage in STAGES if stage in stages for curve in _curves(run, stage)],
            dominance=[
                curve
                for stage, name in STAGES.items()
                if (log := run.folder / "logs" / f"{stage}.dominance.parquet").is_file()
                for curve in draw_dominance(name, log)
            ],
            strips=dict(read_strips(run, [places[id] for id in chosen if id in places], settings)),
            attentions=_attentions(run, [row for row in main if row.id in chosen]),
            signers={clip.id: clip.signer for clip in clips if clip.signer is not None},
            provenance={**_provenance(run, stages), "signatures": _signatures(results)},
        ),
    )


def write_page_of_files(path: Path, results: Results, scoring: ScoreSettings) -> Path:
    """``report.html`` of anybody's predictions: what can be told without videos and models."""
    return write_report(
        path,
        Content(
            title=f"Scores of {', '.join(results.rows)}",
            scores=results.scores,
            sheets=results.sheets(),
            slices=results.slices,
            predictions=results.rows,
            scoring=scoring,
            provenance={
                "versions": versions(),
                "scoring": scoring.model_dump(mode="json"),
                "signatures": _signatures(results),
            },
        ),
    )


def _attentions(run: Run, predictions: Sequence[Prediction]) -> Mapping[str, Attention]:
    """Of stage 2 over the chosen clips; none where the translator or the features are not at hand."""
    from eval.translation.cross_attention import cross_attention
    from extract.store.feature_store import FeatureStore
    from pipeline.experiment.torch_session import prepare_torch
    from train.models.tokenizer import load_tokenizer
    from train.models.translator import load_sign_translator

    if not predictions:
        return {}
    prepare_torch(run)
    try:
        store = FeatureStore.open(run.store("test"))
        folder = run.folder / "stage2"
        model, tokenizer = load_sign_translator(folder), load_tokenizer(folder, run.dataset.entry.language)
        return cross_attention(model, tokenizer, store, {row.id: row.hypothesis for row in predictions})
    except (InputError, OSError):
        return {}


def _curves(run: Run, stage: str) -> Iterator[Chart]:
    path = run.folder / "logs" / f"{stage}.json"
    if not path.is_file():
        return
    log = _last_phase(json.loads(path.read_text(encoding="utf-8")))
    for name, keys in CURVES.items():
        series: dict[str, Points] = {}
        for key in keys:
            points = [(float(entry["step"]), float(entry[key])) for entry in log if key in entry]
            if len(points) > 1:
                series[LABELS.get(key, name)] = points
        if series:
            yield draw_curve(f"{STAGES[stage]}: {name}", series)


def _last_phase(log: list[dict[str, float]]) -> list[dict[str, float]]:
    """Entries after the last time that the step count began anew (a warm-up has a count of its own)."""
    starts = [i for i in range(1, len(log)) if log[i].get("step", 0) < log[i - 1].get("step", 0)]
    return log[starts[-1] :] if starts else log


def _features(run: Run) -> Mapping[str, Any] | None:
    """What the fingerprint is computed of; None where the features are not at hand."""
    from extract.store.feature_store import FeatureStore

    try:
        return FeatureStore.open(run.store("test")).provenance
    except InputError:
        return None


def _signatures(results: Results) -> dict[str, dict[str, str]]:
    return {name: {"bleu, rouge": score.signature, **score.signatures} for name, score in results.scores.items()}


def _provenance(run: Run, stages: Sequence[str]) -> dict[str, Any]:
    """Where every figure comes from: each stage's inputs, results and counts, as its record has them."""
    stage2 = run.records.read("stage2")
    read = stage2.inputs if stage2 else {}
    features = read.get("extract:train") or read.get("features") or {}
    before = [stage for stage in stages if stage != "report"]
    records = {stage: record for stage in before if (record := run.records.read(stage))}
    return {
        "dataset": run.dataset.name,
        "feature fingerprint": features.get("fingerprint"),
        "features": _features(run),
        "versions": versions(),
        "config": run.experiment.model_dump(mode="json"),
        **{
            f"stage {name}": {
                "result": record.result, "inputs": record.inputs, "outputs": record.outputs,
                "failed clips": record.failed, "figures": record.figures,
            }
            for name, record in records.items()
        },
    }  # fmt: skip
