"""The stages of the pipeline, in order: what each reads, what it does, what it leaves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from extract.index import SCHEMA, SPLITS
from pipeline.bars import follow, follow_looks
from pipeline.cards import rewrite_cards
from pipeline.config import Experiment
from pipeline.freshness import deciding, sha256_of
from pipeline.joint import with_joint
from pipeline.language_models import lm_inputs, run_lm, run_tokenizer, tokenizer_inputs
from pipeline.learning import finetune_inputs, given_features, run_finetune, run_visual, visual_inputs
from pipeline.packing import with_pack
from pipeline.run import HELPED, Result, Run, Stage, Task
from pipeline.torch_session import prepare_torch
from pipeline.trimming import run_trim, trim_inputs

if TYPE_CHECKING:
    from extract.store import FeatureStore

ROWS = ("stage1", "stage2", "shuffled", "text_prior")
FROM_PIXELS = ("pack", "visual", "extract")


def rows(experiment: Experiment) -> tuple[str, ...]:
    """What is translated from features: with those from elsewhere there is no stage 1."""
    return ROWS if experiment.data.features is None else ROWS[1:]


def scored_rows(experiment: Experiment) -> tuple[str, ...]:
    """What is scored: the rows from features, and the joint baseline where there is one."""
    joint = experiment.train.joint is not None and experiment.data.features is None
    return (*rows(experiment), "joint") if joint else rows(experiment)


def stages(experiment: Experiment) -> list[Stage]:
    """The stages of an experiment. Trimming is there when the language model comes from elsewhere, a tokenizer and the
    language model's own stage when it is trained here, those that read pixels when the features are made here."""
    train = experiment.train
    own = ("lm",) if train.lm else ()
    # Stage 1 hangs on the pieces of the language model, not on its weights.
    pieces = ("trim",) if train.trims else ("tokenizer",) if train.tokenizes else ()
    listed = [
        Stage("index", "which clips there are, and whether their frames are whole", (), _index_inputs, run_index),
        Stage("visual", "stage 1: encoder and Light-T learn from pixels", ("index", *(pieces or own)), visual_inputs,
              run_visual),
        Stage("extract", "the frozen encoder sees every clip once", ("index", "visual"), _extract_inputs, run_extract),
        Stage("finetune", "stage 2: the language model learns from cached features",
              ("index", "extract", *(own or pieces)), finetune_inputs, run_finetune),
        Stage("translate", "the test split, and the sanity rows", ("index", "visual", "extract", "finetune"),
              _translate_inputs, run_translate),
        Stage("score", "BLEU and ROUGE of every row", ("translate",), _score_inputs, run_score),
        Stage("report", "one HTML page", ("index", "extract", "finetune", "translate", "score"), _report_inputs,
              run_report),
    ]  # fmt: skip
    if own:
        about = "the language model learns the language from plain text"
        listed.insert(1, Stage("lm", about, ("index", *pieces), lm_inputs, run_lm))
    if train.trims:
        about = "the pieces that the text needs, of the language model's tokenizer"
        listed.insert(1, Stage("trim", about, ("index",), trim_inputs, run_trim))
    elif train.tokenizes:
        about = "the pieces that the text is made of"
        listed.insert(1, Stage("tokenizer", about, ("index",), tokenizer_inputs, run_tokenizer))
    if train.joint is not None and experiment.data.features is None:
        listed = with_joint(listed, own or pieces, train.joint)
    if experiment.pack.enabled:
        listed = with_pack(listed, experiment.pack)
    if experiment.data.features is not None:
        listed = [
            dataclasses.replace(stage, needs=tuple(need for need in stage.needs if need not in FROM_PIXELS))
            for stage in listed
            if stage.name not in FROM_PIXELS
        ]
    return listed


def _index_inputs(run: Run) -> Mapping[str, Any]:
    from extract.adapters import dataset_adapter

    entry, adapter = run.dataset.entry, dataset_adapter(run.dataset)
    files = dict.fromkeys(path for split in entry.splits for path in adapter.annotation_files(split))
    unread = {} if run.experiment.data.features is None else {"frames": "not looked at"}
    return {
        **unread,
        "dataset": run.dataset.about(),
        "schema": SCHEMA.metadata[b"schema"].decode(),
        "decoder": run.experiment.frames.decoder,
        "annotations": [sha256_of(path) for path in files if path.is_file()],
    }


