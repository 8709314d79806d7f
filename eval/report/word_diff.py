"""Hypothesis against reference, word by word (or character by character), for people to read."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher

from eval.metrics.scored_text import tokens
from eval.settings import ScoreSettings


@dataclass(frozen=True)
class Part:
    """A run of tokens of one side."""

    text: str
    differs: bool
    """The other side does not have it there."""


def compare(reference: str, hypothesis: str, settings: ScoreSettings) -> tuple[list[Part], list[Part]]:
    """The two sides as runs that agree and runs that differ, in the text convention of the scores."""
    left, right = tokens(reference, settings), tokens(hypothesis, settings)
    gap = "" if settings.level == "char" else " "
    ours: list[Part] = []
    theirs: list[Part] = []
    # autojunk would overlook frequent words of long sentences.
    for change, a, b, c, d in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if a < b:
            ours.append(Part(gap.join(left[a:b]), change != "equal"))
        if c < d:
            theirs.append(Part(gap.join(right[c:d]), change != "equal"))
    return ours, theirs
