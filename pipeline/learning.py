"""The stages that learn: the language model from text, the encoder from pixels, the translator from features."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.errors import InputError
from extract.fingerprint import digest
from pipeline.bars import Bars
from pipeline.cards import write_cards
from pipeline.freshness import deciding, sha256_of
from pipeline.replacing import replacing
from pipeline.run import HELPED, Result, Run, Task
from train.processes import process_rank

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from extract.index import Clip
    from extract.packed import PackedFrames

_END_BYTES = 2**20


def lm_inputs(run: Run) -> Mapping[str, Any]:
    settings = run.experiment.train.lm
    return {
        "train.lm": deciding(settings),
        **({"start_from files": model_digest(settings.start_from)} if settings and settings.start_from else {}),
        "text": file_digest(settings.text if settings else None),
        "language": run.dataset.entry.language,
    }


def run_lm(run: Run, task: Task) -> Result:
    """Plain text to ``lm/``: tokenizer and a small mBART that can fill in its gaps, or a pre-trained language model
    that knows the text's domain."""
    import torch

    from train.denoise import pretrain
    from train.language_model import build_mbart
    from train.provenance import write_provenance
    from train.tokenizer import train_tokenizer

    prepare_torch(run, "lm")
    settings = run.experiment.train.lm
    assert settings is not None
    documents, language = _documents(run, settings.text), run.dataset.entry.language
    lines = [line for document in documents for line in document]
    torch.manual_seed(settings.seed)
    if settings.start_from:
        model, tokenizer = _load_foreign(run, pretrained=True)
    else:
        tokenizer = train_tokenizer(lines, settings.vocabulary, language)
        model = build_mbart(settings.model, tokenizer, language)
    with task.bars.bar("denoising", "steps") as tick:
        log = pretrain(model, tokenizer, documents, settings, task.checkpoints, tick)
    if process_rank() > 0:
        return HELPED
    folder = run.folder / "lm"
    with replacing(folder) as new:
        model.save_pretrained(new)
        tokenizer.save_pretrained(new)
        write_provenance(new, stage="lm", inputs=task.inputs, sentences=len(lines))
        write_cards(run, new)
    write_log(run, "lm", log, task.checkpoints)
    said = f"{model.num_parameters() / 1e6:.1f} M parameters, {len(tokenizer)} pieces, {len(lines)} sentences"
    return Result([folder], sha256_of(folder / "provenance.json"), said)


def visual_inputs(run: Run) -> Mapping[str, Any]:
    train = run.experiment.train
    language_model = train.translate.language_model
    named = {"tokenizer": language_model, "tokenizer files": model_digest(language_model)}
    return {
        **pixel_inputs(run),
        "train.visual": deciding(train.visual),
        "text": file_digest(train.visual.warm_start.text if train.visual.warm_start else None),
        **({} if train.trims else named),  # a trimmed one is the result of the stage before
        "language": run.dataset.entry.language,
    }


def pixel_inputs(run: Run) -> dict[str, Any]:
    """How an encoder begins, and what it sees."""
    encoder = run.experiment.encoder
    return {
        "frames": deciding(run.experiment.frames),
        "encoder": deciding(encoder),
        "encoder.backbone": model_digest(encoder.backbone),
        "encoder.backbone_weights": file_digest(encoder.backbone_weights),
    }


def language_model_inputs(run: Run) -> dict[str, Any]:
    """Which language model is fine-tuned, how it begins, and to which language."""
    settings = run.experiment.train.translate
    return {
        "language model": settings.language_model,
        "language model files": model_digest(settings.language_model),
        "pretrained": settings.pretrained,
        "language": run.dataset.entry.language,
    }


