"""Frame packs: the frames of a split, encoded, in a few HDF5 files instead of a million small images.

As in the feature store, blocks are written beside and renamed, and a commit record that is written last makes each
visible. The layout is in docs/packs.md.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from extract.decoding.decoder_versions import decoder_versions
from extract.errors import InputError
from extract.fingerprint import canonical_json, describe, differences, file_sha256, fingerprint
from extract.key_set import Done, KeySet, key
from extract.packs.pack_file import REBUILD, SCHEMA, BlockFile, file_name, write_file
from extract.settings import PLAIN, FrameSettings, PackSettings
from extract.store import json_records
from extract.store.json_records import Failure, Sealed

_ATTRIBUTES = "pack.json"
_ANEW = "Restore it from a copy, or delete the folder and run `slt pack --force`."
_LATER = frozenset(["decoder", "keep_every", "crop", "mean", "std"])
"""Frame settings that come after the pack; and the decoder, which stands in it with its version."""


@dataclasses.dataclass(frozen=True, slots=True)
class PackCommit(Sealed):
    """The record that makes a block visible. Lists have one entry per clip."""

    block: str
    file: str
    """HDF5 file, e.g. ``blocks/<block>-<start of file_sha256>.h5``."""
    file_sha256: str
    index_sha256: str
    """Of the bytes of ``offsets`` and ``crc32``: what a reader checks before it believes them."""
    fingerprint: str
    """As the pack's."""
    clips: list[str]
    lengths: list[int]
    """Frames."""
    failures: list[str]
    """Ids of the block's clips that failed; their records stand under ``failures/``."""
    stored_bytes: int
    timings: dict[str, float]
    versions: dict[str, str]

    @classmethod
    def rebuild(cls) -> str:
        return REBUILD


class Place(NamedTuple):
    """Where a clip's frames lie."""

    commit: PackCommit
    start: int
    """Its first frame in the file."""
    length: int


def pack_provenance(frames: FrameSettings, settings: PackSettings) -> dict[str, Any]:
    """All that decides the pixels of a pack and which of them there are, as plain JSON values.

    Raises:
        InputError: PyAV is asked for and not installed.
    """
    lossy = {"codec": "jpeg", "quality": settings.quality}
    provenance = {
        "schema": SCHEMA,
        "frames": frames.model_dump(mode="json", exclude=set(_LATER)),
        "kept": "all" if settings.frames == "all" else f"1 of each {frames.keep_every}",
        "decoder": decoder_versions(frames.decoder),
        "pixels": {"codec": "lossless"} if settings.quality is None else lossy,
    }
    plain: dict[str, Any] = json.loads(canonical_json(provenance))
    return plain