def run_index(run: Run, task: Task) -> Result:
    """Annotations to ``index.parquet``."""
    from dask.system import CPU_COUNT

    from extract.indexing import index_dataset, remarks_path
    from extract.remarks import read_remarks, summary

    settings = run.experiment.extract
    with task.bars.bar("looking at frames", "sources") as tick:
        counts = index_dataset(
            run.dataset,
            run.index,
            run.experiment.frames.decoder,
            frames=run.experiment.data.features is None,
            # Not in the folder of these inputs: what was looked at holds for other annotations too.
            kept=task.checkpoints.with_name("index-looks"),
            cluster=settings.model_copy(update={"workers": settings.workers or CPU_COUNT}),
            on_progress=follow_looks(tick),
            say=lambda line: task.bars.say(f"  [yellow]{line}[/yellow]"),
        )
    expected = {str(split): n for split, n in run.dataset.entry.splits.items()}
    parts = [
        f"{split} {of.total()}" + (f" of {expected[split]}" if expected[split] else "") for split, of in counts.items()
    ]
    problems = {split: {kind: n for kind, n in of.items() if kind is not None} for split, of in counts.items()}
    failed = sum(run.failures(split, of) for split, of in problems.items())
    if bad := sum(sum(of.values()) for of in problems.values()):
        known = f", {bad - failed} of them known to be missing from the release" if bad > failed else ""
        parts.append(f"[yellow]{bad} clips with missing or damaged frames{known}: see `problem` in {run.index}; "
                     "`slt index --force` looks again when they are mended[/yellow]")  # fmt: skip
    listed = remarks_path(run.index)
    if remarks := summary(read_remarks(listed)):
        parts.append(f"[yellow]{'; '.join(remarks)}: see {listed}[/yellow]")
    outputs = [run.index, *([listed] if listed.is_file() else [])]
    return Result(outputs, sha256_of(run.index), f"clips: {', '.join(parts)}", failed)


def _extract_inputs(run: Run) -> Mapping[str, Any]:
    return {"extract": deciding(run.experiment.extract)}


def run_extract(run: Run, task: Task) -> Result:
    """Every clip once through the frozen encoder, to ``<store>/<fingerprint>/<split>.zarr``."""
    from extract.cluster import dashboard, open_cluster
    from extract.extractor import load_encoder
    from extract.fingerprint import fingerprint
    from extract.inventory import summary as summary_of
    from extract.job import extract_split
    from extract.provenance import feature_provenance
    from extract.settings import View
    from extract.store import FeatureStore

    settings, encoder = run.experiment.extract, run.folder / "encoder"
    frozen, pixels = load_encoder(encoder, settings.features), run.pixels()
    quality = run.experiment.pack.quality if run.experiment.pack.enabled else None
    name = fingerprint(feature_provenance(frozen, settings.dtype, settings.features, settings.compute, quality))
    places = {split: run.place(name, split) for split in SPLITS}
    figures: dict[str, Any] = {}
    found: dict[str, str] = {}
    present, failed, clips, seconds = 0, 0, 0, 0.0
    with open_cluster(settings, lambda line: task.bars.say(f"  [yellow]{line}[/yellow]")) as client:
        if page := dashboard(client):
            task.bars.say(f"  [dim]dashboard: {page}[/dim]")
        for split in SPLITS:
            wanted = run.split(split)
            with task.bars.bar(split, "clips") as tick:
                chosen = settings if split == "train" else settings.model_copy(update={"views": (View(),)})
                summary = extract_split(
                    wanted, len(wanted), pixels, encoder, places[split], chosen, client, follow(tick)
                )
            held, found[split] = summary_of(FeatureStore.open(places[split]), {view.name for view in chosen.views})
            present += held
            figures[split] = summary.figures()
            failed += run.failures(split, summary.failed)
            clips, seconds = clips + summary.extracted, seconds + summary.seconds
            if summary.extracted:
                shares = ", ".join(f"{step} {share:.0%}" for step, share in summary.shares().items())
                rate = figures[split]["frames_per_second"]
                task.bars.say(f"  [dim]{split}: {summary.extracted} clips, {rate:.0f} frames/s; {shares}[/dim]")
            if summary.failed:
                kinds = ", ".join(f"{kind} {n}" for kind, n in summary.failed.items())
                task.bars.say(f"  [yellow]{split}: clips without features: {kinds}[/yellow]")
    identity = {"fingerprint": name, "clips": found}
    rate = f", {clips / seconds:.0f} clips/s" if clips else ""
    said = f"{present} clips in {str(places['train']).rpartition('/')[0]} ({clips} new{rate})"
    return Result(list(places.values()), identity, said, failed, figures)


