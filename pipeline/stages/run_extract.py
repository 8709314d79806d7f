"""The stage that extracts: every clip once through the frozen encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape

from extract.dataset.clip_index import SPLITS
from pipeline.experiment.freshness import deciding
from pipeline.experiment.progress_bars import follow
from pipeline.experiment.run import Run
from pipeline.experiment.task import Result, Task


def extract_inputs(run: Run) -> Mapping[str, Any]:
    return {"extract": deciding(run.experiment.extract)}


def run_extract(run: Run, task: Task) -> Result:
    """Every clip once through the frozen encoder, to ``<store>/<fingerprint>/<split>.zarr``."""
    from extract.decoding.decoder_versions import jpeg_pack
    from extract.encoder.extractor import load_encoder
    from extract.encoder.feature_provenance import feature_provenance
    from extract.fingerprint import fingerprint
    from extract.jobs.cluster import dashboard, open_cluster
    from extract.jobs.extract_job import extract_split
    from extract.jobs.renewal import drop_changed
    from extract.settings import View
    from extract.store.feature_store import FeatureStore
    from extract.store.inventory import summary as summary_of

    settings, encoder = run.experiment.extract, run.folder / "encoder"
    frozen, pixels = load_encoder(encoder, settings.features), run.pixels()
    quality = run.experiment.pack.quality if run.experiment.pack.enabled else None
    pack = jpeg_pack(quality, settings.jpeg_decoder)
    name = fingerprint(feature_provenance(frozen, settings.dtype, settings.features, settings.compute, pack))
    places = {split: run.place(name, split) for split in SPLITS}
    figures: dict[str, Any] = {}
    identity: dict[str, Any] = {}
    present, failed, clips, seconds = 0, 0, 0, 0.0
    chosen_lines: set[str] = set()

    def say(line: str) -> None:
        if line not in chosen_lines:  # once, and not for each split
            chosen_lines.add(line)
            task.bars.say(f"  [dim]{line}[/dim]")

    with open_cluster(settings, lambda line: task.bars.say(f"  [yellow]{line}[/yellow]")) as client:
        if page := dashboard(client):
            task.bars.say(f"  [dim]dashboard: {page}[/dim]")
        for split in SPLITS:
            wanted = run.split(split)
            if changed := drop_changed(places[split], wanted):
                first = escape(", ".join(changed[:3])) + (", …" if len(changed) > 3 else "")
                said = f"files of {len(changed)} clips are others than when they were extracted ({first})"
                task.bars.say(f"  [yellow]{split}: {said}: they are extracted anew[/yellow]")
            with task.bars.bar(split, "clips") as tick:
                chosen = settings if split == "train" else settings.model_copy(update={"views": (View(),)})
                summary = extract_split(
                    wanted, len(wanted), pixels, encoder, places[split], chosen, client, follow(tick), say
                )
            drop_changed(places[split], wanted)  # where the store is new: it learns what it was made of
            held, clips_of = summary_of(FeatureStore.open(places[split]), {view.name for view in chosen.views})
            identity[split] = {"fingerprint": name, "clips": clips_of}
            present += held
            figures[split] = summary.figures()
            failed += run.failures(split, summary.failed)
            clips, seconds = clips + summary.extracted, seconds + summary.seconds
            if summary.extracted:
                rate = figures[split]["frames_per_second"]
                task.bars.say(f"  [dim]{split}: {summary.extracted} clips, {rate:.0f} frames/s; {summary.told()}[/dim]")
            if summary.failed:
                kinds = ", ".join(f"{kind} {n}" for kind, n in summary.failed.items())
                task.bars.say(f"  [yellow]{split}: clips without features: {kinds}[/yellow]")
    rate = f", {clips / seconds:.0f} clips/s" if clips else ""
    said = f"{present} clips in {str(places['train']).rpartition('/')[0]} ({clips} new{rate})"
    return Result(list(places.values()), identity, said, failed, figures)
