"""Features out of a store, for other people's code: one HDF5 file, or a folder of ``.npy`` files.

Both hold one array per clip and say which store they come from. docs/feature-store.md describes them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from extract.atomic_write import replacing
from extract.errors import InputError
from extract.fingerprint import digest
from extract.settings import PLAIN
from extract.store.feature_store import FeatureStore

SCHEMA = "fla-slt features export 1"
MANIFEST = "manifest.json"

Format = Literal["hdf5", "npy"]

_FORMATS: dict[str, Format] = {"hdf5": "hdf5", "npy": "npy"}
_SUFFIXES: dict[str, Format] = {".h5": "hdf5", ".hdf5": "hdf5", ".hdf": "hdf5", ".npy": "npy", "": "npy"}

_Clip = tuple[str, NDArray[Any]]

# Rows that are in memory at once, about: 4096 of width 1024 in float32 are 16 MiB.
_ROWS = 4096

# What is a file name on every system, and does not begin like a hidden file.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,149}")


@dataclasses.dataclass(frozen=True, slots=True)
class Export:
    """What is in an export, or would be."""

    target: str
    format: Format
    view: str
    clips: int
    steps: int
    """Features over all clips."""
    other_views: list[str]
    """Views that the store has besides, which are not in the export."""
    failures: int
    """Clips that the store records as failed: they have no features and are not in the export."""
    width: int
    dtype: str
    fingerprint: str


def format_of(target: Path, chosen: str | None = None) -> Format:
    """The format by name, or by the target's suffix: ``.h5``, ``.hdf5`` or ``.hdf``; ``.npy`` or none for a folder.

    Raises:
        InputError: no such format, or a suffix that names none.
    """
    known = _FORMATS if chosen else _SUFFIXES
    wanted = chosen or target.suffix.lower()
    if wanted not in known:
        where, found = ("--format", repr(chosen)) if chosen else (str(target), f"the suffix {target.suffix!r}")
        raise InputError(where, expected="hdf5 or npy" if chosen else "a name that ends in .h5 or has no suffix",
                         found=found, remedy="Give --format hdf5 or --format npy.")  # fmt: skip
    return known[wanted]


def export_features(
    store: FeatureStore,
    target: Path,
    format: Format,
    *,
    view: str = PLAIN,
    force: bool = False,
    dry_run: bool = False,
    on_clip: Callable[[int, int], None] | None = None,
) -> Export:
    """Write all clips that a store has in a view to ``target``: in full, or not at all.

    Each clip is checked against its digest on the way. Some 16 MiB of features are in memory at a time.

    Args:
        force: replace an older export; anything else at ``target`` is never replaced.
        dry_run: check that it can be done, and write nothing.
        on_clip: called with clips written and clips in all.

    Raises:
        InputError: the store has no features of the view or is damaged, something is at ``target`` already, an id
            cannot be a name in HDF5, or the target cannot be written.
    """
    lengths = store.lengths(view)
    if not lengths:
        raise InputError(store.location, expected=f"features of the view {view!r}",
                         found=", ".join(store.views()) or "none",
                         remedy="Extract this split, or choose another view.")  # fmt: skip
    names = dataset_names(lengths) if format == "hdf5" else file_names(lengths)
    _require_free(target, format, force)
    if not dry_run:
        write = _write_hdf5 if format == "hdf5" else _write_npy
        try:
            with replacing(target) as new:
                clips = _told(_clips(store, view, lengths), len(lengths), on_clip)
                write(new, attributes_of(store, view), names, store.digests(view), clips)
                _require_free(target, format, force)  # it may have come into being meanwhile
        except (OSError, RuntimeError) as error:  # h5py raises either when a disk is full
            raise InputError(target, expected="a place to write", found=f"{type(error).__name__}: {error}",
                             remedy="Make room, or choose another target.") from error  # fmt: skip
    return Export(
        target=str(target),
        format=format,
        view=view,
        clips=len(lengths),
        steps=sum(lengths.values()),
        other_views=[name for name in store.views() if name != view],
        failures=len(store.failures()),
        width=store.width,
        dtype=str(store.dtype),
        fingerprint=store.fingerprint,
    )


def dataset_names(ids: Iterable[str]) -> dict[str, str]:
    """Each id as the name of its dataset: the id itself, in which HDF5 takes slashes for groups.

    Raises:
        InputError: HDF5 cannot hold an id as a name, or cannot tell it from another one.
    """
    ids = list(ids)
    groups = {id[:end] for id in ids for end, sign in enumerate(id) if sign == "/"}
    for id in ids:
        parts = id.split("/")
        if "" in parts or "." in parts or "\0" in id or id in groups or not _is_text(id):
            raise InputError(f"clip {id!r}", expected="an id that can be the name of a dataset in HDF5",
                             found="one that cannot, or that is also the folder of another clip",
                             remedy="Use --format npy, which takes any id.")  # fmt: skip
    return {id: id for id in ids}


def file_names(ids: Iterable[str]) -> dict[str, str]:
    """Each id's file name: ``<id>.npy``, or a digest where the id is no plain name, so that none leaves the folder."""
    ids = list(ids)
    # Two ids that differ in case only are one file on some systems.
    alike = Counter(id.casefold() for id in ids)
    return {
        id: f"{id}.npy" if _PLAIN.fullmatch(id) and alike[id.casefold()] == 1 else f"_{digest(id)[:32]}.npy"
        for id in ids
    }  # fmt: skip


