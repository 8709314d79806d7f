"""A disk that takes no more, wherever in a command it shows: each library says it in its own way."""

from __future__ import annotations

import errno
from collections.abc import Iterator

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SAYINGS = ("no space left on device", "os error 28", "disk quota exceeded", "file too large", "inline_container")
"""Of libraries that pass no number on; torch says no more than where in its writer it stopped."""


def full_disk(error: BaseException) -> str | None:
    """One line that says so, where an error comes of it; None of other errors."""
    for one in _chain(error):
        if isinstance(one, OSError) and one.errno in _FULL:
            return f"{one.filename or 'a file'}: {one.strerror}. {_REMEDY}"
        if isinstance(one, Exception) and any(said in str(one).lower() for said in _SAYINGS):
            return f"{type(one).__name__}: {' '.join(str(one).split())[:200]}. {_REMEDY}"
    return None


_REMEDY = "Make room on the disk, or take another one with --out: the same command goes on from here."


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
