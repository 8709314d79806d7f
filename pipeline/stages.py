"""The stages of the pipeline, in order: what each reads, what it does, what it leaves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from extract.index import SPLITS, Clip
from pipeline.bars import Bars, Tick
from pipeline.config import Experiment
from pipeline.freshness import deciding
from pipeline.run import Result, Run, Stage, replacing
from train.settings import DenoisingSettings

ROWS = ("stage1", "stage2", "shuffled", "text_prior")


def stages(experiment: Experiment) -> list[Stage]:
    """The stages of an experiment; the language model's own is there when it is trained here."""
    own = ("lm",) if experiment.train.lm else ()
    listed = [
        Stage("index", "which clips there are, and whether their frames are whole", (), _index_inputs, run_index),
        Stage("visual", "stage 1: encoder and Light-T learn from pixels", ("index", *own), _visual_inputs, run_visual),
        Stage("extract", "the frozen encoder sees every clip once", ("index", "visual"), _extract_inputs, run_extract),
        Stage("finetune", "stage 2: the language model learns from cached features", ("extract", *own),
              _finetune_inputs, run_finetune),
        Stage("translate", "the test split, and the sanity rows", ("visual", "extract", "finetune"), _translate_inputs,
              run_translate),
        Stage("score", "BLEU and ROUGE of every row", ("translate",), _score_inputs, run_score),
        Stage("report", "one HTML page", ("score",), _report_inputs, run_report),
    ]  # fmt: skip
    if own:
        about = "the language model learns the language from plain text"
        listed.insert(1, Stage("lm", about, ("index",), _lm_inputs, run_lm))
    return listed


def _index_inputs(run: Run) -> Mapping[str, Any]:
    from extract.indexing import dataset_adapter

    entry, adapter = run.dataset.entry, dataset_adapter(run.dataset)
    files = [path for split in entry.splits for path in adapter.annotation_files(split)]
    return {
        "dataset": [run.dataset.name, entry.adapter, entry.language, entry.fps],
        "annotations": [_sha256(path) for path in files if path.is_file()],
    }


def run_index(run: Run, bars: Bars) -> Result:
    """Annotations to ``index.parquet``."""
    from extract.indexing import index_dataset

    with bars.bar("checking clips", "clips") as tick:
        counts = index_dataset(run.dataset, run.index, tick)
    expected = run.dataset.entry.splits
    parts = [f"{split} {n}" + (f" of {expected[split]}" if expected[split] else "") for split, (n, _) in counts.items()]
    failed = sum(bad for _, bad in counts.values())
    if failed:
        parts.append(f"[yellow]{failed} clips with missing or damaged frames: see `problem` in {run.index}[/yellow]")
    return Result([run.index], _sha256(run.index), f"clips: {', '.join(parts)}", failed)


def _lm_inputs(run: Run) -> Mapping[str, Any]:
    settings = run.experiment.train.lm
    return {
        "train.lm": deciding(settings),
        "text": _text_digest(settings),
        "language": run.dataset.entry.language,
    }


def run_lm(run: Run, bars: Bars) -> Result:
    """Plain text to ``lm/``: tokenizer and a small mBART that can fill in its gaps."""
    import torch

    from train.denoise import pretrain
    from train.language_model import build_mbart
    from train.provenance import write_provenance
    from train.tokenizer import train_tokenizer

    _prepare_torch(run)
    settings = run.experiment.train.lm
    assert settings is not None
    lines, language = _sentences(run, settings.text), run.dataset.entry.language
    torch.manual_seed(settings.seed)
    tokenizer = train_tokenizer(lines, settings.vocabulary, language)
    model = build_mbart(settings.model, tokenizer, language)
    with bars.bar("denoising", "steps") as tick:
        log = pretrain(model, tokenizer, lines, settings, run.work, tick)
    folder = run.folder / "lm"
    with replacing(folder) as new:
        model.save_pretrained(new)
        tokenizer.save_pretrained(new)
        write_provenance(new, stage="lm", inputs=run.inputs(_stage(run, "lm")), sentences=len(lines))
    _write_log(run, "lm", log)
    said = f"{model.num_parameters() / 1e6:.1f} M parameters, {len(tokenizer)} pieces, {len(lines)} sentences"
    return Result([folder], _sha256(folder / "provenance.json"), said)


def _visual_inputs(run: Run) -> Mapping[str, Any]:
    train = run.experiment.train
    return {
        "frames": deciding(run.experiment.frames),
        "encoder": deciding(run.experiment.encoder),
        "train.visual": deciding(train.visual),
        "text": _text_digest(train.visual.warm_start),
        "tokenizer": train.translate.language_model,
        "language": run.dataset.entry.language,
    }


