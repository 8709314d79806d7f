"""``report.html``: scores, published results, curves, examples and provenance, without network or script."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval import curve, table
from eval.html import png_uri, write_html
from eval.predictions import Prediction
from eval.published import PublishedRow
from eval.scores import ROW_LABELS, Score

MAX_EXAMPLES = 20


@dataclass(frozen=True)
class Example:
    """One clip's reference and what each system made of it."""

    id: str
    reference: str
    hypotheses: tuple[str | None, ...]
    """In the order of the systems; ``None`` = not among a system's predictions."""


def write_report(
    path: str | Path,
    *,
    title: str,
    scores: Mapping[str, Score],
    examples: Mapping[str, Sequence[Prediction]],
    provenance: Mapping[str, object],
    published_rows: Sequence[PublishedRow],
    images: Mapping[str, bytes],
    curves: Mapping[str, Sequence[tuple[float, float]]],
) -> Path:
    """Write the page atomically. A part without content is left out.

    Args:
        path: the HTML file.
        title: the page's title, for example dataset and split.
        scores: row name to score; ``stage2`` is compared with the published rows.
        examples: row name to predictions; ``MAX_EXAMPLES`` clips are shown, evenly spaced over those given.
        provenance: name to value; anything that is no plain scalar is shown as JSON.
        published_rows: other systems on the same dataset.
        images: caption to PNG file contents.
        curves: name to (step, value) pairs; each has axes of its own.

    Raises:
        InputError: an image that is not a PNG file.
    """
    return write_html(
        path,
        Path(__file__).with_name("report.html.j2"),
        {"two_decimals": table.two_decimals},
        title=title,
        metrics=table.METRICS,
        rows=[(label, table.values_of(entry), entry.n) for label, entry in table.ordered_rows(scores)],
        signatures=table.signatures(scores),
        control_note=table.control_note(scores),
        headline=scores.get("stage2"),
        headline_values=table.values_of(scores["stage2"]) if "stage2" in scores else (),
        published_rows=published_rows,
        comparison_note=table.COMPARISON_NOTE,
        systems=[ROW_LABELS.get(name, name) for name in examples],
        examples=choose_examples(examples),
        clips_given=len(_clips(examples)),
        curves=[curve.draw_curve(name, points) for name, points in curves.items()],
        frame=curve,
        images=[(caption, png_uri(caption, data)) for caption, data in images.items()],
        provenance=[(key, *_shown(value)) for key, value in provenance.items()],
    )


def choose_examples(examples: Mapping[str, Sequence[Prediction]], limit: int = MAX_EXAMPLES) -> list[Example]:
    """Up to ``limit`` clips, evenly spaced over all given, so that nobody picks the good ones."""
    references = _clips(examples)
    clips = list(references)
    if len(clips) > limit:
        clips = [clips[index * len(clips) // limit] for index in range(limit)]
    by_system = [{row.id: row.hypothesis for row in rows} for rows in examples.values()]
    return [Example(clip, references[clip], tuple(hypotheses.get(clip) for hypotheses in by_system)) for clip in clips]


def _clips(examples: Mapping[str, Sequence[Prediction]]) -> dict[str, str]:
    """Id to reference of every clip that any system has, in order of appearance."""
    return {row.id: row.reference for rows in examples.values() for row in rows}


def _shown(value: object) -> tuple[str, bool]:
    """A provenance value as text, and whether its line breaks matter."""
    if value is None or isinstance(value, str | int | float | bool | Path):
        return str(value), False
    return json.dumps(value, indent=2, ensure_ascii=False, default=str), True
