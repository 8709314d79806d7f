"""What is wrong or worth knowing about a dataset before anything is trained on it."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from extract.dataset.index_statistics import TRAIN, Oddity, SplitStatistics, odd_rates, repeated, shared

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

_FEW = 0.05
"""Capital letters in at most this share of the sentences are slips in a lower-case dataset."""
_SHOWN_LETTERS = 20
_ODD: dict[Oddity, tuple[Severity, str]] = {
    "empty": ("warning", "empty sentences"),
    "control": ("warning", "sentences with control, format or replacement characters"),
    "composition": ("warning", "sentences whose Unicode is not composed (NFC): ü as u and a mark is another word"),
    "spaces": ("note", "sentences with white space other than single spaces"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing found."""

    severity: Severity
    check: str
    """Its kind, for machines."""
    split: str | None
    """None: of all splits together."""
    count: int
    what: str
    """For people, after the count."""
    clips: Sequence[int] = ()
    """Ordinals of the clips concerned."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """The longest clip that a model can take."""

    model: str
    positions: int
    pools: Sequence[int] = ()
    """Strides of the pooling between sampled frames and the model, in order; incomplete windows count."""


@dataclasses.dataclass(frozen=True, slots=True)
class Expectations:
    """What a dataset and the settings lead one to expect."""

    counts: Mapping[str, int | None]
    """Clips per split; None: any number."""
    level: Literal["word", "char"]
    keep_every: int
    limits: Sequence[Limit] = ()
    longest: int | None = None
    """Pieces of a translation, at most."""
    dots_matter: bool = True
    """The convention keeps a final full stop."""
    lacking: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Clips per split that the release itself lacks."""
    frames_known: bool = True
    """The clips' files were looked at."""


def findings(splits: Mapping[str, SplitStatistics], expected: Expectations) -> list[Finding]:
    """Everything found, errors before warnings before notes."""
    found = [
        *_counts(splits, expected.counts),
        *_unreadable(splits, expected.lacking),
        *_leaks(splits),
        *_sources(splits),
        *_lengths(splits, expected),
        *_text(splits, expected),
        *_repetitions(splits),
        *_signers(splits),
    ]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def _counts(splits: Mapping[str, SplitStatistics], expected: Mapping[str, int | None]) -> Iterator[Finding]:
    for name in [*expected, *(name for name in splits if name not in expected)]:
        number, wanted = len(splits[name]) if name in splits else 0, expected.get(name)
        if name not in expected:
            yield Finding("error", "count", name, number, "clips in a split that the manifest does not have")
        elif number != wanted and (wanted is not None or not number):
            yield Finding(
                "error", "count", name, number, f"clips found, expected {'some' if wanted is None else wanted}"
            )


def _unreadable(splits: Mapping[str, SplitStatistics], lacking: Mapping[str, int]) -> Iterator[Finding]:
    for name, of in splits.items():
        for kind, clips in sorted(of.problems.items()):
            what, known = f"clips that cannot be read ({kind})", lacking.get(name, 0)
            if kind == "missing" and len(clips) <= known:
                yield Finding("note", "unreadable", name, len(clips), f"{what}; the release lacks {known}", clips)
            else:
                yield Finding("error", "unreadable", name, len(clips), what, clips)


def _leaks(splits: Mapping[str, SplitStatistics]) -> Iterator[Finding]:
    for name in splits if TRAIN in splits else ():
        if name == TRAIN:
            continue
        verbatim = shared(splits, name, TRAIN, "sentence")
        more = np.setdiff1d(shared(splits, name, TRAIN, "convention"), verbatim)
        yield from _of("warning", "leak", name, verbatim, f"sentences that stand verbatim in {TRAIN}")
        yield from _of("warning", "leak in convention", name, more,
                       f"more sentences that stand in {TRAIN} in the text convention of the scores")  # fmt: skip


def _sources(splits: Mapping[str, SplitStatistics]) -> Iterator[Finding]:
    for one, other in combinations(splits, 2):
        clips = shared(splits, other, one, "span")
        parts = np.setdiff1d(shared(splits, other, one, "source"), clips)
        yield from _of("warning", "source", other, clips, f"clips with the source and times of a clip of {one}")
        yield from _of("note", "recording", other, parts, f"clips that are other parts of a recording used in {one}")


