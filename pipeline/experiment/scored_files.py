"""``slt score`` of predictions in files, anybody's: read, joined by id, scored, compared, sliced, printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.errors import InputError, suggestion

if TYPE_CHECKING:
    from eval.metrics.measures import Counts
    from eval.predictions.join_by_id import Missing
    from eval.predictions.prediction_file import Prediction
    from eval.predictions.text_files import Text
    from eval.results.comparison import Comparison
    from eval.results.scores import Scores
    from eval.results.slices import Corpus, Slices
    from eval.results.table_formats import Sheet
    from eval.settings import ScoreSettings


@dataclass(frozen=True)
class Results:
    """What a scoring leaves."""

    scores: Scores
    comparison: Comparison
    slices: Slices
    dataset: str | None = None
    """Whose published results belong beside ours."""
    missing: Mapping[str, int] = field(default_factory=dict)
    """System to the clips that it has no hypothesis for."""
    rows: Mapping[str, Sequence[Prediction]] = field(default_factory=dict)
    """What was scored, where that is not an experiment's own."""

    def sheets(self) -> list[Sheet]:
        """Every table, in order."""
        from eval.results.published import published
        from eval.results.result_tables import (
            difference_sheet,
            grounding_sheet,
            published_sheet,
            score_sheet,
            slice_sheets,
        )

        found = [score_sheet(self.scores)]
        if grounded := grounding_sheet(self.comparison):
            found.append(grounded)
        if self.comparison.systems:
            found.append(difference_sheet(self.comparison))
        if self.dataset and published(self.dataset):
            found.append(published_sheet(self.dataset, self.scores))
        return [*found, *slice_sheets(self.slices)]

    def as_json(self) -> dict[str, Any]:
        """The three files as one object, and the published rows."""
        from eval.results.published import published

        return {
            "scores": {name: score.model_dump() for name, score in self.scores.items()},
            "comparison": self.comparison.model_dump(),
            "slices": self.slices.model_dump(),
            "published": [row.model_dump() for row in published(self.dataset)] if self.dataset else [],
            "missing": dict(self.missing),
        }

    def write(self, folder: Path) -> list[Path]:
        """``scores.json``, ``comparison.json`` and ``slices.json``."""
        from eval.results.comparison import write_comparison
        from eval.results.scores import write_scores
        from eval.results.slices import write_slices

        return [
            write_scores(folder / "scores.json", self.scores),
            write_comparison(folder / "comparison.json", self.comparison),
            write_slices(folder / "slices.json", self.slices),
        ]


def score_rows(
    rows: Mapping[str, Sequence[Prediction]],
    settings: ScoreSettings,
    *,
    baseline: str | None,
    language: str,
    corpus: Corpus | None,
    sliced: Sequence[str] | None = None,
    compared: Sequence[str] | None = None,
    dataset: str | None = None,
    shuffles: bool = False,
) -> Results:
    """Score systems on the same clips.

    Args:
        rows: system to predictions, complete and in one order.
        baseline: whom the others are compared with; None: nobody.
        language: mBART code of the text.
        corpus: what slices need to know of the dataset; None: what predictions tell.
        sliced: systems that are looked at slice by slice; None: all.
        compared: systems that are compared with the baseline; None: all.
        dataset: whose published results stand beside these.
        shuffles: the row ``shuffled`` stands for several shuffles of its system, whose mean is scored.
    """
    from eval.results.comparison import compare
    from eval.results.controls import SHUFFLES, controlled, mean_of, of_other_clips
    from eval.results.published import dots_differ
    from eval.results.scores import count, score_of, with_both_dots
    from eval.results.slices import slice_systems

    counts: dict[str, Counts] = {name: count(predictions, settings) for name, predictions in rows.items()}
    if shuffles and (system := controlled(rows)):
        counts["shuffled"] = mean_of([count(of_other_clips(rows[system], seed), settings) for seed in range(SHUFFLES)])
    chosen = {name: rows[name] for name in (sliced if sliced is not None else rows) if name in rows}
    scores = {name: score_of(counted) for name, counted in counts.items()}
    if dataset and dots_differ(dataset):
        scores = {name: with_both_dots(found, rows[name], settings) for name, found in scores.items()}
    return Results(
        scores=scores,
        comparison=compare(rows, counts, baseline, settings, compared),
        slices=slice_systems(chosen, counts, corpus, settings, language),
        dataset=dataset,
    )


