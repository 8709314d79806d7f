"""The feature store: one Zarr v3 group per split, written block by block, read through commit records only.

Every try at a block writes a folder of its own, and the commit names the one that counts: a killed try leaves
an orphan that no reader sees, and two processes at the same block cannot mix their rows. The layout is in
docs/feature-store.md.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store

from extract.errors import InputError
from extract.fingerprint import describe, differences, fingerprint
from extract.key_set import KeySet, key
from extract.settings import PLAIN
from extract.store import block_arrays, json_records
from extract.store.block_reading import load_places
from extract.store.json_records import Commit, Failure, Place

if TYPE_CHECKING:
    from torch.utils.data import Dataset


@dataclasses.dataclass(frozen=True, slots=True)
class Features:
    """Features of some clips, one after the other."""

    ids: list[str]
    array: NDArray[Any]
    """(sum of lengths, C) in the store's dtype."""
    offsets: NDArray[np.int64]
    """(n + 1,): clip ``i`` is ``array[offsets[i]:offsets[i + 1]]``."""


class FeatureStore:
    """A store on disk (a path) or elsewhere (a URL that fsspec knows, such as ``s3://bucket/train.zarr``).

    It sees the commits that were there when it first looked, and its own. Open again to see newer ones.
    """

    def __init__(self, location: str, storage: Store, attributes: Mapping[str, Any]) -> None:
        self.location = location
        self.fingerprint: str = attributes["fingerprint"]
        self.provenance: dict[str, Any] = attributes["provenance"]
        self.width: int = attributes["width"]
        self.dtype: np.dtype[Any] = np.dtype(attributes["dtype"])
        self.storage = storage
        """Read-only: reading never creates anything."""
        self.reader = block_arrays.Reader(storage)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> FeatureStore:
        """Open a store that exists.

        Raises:
            InputError: no store, one of another schema, or damaged attributes.
        """
        storage = json_records.storage_at(path)
        attributes = json_records.attributes(path, storage)
        if attributes is None:
            raise InputError(path, expected="a feature store", found="none", remedy="Run `slt extract`.")
        return cls(os.fspath(path), storage, attributes)

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], provenance: Mapping[str, Any], width: int, dtype: str
    ) -> FeatureStore:
        """Open the store, after making an empty one where there is none.

        Raises:
            InputError: something else is there, or a store of another fingerprint (what differs is named).
        """
        storage = json_records.storage_at(path)
        if json_records.attributes(path, storage) is None:
            json_records.create(storage.with_read_only(False), provenance, width, dtype)
        store = cls.open(path)  # as it lies there now: another process may have been faster
        store.require(provenance)
        return store

    def __len__(self) -> int:
        """Clips that have features."""
        return len(self._places.get(PLAIN, {}))

    def __contains__(self, id: object) -> bool:
        return id in self._places.get(PLAIN, {})

    def __iter__(self) -> Iterator[str]:
        """Ids of the clips that have features."""
        return iter(self.lengths())

    def __repr__(self) -> str:
        about = f"{len(self)} clips, width {self.width}, {self.dtype}, fingerprint {self.fingerprint[:12]}"
        return f"<feature store {self.location}: {about}>"

    def torch_dataset(self, view: str = PLAIN) -> Dataset[dict[str, Any]]:
        """The clips as a dataset of torch: items with ``id`` and ``features``, a (steps, C) tensor."""
        from extract.store.torch_features import TorchFeatures  # torch is not needed to read a store

        return TorchFeatures(self, view)

    def require(self, wanted: str | Mapping[str, Any]) -> None:
        """Refuse features that were made differently.

        Args:
            wanted: a fingerprint, or a provenance, with which the message can name what differs.

        Raises:
            InputError: the store has another fingerprint.
        """
        name = wanted if isinstance(wanted, str) else fingerprint(wanted)
        if name == self.fingerprint:
            return
        expected, found = f"fingerprint {name[:12]}", f"fingerprint {self.fingerprint[:12]}"
        if not isinstance(wanted, str):
            changed = differences(wanted, self.provenance)
            expected, found = describe(wanted, changed), describe(self.provenance, changed)
        raise InputError(
            self.location, expected=f"features of {expected}", found=found,
            remedy="They are never mixed: use another store, or delete this one and extract anew.",
        )  # fmt: skip

    def views(self) -> list[str]:
        """Names of the views that are committed of at least one clip, the plain one first."""
        return sorted(self._places, key=plain_first)

    def lengths(self, view: str = PLAIN) -> dict[str, int]:
        """Clips that are committed in this view, and their numbers of features."""
        return {id: place.length for id, place in self._places.get(view, {}).items()}

    def digests(self, view: str = PLAIN) -> dict[str, str]:
        """SHA-256 of the features of each clip that is committed in this view (``block_arrays.sha256``)."""
        return {id: place.sha256.hex() for id, place in self._places.get(view, {}).items()}

    def failures(self) -> dict[str, Failure]:
        """Clips that could not be extracted; one that succeeded later is not among them."""
        found = dict(json_records.failures(self.storage, self.location))
        if found and "_places" not in self.__dict__:
            for commit in self.stream():
                for id, view in zip(commit.clips, commit.views, strict=True):
                    if view == PLAIN:
                        found.pop(id, None)
            return found
        return {id: failure for id, failure in found.items() if self.place(id) is None}

    def load(self, ids: Sequence[str] | None = None, view: str = PLAIN) -> Features:
        """Features of ``ids`` in that order, or of all committed clips; each is checked against its digest.

        Raises:
            InputError: an id is absent in this view, or stored bytes are missing or changed.
        """
        chosen = list(self._places.get(view, {}) if ids is None else ids)
        places = [self._placed(id, view) for id in chosen]
        offsets = np.cumsum([0, *(place.length for place in places)], dtype=np.int64)
        array = np.empty((int(offsets[-1]), self.width), self.dtype)
        while True:
            try:
                load_places(self.reader, self.location, chosen, places, array)
            except InputError:
                self.refresh()
                before, places = places, [self._placed(id, view) for id in chosen]
                if places == before:
                    raise  # else another process merged the blocks
            else:
                return Features(chosen, array, offsets)

    def __getitem__(self, id: str) -> NDArray[Any]:
        """(N, C) features of one clip, checked. Errors as ``load``."""
        return self.load([id]).array

    def write_block(
        self,
        block_id: str,
        clips: Sequence[tuple[str, NDArray[Any]]],
        failures: Mapping[str, Failure] | None = None,
        timings: Mapping[str, float] | None = None,
        versions: Mapping[str, str] | None = None,
        views: Sequence[str] | None = None,
    ) -> None:
        """Write a block's failures, then its features, then its commit. Without features there is no commit.

        Args:
            clips: id and (N, C) array in the store's dtype, N at least 1.
            timings: seconds, by what they were spent on; for the record.
            versions: of libraries, and the device that computed; for the record.
            views: the view of each entry; None: the plain one of all.

        Raises:
            ValueError: an array of another shape or dtype, or an id that occurs twice in a view.
        """
        for id, array in clips:
            if array.dtype != self.dtype or array.ndim != 2 or array.shape[1] != self.width or not len(array):
                raise ValueError(f"{id}: {array.dtype} {array.shape}, not {self.dtype} (N, {self.width})")
        ids = [id for id, _ in clips]
        views = [PLAIN] * len(ids) if views is None else list(views)
        if len(set(zip(ids, views, strict=True))) < len(ids):
            raise ValueError(f"block {block_id}: an id occurs twice")
        for id, failure in (failures or {}).items():
            json_records.put_failure(self.writable, id, failure)
        if clips:
            self.commit(
                block_id,
                np.concatenate([array for _, array in clips]),
                ids=ids,
                views=views,
                lengths=[len(array) for _, array in clips],
                failures=sorted(failures or {}),
                timings=timings or {},
                versions={"numpy": np.__version__, "zarr": zarr.__version__, **(versions or {})},
            )

    def commit(
        self,
        block_id: str,
        array: NDArray[Any],
        *,
        ids: list[str],
        views: list[str],
        lengths: list[int],
        failures: list[str],
        timings: Mapping[str, float],
        versions: Mapping[str, str],
    ) -> None:
        """Write the arrays of a block, then the record that makes it visible.

        Args:
            array: (sum of lengths, C) in the store's dtype; the other arguments as in ``Commit``.
        """
        group, size = block_arrays.write(self.writable, block_id, array, lengths)
        ends = np.cumsum(lengths)
        commit = Commit(
            block=block_id,
            group=group,
            fingerprint=self.fingerprint,
            clips=ids,
            views=views,
            lengths=lengths,
            digests=[block_arrays.sha256(array[end - length : end]) for end, length in zip(ends, lengths, strict=True)],
            failures=failures,
            stored_bytes=size,
            timings=dict(timings),
            versions=dict(versions),
        )
        json_records.put(self.writable, f"commits/{block_id}.json", commit.to_json())
        self.refresh()

    @property
    def writable(self) -> Store:
        """Zarr's view of the store that can write."""
        return self.storage.with_read_only(False)

    def refresh(self) -> None:
        """See the commits that are there now, when they are next asked for."""
        self.__dict__.pop("_places", None)

    def forget_failures(self, ids: Iterable[str]) -> None:
        """Delete the failure records of these clips, so that they are wanted again."""
        for id in ids:
            json_records.delete(self.writable, json_records.failure_key(id))

    def groups(self) -> list[str]:
        """The folders of all tries at blocks, committed or not."""
        return [f"blocks/{name}" for name in json_records.names(self.storage, "blocks") if name != "zarr.json"]

    @functools.cached_property
    def _places(self) -> dict[str, dict[str, Place]]:
        """By view, then by id."""
        # Two jobs with other block sizes may both have extracted a clip, and a merged block is there before its parts
        # are gone: the first one counts, which is never deleted by who compacts.
        places: dict[str, dict[str, Place]] = defaultdict(dict)
        for commit in self.stream():
            for id, view, place in commit.places():
                places[view].setdefault(id, place)
        return dict(places)

    def commits(self) -> list[Commit]:
        """Every commit record, in the order of the file names, read anew. Errors as ``stream``."""
        return list(self.stream())

    def stream(self, again: bool = True) -> Iterator[Commit]:
        """As ``commits``, read a few at a time while they are asked for; ``again`` as in ``json_records.each``.

        Raises:
            InputError: a record is damaged, or of features that were made differently.
        """
        for name, data in json_records.each(self.storage, "commits", again):
            yield self.parse(name, data)

    def entries(self, again: bool = True) -> Iterator[tuple[Commit, list[tuple[str, str, Place]]]]:
        """As ``stream``, each with those of its clips, views and places that count: of a clip that is in two
        commits, the first one's."""
        seen = KeySet()
        for commit in self.stream(again):
            entries = list(commit.places())
            yield commit, list(compress(entries, seen.add([key(id, view) for id, view, _ in entries])))

    def has_commit(self, commit: Commit) -> bool:
        """Whether this very record is there now."""
        name = f"commits/{commit.block}.json"
        data = json_records.get(self.storage, name)
        return data is not None and self.parse(name, data) == commit

    def parse(self, name: str, data: bytes) -> Commit:
        """The commit record of a key. Errors as ``stream``."""
        commit = Commit.parse(f"{self.location}/{name}", data)
        if commit.fingerprint != self.fingerprint:
            found = f"features of fingerprint {commit.fingerprint[:12]}"
            raise json_records.damaged(f"{self.location}/{name}", found)
        return commit

    def place(self, id: str, view: str = PLAIN) -> Place | None:
        """Where a view of a clip lies; None where it is not committed."""
        return self._places.get(view, {}).get(id)

    def _placed(self, id: str, view: str) -> Place:
        place = self.place(id, view)
        if place is None:
            failure = self.failures().get(id)
            found = f"a failure ({failure.kind}: {failure.detail})" if failure else "none"
            raise InputError(f"{self.location}, clip {id}", expected=f"features of the view {view!r}", found=found,
                             remedy="Extract it, or check the id.")  # fmt: skip
        return place


def plain_first(view: str) -> tuple[bool, str]:
    """The order in which views are named."""
    return view != PLAIN, view
