"""The gallery: the best, the worst and random clips, each with its sentences, its frames and what was looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eval.metrics.rouge import sentence_rouge_l
from eval.metrics.scored_text import tokens
from eval.predictions.prediction_file import Prediction
from eval.report.self_contained_html import image_uri
from eval.report.word_diff import Part, compare
from eval.settings import ReportSettings, ScoreSettings

if TYPE_CHECKING:
    from eval.translation.cross_attention import Attention

KINDS = ("best", "worst", "random")
THUMBNAILS = 10


@dataclass(frozen=True)
class Strip:
    """Frames of a clip as the encoder saw them, side by side in one picture."""

    image: bytes
    """A WebP or PNG file of ``shown`` squares."""
    shown: int
    sampled: int
    """Frames that the encoder saw; of more than can be shown, evenly spaced ones are."""
    per_second: float
    """Of the frames shown, at the speed of the clip."""


@dataclass(frozen=True)
class Line:
    """What one system made of a clip."""

    system: str
    parts: tuple[Part, ...] | None
    """``None``: the clip is not among its predictions; empty: it said nothing."""


@dataclass(frozen=True)
class Card:
    """One clip."""

    id: str
    reference: tuple[Part, ...]
    """Marked where the main system's hypothesis lacks it."""
    lines: tuple[Line, ...]
    """The main system first."""
    rouge: float
    """Sentence ROUGE-L of the main system, x100."""
    kinds: tuple[str, ...] = ()
    signer: str | None = None
    strip: Strip | None = None
    uri: str | None = None
    """The strip as an address that holds it."""
    attention: Attention | None = None
    heat: str | None = None
    """The attention as an address that holds its picture, one pixel per weight."""
    thumbnails: tuple[int, ...] = ()
    """Frames of the strip that stand below the time axis, evenly spaced."""


def choose(
    predictions: Sequence[Prediction], settings: ReportSettings, scoring: ScoreSettings
) -> dict[str, tuple[str, ...]]:
    """Clips to be shown with their frames, and why: ``best``, ``worst`` or ``random``, or several of them.

    By sentence ROUGE-L; of equals, the longer reference is the better example for both ends. In the order of the
    gallery: from the best on, random ones between, to the worst.
    """
    ends = min(settings.clips, len(predictions) // 2)
    measured = [(_rouge(row, scoring), len(tokens(row.reference, scoring)), row.id) for row in predictions]
    best = [id for *_, id in sorted(measured, key=lambda row: (-row[0], -row[1], row[2]))][:ends]
    others = [row for row in measured if row[2] not in best]  # where scores are equal, a clip is not both
    worst = [id for *_, id in sorted(others, key=lambda row: (row[0], -row[1], row[2]))][:ends]
    number = min(settings.clips, len(measured))
    drawn = np.random.default_rng([settings.seed, 0x47616C]).choice(len(measured), size=number, replace=False)
    random = [predictions[place].id for place in sorted(drawn.tolist())]
    of = {"best": best, "worst": worst, "random": random}
    order = [*best, *(id for id in random if id not in {*best, *worst}), *reversed(worst)]
    return {id: tuple(kind for kind in KINDS if id in of[kind]) for id in order}


def cards(
    predictions: Mapping[str, Sequence[Prediction]],
    settings: ReportSettings,
    scoring: ScoreSettings,
    *,
    strips: Mapping[str, Strip],
    attentions: Mapping[str, Attention],
    signers: Mapping[str, str],
) -> list[Card]:
    """The chosen clips, then the others in their order, as many as may be searched.

    Args:
        predictions: system to its rows, the main system first.
        strips, attentions, signers: by clip id, where there are any.

    Raises:
        InputError: a strip that is neither PNG nor WebP.
    """
    main = next(iter(predictions.values()), ())
    chosen = choose(main, settings, scoring)
    rows = {row.id: row for row in main}
    rest = [id for id in rows if id not in chosen]
    found = {system: {row.id: row.hypothesis for row in given} for system, given in predictions.items()}
    made: list[Card] = []
    for id in [*chosen, *rest[: max(0, settings.sentences - len(chosen))]]:
        row, strip, attention = rows[id], strips.get(id), attentions.get(id)
        reference, _ = compare(row.reference, row.hypothesis, scoring)
        made.append(
            Card(
                id,
                tuple(reference),
                tuple(_line(system, row.reference, given.get(id), scoring) for system, given in found.items()),
                100 * _rouge(row, scoring),
                chosen.get(id, ()),
                signers.get(id),
                strip,
                image_uri(f"frames of clip {id!r}", strip.image) if strip else None,
                attention,
                image_uri(f"attention of clip {id!r}", attention.png) if attention else None,
                _evenly(strip.shown) if strip else (),
            )
        )
    return made


def _line(system: str, reference: str, hypothesis: str | None, scoring: ScoreSettings) -> Line:
    return Line(system, None if hypothesis is None else tuple(compare(reference, hypothesis, scoring)[1]))


def _rouge(row: Prediction, scoring: ScoreSettings) -> float:
    return sentence_rouge_l(tokens(row.hypothesis, scoring), tokens(row.reference, scoring), beta=scoring.beta)


def _evenly(shown: int) -> tuple[int, ...]:
    """Middle frames of as many equal spans of time as there are thumbnails, or all frames where they are fewer."""
    number = min(shown, THUMBNAILS)
    return tuple(int((place + 0.5) * shown / number) for place in range(number))
