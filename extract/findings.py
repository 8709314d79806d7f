"""What is wrong or worth knowing about a dataset before anything is trained on it."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Literal

import numpy as np

from extract.statistics import TRAIN, Oddity, SplitStatistics, odd_rates, repeated, shared

Severity = Literal["error", "warning", "note"]

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
    """For people, with the count."""
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
    frames_known: bool = True
    """The clips' files were looked at."""


def findings(splits: Mapping[str, SplitStatistics], expected: Expectations) -> list[Finding]:
    """Everything found, errors before warnings before notes."""
    found = [
        *_counts(splits, expected.counts),
        *_unreadable(splits),
        *_leaks(splits),
        *_sources(splits),
        *_lengths(splits, expected),
        *_text(splits, expected),
        *_repetitions(splits),
        *_signers(splits),
    ]
    order = ("error", "warning", "note")
    return sorted(found, key=lambda finding: order.index(finding.severity))


def _counts(splits: Mapping[str, SplitStatistics], expected: Mapping[str, int | None]) -> Iterator[Finding]:
    for name in [*expected, *(name for name in splits if name not in expected)]:
        number = len(splits[name]) if name in splits else 0
        wanted = expected.get(name)
        if name not in expected:
            yield Finding("error", "count", name, number, f"{number} clips in a split that the manifest has not")
        elif number != wanted and (wanted is not None or not number):
            yield Finding(
                "error", "count", name, number, f"{number} clips, expected {'some' if wanted is None else wanted}"
            )


def _unreadable(splits: Mapping[str, SplitStatistics]) -> Iterator[Finding]:
    for name, of in splits.items():
        for kind, clips in sorted(of.problems.items()):
            yield Finding("error", "unreadable", name, len(clips), f"{len(clips)} clips cannot be read ({kind})", clips)


def _leaks(splits: Mapping[str, SplitStatistics]) -> Iterator[Finding]:
    for name in splits if TRAIN in splits else ():
        if name == TRAIN:
            continue
        verbatim = len(shared(splits, name, TRAIN, "sentence"))
        clips = shared(splits, name, TRAIN, "convention")
        if len(clips):
            more = f", {len(clips)} in the text convention" if len(clips) > verbatim else ""
            what = f"{verbatim} of {len(splits[name])} sentences stand verbatim in {TRAIN}{more}"
            yield Finding("warning", "leak", name, len(clips), what, clips.tolist())


def _sources(splits: Mapping[str, SplitStatistics]) -> Iterator[Finding]:
    for one, other in combinations(splits, 2):
        clips = shared(splits, other, one, "span")
        if len(clips):
            what = f"{len(clips)} clips have the source and times of a clip of {one}"
            yield Finding("warning", "source", other, len(clips), what, clips.tolist())
        recordings = np.setdiff1d(shared(splits, other, one, "source"), clips)
        if len(recordings):
            what = f"{len(recordings)} clips are other parts of recordings that {one} has clips of"
            yield Finding("note", "recording", other, len(recordings), what, recordings.tolist())


def _lengths(splits: Mapping[str, SplitStatistics], expected: Expectations) -> Iterator[Finding]:
    for name, of in splits.items():
        ordinals = np.asarray(of.ordinals)
        unknown = ordinals[np.asarray(of.frames) == 0]
        if len(unknown):
            severity: Severity = "warning" if expected.frames_known else "note"
            yield Finding(severity, "no frames", name, len(unknown), f"{len(unknown)} clips of which no frame is known",
                          unknown.tolist())  # fmt: skip
        for limit in expected.limits:
            steps = of.column("sampled", expected.keep_every)
            for pool in limit.pools:
                steps = np.ceil(steps / pool)
            clips = ordinals[steps > limit.positions]
            if len(clips):
                what = f"{len(clips)} clips have more than {limit.positions} steps, the positions of {limit.model}"
                yield Finding("warning", "too long", name, len(clips), what, clips.tolist())
        if expected.longest is not None and expected.level == "word":
            clips = ordinals[of.column("words") > expected.longest]
            if len(clips):
                what = f"{len(clips)} sentences have more words than a translation may have pieces, {expected.longest}"
                yield Finding("warning", "long sentence", name, len(clips), what, clips.tolist())
    unit = "words" if expected.level == "word" else "characters"
    for name, (median, clips) in odd_rates(splits).items():
        what = f"{len(clips)} clips have far more or fewer {unit} a second than the median, {median:.1f}"
        yield Finding("warning", "rate", name, len(clips), what, clips.tolist())


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
        what = f"sentences {'with' if fewer == 'dot' else 'without'} a final full stop, unlike the others"
        what += f" ({min(dots, without)} of {total} in all)"
        yield from _odd(splits, fewer, "warning" if expected.dots_matter else "note", "text: final dot", what)
    letters: Counter[str] = sum((of.letters for of in splits.values()), Counter())
    once = sorted(letter for letter, times in letters.items() if times == 1)
    if once:
        named = ", ".join(_named(letter) for letter in once[:_SHOWN_LETTERS])
        what = f"{len(once)} characters occur once: {named}{', …' if len(once) > _SHOWN_LETTERS else ''}"
        clips = sorted({of.letter_in[letter] for letter in once for of in splits.values() if letter in of.letter_in})
        # Where a character is a word it may well be rare.
        yield Finding("warning" if expected.level == "word" else "note", "text: once", None, len(once), what, clips)


def _repetitions(splits: Mapping[str, SplitStatistics]) -> Iterator[Finding]:
    for name, of in splits.items():
        sentences, clips = repeated(of, "sentence")
        if sentences:
            what = f"{sentences} sentences are those of several clips ({len(clips)} of {len(of)})"
            yield Finding("note", "repeated sentence", name, sentences, what, clips.tolist())
        spans, clips = repeated(of, "span")
        if spans:
            what = f"{spans} sources with the same times have several ids ({len(clips)} clips)"
            yield Finding("warning", "repeated source", name, spans, what, clips.tolist())


def _signers(splits: Mapping[str, SplitStatistics]) -> Iterator[Finding]:
    for name, of in splits.items():
        if name == TRAIN or TRAIN not in splits or set(of.signers) == {None}:
            continue
        seen = {signer for signer in of.signers if signer is not None and signer in splits[TRAIN].signers}
        known = {signer for signer in of.signers if signer is not None}
        clips = sum(times for signer, times in of.signers.items() if signer in known - seen)
        kind = (
            "signer-independent" if not seen else "signer-dependent" if seen == known else "partly signer-independent"
        )
        what = (
            f"{kind}: {len(seen)} of {len(known)} signers are in {TRAIN} too, {clips} of {len(of)} clips are of others"
        )
        yield Finding("note", "signers", name, clips, what)


def _odd(
    splits: Mapping[str, SplitStatistics], oddity: Oddity, severity: Severity, check: str, what: str
) -> Iterator[Finding]:
    for name, of in splits.items():
        if clips := of.oddities.get(oddity):
            yield Finding(severity, check, name, len(clips), f"{len(clips)} {what}", clips)


def _sum(splits: Mapping[str, SplitStatistics], oddity: Oddity) -> int:
    return sum(len(of.oddities.get(oddity, ())) for of in splits.values())


def _named(letter: str) -> str:
    shown = letter if letter.isprintable() else ""
    return f"{shown} U+{ord(letter):04X} {unicodedata.name(letter, '')}".strip()
