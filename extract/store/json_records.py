"""The JSON records of a feature store: attributes, commits and failures, beside the arrays in the same store.

Every put is atomic, on a local path (written beside and renamed) as in an object store: a reader finds the old record,
the new one or none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

from pydantic import TypeAdapter
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore

from extract.errors import InputError, SltError
from extract.fingerprint import SCHEMA, canonical_json, digest, fingerprint
from extract.store.waiting_files import files_of

_AT_ONCE = 32
"""Records that are fetched together. More would only cost memory: one of a merged block is a megabyte."""

REBUILD = "Restore it from a copy, or delete that block's commit record and run `slt extract` again."


_NAME = re.compile(r"[^./\\\0][^/\\\0]*")
"""Of a block and of its folder: one part of a path."""
_SHA256 = re.compile("[0-9a-f]{64}")
_WIDEST = 2**16
"""Numbers of a feature; published ones have up to 2048."""
_LONGEST = 2**24
"""Features of a clip, a week of video."""


class Failure(NamedTuple):
    """Why a clip has no features."""

    kind: str
    """One of ``extract.errors.FAILURE_KINDS``."""
    detail: str


class Place(NamedTuple):
    """Where a clip's features lie."""

    group: str
    start: int
    length: int
    sha256: bytes
    """Of the clip's values; 32 bytes, for a reader holds one per clip."""


class Sealed:
    """Base of dataclasses that are stored as JSON with a digest of themselves, so that a damaged one is never
    believed."""

    __slots__ = ()

    def to_json(self) -> bytes:
        """The record and its digest."""
        record = dataclasses.asdict(cast(Any, self))
        return canonical_json({**record, "sha256": digest(record)})

    @classmethod
    def parse(cls, where: str, data: bytes) -> Self:
        """
        Raises:
            InputError: truncated, changed, or of another layout.
        """
        try:
            record = json.loads(data)
            sha256 = record.pop("sha256")
            cls(**record)
            text = json.dumps(record, sort_keys=True, separators=(",", ":"))
            sealed = cast(Self, _adapter(cast(Any, cls)).validate_json(text, strict=True))
        except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
            found = " ".join(f"{len(data)} bytes that are no record: {error}".split())[:300]
            raise damaged(where, found, cls.rebuild()) from error
        # As `digest`, which first takes a value through JSON: this one comes from there.
        if hashlib.sha256(text.encode("ascii")).hexdigest() != sha256:
            raise damaged(where, "a record that was changed after it was written", cls.rebuild())
        if wrong := sealed.wrong():  # by whoever wrote it: a digest says only that it was not changed since
            raise damaged(where, wrong, cls.rebuild())
        return sealed

    def wrong(self) -> str | None:
        """What cannot be so, in a record of the right types."""
        return None

    @classmethod
    def rebuild(cls) -> str:
        """What to do about a damaged one."""
        return REBUILD


@dataclasses.dataclass(frozen=True, slots=True)
class Commit(Sealed):
    """The record that makes a block visible. Lists have one entry per clip."""

    block: str
    group: str
    """Folder of the try that counts, e.g. ``blocks/<block>-<attempt>``."""
    fingerprint: str
    """As the store's: features of another origin would be noticed here."""
    clips: list[str]
    views: list[str]
    """Which view of the clip; a clip of several views has as many entries."""
    lengths: list[int]
    digests: list[str]
    """SHA-256 of each clip's bytes: one a clip, not a block, so that a clip read at random is checked."""
    failures: list[str]
    """Ids of the block's clips that failed; their records stand under ``failures/``."""
    stored_bytes: int
    """Compressed size of the features."""
    timings: dict[str, float]
    versions: dict[str, str]

    def wrong(self) -> str | None:
        if not _NAME.fullmatch(self.block) or not self.group.startswith(f"blocks/{self.block}-"):
            return f"block {self.block!r} in {self.group!r}"
        if not _NAME.fullmatch(self.group.removeprefix("blocks/")):
            return f"a block outside of the store, {self.group!r}"
        if len({len(self.clips), len(self.views), len(self.lengths), len(self.digests)}) > 1:
            return "lists of other lengths than its clips"
        if not all(0 < length <= _LONGEST for length in self.lengths):
            return f"a clip of {min(self.lengths)} to {max(self.lengths)} features"
        return None if all(map(_SHA256.fullmatch, self.digests)) else "a digest that is none"

    def places(self) -> Iterator[tuple[str, str, Place]]:
        """Each entry's clip, view and place, in the order of the block's rows."""
        start = 0
        for id, view, length, sha256 in zip(self.clips, self.views, self.lengths, self.digests, strict=True):
            yield id, view, Place(self.group, start, length, bytes.fromhex(sha256))
            start += length


