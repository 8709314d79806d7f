"""``report.html``: scores, published results, curves, a gallery of clips and provenance, in one file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from eval.metrics.scored_text import tokens
from eval.predictions.prediction_file import Prediction
from eval.report.charts import WIDTH, Chart, Value, draw_dots, draw_histogram
from eval.report.gallery import KINDS, Card, Strip, cards
from eval.report.self_contained_html import render_html, script_source
from eval.results import result_tables
from eval.results.scores import ROW_LABELS, Score
from eval.results.slices import Slices
from eval.results.table_formats import Sheet, is_numeric
from eval.settings import ReportSettings, ScoreSettings
from extract.atomic_write import write_atomic

if TYPE_CHECKING:
    from eval.translation.cross_attention import Attention

SYSTEMS = ("stage2", "stage1", "joint")
"""Rows that are systems, not controls: the one that the gallery is chosen by first."""
PARTS = {"scores": ("scores", "grounding", "comparison"), "published": ("published",), "slices": ("slices", "words")}
"""Which tables stand in which part of the page."""
NAMES = {"scores": "Scores", "published": "Published results", "slices": "Slices"}
HERE = Path(__file__).parent
_PLAYER = 800
"""Bytes of a player's markup, about."""


@dataclass(frozen=True)
class Content:
    """All that the report shows; a part without content is left out."""

    title: str
    scores: Mapping[str, Score] = field(default_factory=dict)
    sheets: Sequence[Sheet] = ()
    """Their tables: scores and what is compared with them, published results, slices."""
    slices: Slices | None = None
    predictions: Mapping[str, Sequence[Prediction]] = field(default_factory=dict)
    """Row name to predictions of the whole split; the first row is the one that the gallery is chosen by."""
    settings: ReportSettings = field(default_factory=ReportSettings)
    scoring: ScoreSettings = field(default_factory=ScoreSettings)
    curves: Sequence[Chart] = ()
    dominance: Sequence[Chart] = ()
    strips: Mapping[str, Strip] = field(default_factory=dict)
    attentions: Mapping[str, Attention] = field(default_factory=dict)
    signers: Mapping[str, str] = field(default_factory=dict)
    """By clip id, these three."""
    provenance: Mapping[str, object] = field(default_factory=dict)
    """Name to value; anything that is no plain scalar is shown as JSON."""


def write_report(path: str | Path, content: Content) -> Path:
    """Write the page atomically, within ``content.settings.megabytes``: frames are left out where it would be larger,
    from the end of the gallery on, then sentences.

    Raises:
        InputError: a strip that is neither PNG nor WebP.
    """
    gallery = cards(
        {ROW_LABELS.get(name, name): rows for name, rows in content.predictions.items()},
        content.settings,
        content.scoring,
        strips=content.strips,
        attentions=content.attentions,
        signers=content.signers,
    )
    budget = int(content.settings.megabytes * 1e6)
    charts = {
        "intervals": _intervals(content.scores), "slices": _slices(content), "curves": content.curves,
        "dominance": content.dominance, "histograms": _histograms(content),
    }  # fmt: skip
    page = _render(content, gallery, charts)
    while len(page) > budget and gallery:
        page = _render(content, gallery := _lighter(gallery, len(page) - budget), charts)
    return write_atomic(path, page)


