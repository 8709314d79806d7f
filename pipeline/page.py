"""What the report of an experiment shows: scores, curves, a look at the clips, provenance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from eval.predictions import read_predictions
from eval.published import published
from eval.report import write_report
from eval.scores import read_scores
from extract.errors import ClipError, InputError
from extract.frames import read_clip
from pipeline.run import Run
from train.provenance import versions

CLIPS, FRAMES_A_ROW, ROWS = 3, 7, 2
SYSTEMS = ("stage1", "stage2", "joint")


def write_page(run: Run, rows: Sequence[str], stages: Sequence[str]) -> Path:
    """``report.html`` of an experiment whose other stages are done.

    Args:
        rows: what was translated and scored, the systems before the controls.
        stages: names of the experiment's stages; an earlier config may have left results of others.
    """
    name = run.experiment.name
    finetuned = run.records.read("finetune")
    features = {**finetuned.inputs.get("extract", {}), **finetuned.inputs.get("features", {})} if finetuned else {}
    return write_report(
        run.folder / "report.html",
        title=f"{name}: {run.dataset.name}, test split",
        scores=read_scores(run.folder / "scores.json"),
        examples={row: read_predictions(run.folder / "predictions" / f"{row}.jsonl") for row in rows if row in SYSTEMS},
        provenance={
            "dataset": run.dataset.name,
            "feature fingerprint": features.get("fingerprint"),
            "results of the stages": {stage: record.result for stage in stages if (record := run.records.read(stage))},
            "versions": versions(),
            "config": run.experiment.model_dump(mode="json"),
        },
        published_rows=published(run.dataset.name),
        images=_strips(run),
        curves={
            **_curve(run, "lm", "loss", "language model: denoising loss"),
            **(_curve(run, "visual", "loss", "stage 1: loss") if "visual" in stages else {}),
            **(_curve(run, "visual", "eval_bleu4", "stage 1: dev BLEU-4") if "visual" in stages else {}),
            **_curve(run, "finetune", "loss", "stage 2: loss"),
            **_curve(run, "finetune", "eval_bleu4", "stage 2: dev BLEU-4"),
        },
    )


def _strips(run: Run) -> dict[str, bytes]:
    """The first test clips as the encoder sees them, two rows of sampled frames each."""
    strips: dict[str, bytes] = {}
    try:
        pixels = run.pixels()
    except InputError:
        return {}  # the report can be made where the videos are not
    for clip in run.clips("test")[:CLIPS]:
        try:
            frames = read_clip(pixels, clip, run.experiment.frames)
        except ClipError:
            continue  # it stands among the failures of the extraction
        except InputError:
            return {}  # nor where the packs are not
        places = np.linspace(0, len(frames) - 1, ROWS * FRAMES_A_ROW).round().astype(int)
        shown = frames[places].transpose(0, 2, 3, 1)[..., ::-1]  # (n, H, W, BGR)
        rows = [np.concatenate(list(part), axis=1) for part in np.split(shown, ROWS)]
        strip = np.concatenate(rows)
        strips[f"{clip.id}: {clip.text}"] = cv2.imencode(".png", strip)[1].tobytes()
    return strips


def _curve(run: Run, stage: str, key: str, caption: str) -> dict[str, list[tuple[float, float]]]:
    path = run.folder / "logs" / f"{stage}.json"
    if not path.is_file():
        return {}
    log = json.loads(path.read_text(encoding="utf-8"))
    points = [(float(entry["step"]), float(entry[key])) for entry in _last_phase(log) if key in entry]
    return {caption: points} if len(points) > 1 else {}


def _last_phase(log: list[dict[str, float]]) -> list[dict[str, float]]:
    """Entries after the last time that the step count began anew (a warm-up has a count of its own)."""
    starts = [i for i in range(1, len(log)) if log[i].get("step", 0) < log[i - 1].get("step", 0)]
    return log[starts[-1] :] if starts else log
