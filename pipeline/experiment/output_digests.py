"""What identifies the files that a stage left, so that one that was changed since is noticed before it is used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from extract.fingerprint import file_sha256

Digests = Mapping[str, tuple[int, int, str]]
"""By a file's name relative to the experiment's folder, absolute where it lies elsewhere: its size in bytes, the time
of its last change in nanoseconds, and its SHA-256."""

_REWRITTEN = "README.md"
"""A model's card, which gets its scores later."""


def digests(folder: Path, outputs: Iterable[Path | str]) -> dict[str, tuple[int, int, str]]:
    """Of a stage's outputs. Feature stores and frame packs are left out: they have digests of their own.

    Args:
        folder: of the experiment.
    """
    found = {}
    for path in sorted(file for output in outputs if isinstance(output, Path) for file in _files(output)):
        name = path.relative_to(folder) if path.is_relative_to(folder) else path
        told = path.stat()
        found[name.as_posix()] = (told.st_size, told.st_mtime_ns, file_sha256(path))
    return found


def first_changed(folder: Path, known: Digests, deep: bool = False) -> Path | None:
    """The first file that is gone or another than it was.

    Args:
        deep: read all of them; otherwise those alone whose size or time differs.
    """
    for name, (size, changed, sha256) in known.items():
        path = folder / name
        if not path.is_file() or (told := path.stat()).st_size != size:
            return path
        if (deep or told.st_mtime_ns != changed) and file_sha256(path) != sha256:
            return path
    return None


def _files(output: Path) -> Iterator[Path]:
    if output.is_file():
        yield output
    elif output.is_dir() and not (output / "commits").is_dir() and not (output / "zarr.json").is_file():
        for path in output.iterdir():
            if path.is_dir():
                yield from _files(path)
            elif path.name != _REWRITTEN:
                yield path
