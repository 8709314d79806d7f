"""The files of a Zarr store, on disk or behind a URL, with calls that wait.

Zarr's stores are asynchronous, and it has no public way to wait for them. What is not an array goes straight to the
disk, or through fsspec. Keys are as in Zarr: names with slashes, relative to the store. What is absent is None, or
there is nothing to do.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore

from extract.atomic_write import write_atomic

_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_TIMES = ("LastModified", "updated", "last_modified", "mtime", "created")
"""What fsspec's file systems call the time of a file's last change: S3, Google, Azure, SFTP, memory."""


class LocalFiles:
    """In a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, key: str, data: bytes, *, new: bool = False) -> None:
        """Write a file atomically.

        Args:
            new: only where there is none.

        Raises:
            OSError: there is one, or the storage has no such write.
        """
        write_atomic(self.folder / key, data, new=new)

    def get(self, key: str) -> bytes | None:
        try:
            return (self.folder / key).read_bytes()
        except _ABSENT:
            return None

    def delete(self, key: str) -> None:
        (self.folder / key).unlink(missing_ok=True)

    def delete_folder(self, key: str) -> None:
        while (self.folder / key).exists():
            with contextlib.suppress(FileNotFoundError):  # another process deletes it too
                shutil.rmtree(self.folder / key)

    def names(self, key: str) -> list[str]:
        """Of what lies right under a folder."""
        try:
            return [path.name for path in (self.folder / key).iterdir()]
        except _ABSENT:
            return []

    def times(self, key: str) -> Iterator[float]:
        """When a file, or everything in a folder, was last written, in seconds since 1970."""
        for path in (self.folder / key, *(self.folder / key).rglob("*")):
            with contextlib.suppress(FileNotFoundError):  # renamed or removed since it was listed
                yield path.stat().st_mtime


class RemoteFiles:
    """As ``LocalFiles``, in an object store or what else fsspec knows."""

    def __init__(self, system: AbstractFileSystem, root: str) -> None:
        self.system, self.root = system, root

    def put(self, key: str, data: bytes, *, new: bool = False) -> None:
        self.system.pipe_file(f"{self.root}/{key}", data, mode="create" if new else "overwrite")

    def get(self, key: str) -> bytes | None:
        try:
            found: bytes = self.system.cat_file(f"{self.root}/{key}")
        except _ABSENT:
            return None
        return found

    def delete(self, key: str) -> None:
        with contextlib.suppress(*_ABSENT):
            self.system.rm(f"{self.root}/{key}")

    def delete_folder(self, key: str) -> None:
        with contextlib.suppress(*_ABSENT):
            self.system.rm(f"{self.root}/{key}", recursive=True)

    def names(self, key: str) -> list[str]:
        try:
            listed = self.system.ls(f"{self.root}/{key}", detail=False)
        except FileNotFoundError:
            return []
        return [path.rstrip("/").rpartition("/")[2] for path in listed]

    def times(self, key: str) -> Iterator[float]:
        for entry in self.system.find(f"{self.root}/{key}", detail=True).values():
            if (time := _time(entry)) is not None:
                yield time


def files_of(storage: Store) -> LocalFiles | RemoteFiles:
    """Those of a store that ``json_records.storage_at`` has opened."""
    if isinstance(storage, LocalStore):
        return LocalFiles(storage.root)
    assert isinstance(storage, FsspecStore)
    system = storage.fs
    if isinstance(system, AsyncFileSystemWrapper):
        return RemoteFiles(system.sync_fs, storage.path)
    # fsspec has it already, if this thread has asked before.
    waiting = type(system)(*system.storage_args, **{**system.storage_options, "asynchronous": False})
    return RemoteFiles(waiting, storage.path)


def _time(entry: Mapping[str, Any]) -> float | None:
    time: Any = next((entry[name] for name in _TIMES if entry.get(name) is not None), None)
    if time is None:
        return None
    return float(time.timestamp() if hasattr(time, "timestamp") else time)