@functools.cache
def _adapter(cls: type) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def damaged(where: str, found: str, remedy: str = REBUILD) -> InputError:
    """The error of stored bytes that are not what was written."""
    return InputError(where, expected="what was written", found=found, remedy=remedy)


def failure_key(id: str) -> str:
    """Key of a clip's failure record: a digest, for an id can hold slashes or be too long for a file."""
    return f"failures/{digest(id)[:32]}.json"


def put_failure(storage: Store, id: str, failure: Failure) -> None:
    """Record why a clip has no features, over an older record of that clip."""
    put(storage, failure_key(id), canonical_json({"id": id, "kind": failure.kind, "detail": failure.detail}))


def failures(storage: Store, location: str) -> Iterator[tuple[str, Failure]]:
    """The clip's id and the failure of every record, read while they are asked for.

    Raises:
        InputError: a record is damaged.
    """
    for key, data in each(storage, "failures"):
        try:
            record = json.loads(data)
            found = record["id"], Failure(record["kind"], record["detail"])
            if not all(isinstance(value, str) for value in (found[0], *found[1])):
                raise TypeError("not a text")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{location}/{key}", expected="a failure record", found=f"{len(data)} bytes",
                             remedy="Delete it: the clip is then tried again.") from error  # fmt: skip
        yield found


def create(storage: Store, provenance: Mapping[str, Any], width: int, dtype: str) -> None:
    """Make the store's group, unless another process was faster: its attributes are never replaced.

    Of two jobs with different features that begin at once, one makes the store and the other is refused. So it is on
    disk, in S3 and Google's storage; services without conditional puts leave a gap of milliseconds.
    """
    attributes = {
        "schema": SCHEMA,
        "fingerprint": fingerprint(provenance),
        "provenance": dict(provenance),
        "width": width,
        "dtype": dtype,
    }
    group = json.dumps({"attributes": attributes, "zarr_format": 3, "node_type": "group"}, indent=2).encode()
    with reaching(storage):
        files = files_of(storage)
        try:
            files.put("zarr.json", group, new=True)
        except OSError:  # it is there, or there are no hard links here, or no space
            if files.get("zarr.json") is None:
                files.put("zarr.json", group)


def attributes(path: str | os.PathLike[str], storage: Store) -> dict[str, Any] | None:
    """The attributes of the store's group; None where nothing lies at ``path``.

    Raises:
        InputError: something else lies there, or a store of another schema, or the attributes are damaged.
    """
    data = get(storage, "zarr.json")
    if data is None:
        return None
    try:
        found: dict[str, Any] = json.loads(data)["attributes"]
        schema = found.get("schema")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(path, expected="a feature store", found=f"a zarr.json without attributes ({error})",
                         remedy=REBUILD) from error  # fmt: skip
    if schema != SCHEMA:
        raise InputError(path, expected=f"a feature store of schema {SCHEMA!r}", found=repr(schema),
                         remedy="It is something else, or of another version: use a new store.")  # fmt: skip
    whole = (
        type(found.get("width")) is int
        and 0 < found["width"] <= _WIDEST
        and found.get("dtype") in ("float16", "float32")
        and isinstance(found.get("provenance"), dict)
        and fingerprint(found["provenance"]) == found.get("fingerprint")
    )
    if not whole:
        raise InputError(path, expected="attributes as they were written", found="changed ones",
                         remedy="Restore zarr.json from a copy, or extract into a new store.")  # fmt: skip
    return found