def run_visual(run: Run, task: Task) -> Result:
    """Pixels to ``encoder/``, the visual encoder directory, and ``stage1/``, the translator with Light-T."""
    import torch

    from extract.provenance import weights_digest
    from train.budget import all_passes, seconds_of
    from train.denoise import pretrain
    from train.language_model import build_mbart
    from train.provenance import write_provenance
    from train.tokenizer import load_tokenizer
    from train.visual import train_visual, with_states

    prepare_torch(run, "visual")
    experiment, language = run.experiment, run.dataset.entry.language
    settings, bars = experiment.train.visual, task.bars
    trims = experiment.train.trims
    tokenizer = load_tokenizer(run.folder / "tokenizer" if trims else _language_model(run), language)
    torch.manual_seed(settings.seed)
    light_t = build_mbart(settings.light_t, tokenizer, language)
    log = []
    if settings.warm_start:
        documents = _documents(run, settings.warm_start.text)
        with bars.bar("Light-T warm start", "steps") as tick:
            log += pretrain(light_t, tokenizer, documents, settings.warm_start, task.checkpoints / "light_t", tick)
    pixels = run.pixels(training=True)
    train, dev = (readable(run, split, bars, pixels) for split in ("train", "dev"))
    model, visual_log = train_visual(
        pixels, train, dev, experiment.encoder, experiment.frames, settings, tokenizer, task.checkpoints,
        language_model=light_t, bars=bars.bar,
    )  # fmt: skip
    if process_rank() > 0:
        return HELPED
    encoder, stage1 = run.folder / "encoder", run.folder / "stage1"
    assert model.encoder is not None
    frozen = with_states(model)
    facts = {"stage": "visual", "inputs": task.inputs, "clips": len(train)}
    with replacing(encoder) as new_encoder, replacing(stage1) as new_stage1:
        frozen.save_pretrained(new_encoder)
        write_provenance(new_encoder, weights=weights_digest(frozen.state_dict()), **facts)
        model.save_pretrained(new_stage1)
        tokenizer.save_pretrained(new_stage1)
        write_provenance(new_stage1, **facts)
        write_cards(run, new_encoder, new_stage1)
    write_log(run, "visual", log + visual_log, task.checkpoints / "generation")
    counts = [sum(weight.numel() for weight in part.parameters()) / 1e6 for part in (model.encoder, light_t)]
    said = f"encoder {counts[0]:.2f} M parameters, Light-T {counts[1]:.2f} M"
    figures = {"clip_passes": all_passes(visual_log), "seconds": seconds_of(log + visual_log)}
    return Result([encoder, stage1], sha256_of(encoder / "provenance.json"), said, figures=figures)


def finetune_inputs(run: Run) -> Mapping[str, Any]:
    settings = run.experiment.train.translate
    return {
        "train.translate": deciding(settings),
        "sentences": run.dataset.entry.text.model_dump(),
        "language model files": model_digest(settings.language_model),
        "language": run.dataset.entry.language,
        **given_features(run),
    }


def given_features(run: Run) -> dict[str, Any]:
    """Fingerprint and contents of the features that the config gives, as an input of stages; none without them.

    Raises:
        InputError: a split's store is absent, they were made differently, or train lacks a view of the config.
    """
    given = run.experiment.data.features
    if given is None:
        return {}
    from extract.index import SPLITS
    from extract.store import FeatureStore

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
    clips = digest([[train.digests(view) for view in views], stores["dev"].digests(), stores["test"].digests()])
    return {"features": {"fingerprint": train.fingerprint, "clips": clips}}


def run_finetune(run: Run, task: Task) -> Result:
    """Cached features to ``translator/``."""
    from extract.store import FeatureStore
    from train.budget import clip_passes, seconds_of
    from train.provenance import write_provenance
    from train.translate import train_translate

    prepare_torch(run, "finetune")
    settings = run.experiment.train.translate
    language_model, tokenizer = start_of_stage_2(run)
    train_store, dev_store = (FeatureStore.open(run.store(split)) for split in ("train", "dev"))
    train, dev = run.clips("train"), run.clips("dev")
    views = [view.name for view in run.experiment.extract.views]
    with task.bars.bar("LLM fine-tuning", "steps") as tick:
        done = train_translate(
            train_store, dev_store, train, dev, settings, language_model, tokenizer, task.checkpoints, tick, views,
            say=lambda line: task.bars.say(f"  {line}"),
        )  # fmt: skip
    if process_rank() > 0:
        return HELPED
    folder = run.folder / "translator"
    with replacing(folder) as new:
        done.model.save_pretrained(new)
        tokenizer.save_pretrained(new)
        if done.updates is not None:
            shutil.copytree(done.updates, new / "lora")
        facts = {"features": train_store.fingerprint, "clips": done.clips, "left_out": done.left_out}
        write_provenance(new, stage="finetune", inputs=task.inputs, **facts)
        write_cards(run, new)
    write_log(run, "finetune", done.log, task.checkpoints)
    said = f"{done.model.num_parameters() / 1e6:.1f} M parameters in {folder}"
    figures = {"clip_passes": clip_passes(done.log, settings, done.clips), "seconds": seconds_of(done.log)}
    return Result([folder], sha256_of(folder / "provenance.json"), said, figures=figures)


