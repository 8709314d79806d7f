"""Features that others computed, clip by clip: from HDF5, from a folder of ``.npy`` files, from a pickled list.

Opening one reads names and sizes only, except for a pickle, which can only be read as a whole. Nothing in a source is
ever executed, and nothing outside of it is read.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from extract.errors import InputError
from extract.fingerprint import digest, file_sha256, fingerprint
from extract.settings import PLAIN
from extract.store.exports import MANIFEST, SCHEMA

# No clip has features of a gibibyte: a file that declares more is made to fill the memory.
_CLIP_BYTES = 2**30

_FILTERS = frozenset(
    {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF}
)

_BROKEN = "It is truncated or damaged: fetch or export it again."


class Source(ABC):
    """Features of some clips.

    Args:
        path: file or folder.
        format: ``hdf5``, ``npy`` or ``pickle``.
        clips: every clip's id and where it lies in the source.
        about: attributes of an export of this project; empty where somebody else wrote it.
        digests: SHA-256 of the clips' values, where the source states them.
    """

    format = ""

    def __init__(
        self, path: Path, clips: Mapping[str, Any], about: Mapping[str, Any], digests: Mapping[str, str]
    ) -> None:
        self.path, self.clips, self.digests = path, clips, digests
        self.exported: str | None = _fingerprint(path, about) if about else None
        """Fingerprint of the features, where an export of this project says it."""
        self.view = str(about.get("view", PLAIN))

    @abstractmethod
    def dtype(self, id: str) -> np.dtype[Any]:
        """Of a clip's features, in the byte order of this machine; floating-point."""

    @abstractmethod
    def read(self, id: str) -> NDArray[Any]:
        """(N, C) features of a clip as they are in the source: not yet looked at, N may be 0.

        Raises:
            InputError: not two-dimensional, not floating-point, or damaged.
        """

    def sha256(self) -> str:
        """Of the file; of a folder, over the names and digests of the files that were read."""
        return file_sha256(self.path)

    def where(self, id: str) -> str:
        return f"{self.path}, clip {id!r}"

    def _checked(self, id: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        if len(shape) != 2 or dtype.kind != "f":
            raise InputError(self.where(id), expected="a floating-point array of shape (steps, width)",
                             found=f"{dtype} of shape {shape}", remedy="Leave it out or convert it.")  # fmt: skip
        if shape[0] * shape[1] * dtype.itemsize > _CLIP_BYTES:
            raise InputError(self.where(id), expected=f"at most {_CLIP_BYTES >> 20} MiB", found=f"shape {shape}",
                             remedy="That is no clip: leave it out.")  # fmt: skip

    def _broken(self, id: str, error: Exception) -> InputError:
        return InputError(self.where(id), expected="an array", found=f"{type(error).__name__}: {error}", remedy=_BROKEN)


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open a source of any of the three kinds; which one it is, its first bytes say and not its name.

    Raises:
        InputError: nothing there, none of the three, no clips, an id twice, or an export that was changed.
    """
    with ExitStack() as stack:
        if path.is_dir():
            source: Source = _npy(path)
        elif not path.is_file():
            raise InputError(path, expected="a file or folder with features", found="none", remedy="Check the path.")
        elif h5py.is_hdf5(path):
            try:
                file = stack.enter_context(h5py.File(path, "r"))
                source = _hdf5(path, file)
            except (OSError, RuntimeError, ValueError, KeyError) as error:
                raise InputError(path, expected="an HDF5 file", found=str(error), remedy=_BROKEN) from error
        else:
            source = _pickled(path)
        if not source.clips:
            raise InputError(path, expected="features of clips", found="none",
                             remedy="A folder has <id>.npy right in it, a file one dataset per clip.")  # fmt: skip
        yield source


class _Hdf5(Source):
    format = "hdf5"

    def dtype(self, id: str) -> np.dtype[Any]:
        native: np.dtype[Any] = self._dataset(id).dtype.newbyteorder("=")
        return native

    def read(self, id: str) -> NDArray[Any]:
        dataset = self._dataset(id)
        try:
            return np.asarray(dataset[()])
        except (OSError, RuntimeError, ValueError, MemoryError) as error:
            raise self._broken(id, error) from error

    def _dataset(self, id: str) -> h5py.Dataset:
        # Opened for one reading only: HDF5 keeps a buffer of 64 KiB for each that is open.
        try:
            dataset = self.clips[id][id]
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise self._broken(id, error) from error
        self._checked(id, dataset.shape or (), dataset.dtype)
        chunk = math.prod(dataset.chunks or (0,)) * dataset.dtype.itemsize
        made = dataset.id.get_create_plist()
        filters = {made.get_filter(number)[0] for number in range(made.get_nfilters())}
        if chunk > _CLIP_BYTES or filters - _FILTERS:  # others are code that HDF5 loads when it meets them
            found = f"chunks {dataset.chunks}" if chunk > _CLIP_BYTES else f"the filters {sorted(filters)} of HDF5"
            raise InputError(self.where(id), expected=f"chunks of at most {_CLIP_BYTES >> 20} MiB; gzip, lzf or none",
                             found=found, remedy="Write it anew with h5py or h5repack.")  # fmt: skip
        if dataset.is_virtual or dataset.external:
            raise InputError(self.where(id), expected="values in this file", found="a reference to another file",
                             remedy="Copy the features into one file with h5repack or h5py.")  # fmt: skip
        return dataset


def _hdf5(path: Path, file: h5py.File) -> Source:
    clips: dict[str, Any] = {}
    digests = {}

    def visit(name: str, link: Any) -> str | None:
        """The name of a link that leads elsewhere, which ends the visit; h5py survives no error here."""
        if not isinstance(link, h5py.HardLink):
            return name
        found = file[name]
        if isinstance(found, h5py.Dataset):
            clips[name] = file
            if "sha256" in found.attrs:
                digests[name] = str(found.attrs["sha256"])
        return None

    link = file.visititems_links(visit)
    if link is not None:
        raise InputError(f"{path}, {link}", expected="a dataset", found="a link to another place",
                         remedy="Copy the features into one file without links.")  # fmt: skip
    about = dict(file.attrs) if _is_ours(file.attrs.get("schema")) else {}
    return _Hdf5(path, clips, about, digests if about else {})


class _Npy(Source):
    format = "npy"

    def dtype(self, id: str) -> np.dtype[Any]:
        return self._mapped(id).dtype.newbyteorder("=")

    def read(self, id: str) -> NDArray[Any]:
        return np.array(self._mapped(id))

    def sha256(self) -> str:
        names = sorted({path.name for path in self.clips.values()})
        return digest([[name, file_sha256(self.path / name)] for name in names])

    def _mapped(self, id: str) -> NDArray[Any]:
        # Mapped and not read: a file cannot declare more values than it has, and a header costs no reading.
        try:
            array = np.load(self.clips[id], mmap_mode="r", allow_pickle=False)
            if not isinstance(array, np.ndarray):
                raise ValueError("an archive of several arrays")
        except (OSError, ValueError, EOFError, OverflowError, MemoryError) as error:
            raise self._broken(id, error) from error
        self._checked(id, array.shape, array.dtype)
        return array


def _npy(folder: Path) -> Source:
    present = {path.name: path for path in sorted(folder.glob("[!.]*.npy")) if path.is_file()}
    about = _manifest(folder)
    if not about:
        return _Npy(folder, {name.removesuffix(".npy"): path for name, path in present.items()}, {}, {})
    clips, digests = {}, {}
    try:
        for entry in about["clips"]:
            id, name = entry["id"], entry["file"]
            if not isinstance(id, str):
                raise TypeError(f"an id that is {type(id).__name__}")
            if name not in present:  # which also keeps it from naming a file elsewhere
                raise InputError(f"{folder}, clip {id!r}", expected=f"the file {name!r} of the manifest", found="none",
                                 remedy=_BROKEN)  # fmt: skip
            if id in clips:
                raise _twice(folder, id)
            clips[id], digests[id] = present.pop(name), entry["sha256"]
    except (KeyError, TypeError, AttributeError) as error:
        found = f"{type(error).__name__}: {error}"
        raise InputError(
            folder / MANIFEST, expected="the manifest of an export", found=found, remedy=_BROKEN
        ) from error
    if present:
        raise InputError(folder, expected="the files of its manifest only", found=f"{next(iter(present))!r} besides",
                         remedy="Remove it, or delete the manifest to import every <id>.npy.")  # fmt: skip
    return _Npy(folder, clips, about, digests)


def _manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an export of this project; empty where there is none."""
    try:
        found = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}  # another program's file
    return found if isinstance(found, dict) and _is_ours(found.get("schema")) else {}