def _lengths(splits: Mapping[str, SplitStatistics], expected: Expectations) -> Iterator[Finding]:
    for name, of in splits.items():
        ordinals = np.asarray(of.ordinals, dtype=np.int64)
        unknown = ordinals[np.asarray(of.frames, dtype=np.int64) == 0]
        yield from _of("warning" if expected.frames_known else "note", "no frames", name, unknown,
                       "clips of which no frame is known")  # fmt: skip
        for limit in expected.limits:
            steps = of.column("sampled", expected.keep_every)
            for pool in limit.pools:
                steps = np.ceil(steps / pool)
            yield from _of("warning", "too long", name, ordinals[steps > limit.positions],
                           f"clips of more steps than the {limit.positions} positions of {limit.model}")  # fmt: skip
        if expected.longest is not None and expected.level == "word":
            clips = ordinals[of.column("words") > expected.longest]
            yield from _of("warning", "long sentence", name, clips,
                           f"sentences of more words than the {expected.longest} pieces of a translation")  # fmt: skip
    unit = "words" if expected.level == "word" else "characters"
    for name, (median, clips) in odd_rates(splits).items():
        yield from _of("warning", "rate", name, clips,
                       f"clips with far more or fewer {unit} a second than the median, {median:.1f}")  # fmt: skip


def _text(splits: Mapping[str, SplitStatistics], expected: Expectations) -> Iterator[Finding]:
    total = sum(len(of) for of in splits.values())
    for oddity, (severity, what) in _ODD.items():
        yield from _odd(splits, oddity, severity, f"text: {oddity}", what)
    capitals = _sum(splits, "capitals")
    if capitals <= _FEW * total:
        what = f"sentences with capital letters in a lower-case dataset ({capitals} of {total} in all)"
        yield from _odd(splits, "capitals", "warning", "text: capitals", what)
    dots, without = _sum(splits, "dot"), _sum(splits, "no end")
    if dots and without:
        fewer: Oddity = "dot" if dots <= without else "no end"
        what = f"sentences {'with' if fewer == 'dot' else 'without'} a final full stop, unlike most"
        what += f" ({min(dots, without)} of {total} in all)"
        yield from _odd(splits, fewer, "warning" if expected.dots_matter else "note", "text: final dot", what)
    letters: Counter[str] = sum((of.letters for of in splits.values()), Counter())
    once = sorted(letter for letter, times in letters.items() if times == 1)
    if once:
        named = ", ".join(_named(letter) for letter in once[:_SHOWN_LETTERS])
        what = f"characters that occur once: {named}{', …' if len(once) > _SHOWN_LETTERS else ''}"
        clips = sorted({of.letter_in[letter] for letter in once for of in splits.values() if letter in of.letter_in})
        # Where a character is a word it may well be rare.
        yield Finding("warning" if expected.level == "word" else "note", "text: once", None, len(once), what, clips)


def _repetitions(splits: Mapping[str, SplitStatistics]) -> Iterator[Finding]:
    for name, of in splits.items():
        sentences, clips = repeated(of, "sentence")
        if sentences:
            what = f"sentences that several clips have, {len(clips)} of {len(of)}"
            yield Finding("note", "repeated sentence", name, sentences, what, clips.tolist())
        spans, clips = repeated(of, "span")
        if spans:
            what = f"sources with the same times that several ids have, {len(clips)}"
            yield Finding("warning", "repeated source", name, spans, what, clips.tolist())


def _signers(splits: Mapping[str, SplitStatistics]) -> Iterator[Finding]:
    for name, of in splits.items():
        known = {signer for signer in of.signers if signer is not None}
        if name == TRAIN or TRAIN not in splits or not known:
            continue
        seen = known & splits[TRAIN].signers.keys()
        clips = sum(of.signers[signer] for signer in known - seen)
        kind = (
            "signer-independent" if not seen else "signer-dependent" if seen == known else "partly signer-independent"
        )
        what = f"clips by signers that {TRAIN} does not have, {len(known - seen)} of {len(known)} signers: {kind}"
        yield Finding("note", "signers", name, clips, what)


def _of(severity: Severity, check: str, split: str, clips: NDArray[np.int64], what: str) -> Iterator[Finding]:
    if len(clips):
        yield Finding(severity, check, split, len(clips), what, clips.tolist())


def _odd(
    splits: Mapping[str, SplitStatistics], oddity: Oddity, severity: Severity, check: str, what: str
) -> Iterator[Finding]:
    for name, of in splits.items():
        if clips := of.oddities.get(oddity):
            yield Finding(severity, check, name, len(clips), what, clips)


def _sum(splits: Mapping[str, SplitStatistics], oddity: Oddity) -> int:
    return sum(len(of.oddities.get(oddity, ())) for of in splits.values())


def _named(letter: str) -> str:
    shown = letter if letter.isprintable() else ""
    return f"{shown} U+{ord(letter):04X} {unicodedata.name(letter, '')}".strip()
