"""``slt grounding``: does a translator look at the video? Of any translator directory, without its experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.commands.arguments import AsJson, DryRun
from pipeline.commands.printing import print_json
from pipeline.experiment.progress_bars import Bars

if TYPE_CHECKING:
    from eval.predictions.prediction_file import Prediction
    from extract.dataset.clip_index import Clip


def grounding(
    translator: Annotated[Path, typer.Argument(help="Its directory: weights, tokenizer, provenance.")],
    features: Annotated[str, typer.Option(help="Path or URL of the split's store, .../test.zarr.")],
    index: Annotated[Path, typer.Option(help="Clip index with the references.")],
    out: Annotated[Path, typer.Option(help="Folder of predictions and scores.")],
    split: Annotated[Literal["train", "dev", "test"], typer.Option(help="Of the clip index.")] = "test",
    dataset: Annotated[
        str | None, typer.Option(help="Of the manifest: its level and tokenizer. Default: the index's.")
    ] = None,
    beams: Annotated[int, typer.Option(min=1)] = 5,
    max_length: Annotated[int, typer.Option(min=1, help="Tokens of a translation.")] = 128,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """BLEU-4 with the right clip minus BLEU-4 of the strongest control, of any translator directory."""
    from rich.console import Console

    from eval.predictions.prediction_file import write_predictions
    from eval.results.controls import CONTROLS, always, best_constant
    from eval.results.slices import Corpus
    from eval.results.table_formats import rich_table, select
    from extract.dataset.clip_index import ClipIndex
    from pipeline.experiment.scored_files import dataset_of, score_rows, settings_of

    clips = ClipIndex(index, split).clips()
    settings, _ = settings_of(dataset or dataset_of(index, None), None, ())
    if dry_run:
        typer.echo(f"{len(clips)} clips would be translated by {translator}, into {out}")
        return
    name = translator.resolve().name
    row = "stage2" if name in ("stage2", "translator", *CONTROLS) else name
    rows = _translated(row, translator, features, clips, beams, max_length)
    texts = {split: [clip.text for clip in ClipIndex(index, split)] for split in ("train", "dev")}
    if all(texts.values()):
        rows["constant"] = always(best_constant(texts["train"], texts["dev"], settings), rows[row])
    for each, predictions in rows.items():
        write_predictions(out / "predictions" / f"{each}.jsonl", predictions)
    corpus = Corpus.of(clips, ClipIndex(index, "train"))
    results = score_rows(
        rows,
        settings,
        baseline=None,
        language=clips[0].language,
        corpus=corpus,
        sliced=[row],
        compared=(),
        shuffles=True,
    )
    results.write(out)
    if as_json:
        print_json(results.as_json())
        return
    for sheet in select(results.sheets(), ("scores", "grounding")):
        Console().print(rich_table(sheet))
    typer.echo(f"{out}; slices: slt score {out}/predictions/{row}.jsonl --references {index} --split {split}")


def _translated(
    row: str, folder: Path, features: str, clips: list[Clip], beams: int, max_length: int
) -> dict[str, list[Prediction]]:
    """The split as it is, named ``row``; with other clips' translations; and without features."""
    from eval.results.controls import of_other_clips
    from eval.translation.translate_features import text_prior, translate_split
    from extract.errors import InputError
    from extract.store.feature_store import FeatureStore
    from pipeline.experiment.torch_session import quiet_transformers
    from train.models.tokenizer import load_tokenizer
    from train.models.translator import load_sign_translator

    if not (folder / "model.safetensors").is_file():
        raise InputError(folder, expected="a translator directory", found="no model.safetensors in it",
                         remedy="Name the folder stage2 or stage1 of an experiment.")  # fmt: skip
    quiet_transformers()
    store = FeatureStore.open(features)
    model = load_sign_translator(folder)
    tokenizer = load_tokenizer(folder, clips[0].language)
    if model.config.features is None:  # stage 1 goes on from any of its own levels
        model.reads = store.provenance["features"]
    rows: dict[str, list[Prediction]] = {}
    with Bars().bar(row, "clips") as tick:
        rows[row] = translate_split(model, tokenizer, store, clips, beams=beams, max_length=max_length, on_clip=tick)
    rows["shuffled"] = of_other_clips(rows[row], seed=0)
    rows["text_prior"] = text_prior(model, tokenizer, store, clips, beams=beams, max_length=max_length)
    return rows