class _Pickled(Source):
    format = "pickle"

    def dtype(self, id: str) -> np.dtype[Any]:
        return self.read(id).dtype.newbyteorder("=")

    def read(self, id: str) -> NDArray[Any]:
        try:
            array: NDArray[Any] = self.clips[id].array()
        except ValueError as error:
            raise self._broken(id, error) from error
        self._checked(id, array.shape, array.dtype)
        return array


def _pickled(path: Path) -> Source:
    from extract.safe_pickle import Lazy, read_pickle  # the one reader that is not needed for the others

    with path.open("rb") as file:
        if file.read(2) not in (b"\x1f\x8b", *(bytes([0x80, protocol]) for protocol in range(2, 6))):
            raise InputError(path, expected="HDF5, a folder of .npy files or a gzip-packed pickle",
                             found="none of them", remedy="Convert it to one of these: see docs.")  # fmt: skip
    listed = read_pickle(path)
    if not isinstance(listed, list):
        raise InputError(path, expected="a list of clips", found=f"a {type(listed).__name__}",
                         remedy="The file is a pickled list of dicts with `name` and `sign`.")  # fmt: skip
    clips: dict[str, Any] = {}
    for position, entry in enumerate(listed):
        name, sign = (entry.get("name"), entry.get("sign")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(sign, Lazy):
            raise InputError(f"{path}, clip {position}", expected="a dict with a text `name` and an array `sign`",
                             found=f"{type(entry).__name__}, {type(name).__name__} and {type(sign).__name__}",
                             remedy="The file is a pickled list of such dicts.")  # fmt: skip
        if name in clips:
            raise _twice(path, name)
        clips[name] = sign
    return _Pickled(path, clips, {}, {})


def _is_ours(schema: Any) -> bool:
    """Whether it is one of this project, of whatever version; other programs have attributes of that name too."""
    return isinstance(schema, str) and schema.startswith(SCHEMA.rstrip("0123456789"))


def _twice(path: Path, id: str) -> InputError:
    return InputError(path, expected="every clip once", found=f"{id!r} twice", remedy="Remove one of the two.")


def _fingerprint(path: Path, about: Mapping[str, Any]) -> str:
    """What an export says it holds.

    Raises:
        InputError: another version's, or its provenance is not the one of its fingerprint.
    """
    if about.get("schema") != SCHEMA:
        raise InputError(path, expected=f"an export of schema {SCHEMA!r}", found=repr(about.get("schema")),
                         remedy="It is of another version: export it again.")  # fmt: skip
    stated = about.get("fingerprint")
    try:
        provenance = about.get("provenance")
        provenance = json.loads(provenance) if isinstance(provenance, str) else provenance
        whole = isinstance(provenance, dict) and fingerprint(provenance) == stated
    except (ValueError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise InputError(path, expected="fingerprint and provenance as they were exported", found="changed ones",
                         remedy=_BROKEN)  # fmt: skip
    return str(stated)