def prepare_torch(run: Run, stage: str = "") -> None:
    """Threads as the config says, no bars or warnings of transformers between ours, and TensorBoard's files, where a
    stage writes some, beside the other logs: checkpoints, where they would lie, go when the stage is done."""
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(run.folder.absolute() / "logs" / "tensorboard" / stage)
    if run.experiment.train.threads:
        torch.set_num_threads(run.experiment.train.threads)


def _language_model(run: Run) -> str:
    named = run.experiment.train.translate.language_model
    return str(run.folder / "lm") if named == "lm" else named


def start_of_stage_2(run: Run) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Language model and tokenizer as fine-tuning begins with them."""
    from train.language_model import load_language_model

    settings = run.experiment.train.translate
    if run.experiment.train.lm is None:
        return _load_foreign(run, settings.pretrained)
    language = run.dataset.entry.language
    return load_language_model(run.folder / "lm", language, pretrained=settings.pretrained, seed=settings.seed)


def _load_foreign(run: Run, pretrained: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The language model that comes from elsewhere, trimmed where the config says so."""
    from train.language_model import load_language_model
    from train.tokenizer import load_tokenizer
    from train.trimming import read_kept, trim_model

    train, language = run.experiment.train, run.dataset.entry.language
    assert train.foreign is not None
    seed = train.translate.seed
    model, tokenizer = load_language_model(
        train.foreign, language, pretrained=pretrained, seed=seed, where=named_by(run)
    )
    if train.trims:
        folder = run.folder / "tokenizer"
        model, tokenizer = trim_model(model, read_kept(folder)), load_tokenizer(folder, language)
    return model, tokenizer


def named_by(run: Run) -> str:
    """The setting that names the language model from elsewhere."""
    return "train.lm.start_from" if run.experiment.train.lm else "train.translate.language_model"


def model_digest(named: str | Mapping[str, Any]) -> str | None:
    """Of a model folder's files; None for a hub's name, which stands for itself, and for a dict of settings.

    Sizes and both ends of each file: reading the gigabytes of a large model would take longer than ``slt status`` may.
    """
    if not isinstance(named, str) or not Path(named).is_dir() or named == "lm":
        return None
    found = []
    for path in sorted(Path(named).rglob("*")):
        if path.is_file():
            size = path.stat().st_size
            with path.open("rb") as file:
                ends = hashlib.sha256(file.read(_END_BYTES))
                file.seek(max(0, size - _END_BYTES))
                ends.update(file.read())
            found.append([path.relative_to(named).as_posix(), size, ends.hexdigest()])
    return digest(found)


def file_digest(text: str | None) -> str | None:
    """Of a file; None where there is none."""
    path = Path(text) if text else None
    return sha256_of(path) if path and path.is_file() else None


def _documents(run: Run, text: str | None) -> list[list[str]]:
    """Of a text file, or the sentences of the train split, each by itself."""
    from train.denoise import read_documents

    return read_documents(Path(text)) if text else [[clip.text] for clip in run.clips("train")]


def readable(run: Run, split: str, bars: Bars, pixels: Path | PackedFrames) -> list[Clip]:
    """Clips whose frames are whole; says how many are not."""
    clips = run.clips(split)
    unpacked: Mapping[str, Any] = {} if isinstance(pixels, Path) else pixels.failures(split)
    whole = [clip for clip in clips if clip.problem is None and clip.id not in unpacked]
    if not whole:
        raise InputError(run.index, expected=f"clips of split {split!r} that can be read",
                         found=f"{len(clips)} with a problem, e.g. {clips[0].problem or unpacked[clips[0].id]}",
                         remedy="Mend the videos, then `slt index --force`.")  # fmt: skip
    if len(whole) < len(clips):
        bars.say(f"  [yellow]{len(clips) - len(whole)} of {len(clips)} clips cannot be read and are left out[/yellow]")
    return whole


def write_log(run: Run, stage: str, log: Sequence[Mapping[str, float]], checkpoints: Path) -> None:
    """``logs/<stage>.json``, and ``logs/<stage>.dominance.parquet`` where the stage has a dominance probe."""
    from train.dominance import collect, parts

    path = run.folder / "logs" / f"{stage}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(list(log), indent=1), encoding="utf-8")
    if probes := parts(checkpoints):
        collect(probes, path.with_name(f"{stage}.dominance.parquet"))