def storage_at(path: str | os.PathLike[str]) -> Store:
    """Zarr's read-only view of a local path, or of a URL with ``://`` that fsspec knows.

    Raises:
        InputError: fsspec does not know such URLs, or what it needs for them is not installed.
    """
    location = os.fspath(path)
    if "://" not in location:
        return LocalStore(Path(location), read_only=True)
    # No listing is kept: fsspec shares them in a process, and other processes commit meanwhile.
    options: dict[str, Any] = {"use_listings_cache": False}
    if location.startswith(("s3://", "s3a://")):
        options["max_concurrency"] = 1  # of the parts of one object; above 1, s3fs asks for each object's size first
    try:
        return FsspecStore.from_url(location, storage_options=options, read_only=True)
    except (ImportError, ValueError) as error:
        raise InputError(location, expected="a URL that can be opened", found=_one_line(error),
                         remedy="Check it; s3:// needs `pip install 'fla-slt[s3]'`.") from error  # fmt: skip


@contextlib.contextmanager
def reaching(storage: Store) -> Iterator[None]:
    """Turns the errors of a disk or an object store that cannot be used into one line.

    Raises:
        InputError: no such bucket, no credentials or permission, no answer, no space.
    """
    try:
        yield
    except SltError:
        raise
    except Exception as error:  # each object store's library has errors of its own, without a common base
        if isinstance(storage, FsspecStore):
            protocol = storage.fs.protocol if isinstance(storage.fs.protocol, str) else storage.fs.protocol[0]
            where = f"{protocol}://{storage.path.strip('/')}"
            remedy = "Check bucket, credentials and, where it is not Amazon's, AWS_ENDPOINT_URL."
        elif isinstance(error, OSError):
            where, remedy = str(storage).removeprefix("file://"), "Check its permissions, and the space that is left."
        else:
            raise
        raise InputError(where, expected="a feature store that can be reached", found=_one_line(error),
                         remedy=remedy) from error  # fmt: skip


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def put(storage: Store, key: str, data: bytes) -> None:
    """Write one record atomically, over an older one if there is one."""
    with reaching(storage):
        files_of(storage).put(key, data)


def get(storage: Store, key: str) -> bytes | None:
    """One record, or None where there is none."""
    with reaching(storage):
        return files_of(storage).get(key)


def delete(storage: Store, key: str) -> None:
    """Remove one record; none where there is none."""
    with reaching(storage):
        files_of(storage).delete(key)


def delete_folder(storage: Store, folder: str) -> None:
    """Remove all that lies under ``folder``, which may be nothing."""
    with reaching(storage):
        files_of(storage).delete_folder(folder)


def names(storage: Store, folder: str) -> list[str]:
    """Names right under ``folder``, sorted; none where there is no such folder."""
    with reaching(storage):
        return sorted(files_of(storage).names(folder))


def each(storage: Store, folder: str, again: bool = True) -> Iterator[tuple[str, bytes]]:
    """Every ``.json`` record of ``folder`` with its key, fetched a few at a time while they are asked for.

    Those that were there at the first step come in the order of their keys. When one of them is deleted meanwhile, what
    took its place, a merged block of another name, comes after them.

    Args:
        again: look again for what took a deleted one's place; without, it is only left out.
    """
    asked: set[str] = set()
    read = files_of(storage).get
    gone = True
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while gone:
            gone = False
            listed = (f"{folder}/{name}" for name in names(storage, folder) if name.endswith(".json"))
            keys = [key for key in listed if key not in asked]
            asked.update(keys)  # once each: what is listed and cannot be read, a dangling link say, must not keep us
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                with reaching(storage):
                    found = list(pool.map(read, some))
                for key, data in zip(some, found, strict=True):
                    if data is None:
                        gone = again
                    else:
                        yield key, data
