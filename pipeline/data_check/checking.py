"""What ``slt data check`` finds and shows: one pass over the clip index, a look at some clips, one HTML page."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.metrics.scored_text import apply_convention, tokens
from eval.report.self_contained_html import image_uri, write_html
from eval.settings import ScoreSettings
from extract.atomic_write import write_atomic
from extract.dataset.clip_index import Clip, ClipIndex
from extract.dataset.dataset_findings import SEVERITIES, Expectations, Finding, Limit, findings
from extract.dataset.index_statistics import MEASURES, SplitStatistics, gather, pick, summary, vocabularies
from extract.errors import InputError
from pipeline.data_check.contact_sheet import FRAMES_A_ROW, Row, draw_clips, read_rows, sheet
from pipeline.experiment.progress_bars import Bars
from pipeline.experiment.run import Run

LISTED = 200
"""Clips of a finding that are named, at most; the count is always of all."""
UNREADABLE = ("unreadable", "unreadable now")
"""Findings whose clips are shown with their problems rather than their sentences."""
LEVELS = {"word": "words", "char": "characters"}


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """The result: plain values, ready for JSON, and the rows of the contact sheet."""

    facts: dict[str, Any]
    rows: Sequence[Row]

    def worst(self, strict: bool) -> bool:
        """Whether there is an error, or with ``strict`` a warning."""
        bad = ("error", "warning") if strict else ("error",)
        return any(finding["severity"] in bad for finding in self.facts["findings"])


def check(run: Run, index: Path | None, clips_a_split: int, seed: int, bars: Bars) -> Check:
    """Look at the data of an experiment.

    Args:
        index: another clip index than the experiment's.
        clips_a_split: on the contact sheet.
        seed: draws those.

    Raises:
        InputError: there is no clip index.
    """
    path = index or run.index
    listed = ClipIndex(path)
    settings = run.scoring
    splits = gather(
        listed, functools.partial(tokens, settings=settings), functools.partial(apply_convention, settings=settings)
    )
    positions, unchecked = _positions(run)
    expected = _expectations(run, settings, positions)
    found = [*_staleness(run, index), *unchecked, *findings(splits, expected)]
    drawn = draw_clips(splits, clips_a_split, seed)
    named = pick(listed, {*drawn, *(ordinal for finding in found for ordinal in finding.clips[:LISTED])})
    root = _root(run)
    rows = _look(run, root, [named[ordinal] for ordinal in drawn], bars)
    found = sorted([*found, *_unseen(drawn, rows, root)], key=lambda finding: SEVERITIES.index(finding.severity))
    problems = {clip.id: str(clip.problem) for clip in named.values() if clip.problem is not None}
    problems |= {row.clip.id: row.problem for row in rows if row.problem is not None}

    def example(clip: Clip) -> dict[str, Any]:
        problem = problems.get(clip.id)
        if problem is not None and root is not None:
            problem = problem.replace(f"{root}/", "")  # the page travels, this machine's folders do not
        return {"id": clip.id, "split": clip.split, "signer": clip.signer, "text": clip.text, "problem": problem}

    return Check(
        {
            "experiment": run.experiment.name,
            "dataset": run.dataset.name,
            "index": path.name,
            "level": settings.level,
            "keep_every": run.experiment.frames.keep_every,
            "splits": _tables(
                splits,
                {str(split): n for split, n in run.dataset.entry.splits.items()},
                run.experiment.frames.keep_every,
            ),
            "findings": [
                {
                    **{key: getattr(finding, key) for key in ("severity", "check", "split", "count", "what")},
                    "clips": len(finding.clips),
                    "examples": [example(named[ordinal]) for ordinal in finding.clips[:LISTED]],
                }
                for finding in found
            ],
        },
        rows,
    )


def write_check(run: Run, checked: Check) -> list[Path]:
    """``data.html``, ``data.png`` (where a clip could be read) and ``data.json`` in the experiment's folder."""
    template, facts = Path(__file__).with_name("data.html.j2"), checked.facts
    page = write_html(
        run.folder / "data.html",
        template,
        {"figure": figure, "percent": percent},
        title=f"{facts['experiment']}: the data of {facts['dataset']}",
        level=LEVELS[facts["level"]],
        measures=MEASURES,
        unreadable=UNREADABLE,
        signers=sorted({signer for of in facts["splits"].values() for signer in of["signers"]}),
        shown=lambda kept: min(kept, FRAMES_A_ROW),
        rows=[(row, image_uri(row.clip.id, row.png) if row.png else None) for row in checked.rows],
        side=run.experiment.frames.crop,
        **{key: facts[key] for key in ("splits", "findings", "keep_every")},
    )
    written = [page, write_atomic(run.folder / "data.json", json.dumps(facts, ensure_ascii=False, indent=2))]
    image = sheet(checked.rows)
    if image is not None:
        written.append(write_atomic(run.folder / "data.png", image))
    return written


