"""Features that others computed, into a feature store: checked in full first, then written block by block."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import InputError
from extract.fingerprint import SCHEMA, digest
from extract.store import block_arrays, json_records
from extract.store.feature_store import FeatureStore
from extract.store.import_sources import Source

# Rows of a block, about: 4096 of width 1024 in float32 are 16 MiB.
_BLOCK_ROWS = 4096

Tick = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Import:
    """What was imported, or would be."""

    store: str
    source: str
    format: str
    view: str
    sha256: str
    """Of the source."""
    clips: int
    """In the source."""
    imported: int
    """Of those, the ones that the store did not have."""
    steps: int
    width: int
    dtype: str
    fingerprint: str | None
    """Of the store; None when nothing was written and there is no store yet."""


def import_features(
    source: Source,
    store_path: str,
    name: str,
    *,
    dtype: str | None = None,
    drop_prefix: str = "",
    view: str | None = None,
    dry_run: bool = False,
    on_clip: Tick | None = None,
) -> Import:
    """Put the clips of a source into a feature store that says where they come from.

    The source is read twice: everything in it is checked before anything is written. May be killed at any moment;
    the next call goes on from there, and one more does nothing. A store may be filled from several sources.

    Args:
        name: of the extractor that computed the features. It is part of the fingerprint: features of two names
            are never mixed.
        dtype: ``float16`` or ``float32``; default: the source's if it is one of them, else ``float32``.
        drop_prefix: what every id of the source begins with and the clip index does not have, e.g. ``train/``.
        view: that the features are of; default: what an export says, else the plain one.
        dry_run: check only.
        on_clip: called with clips read and clips to read; those that are imported are read twice.

    Raises:
        InputError: an array that is empty, of another width, not finite or not as its export says; an id that is
            empty or twice; a store of other features, or of other values for a clip; something else at the path.
    """
    ids = _ids(source, drop_prefix)
    if not name.strip():
        raise InputError("--name", expected="the name of the extractor", found=repr(name),
                         remedy="For example --name i3d-bsl1k.")  # fmt: skip
    chosen = np.dtype(dtype or _common_dtype(source))
    width = source.read(next(iter(source.clips))).shape[1]
    provenance = {"schema": SCHEMA, "origin": "imported", "name": name, "format": source.format, "width": width,
                  "dtype": str(chosen)}  # fmt: skip
    if source.exported:  # what the name is to ensure, an export of a store knows
        provenance["exported"] = source.exported
    view = view or source.view
    present = _digests_at(store_path, provenance, view)
    wanted = [id for id in ids if id not in present]
    to_read = len(ids) + (0 if dry_run else len(wanted))

    def told(read: int) -> None:
        if on_clip:
            on_clip(read, to_read)

    digests, steps = _check(source, ids, chosen, width, present, told)
    sha256 = source.sha256()
    store = None
    if not dry_run:
        store = FeatureStore.create(store_path, provenance, width, str(chosen))
        versions = {"numpy": np.__version__, "source": source.path.name, "source sha256": sha256}
        done = len(ids)
        for block in _blocks(source, {id: ids[id] for id in wanted}, chosen, width):
            for id, array in block:
                if block_arrays.sha256(array) != digests[id]:
                    raise InputError(source.where(ids[id]), expected="the values that were checked", found="others",
                                     remedy="It was changed meanwhile: import it again when it is whole.")  # fmt: skip
            block_id = digest([[id for id, _ in block], [view]])[:32]
            store.write_block(block_id, block, versions=versions, views=[view] * len(block))
            done += len(block)
            told(done)
    return Import(
        store=store_path,
        source=str(source.path),
        format=source.format,
        view=view,
        sha256=sha256,
        clips=len(ids),
        imported=len(wanted),
        steps=steps,
        width=width,
        dtype=str(chosen),
        fingerprint=store.fingerprint if store is not None else None,
    )


def _ids(source: Source, prefix: str) -> dict[str, str]:
    """Every id in the store, and in the source."""
    expected = f"an id that begins with {prefix!r}" if prefix else "an id"
    remedy = "Check --drop-prefix." if prefix else "Give the clip a name."
    for id in source.clips:
        if not id.startswith(prefix) or id == prefix:
            raise InputError(source.where(id), expected=expected, found=repr(id), remedy=remedy)
    return {id.removeprefix(prefix): id for id in source.clips}


def _common_dtype(source: Source) -> str:
    found = {str(source.dtype(id)) for id in source.clips}
    return "float16" if found == {"float16"} else "float32"


def _digests_at(path: str, provenance: Mapping[str, Any], view: str) -> dict[str, str]:
    """Digests of the clips that the store has in this view already; none where there is no store yet."""
    local = None if "://" in path else Path(path)
    storage = json_records.storage_at(path)
    if json_records.attributes(path, storage) is not None:
        store = FeatureStore.open(path)
        store.require(provenance)
        return store.digests(view)
    if local and local.exists() and not (local.is_dir() and not any(local.iterdir())):
        raise InputError(path, expected="a feature store, or nothing yet", found="something else",
                         remedy="Choose another path for the store.")  # fmt: skip
    return {}


def _check(
    source: Source, ids: Mapping[str, str], dtype: np.dtype[Any], width: int, present: Mapping[str, str],
    told: Callable[[int], None],
) -> tuple[dict[str, str], int]:  # fmt: skip
    """Digests of all clips in the store's dtype, and the number of their steps."""
    digests, steps = {}, 0
    for done, (id, theirs) in enumerate(ids.items(), start=1):
        array = _features(source, theirs, dtype, width)
        digests[id] = block_arrays.sha256(array)
        steps += len(array)
        if present.get(id, digests[id]) != digests[id]:
            raise InputError(source.where(theirs), expected="the features that the store has of it", found="others",
                             remedy="Import into a new store.")  # fmt: skip
        told(done)
    return digests, steps


def _features(source: Source, id: str, dtype: np.dtype[Any], width: int) -> NDArray[Any]:
    """(N, C) features of a clip as the store takes them."""
    found = source.read(id)
    if id in source.digests and block_arrays.sha256(found) != source.digests[id]:
        raise InputError(source.where(id), expected="the values that were exported", found="others",
                         remedy="It is damaged: export it again.")  # fmt: skip
    if not len(found) or found.shape[1] != width or not width:
        raise InputError(source.where(id), expected=f"at least one feature, of width {width or 1}",
                         found=f"shape {found.shape}", remedy="Leave the clip out, or mend it.")  # fmt: skip
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused below
        array = found.astype(dtype)
    wrong = int((~np.isfinite(array)).sum())
    if wrong:
        remedy = "Leave the clip out, or mend it."
        if np.isfinite(found).all():
            remedy = "Import with --dtype float32."
        raise InputError(source.where(id), expected="finite values", found=f"{wrong} that are not, in {dtype}",
                         remedy=remedy)  # fmt: skip
    return array


def _blocks(
    source: Source, ids: Mapping[str, str], dtype: np.dtype[Any], width: int
) -> Iterator[list[tuple[str, NDArray[Any]]]]:
    """The clips in blocks of some thousand rows; one block is in memory at a time."""
    block: list[tuple[str, NDArray[Any]]] = []
    rows = 0
    for id, theirs in ids.items():
        block.append((id, _features(source, theirs, dtype, width)))
        rows += len(block[-1][1])
        if rows >= _BLOCK_ROWS:
            yield block
            block, rows = [], 0
    if block:
        yield block