def attributes_of(store: FeatureStore, view: str) -> dict[str, Any]:
    """What an export says of itself."""
    return {
        "schema": SCHEMA,
        "fingerprint": store.fingerprint,
        "provenance": store.provenance,
        "view": view,
        "width": store.width,
        "dtype": str(store.dtype),
    }


def _write_hdf5(
    path: Path, about: dict[str, Any], names: dict[str, str], digests: dict[str, str], clips: Iterable[_Clip]
) -> None:
    # Files of 1.10 and later: a small dataset costs a few hundred bytes and long attributes are possible.
    with h5py.File(path, "x", libver=("v110", "v110")) as file:
        for name, value in about.items():
            file.attrs[name] = json.dumps(value, sort_keys=True) if name == "provenance" else value
        for id, array in clips:
            file.create_dataset(names[id], data=array).attrs["sha256"] = digests[id]


def _write_npy(
    folder: Path, about: dict[str, Any], names: dict[str, str], digests: dict[str, str], clips: Iterable[_Clip]
) -> None:
    folder.mkdir()
    listed = []
    for id, array in clips:
        np.save(folder / names[id], array, allow_pickle=False)
        listed.append({"id": id, "file": names[id], "length": len(array), "sha256": digests[id]})
    manifest = json.dumps({**about, "clips": listed}, indent=1)
    (folder / MANIFEST).write_text(manifest + "\n", encoding="ascii")


def _clips(store: FeatureStore, view: str, lengths: dict[str, int]) -> Iterator[_Clip]:
    """Every clip and its (N, C) features, read some thousand rows at a time, in the order of the store's blocks."""
    waiting: list[str] = []
    rows = 0
    for position, (id, length) in enumerate(lengths.items(), start=1):
        waiting.append(id)
        rows += length
        if rows >= _ROWS or position == len(lengths):
            features = store.load(waiting, view)
            for i, one in enumerate(waiting):
                yield one, features.array[features.offsets[i] : features.offsets[i + 1]]
            waiting, rows = [], 0


def _told(clips: Iterable[_Clip], total: int, on_clip: Callable[[int, int], None] | None) -> Iterator[_Clip]:
    for done, clip in enumerate(clips, start=1):
        yield clip
        if on_clip:
            on_clip(done, total)


def _require_free(target: Path, format: Format, force: bool) -> None:
    if not os.path.lexists(target):
        return
    if not force:
        raise InputError(target, expected="nothing there yet", found="a file or folder",
                         remedy="Choose another target, or replace an older export with --force.")  # fmt: skip
    if target.is_symlink() or not _is_export(target, format):
        raise InputError(target, expected=f"an older export in {format}", found="something else",
                         remedy="--force replaces exports only: choose another target, or delete it.")  # fmt: skip


def _is_export(target: Path, format: Format) -> bool:
    try:
        if format == "npy":
            return bool(json.loads((target / MANIFEST).read_bytes())["schema"] == SCHEMA)
        with h5py.File(target, "r") as file:
            return bool(file.attrs["schema"] == SCHEMA)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _is_text(id: str) -> bool:
    try:
        id.encode()
    except UnicodeEncodeError:
        return False
    return True