def figure(value: float | None) -> str:
    """A number of a table: whole ones without decimals, a dash where there is none.

    >>> figure(116.61), figure(475.0), figure(None)
    ('116.6', '475', '–')
    """
    if value is None:
        return "–"
    return f"{value:.0f}" if value == int(value) else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def percent(share: float | None) -> str:
    """
    >>> percent(0.0132), percent(None)
    ('1.3 %', '–')
    """
    return "–" if share is None else f"{100 * share:.1f} %"


def _expectations(run: Run, settings: ScoreSettings, positions: int | None) -> Expectations:
    experiment, given = run.experiment, run.experiment.data.features is not None
    pools = [layer.pool for layer in experiment.encoder.temporal]
    limits = [] if given else [Limit("Light-T", experiment.train.stage1.light_t.positions, pools)]
    if positions is not None and not given:  # how features from elsewhere were sampled is not known here
        cached = [] if experiment.extract.features == "frame" else pools
        limits.append(Limit("the language model", positions, cached))
    entry, train = run.dataset.entry, experiment.train
    return Expectations(
        counts={str(split): n for split, n in entry.splits.items()},
        level=settings.level,
        lacking={str(split): n for split, n in entry.lacking.items()},
        keep_every=experiment.frames.keep_every,
        limits=limits,
        longest=train.stage2.max_length if given else min(train.stage2.max_length, train.stage1.max_length),
        dots_matter=settings.final_dot == "keep",
        frames_known=not given,
    )


def _positions(run: Run) -> tuple[int | None, list[Finding]]:
    """Of the language model, None where it has no limit; and a note where it is not at hand."""
    train = run.experiment.train
    if train.stage2.language_model == "lm":
        return train.lm.model.positions if train.lm else None, []
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(train.stage2.language_model, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError):
        what = f"clips compared with the positions of {train.stage2.language_model}, which is not at hand"
        return None, [Finding("note", "positions", None, 0, what)]
    return getattr(config, "max_position_embeddings", None), []


def _staleness(run: Run, index: Path | None) -> list[Finding]:
    """Whether the annotations have changed since the experiment's index was made."""
    from pipeline.stages.stage_list import stages

    if index is not None:
        return []
    _, state, why = next(run.states(stages(run.experiment)))
    if state != "stale":
        return []
    return [Finding("warning", "index", None, 1, f"clip index is stale ({why}): run `slt index` again")]


def _root(run: Run) -> Path | None:
    try:
        return run.dataset.root
    except InputError:
        return None


def _look(run: Run, root: Path | None, clips: Sequence[Clip], bars: Bars) -> list[Row]:
    """Rows of the contact sheet; none where the videos are not at hand."""
    rows: list[Row] = []
    if clips and root is not None:
        with bars.bar("reading clips", "clips") as tick:
            for row in read_rows(root, clips, run.experiment.frames, run.experiment.extract.read_seconds):
                rows.append(row)
                tick(len(rows), len(clips))
    return rows


def _unseen(drawn: Sequence[int], rows: Sequence[Row], root: Path | None) -> list[Finding]:
    """What the contact sheet lacks."""
    if drawn and root is None:
        return [Finding("note", "contact sheet", None, 0, "clips on the contact sheet: the dataset's root is not here")]
    unread = [ordinal for ordinal, row in zip(drawn, rows, strict=True) if row.problem is not None] if rows else []
    what = f"of {len(rows)} random clips cannot be read, though the index found nothing wrong"
    return [Finding("error", "unreadable now", None, len(unread), what, unread)] if unread else []


def _tables(
    splits: Mapping[str, SplitStatistics], expected: Mapping[str, int | None], keep_every: int
) -> dict[str, dict[str, Any]]:
    words = vocabularies(splits)
    return {
        name: {
            "expected": expected.get(name),
            "found": len(of),
            "unreadable": {kind: len(clips) for kind, clips in sorted(of.problems.items())},
            "vocabulary": dataclasses.asdict(words[name]),
            "characters": len(of.letters),
            "signers": {signer or "unknown": times for signer, times in sorted(of.signers.items(), key=_by_name)},
            "lengths": {
                measure: dataclasses.asdict(known) if (known := summary(of.column(measure, keep_every))) else None
                for measure in MEASURES
            },
        }
        for name, of in splits.items()
    }


def _by_name(signer: tuple[str | None, int]) -> str:
    return signer[0] or ""
