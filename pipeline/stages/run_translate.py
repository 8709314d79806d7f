"""The stage that translates the test split from cached features, and the sanity rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from extract.fingerprint import file_sha256
from pipeline.experiment.run import Run
from pipeline.experiment.task import HELPED, Result, Task
from pipeline.experiment.torch_session import prepare_torch
from pipeline.stages.run_stage2 import given_features
from pipeline.stages.table_rows import rows

if TYPE_CHECKING:
    from extract.store.feature_store import FeatureStore


def translate_inputs(run: Run) -> Mapping[str, Any]:
    settings = run.experiment.train.stage2
    chosen = {"beams": settings.beams, "max_length": settings.max_length, "rows": list(rows(run.experiment))}
    if settings.translate_precision != "fp32":
        chosen["precision"] = settings.translate_precision
    return {**chosen, **given_features(run, "test")}


def run_translate(run: Run, task: Task) -> Result:
    """The test split to ``predictions/<row>.jsonl``: the stages, and the two sanity rows of stage 2."""
    import torch

    from eval.predictions.prediction_file import write_predictions
    from eval.results.controls import of_other_clips
    from eval.translation.translate_features import text_prior, translatable, translate_split
    from extract.own_device import own_device
    from extract.store.feature_store import FeatureStore
    from train.loop.device import require_precision
    from train.models.tokenizer import load_tokenizer
    from train.models.translator import load_sign_translator
    from train.processes import process_rank

    prepare_torch(run)
    settings = run.experiment.train.stage2
    store, clips = FeatureStore.open(run.store("test")), run.clips("test")
    options = {"beams": settings.beams, "max_length": settings.max_length}
    require_precision(settings.translate_precision, own_device())
    paths = {row: run.folder / "predictions" / f"{row}.jsonl" for row in rows(run.experiment)}
    for row, path in paths.items():
        folder = run.folder / ("stage1" if row == "stage1" else "stage2")
        model, tokenizer = load_sign_translator(folder), load_tokenizer(folder, run.dataset.entry.language)
        if settings.translate_precision == "bf16":
            model.to(torch.bfloat16)
        if row == "stage1":
            _require_own(run, store)
            model.reads = store.provenance["features"]
        if row == "text_prior":
            predictions = text_prior(model, tokenizer, store, clips, **options)
        elif row == "shuffled":
            predictions = of_other_clips(predictions, seed=0)  # stage 2's, which stands before it
        else:
            with task.bars.bar(row, "clips") as tick:
                predictions = translate_split(
                    model, tokenizer, store, clips, at_once=settings.translate_clips, on_clip=tick, **options
                )
        if process_rank() == 0:
            write_predictions(path, predictions)
    if process_rank() > 0:
        return HELPED
    absent = len(clips) - len(translatable(model, store, clips))
    said = f"{len(clips)} clips, beam {settings.beams}"
    said += (
        f", [yellow]{absent} without features that the model can take, which count as empty hypotheses[/yellow]"
        if absent
        else ""
    )
    return Result(list(paths.values()), {row: file_sha256(path) for row, path in paths.items()}, said)


def _require_own(run: Run, store: FeatureStore) -> None:
    """Refuse features that stage 1's own encoder did not make."""
    from extract.encoder.extractor import load_encoder
    from extract.encoder.feature_provenance import feature_provenance

    made = store.provenance
    encoder = load_encoder(run.folder / "encoder", made["features"])
    store.require(feature_provenance(encoder, made["dtype"], made["features"], made["compute"], made.get("pack")))
