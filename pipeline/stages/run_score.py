"""The stage that scores: every row's metrics, comparisons, slices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from extract.fingerprint import file_sha256
from pipeline.experiment.freshness import deciding
from pipeline.experiment.model_cards import rewrite_cards
from pipeline.experiment.run import Run
from pipeline.experiment.task import Result, Task
from pipeline.stages.table_rows import scored_rows


def score_inputs(run: Run) -> Mapping[str, Any]:
    return {"score": deciding(run.scoring)}


def run_score(run: Run, task: Task) -> Result:
    """``scores.json``, ``comparison.json``, ``slices.json``: the whole test split is the denominator."""
    from eval.predictions.prediction_file import read_predictions
    from eval.results.controls import CONTROLS, always, best_constant
    from eval.results.scores import complete
    from eval.results.slices import Corpus
    from extract.dataset.clip_index import ClipIndex
    from pipeline.experiment.scored_files import score_rows

    clips = run.clips("test")
    references = {clip.id: clip.text for clip in clips}
    found = {
        row: complete(read_predictions(run.folder / "predictions" / f"{row}.jsonl"), references)
        for row in scored_rows(run.experiment)
    }
    texts = {split: [clip.text for clip in ClipIndex(run.index, split)] for split in ("train", "dev")}
    sentence = best_constant(texts["train"], texts["dev"], run.scoring)
    found["constant"] = always(sentence, next(iter(found.values())))
    systems = [row for row in found if row not in CONTROLS]
    results = score_rows(
        found, run.scoring, baseline="stage1" if "stage1" in found else None, compared=systems, sliced=systems,
        language=run.dataset.entry.language, corpus=Corpus.of(clips, ClipIndex(run.index, "train")),
        dataset=run.dataset.name, shuffles=True,
    )  # fmt: skip
    paths = results.write(run.folder)
    rewrite_cards(run, {row: measured.model_dump() for row, measured in results.scores.items()})
    said = f"BLEU-4 of stage 2: {results.scores['stage2'].bleu4:.2f} in {paths[0]}"
    if grounding := results.comparison.grounding:
        said += f"; {grounding.difference:+.2f} above the strongest control, {grounding.control}"
    return Result(list(paths), {path.name: file_sha256(path) for path in paths}, said)
