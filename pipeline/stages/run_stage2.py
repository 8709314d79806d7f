"""Stage 2, LLM fine-tuning: the translator learns from cached features."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from typing import Any

from extract.atomic_write import replacing
from extract.errors import InputError
from extract.fingerprint import digest, file_sha256
from pipeline.experiment.freshness import deciding, model_digest
from pipeline.experiment.model_cards import write_cards
from pipeline.experiment.run import Run
from pipeline.experiment.task import HELPED, Result, Task
from pipeline.experiment.torch_session import prepare_torch
from pipeline.experiment.training_logs import write_log
from pipeline.stages.dev_scoring import dev_bleu4, dev_inputs
from pipeline.stages.language_models import start_of_stage_2
from train.processes import process_rank


def stage2_inputs(run: Run) -> Mapping[str, Any]:
    settings = run.experiment.train.stage2
    return {
        "train.stage2": deciding(settings.model_copy(update={"trim_text": ()})),  # its pieces are what trimming left
        **dev_inputs(run, settings),
        "train.clips": run.experiment.train.clips,
        "sentences": run.dataset.entry.text.model_dump(),
        "language model files": model_digest(settings.language_model),
        "language": run.dataset.entry.language,
        **given_features(run, "train", "dev"),
    }


def given_features(run: Run, *splits: str) -> dict[str, Any]:
    """Fingerprint and contents of the features that the config gives, as an input of stages; none without them.

    Args:
        splits: that the stage reads; the others are looked at, too.

    Raises:
        InputError: a split's store is absent, they were made differently, or train lacks a view of the config.
    """
    given = run.experiment.data.features
    if given is None:
        return {}
    from extract.dataset.clip_index import SPLITS
    from extract.store.feature_store import FeatureStore

    try:
        stores = {split: FeatureStore.open(run.store(split)) for split in SPLITS}
    except InputError as error:
        remedy = f"data.features = {given} must hold {', '.join(f'{split}.zarr' for split in SPLITS)}."
        raise InputError(error.where, expected=error.expected, found=error.found, remedy=remedy) from error
    train, views = stores["train"], [view.name for view in run.experiment.extract.views]
    for store in stores.values():
        store.require(train.provenance)
    absent = [view for view in views if view not in train.views()]
    if absent:
        raise InputError(train.location, expected=f"features of the view {absent[0]!r}, of extract.views",
                         found=", ".join(train.views()) or "none",
                         remedy="Import it with --view, or take it out of extract.views.")  # fmt: skip
    read = {split: [stores[split].digests(view) for view in (views if split == "train" else views[:1])]
            for split in splits}  # fmt: skip
    return {"features": {"fingerprint": train.fingerprint, "clips": digest(read)}}


def run_stage2(run: Run, task: Task) -> Result:
    """Cached features to ``stage2/``."""
    from extract.store.feature_store import FeatureStore
    from train.loop.budget import clip_passes, seconds_of
    from train.provenance import write_provenance
    from train.recipes.stage2 import train_stage2

    prepare_torch(run, "stage2")
    settings = run.experiment.train.stage2
    language_model, tokenizer = start_of_stage_2(run)
    train_store, dev_store = (FeatureStore.open(run.store(split)) for split in ("train", "dev"))
    train, dev = run.learnt(), run.clips("dev")
    views = [view.name for view in run.experiment.extract.views]
    with task.bars.bar("LLM fine-tuning", "steps") as tick:
        done = train_stage2(
            train_store, dev_store, train, dev, settings, language_model, tokenizer, task.checkpoints, tick, views,
            bleu4=dev_bleu4(run), say=lambda line: task.bars.say(f"  {line}"),
        )  # fmt: skip
    if process_rank() > 0:
        return HELPED
    folder = run.folder / "stage2"
    with replacing(folder) as new:
        done.model.save_pretrained(new)
        tokenizer.save_pretrained(new)
        if done.updates is not None:
            shutil.copytree(done.updates, new / "lora")
        facts = {"features": train_store.fingerprint, "clips": done.clips, "left_out": done.left_out}
        write_provenance(new, stage="stage2", inputs=task.inputs, **facts)
        write_cards(run, new)
    before = run.folder / "translator"  # the name of before version 0.2; goes with 0.3
    if before.is_dir() and not before.is_symlink():
        task.bars.say(f"  [yellow]{before} is of a version before 0.2 and stays as it is[/yellow]")
    with contextlib.suppress(OSError):  # something lies there, or the disk knows no links
        before.symlink_to("stage2", target_is_directory=True)
    write_log(run, "stage2", done.log, task.checkpoints)
    said = f"{done.model.num_parameters() / 1e6:.1f} M parameters in {folder}"
    figures = {"clip_passes": clip_passes(done.log, settings, done.clips), "seconds": seconds_of(done.log)}
    return Result([folder], file_sha256(folder / "provenance.json"), said, figures=figures)
