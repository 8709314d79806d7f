"""Files and folders that are either there in full or not at all."""

from __future__ import annotations

import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

UNFINISHED = ".partial"
"""How everything ends that is not in its place yet. Nothing reads it."""

REPLACED = "replaced"
"""A folder that makes room, until the new one is in its place."""


def write_atomic(path: str | Path, data: bytes | str, *, new: bool = False) -> Path:
    """Write ``data`` to ``path`` by way of a temporary file beside it; text in UTF-8; parent folders are made.

    A killed process leaves the earlier file, or none, and at worst the temporary file. Any number of processes may
    write the same file: it is always one's whole.

    Args:
        new: only where there is no file yet.

    Raises:
        FileExistsError: there is one, and it should be new.
        OSError: the folder cannot be written; the temporary file is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: it makes files that only their owner can read, and results are shared.
    temporary = path.with_name(f".{uuid.uuid4().hex}{UNFINISHED}")
    try:
        with temporary.open("xb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        if new:
            path.hardlink_to(temporary)
        else:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path of the same name, where nothing is yet, for a file or folder that takes the place of ``target`` when the
    block ends well; what was there before stays until then.

    It lies in a folder beside ``target``, which goes with the block, or, of a killed process, with the next one that
    replaces the same on that machine. A process replaces the same thing once at a time.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    here = f"{target.name}.{socket.gethostname()}-"
    for left in target.parent.glob("*" + UNFINISHED):
        process = left.name.removeprefix(here).removesuffix(UNFINISHED)
        # In a container, every process may have the same id.
        if process.isdecimal() and (int(process) == os.getpid() or not psutil.pid_exists(int(process))):
            if (left / REPLACED).is_dir() and not target.exists():  # killed between the two renames
                (left / REPLACED).rename(target)
            shutil.rmtree(left, ignore_errors=True)
    beside = target.with_name(f"{here}{os.getpid()}{UNFINISHED}")
    beside.mkdir()
    new, old = beside / target.name, beside / REPLACED
    try:
        yield new
        if new.is_file():
            with new.open("rb") as file:
                os.fsync(file.fileno())
        if target.is_dir():  # a folder cannot be renamed onto one that is not empty
            target.rename(old)
        try:
            new.replace(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    finally:
        shutil.rmtree(beside)