def score_files(
    sources: Sequence[Path],
    settings: ScoreSettings,
    *,
    references: Path | None = None,
    split: str = "test",
    ids: Path | None = None,
    plain: bool = False,
    missing: Missing = "error",
    baseline: str | None = None,
    dataset: str | None = None,
    language: str | None = None,
) -> Results:
    """Score predictions that lie in files.

    Args:
        sources: one file per system; its name without suffix is the system's.
        references: a file of texts, or a clip index; None: they stand beside the hypotheses.
        split: of the index.
        ids: of the lines of files that have none.
        plain: lines are sentences, whatever they look like.
        baseline: a system's name or its file.
        dataset: whose published results to print.
        language: mBART code; None: the index's, or none.

    Raises:
        InputError: what is wrong first, with file and line.
    """
    import dataclasses

    from eval.predictions.join_by_id import join, own_references
    from eval.predictions.text_files import read_texts

    names = _names(sources)
    given = {name: read_texts(path, "hypothesis", ids, plain) for name, path in names.items()}
    corpus: Corpus | None = None
    rows: dict[str, list[Prediction]] = {}
    absent: dict[str, int] = {}
    splits: dict[str, str] = {}
    if references is None:
        # The first system's own, which the others must agree with.
        first = next(iter(given.values()))
        named = zip(own_references(first), first, strict=True)
        wanted = [dataclasses.replace(text, id=row.id, text=row.reference) for row, text in named]
    elif references.suffix == ".parquet":
        wanted, corpus, splits, spoken = _from_index(references, split)
        language = language or spoken
    else:
        wanted = read_texts(references, "reference", ids, plain)
    for name, texts in given.items():
        rows[name] = join(texts, wanted, missing, splits.get, plain)
        if lacking := len(rows[name]) - len(texts):  # each text has found its reference
            absent[name] = lacking
    if ids is not None and not any(
        text.where.startswith(f"{ids}, ") for texts in (*given.values(), wanted) for text in texts
    ):
        raise InputError("--ids", expected="a file of lines without ids", found="none", remedy="Leave it away.")
    chosen = _baseline(baseline, names)
    results = score_rows(rows, settings, baseline=chosen, language=language or "", corpus=corpus, dataset=dataset)
    return dataclasses.replace(results, missing=absent, rows=rows)


def read_results(folder: Path, dataset: str) -> Results:
    """What the stage ``score`` of an experiment left.

    Raises:
        InputError: a file is missing or damaged.
    """
    from eval.results.comparison import Comparison
    from eval.results.scores import read_scores
    from eval.results.slices import Slices

    return Results(
        scores=read_scores(folder / "scores.json"),
        comparison=_read(folder / "comparison.json", Comparison),
        slices=_read(folder / "slices.json", Slices),
        dataset=dataset,
    )


def settings_of(
    dataset: str | None, manifest: Path | None, overrides: Sequence[str]
) -> tuple[ScoreSettings, str | None]:
    """How predictions of a dataset are scored, and its language; without a dataset the defaults.

    Raises:
        InputError: no such dataset.
        ConfigError: wrong settings.
    """
    from extract.dataset.manifest import locate
    from extract.settings import DataSettings
    from pipeline.experiment.config import score_settings, usual_scoring

    if dataset is None:
        return score_settings({}, overrides), None
    entry = locate(DataSettings.model_validate({"dataset": dataset}), manifest).entry
    return score_settings(usual_scoring(entry), overrides), entry.language


def dataset_of(index: Path | None, manifest: Path | None) -> str | None:
    """The dataset that a clip index was made of, where it is one of the manifest: its references are not scored by
    words when the dataset counts characters, only because nobody said so."""
    if index is None or index.suffix != ".parquet":
        return None
    from extract.dataset.clip_index import ClipIndex
    from extract.dataset.manifest import load_manifest

    name = ClipIndex(index).about.get("name")
    return name if name in load_manifest(manifest) else None


def is_config(source: str) -> bool:
    """Whether an argument of ``slt score`` names a config rather than predictions."""
    path = Path(source)
    return path.suffix in (".yaml", ".yml") or not (path.suffix or path.exists())


def _read(path: Path, model: type[Any]) -> Any:
    from pydantic import ValidationError

    try:
        return model.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        raise InputError(path, expected="results of this version", found=found,
                         remedy="Run `slt score CONFIG --force`.") from error  # fmt: skip


def _names(sources: Sequence[Path]) -> dict[str, Path]:
    """Systems by their files' names, or by as much of the path as tells them apart."""
    names = [path.stem for path in sources]
    if len(set(names)) < len(names):
        names = [f"{path.parent.name}/{path.stem}" for path in sources]
    if len(set(names)) < len(names):
        names = [str(path) for path in sources]
    found = dict(zip(names, sources, strict=True))
    if len(found) < len(sources):
        raise InputError("slt score", expected="every file once", found="one twice", remedy="Name it once.")
    return found


def _baseline(wanted: str | None, names: Mapping[str, Path]) -> str | None:
    if wanted is None or wanted in names:
        return wanted
    for name, path in names.items():
        if wanted == str(path):
            return name
    raise InputError("--baseline", expected="one of the systems", found=repr(wanted), remedy=suggestion(wanted, names))


def _from_index(path: Path, split: str) -> tuple[list[Text], Corpus, dict[str, str], str]:
    """References, what slices need, the split of every clip, and the language."""
    from eval.predictions.text_files import Text
    from eval.results.slices import Corpus
    from extract.dataset.clip_index import ClipIndex

    clips = {name: list(ClipIndex(path, name)) for name in ("train", "dev", "test")}
    scored = clips.get(split) or ClipIndex(path, split).clips()  # an empty one is refused there
    wanted = [Text(clip.id, clip.text, f"{path}, clip {clip.id!r}", n_frames=clip.n_frames) for clip in scored]
    splits = {clip.id: name for name, listed in clips.items() for clip in listed if name != split}
    return wanted, Corpus.of(scored, clips["train"]), splits, scored[0].language
