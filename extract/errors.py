"""Errors that a person can act on: where it happened, what was expected, what was found, what to do.

Exit codes of the command line (``SltError.exit_code``): 0 complete, 2 wrong usage or input,
3 finished but some clips failed.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

SOME_FAILED = 3


class SltError(Exception):
    """Base of every error that the command line prints as one line instead of a traceback."""

    exit_code = 2


class InputError(SltError):
    """Something that the user gave is not what was expected.

    Args:
        where: file, and row or clip where there is one, e.g. ``dev.corpus.csv, row 12``.
        expected: what should have been there.
        found: what was there.
        remedy: what to do about it.
    """

    def __init__(self, where: object, *, expected: str, found: str, remedy: str) -> None:
        self.where, self.expected, self.found, self.remedy = str(where), expected, found, remedy
        super().__init__(f"{where}: expected {expected}, found {found}. {remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling, and errors travel between processes.
        return _rebuild, (type(self), self.where, self.expected, self.found, self.remedy)


def _rebuild(cls: type[InputError], where: str, expected: str, found: str, remedy: str) -> InputError:
    return cls(where, expected=expected, found=found, remedy=remedy)


def visible(text: str) -> str:
    """A text for a terminal or a cell of a table, in which names from files cannot move the cursor, change colours or
    turn what follows around: characters that are not printed stand as escapes. Line ends stay.

    >>> visible("clip\\x1b[2J"), visible("Wörter 😀")
    ('clip\\\\x1b[2J', 'Wörter 😀')
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def suggestion(wrong: str, known: Iterable[str]) -> str:
    """A remedy for a wrong name: the nearest known ones, or all of them.

    >>> suggestion("phoenix", ["phoenix14t", "how2sign"])
    "Did you mean 'phoenix14t'?"
    """
    known = sorted(known)
    near = difflib.get_close_matches(wrong, known, n=2, cutoff=0.6)
    if near:
        return "Did you mean " + " or ".join(repr(name) for name in near) + "?"
    return "Known: " + ", ".join(known) + "."


FAILURE_KINDS = ("decode", "empty", "too_short", "nonfinite", "missing", "timeout", "worker_crash")


class ClipError(SltError):
    """One clip cannot be used. Never stops a job: it is recorded with its kind and counted.

    Args:
        kind: one of ``FAILURE_KINDS``.
        detail: file and reason.
    """

    def __init__(self, kind: str, detail: str) -> None:
        self.kind, self.detail = kind, detail
        super().__init__(kind, detail)

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"