def run_visual(run: Run, bars: Bars) -> Result:
    """Pixels to ``encoder/``, the visual encoder directory, and ``stage1/``, the translator with Light-T."""
    import torch

    from extract.provenance import weights_digest
    from train.denoise import pretrain
    from train.language_model import build_mbart
    from train.provenance import write_provenance
    from train.tokenizer import load_tokenizer
    from train.visual import train_visual

    _prepare_torch(run)
    experiment, language = run.experiment, run.dataset.entry.language
    settings = experiment.train.visual
    tokenizer = load_tokenizer(_language_model(run), language)
    torch.manual_seed(settings.seed)
    light_t = build_mbart(settings.light_t, tokenizer, language)
    log = []
    if settings.warm_start:
        lines = _sentences(run, settings.warm_start.text)
        with bars.bar("Light-T warm start", "steps") as tick:
            log += pretrain(light_t, tokenizer, lines, settings.warm_start, run.work / "light_t", tick)
    train, dev = (_readable(run.clips(split), bars) for split in ("train", "dev"))
    model, visual_log = train_visual(
        run.dataset.root, train, dev, experiment.encoder, experiment.frames, settings, tokenizer, run.work,
        light_t=light_t, bars=bars.bar,
    )  # fmt: skip
    encoder, stage1 = run.folder / "encoder", run.folder / "stage1"
    inputs = run.inputs(_stage(run, "visual"))
    assert model.encoder is not None
    with replacing(encoder) as new_encoder, replacing(stage1) as new_stage1:
        model.encoder.save_pretrained(new_encoder)
        weights = weights_digest(model.encoder.state_dict())
        write_provenance(new_encoder, stage="visual", inputs=inputs, clips=len(train), fingerprint=weights)
        model.save_pretrained(new_stage1)
        tokenizer.save_pretrained(new_stage1)
        write_provenance(new_stage1, stage="visual", inputs=inputs, clips=len(train))
    _write_log(run, "visual", log + visual_log)
    sizes = [part.num_parameters() / 1e6 for part in (model.encoder, light_t)]
    said = f"encoder {sizes[0]:.2f} M parameters, Light-T {sizes[1]:.2f} M"
    return Result([encoder, stage1], _sha256(encoder / "provenance.json"), said)


def _extract_inputs(run: Run) -> Mapping[str, Any]:
    return {"extract": deciding(run.experiment.extract)}


def run_extract(run: Run, bars: Bars) -> Result:
    """Every clip once through the frozen encoder, to ``features/<fingerprint>/<split>.zarr``."""
    from extract.fingerprint import fingerprint
    from extract.job import Progress, extract_split, local_cluster
    from extract.provenance import feature_provenance
    from extract.store import FeatureStore
    from extract.worker import load_encoder

    settings, encoder = run.experiment.extract, run.folder / "encoder"
    name = fingerprint(feature_provenance(load_encoder(encoder), settings.dtype))
    folder = run.folder / "features" / name[:16]
    found, failed, clips, seconds = {}, 0, 0, 0.0
    with local_cluster(settings.workers) as client:
        for split in SPLITS:
            wanted = run.clips(split)
            with bars.bar(split, "clips") as tick:

                def show(progress: Progress, tick: Tick = tick) -> None:
                    tick(progress.done, progress.total, {"clips/s": progress.clips_per_second})

                summary = extract_split(
                    wanted, len(wanted), run.dataset.root, encoder, folder / f"{split}.zarr", settings, client,
                    on_progress=show,
                )  # fmt: skip
            found[split] = FeatureStore.open(folder / f"{split}.zarr").lengths()
            failed += sum(summary.failed.values())
            clips, seconds = clips + summary.extracted, seconds + summary.seconds
            if summary.failed:
                kinds = ", ".join(f"{kind} {n}" for kind, n in summary.failed.items())
                bars.say(f"  [yellow]{split}: clips without features: {kinds}[/yellow]")
    identity = {"fingerprint": name, "clips": hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()}
    rate = f", {clips / seconds:.0f} clips/s" if clips else ""
    said = f"{sum(map(len, found.values()))} clips in {folder} ({clips} new{rate})"
    return Result([folder / f"{split}.zarr" for split in SPLITS], identity, said, failed)


def _finetune_inputs(run: Run) -> Mapping[str, Any]:
    return {"train.translate": deciding(run.experiment.train.translate), "language": run.dataset.entry.language}


def run_finetune(run: Run, bars: Bars) -> Result:
    """Cached features to ``translator/``."""
    from extract.store import FeatureStore
    from train.language_model import load_language_model
    from train.provenance import write_provenance
    from train.translate import available, train_translate

    _prepare_torch(run)
    settings = run.experiment.train.translate
    language_model, tokenizer = load_language_model(_language_model(run), run.dataset.entry.language)
    train_store, dev_store = (FeatureStore.open(run.store(split)) for split in ("train", "dev"))
    train, dev = run.clips("train"), run.clips("dev")
    for store, clips in ((train_store, train), (dev_store, dev)):
        absent = len(clips) - len(available(store, clips))
        if absent:
            bars.say(f"  [yellow]{absent} of {len(clips)} clips have no features and are left out[/yellow]")
    with bars.bar("LLM fine-tuning", "steps") as tick:
        model, log = train_translate(
            train_store, dev_store, train, dev, settings, language_model, tokenizer, run.work, tick
        )
    folder = run.folder / "translator"
    with replacing(folder) as new:
        model.save_pretrained(new)
        tokenizer.save_pretrained(new)
        facts = {"features": train_store.fingerprint, "clips": len(available(train_store, train))}
        write_provenance(new, stage="finetune", inputs=run.inputs(_stage(run, "finetune")), **facts)
    _write_log(run, "finetune", log)
    said = f"{model.num_parameters() / 1e6:.1f} M parameters in {folder}"
    return Result([folder], _sha256(folder / "provenance.json"), said)


