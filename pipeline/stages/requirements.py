"""What a run needs, looked at before its first stage: models, files, packages, precision."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from extract.errors import InputError, SltError
from pipeline.experiment.run import Run, Stage
from train.settings import PixelSettings, TrainingSettings

Check = Callable[[], object]


def lacking(run: Run, stages: Sequence[Stage], fetch: bool, start: str | None = None) -> list[str]:
    """One line for each thing that a stage which is not done would stop at.

    Args:
        fetch: models of the hub that are not on this machine may be fetched; False: they are lacking.
        start: the first stage that would run; those before are taken as they are.
    """
    undone = {stage.name for stage, state, _ in run.states(stages) if state != "done"}
    names = [stage.name for stage in stages]
    if start in names:
        names, undone = names[names.index(start) :], undone | {start}
    found: dict[str, None] = {}
    for name in (name for name in names if name in undone):
        for check in _checks(run, name, fetch):
            try:
                check()
            except SltError as error:
                found[str(error)] = None
    return list(found)


def _checks(run: Run, stage: str, fetch: bool) -> Iterator[Check]:
    train = run.experiment.train
    if stage == "index":
        yield lambda: run.dataset.root
    if stage == "trim":
        yield from (partial(_file, text, "train.stage2.trim_text") for text in train.stage2.trim_text)
        yield partial(_language_model, run, fetch)
    if stage == "lm" and train.lm:
        yield from _learning(train.lm, "train.lm")
        if train.lm.text:
            yield partial(_file, train.lm.text, "train.lm.text")
    if stage == "stage1":
        yield from _from_pixels(run, train.stage1, "train.stage1", fetch)
        if train.stage1.warm_start and train.stage1.warm_start.text:
            yield partial(_file, train.stage1.warm_start.text, "train.stage1.warm_start.text")
    if stage == "joint" and train.joint:
        yield from _from_pixels(run, train.joint, "train.joint", fetch)
    if stage in ("stage2", "joint", "lm") and train.foreign:
        yield partial(_language_model, run, fetch)
    if stage == "stage2":
        yield from _learning(train.stage2, "train.stage2")
        if train.stage2.lora:
            yield partial(_package, "peft", "lora", "train.stage2.lora")
    if stage == "score":
        yield partial(_metrics, run)


def _from_pixels(run: Run, settings: PixelSettings, where: str, fetch: bool) -> Iterator[Check]:
    yield from _learning(settings, where)
    yield partial(_backbone, run, fetch)
    yield partial(_decoder, run)


def _learning(settings: TrainingSettings, where: str) -> Iterator[Check]:
    from extract.own_device import own_device
    from train.loop.device import require_precision
    from train.loop.trainer_arguments import require_trackers

    yield partial(require_precision, settings.precision, own_device())
    yield partial(require_trackers, settings.report_to)


def _backbone(run: Run, fetch: bool) -> None:
    """It is there, takes the frames, and tells the same twice."""
    from extract.encoder.visual_encoder import VisualEncoder
    from pipeline.experiment.torch_session import quiet_transformers

    encoder = run.experiment.encoder
    if isinstance(encoder.backbone, str):
        _require(encoder.backbone, "encoder.backbone", fetch)
    quiet_transformers()
    VisualEncoder.from_settings(encoder, run.experiment.frames)


def _language_model(run: Run, fetch: bool) -> None:
    """Its family and its tokenizer fit, and its weights are there; they are not read."""
    from pipeline.experiment.torch_session import quiet_transformers
    from pipeline.stages.language_models import named_by
    from train.models.language_model import load_language_config, require_tokenizer
    from train.models.tokenizer import load_tokenizer

    name, where = run.experiment.train.foreign, named_by(run)
    assert name is not None
    _require(name, where, fetch)
    quiet_transformers()
    config = load_language_config(name, where)
    require_tokenizer(config, load_tokenizer(name, run.dataset.entry.language, where), f"{where} = {name}")


def _require(name: str, where: str, fetch: bool) -> None:
    from extract.pretrained import how_to_fetch, on_this_machine

    if not on_this_machine(name) and (not fetch or Path(name).is_dir()):
        found = "no weights in it" if Path(name).is_dir() else "neither"
        raise InputError(f"{where} = {name}", expected="its files, in a folder or in the Hugging Face cache",
                         found=found, remedy=how_to_fetch(name, where))  # fmt: skip


def _file(path: str, where: str) -> None:
    if not Path(path).is_file():
        raise InputError(f"{where} = {path}", expected="a text file", found="none", remedy="Check the path.")


def _package(name: str, extra: str, where: str) -> None:
    if importlib.util.find_spec(name) is None:
        raise InputError(where, expected=f"the package {name}", found="none installed",
                         remedy=f"Install the extra `{extra}`.")  # fmt: skip


def _decoder(run: Run) -> None:
    from extract.decoding.decoder_versions import decoder_versions

    decoder_versions(run.experiment.frames.decoder)


def _metrics(run: Run) -> None:
    from eval.metrics.learned_metrics import require_bleurt, require_comet
    from eval.metrics.measures import Measures

    Measures(run.scoring)
    for name, require in (("bleurt", require_bleurt), ("comet", require_comet)):
        if name in run.scoring.more:
            require()