def _translate_inputs(run: Run) -> Mapping[str, Any]:
    settings = run.experiment.train.translate
    chosen = {"beams": settings.beams, "max_length": settings.max_length, "rows": list(rows(run.experiment))}
    return {**chosen, **given_features(run)}


def run_translate(run: Run, task: Task) -> Result:
    """The test split to ``predictions/<row>.jsonl``: the stages, and the two sanity rows of stage 2."""
    from eval.predictions import write_predictions
    from eval.translate import text_prior, translatable, translate_split
    from extract.store import FeatureStore
    from train.processes import process_rank
    from train.tokenizer import load_tokenizer
    from train.translator import load_translator

    prepare_torch(run)
    settings = run.experiment.train.translate
    store, clips = FeatureStore.open(run.store("test")), run.clips("test")
    options = {"beams": settings.beams, "max_length": settings.max_length}
    paths = {row: run.folder / "predictions" / f"{row}.jsonl" for row in rows(run.experiment)}
    for row, path in paths.items():
        folder = run.folder / ("stage1" if row == "stage1" else "translator")
        model, tokenizer = load_translator(folder), load_tokenizer(folder, run.dataset.entry.language)
        if row == "stage1":
            _require_own(run, store)
            model.reads = store.provenance["features"]
        if row == "text_prior":
            predictions = text_prior(model, tokenizer, store, clips, **options)
        else:
            seed = settings.seed if row == "shuffled" else None
            with task.bars.bar(row, "clips") as tick:
                predictions = translate_split(
                    model, tokenizer, store, clips, shuffle_seed=seed, on_clip=tick, **options
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
    return Result(list(paths.values()), {row: sha256_of(path) for row, path in paths.items()}, said)


def _score_inputs(run: Run) -> Mapping[str, Any]:
    return {"score": deciding(run.scoring)}


def run_score(run: Run, task: Task) -> Result:
    """``scores.json``, ``comparison.json``, ``slices.json``: the whole test split is the denominator."""
    from eval.predictions import read_predictions
    from eval.scores import CONTROLS, complete
    from eval.slices import Corpus
    from extract.index import ClipIndex
    from pipeline.scoring import score_rows

    clips = run.clips("test")
    references = {clip.id: clip.text for clip in clips}
    found = {
        row: complete(read_predictions(run.folder / "predictions" / f"{row}.jsonl"), references)
        for row in scored_rows(run.experiment)
    }
    systems = [row for row in found if row not in CONTROLS]
    results = score_rows(
        found, run.scoring, baseline="stage1" if "stage1" in found else None, compared=systems, sliced=systems,
        language=run.dataset.entry.language, corpus=Corpus.of(clips, ClipIndex(run.index, "train")),
    )  # fmt: skip
    paths = results.write(run.folder)
    rewrite_cards(run, {row: measured.model_dump() for row, measured in results.scores.items()})
    said = f"BLEU-4 of stage 2: {results.scores['stage2'].bleu4:.2f} in {paths[0]}"
    if grounding := results.comparison.grounding:
        said += f"; {grounding.difference:+.2f} of it owed to the video"
    return Result(list(paths), {path.name: sha256_of(path) for path in paths}, said)


def _report_inputs(run: Run) -> Mapping[str, Any]:
    return {"report": deciding(run.experiment.report), "score": deciding(run.scoring)}


def run_report(run: Run, task: Task) -> Result:
    """``report.html``."""
    from pipeline.page import write_page

    path = write_page(run, scored_rows(run.experiment), [stage.name for stage in stages(run.experiment)])
    return Result([path], sha256_of(path), f"{path}")


def _require_own(run: Run, store: FeatureStore) -> None:
    """Refuse features that stage 1's own encoder did not make."""
    from extract.extractor import load_encoder
    from extract.provenance import feature_provenance

    made = store.provenance
    encoder = load_encoder(run.folder / "encoder", made["features"])
    quality = made.get("pack", {}).get("quality")
    store.require(feature_provenance(encoder, made["dtype"], made["features"], made["compute"], quality))