def _translate_inputs(run: Run) -> Mapping[str, Any]:
    settings = run.experiment.train.translate
    return {"beams": settings.beams, "max_length": settings.max_length, "rows": list(ROWS)}


def run_translate(run: Run, bars: Bars) -> Result:
    """The test split to ``predictions/<row>.jsonl``: both stages, and the two sanity rows of stage 2."""
    from eval.predictions import write_predictions
    from eval.translate import text_prior, translate_split
    from extract.store import FeatureStore

    _prepare_torch(run)
    settings, language = run.experiment.train.translate, run.dataset.entry.language
    store, clips = FeatureStore.open(run.store("test")), run.clips("test")
    options = {"beams": settings.beams, "max_length": settings.max_length}
    paths = {row: run.folder / "predictions" / f"{row}.jsonl" for row in ROWS}
    for row, path in paths.items():
        model, tokenizer = _load_translator(run.folder / ("stage1" if row == "stage1" else "translator"), language)
        if row == "text_prior":
            predictions = text_prior(model, tokenizer, store, clips, **options)
        else:
            seed = settings.seed if row == "shuffled" else None
            with bars.bar(row, "clips") as tick:
                predictions = translate_split(
                    model, tokenizer, store, clips, shuffle_seed=seed, on_clip=tick, **options
                )
        write_predictions(path, predictions)
    absent = sum(clip.id not in store.lengths() for clip in clips)
    said = f"{len(clips)} clips, beam {settings.beams}"
    said += f", [yellow]{absent} without features, which count as empty hypotheses[/yellow]" if absent else ""
    return Result(list(paths.values()), {row: _sha256(path) for row, path in paths.items()}, said)


def _score_inputs(run: Run) -> Mapping[str, Any]:
    return {"score": deciding(run.experiment.score), "level": run.dataset.entry.level}


def run_score(run: Run, bars: Bars) -> Result:
    """``scores.json``: the whole test split is the denominator."""
    from eval.predictions import read_predictions
    from eval.scores import complete, score, write_scores

    settings = run.experiment.score
    if "level" not in settings.model_fields_set:
        settings = settings.model_copy(update={"level": run.dataset.entry.level})
    references = {clip.id: clip.text for clip in run.clips("test")}
    scores = {
        row: score(complete(read_predictions(run.folder / "predictions" / f"{row}.jsonl"), references), settings)
        for row in ROWS
    }
    path = write_scores(run.folder / "scores.json", scores)
    return Result([path], _sha256(path), f"BLEU-4 of stage 2: {scores['stage2'].bleu4:.2f} in {path}")


def _report_inputs(run: Run) -> Mapping[str, Any]:
    return {}


def run_report(run: Run, bars: Bars) -> Result:
    """``report.html``."""
    from pipeline.page import write_page

    path = write_page(run, ROWS)
    return Result([path], _sha256(path), f"{path}")


def _stage(run: Run, name: str) -> Stage:
    return next(stage for stage in stages(run.experiment) if stage.name == name)


def _language_model(run: Run) -> str:
    named = run.experiment.train.translate.language_model
    return str(run.folder / "lm") if named == "lm" else named


def _text_digest(settings: DenoisingSettings | None) -> str | None:
    path = Path(settings.text) if settings and settings.text else None
    return _sha256(path) if path and path.is_file() else None


def _sentences(run: Run, text: str | None) -> list[str]:
    from train.denoise import read_sentences

    return read_sentences(Path(text)) if text else [clip.text for clip in run.clips("train")]


def _readable(clips: Sequence[Clip], bars: Bars) -> list[Clip]:
    """Clips whose frames are whole; says how many are not."""
    whole = [clip for clip in clips if clip.problem is None]
    if len(whole) < len(clips):
        bars.say(f"  [yellow]{len(clips) - len(whole)} of {len(clips)} clips cannot be read and are left out[/yellow]")
    return whole


def _load_translator(folder: Path, language: str) -> tuple[Any, Any]:
    import torch

    from train.tokenizer import load_tokenizer
    from train.translator import SignTranslator

    model = SignTranslator.from_pretrained(folder).to("cuda" if torch.cuda.is_available() else "cpu")
    return model.eval(), load_tokenizer(folder, language)


def _prepare_torch(run: Run) -> None:
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if run.experiment.train.threads:
        torch.set_num_threads(run.experiment.train.threads)


def _write_log(run: Run, stage: str, log: Sequence[Mapping[str, float]]) -> None:
    path = run.folder / "logs" / f"{stage}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(list(log), indent=1), encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