def _lighter(gallery: Sequence[Card], excess: int) -> list[Card]:
    """The gallery without as many frames as the excess takes, in bytes; without any, with a tenth fewer clips."""
    lighter = list(gallery)
    for place in range(len(lighter) - 1, -1, -1):
        if excess > 0 and (uri := lighter[place].uri):
            lighter[place] = replace(lighter[place], strip=None, uri=None, thumbnails=())
            excess -= len(uri) + _PLAYER
    return lighter if any(card.strip for card in gallery) else lighter[: len(lighter) * 9 // 10]


def _render(content: Content, gallery: Sequence[Card], charts: Mapping[str, Sequence[Chart]]) -> bytes:
    script = (HERE / "gallery.js").read_text(encoding="utf-8")
    name, main = next(iter(content.predictions.items()), ("", ()))
    return render_html(
        HERE / "report.html.j2",
        {"two_decimals": result_tables.two_decimals, "numeric": is_numeric},
        title=content.title,
        sections=_sections(content, gallery),
        script=script,
        script_source=script_source(script),
        headline=_headline(content),
        sheets={part: [sheet for sheet in content.sheets if sheet.name in names] for part, names in PARTS.items()},
        charts=charts,
        chart_width=WIDTH,
        cards=gallery,
        joint="" if content.scoring.level == "char" else " ",
        any_strip=any(card.strip for card in gallery),
        any_attention=any(card.attention for card in gallery),
        kinds=[kind for kind in KINDS if any(kind in card.kinds for card in gallery)],
        main=ROW_LABELS.get(name, name),
        clips=len(main),
        provenance=[(key, *_shown(value)) for key, value in content.provenance.items()],
    )


def _headline(content: Content) -> list[tuple[str, str, str]]:
    """Name, value and interval of the figures that stand first, of the main system."""
    name = next(iter(content.predictions), "stage2")
    if name not in content.scores:
        return []
    entry = content.scores[name]
    shown = [
        (label, result_tables.two_decimals(getattr(entry, metric)), result_tables.spread(entry.intervals.get(metric)))
        for metric, label in (("bleu4", "BLEU-4"), ("rouge", "ROUGE-L"), ("chrf", "chrF"))
    ]
    return [(label, value, "" if bounds == "–" else bounds) for label, value, bounds in shown]


def _intervals(scores: Mapping[str, Score]) -> list[Chart]:
    """BLEU-4 and ROUGE-L of every row with their intervals, where there are intervals."""
    if not any(entry.intervals for entry in scores.values()):
        return []
    rows = result_tables.ordered_rows(scores)
    return _drawn(
        draw_dots(
            f"{label}, 95 % intervals",
            [Value(row, getattr(entry, metric), entry.intervals.get(metric)) for row, entry in rows],
        )
        for metric, label in (("bleu4", "BLEU-4"), ("rouge", "ROUGE-L"))
    )


def _slices(content: Content) -> list[Chart]:
    """BLEU-4 of the main system by slice, and recall of words by how often train has them."""
    found = content.slices.systems.get(next(iter(content.predictions), "")) if content.slices else None
    if found is None:
        return []
    by_kind = [
        draw_dots(
            f"BLEU-4 by {kind}", [Value(part.label, part.bleu4, part.intervals.get("bleu4"), part.n) for part in parts]
        )
        for kind, parts in found.slices.items()
    ]
    recalls = [Value(part.label, part.recall, n=part.n) for part in found.words.by_frequency]
    return _drawn([*by_kind, draw_dots("recall of words in %, by occurrences in train", recalls)])


def _drawn(charts: Iterable[Chart | None]) -> list[Chart]:
    return [chart for chart in charts if chart is not None]


def _sections(content: Content, gallery: Sequence[Card]) -> list[tuple[str, str]]:
    """Anchors and names of the parts that there are, in their order."""
    parts = {
        **{
            (part, name): [sheet for sheet in content.sheets if sheet.name in PARTS[part]]
            for part, name in NAMES.items()
        },
        ("curves", "Training curves"): content.curves,
        ("dominance", "Dominance"): content.dominance,
        ("lengths", "Lengths"): gallery,
        ("clips", "Clips"): gallery,
        ("provenance", "Provenance"): content.provenance,
    }
    return [part for part, given in parts.items() if given]


def _histograms(content: Content) -> list[Chart]:
    """Lengths of the split: of clips, and of what was said in them."""
    if not content.predictions:
        return []
    (name, main), scoring = next(iter(content.predictions.items())), content.scoring
    unit = "characters" if scoring.level == "char" else "words"
    return _drawn([
        draw_histogram("clip length in frames", {"clips": [row.n_frames for row in main if row.n_frames]}),
        draw_histogram(
            f"sentence length in {unit}",
            {
                "reference": [len(tokens(row.reference, scoring)) for row in main],
                ROW_LABELS.get(name, name): [len(tokens(row.hypothesis, scoring)) for row in main],
            },
        ),
    ])  # fmt: skip


def _shown(value: object) -> tuple[str, bool]:
    """A provenance value as text, and whether its line breaks matter."""
    if value is None or isinstance(value, str | int | float | bool | Path):
        return str(value), False
    return json.dumps(value, indent=2, ensure_ascii=False, default=str), True