class FramePack:
    """The pack of one split, in a folder.

    It sees the commits that were there when it first looked, and its own. Open again to see newer ones.
    """

    def __init__(self, folder: Path, attributes: Mapping[str, Any]) -> None:
        self.folder = folder
        self.fingerprint: str = attributes["fingerprint"]
        self.provenance: dict[str, Any] = attributes["provenance"]
        self._storage = json_records.storage_at(folder)

    @classmethod
    def open(cls, folder: Path) -> FramePack:
        """Open a pack that exists.

        Raises:
            InputError: no pack, one of another schema, or damaged attributes.
        """
        data = json_records.get(json_records.storage_at(folder), _ATTRIBUTES)
        if data is None:
            raise InputError(folder, expected="a frame pack", found="none", remedy="Run `slt pack`.")
        try:
            attributes = json.loads(data)
            schema, provenance = attributes["provenance"]["schema"], attributes["provenance"]
            whole = fingerprint(provenance) == attributes["fingerprint"]
        except (ValueError, KeyError, TypeError) as error:
            found = f"{len(data)} bytes that are none ({error})"
            raise json_records.damaged(f"{folder}/{_ATTRIBUTES}", found, _ANEW) from error
        if not whole or schema != SCHEMA:
            raise InputError(f"{folder}/{_ATTRIBUTES}", expected=f"{SCHEMA!r} as it was written",
                             found="a changed one" if schema == SCHEMA else repr(schema),
                             remedy=_ANEW)  # fmt: skip
        return cls(folder, attributes)

    @classmethod
    def create(cls, folder: Path, provenance: Mapping[str, Any]) -> FramePack:
        """Open the pack, after making an empty one where there is none.

        Raises:
            InputError: something else is there, or a pack that was made differently (what differs is named).
        """
        storage = json_records.storage_at(folder)
        if json_records.get(storage, _ATTRIBUTES) is None:
            if folder.exists() and any(folder.iterdir()):
                raise InputError(folder, expected="a frame pack or an empty folder", found="other files",
                                 remedy="Choose another pack.folder.")  # fmt: skip
            attributes = {"fingerprint": fingerprint(provenance), "provenance": dict(provenance)}
            json_records.put(storage.with_read_only(False), _ATTRIBUTES, canonical_json(attributes))
        pack = cls.open(folder)
        pack.require(provenance)
        return pack

    def require(self, provenance: Mapping[str, Any]) -> None:
        """Refuse a pack that was made differently.

        Raises:
            InputError: names the fields that differ.
        """
        if fingerprint(provenance) != self.fingerprint:
            changed = differences(provenance, self.provenance)
            raise InputError(
                self.folder, expected=f"a pack of {describe(provenance, changed)}",
                found=describe(self.provenance, changed),
                remedy="Run `slt pack` with these settings, or set pack.enabled to false to read the originals.",
            )  # fmt: skip

    def lengths(self) -> dict[str, int]:
        """Clips that are committed, and their numbers of frames."""
        return {id: place.length for id, place in self._places.items()}

    def place(self, id: str) -> Place | None:
        """Where a clip lies; None where it is not committed."""
        return self._places.get(id)

    def failures(self) -> dict[str, Failure]:
        """Clips that could not be packed; one that succeeded later is not among them."""
        found = dict(json_records.failures(self._storage, str(self.folder)))
        return {id: failure for id, failure in found.items() if id not in self._places}

    def done(self) -> Done:
        """What a packing job need not do."""
        committed = KeySet()
        committed.add([key(id, PLAIN) for id in self._places])
        failed: dict[str, KeySet] = defaultdict(KeySet)
        for id, failure in self.failures().items():
            failed[failure.kind].add([key(id)])
        return Done(committed, dict(failed))

    def forget_failures(self, ids: Iterable[str]) -> None:
        """Delete the failure records of these clips, so that they are wanted again."""
        for id in ids:
            json_records.delete(self._storage.with_read_only(False), json_records.failure_key(id))

    def write_block(
        self,
        block_id: str,
        clips: Sequence[tuple[str, Sequence[bytes]]],
        failures: Mapping[str, Failure] | None = None,
        timings: Mapping[str, float] | None = None,
        versions: Mapping[str, str] | None = None,
    ) -> None:
        """Write a block's failures, then its file, then its commit. Without clips there is no commit.

        Args:
            clips: id and encoded frames, at least one.

        Raises:
            ValueError: an id that occurs twice, or a clip without frames.
            InputError: the folder cannot be written.
        """
        if len({id for id, _ in clips}) < len(clips) or not all(frames for _, frames in clips):
            raise ValueError(f"block {block_id}: an id twice, or a clip without frames")
        storage = self._storage.with_read_only(False)
        for id, failure in (failures or {}).items():
            json_records.put_failure(storage, id, failure)
        if not clips:
            return
        with json_records.reaching(self._storage):
            encoded = [frame for _, frames in clips for frame in frames]
            file, file_sha256, index_sha256 = write_file(self.folder, block_id, encoded, self.fingerprint)
        commit = PackCommit(
            block=block_id,
            file=file,
            file_sha256=file_sha256,
            index_sha256=index_sha256,
            fingerprint=self.fingerprint,
            clips=[id for id, _ in clips],
            lengths=[len(frames) for _, frames in clips],
            failures=sorted(failures or {}),
            stored_bytes=(self.folder / file).stat().st_size,
            timings=dict(timings or {}),
            versions={"numpy": np.__version__, "h5py": h5py.__version__, **(versions or {})},
        )
        json_records.put(storage, f"commits/{block_id}.json", commit.to_json())
        self.refresh()

    def refresh(self) -> None:
        """See the commits that are there now, when they are next asked for."""
        self.__dict__.pop("_places", None)

    def commits(self) -> list[PackCommit]:
        """Every commit record, in the order of the file names, read anew.

        Raises:
            InputError: a record is damaged, or of a pack that was made differently.
        """
        return [self._parse(name, data) for name, data in json_records.each(self._storage, "commits")]

    def verify(self) -> list[str]:
        """Read and re-hash all that is committed: one line per problem, none when the pack is whole."""
        problems = []
        try:
            for _ in json_records.failures(self._storage, str(self.folder)):
                pass
        except InputError as error:
            problems.append(str(error))
        for name, data in json_records.each(self._storage, "commits"):
            try:
                commit = self._parse(name, data)
                if found := list(self._damaged(commit)):
                    problems += found
                elif file_sha256(self.folder / commit.file) != commit.file_sha256:
                    problems.append(str(json_records.damaged(str(self.folder / commit.file), "other bytes", REBUILD)))
            except InputError as error:
                problems.append(str(error))
        return problems

    def _damaged(self, commit: PackCommit) -> Iterator[str]:
        """The clips of a block with a frame that cannot be believed."""
        block = BlockFile(self.folder / commit.file, commit.index_sha256)
        try:
            for id, place in _placed(commit):
                try:
                    for frame in range(place.start, place.start + place.length):
                        _ = block[frame]
                except InputError as error:
                    yield f"clip {id}: {error}"
        finally:
            block.close()

    def clear_orphans(self, grace_seconds: float = 24 * 3600) -> list[str]:
        """Delete what killed runs left behind and no commit names, if it is older than that; returns the names."""
        cleared = []
        found = sorted((self.folder / "blocks").glob("*"))  # before the commits: one may be made in between
        committed = {commit.file for commit in self.commits()}
        for path in found:
            name = f"blocks/{path.name}"
            if name not in committed and time.time() - path.stat().st_mtime > grace_seconds:
                path.unlink(missing_ok=True)
                cleared.append(name)
        return cleared

    def _parse(self, key: str, data: bytes) -> PackCommit:
        commit = PackCommit.parse(f"{self.folder}/{key}", data)
        inside = commit.file == file_name(commit.block, commit.file_sha256) and "/" not in commit.block
        if commit.fingerprint != self.fingerprint or not inside:
            raise json_records.damaged(f"{self.folder}/{key}", f"a block of {commit.fingerprint[:12]}", REBUILD)
        return commit

    @functools.cached_property
    def _places(self) -> dict[str, Place]:
        places: dict[str, Place] = {}
        for commit in self.commits():
            for id, place in _placed(commit):
                places.setdefault(id, place)  # two jobs with other block sizes may both have packed a clip
        return places


def _placed(commit: PackCommit) -> Iterator[tuple[str, Place]]:
    start = 0
    for id, length in zip(commit.clips, commit.lengths, strict=True):
        yield id, Place(commit, start, length)
        start += length
