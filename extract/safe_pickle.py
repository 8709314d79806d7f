"""Pickled feature lists and annotations, read without running what they say.

A pickle is a program. This one may build lists, dicts, strings, numbers, and where features are read numpy arrays and
torch tensors, and nothing else: it never gets hold of a real class or function, arrays are made from bytes that are
really there, and opcodes that no such file needs are unknown.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import math
import os
import pickle
import reprlib
import struct
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from extract.errors import InputError

_GZIP = b"\x1f\x8b"

# Real features shrink by a third at best. A file that unpacks to more than this is made to fill the memory.
_MAX_RATIO = 100
_FREE_BYTES = 2**26

_STEP = 2**20

_OPCODES = (
    "PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 "
    "FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES "
    "SHORT_BINBYTES BINBYTES8 BYTEARRAY8 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET GLOBAL "
    "STACK_GLOBAL REDUCE BUILD"
)

# What the opcodes of a damaged pickle run into.
_DAMAGE = (
    pickle.UnpicklingError, EOFError, zlib.error, struct.error, ValueError, TypeError, LookupError, AttributeError,
    AssertionError, OverflowError, MemoryError,
)  # fmt: skip


def read_pickle(path: Path, plain: bool = False) -> Any:
    """What a pickle file holds, gzip-packed or not; arrays and tensors in it are ``Lazy``.

    The whole file is in memory afterwards, as the format wants it, but once only.

    Args:
        plain: refuse arrays and tensors too, as in annotations, which have none.

    Raises:
        InputError: the file asks for anything but plain values, arrays and tensors, or is truncated or damaged, or
            unpacks to more than features do.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP
            raw.seek(0)
            limit = os.fstat(raw.fileno()).st_size * (_MAX_RATIO if packed else 1) + _FREE_BYTES
            with gzip.GzipFile(fileobj=raw, mode="rb") if packed else contextlib.nullcontext(raw) as stream:
                return _Unpickler(_Limited(stream, limit), plain).load()
    except RecursionError as error:
        raise _refused(path, plain, "lists within lists without end") from error
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            raise _refused(path, plain, str(error)) from error
        raise InputError(path, expected="a file that can be read", found=error.strerror or str(error),
                         remedy="Check the path and its permissions.") from error  # fmt: skip
    except _DAMAGE as error:
        raise _refused(path, plain, f"{type(error).__name__}: {error}") from error


def _refused(path: Path, plain: bool, found: str) -> InputError:
    admitted = "plain values only" if plain else "plain values, arrays and tensors only"
    remedy = "Use the file as it was released" + ("." if plain else ", or import the features from HDF5 or .npy.")
    return InputError(path, expected=f"a pickle of {admitted}", found=found, remedy=remedy)


class Lazy:
    """An array or tensor that is made when it is asked for."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[], NDArray[Any]]) -> None:
        self._make = make

    def array(self) -> NDArray[Any]:
        """
        Raises:
            ValueError: its bytes are not what they are said to be.
        """
        return self._make()


class _Limited:
    """A stream that ends with an error instead of filling the memory, whatever sizes the pickle declares."""

    def __init__(self, stream: BinaryIO | gzip.GzipFile, limit: int) -> None:
        self.stream, self.left = stream, limit

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > self.left:
            raise pickle.UnpicklingError(f"{size} bytes announced, more than the file can hold")
        if size <= _STEP:
            data = self.stream.read(size)
        else:  # never reserve what is only announced
            whole = io.BytesIO()
            while whole.tell() < size and (part := self.stream.read(min(_STEP, size - whole.tell()))):
                whole.write(part)
            data = whole.getvalue()
        self.left -= len(data)
        return data

    def readline(self) -> bytes:
        line = self.stream.readline(_STEP)
        self.left -= len(line)
        if self.left < 0 or len(line) >= _STEP:
            raise pickle.UnpicklingError("a line longer than a name or number is")
        return line


class _Unpickler(pickle._Unpickler):
    """Python's own, without the opcodes that are not needed, and with a few names, of which none is what it says.

    Written in Python, and not the public one in C: that one reserves memory for whatever index of the memo and whatever
    byte array it is told, and no method of it can be replaced but ``find_class``. To read a pickle twice, first with
    ``pickletools``, would not do: what the two take a frame for differs.
    """

    stack: list[Any]
    read: Callable[[int], bytes]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        opcode: load for opcode, load in pickle._Unpickler.dispatch.items()
        if opcode in {getattr(pickle, name)[0] for name in _OPCODES.split()}
    }  # fmt: skip

    def __init__(self, stream: _Limited, plain: bool) -> None:
        super().__init__(stream, encoding="latin1")
        self._left = stream.left
        self._known = _PLAIN if plain else {**_PLAIN, **_ARRAYS, ("_codecs", "encode"): self._encode}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._known:
            raise pickle.UnpicklingError(f"a call of {reprlib.repr(module)[1:-1]}.{reprlib.repr(name)[1:-1]}")
        return self._known[module, name]

    def _encode(self, text: str, encoding: str) -> bytes:
        """How protocols 0 to 2 hold bytes."""
        if type(text) is not str or encoding != "latin1":
            raise pickle.UnpicklingError(f"an encoding {reprlib.repr(encoding)}")
        self._left -= len(text)  # one text could be encoded again and again
        if self._left < 0:
            raise pickle.UnpicklingError("more bytes than the file can hold")
        return text.encode("latin1")

    def load_build(self) -> None:
        """BUILD, for the two objects that have a state; Python's own would set attributes of anything."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], (_Array, _Dtype)):
            raise pickle.UnpicklingError(f"a state for a {type(self.stack[-1]).__name__}")
        self.stack[-1].take(state)

    dispatch[pickle.BUILD[0]] = load_build

    def load_bytearray8(self) -> None:
        """BYTEARRAY8; Python's own reserves the announced size before it reads."""
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(size)))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._set(items)

    dispatch[pickle.DICT[0]] = load_dict

    def load_setitem(self) -> None:
        self._set([self.stack.pop(-2), self.stack.pop()])

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        self._set(self.pop_mark())

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def _set(self, items: list[Any]) -> None:
        """Into a dict, but under no tuple: Python computes the hash of tuples in tuples until its stack is full."""
        if type(self.stack[-1]) is not dict or any(type(key) is tuple for key in items[::2]):
            raise pickle.UnpicklingError("a key that is a tuple, or of something else than a dict")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))


class _Dtype:
    """The name of a dtype."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any) -> None:
        if code not in ("f2", "f4", "f8"):
            raise pickle.UnpicklingError(f"an array of dtype {reprlib.repr(code)}")
        self.code, self.order = code, "<"

    def take(self, state: Any) -> None:
        if type(state) is not tuple or len(state) < 2 or state[1] not in ("<", ">"):
            raise pickle.UnpicklingError("a dtype that is not plain")
        self.order = state[1]

    def numpy(self) -> np.dtype[Any]:
        found: np.dtype[Any] = np.dtype(self.order + self.code)
        return found


class _Array(Lazy):
    """An array that waits for its state."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(self._absent)

    def _absent(self) -> NDArray[Any]:
        raise ValueError("an array without values")

    def take(self, state: Any) -> None:
        _version, shape, dtype, fortran, data = state
        self._make = _checked_array(data, dtype, shape, "F" if fortran else "C")._make


class _Storage:
    """The bytes of a ``torch.save``, as torch 0.4 to today puts them into a pickled tensor."""

    __slots__ = ("data",)

    def __init__(self, data: Any) -> None:
        if not isinstance(data, (bytes, bytearray)):
            raise pickle.UnpicklingError("a storage that is no bytes")
        self.data = data

    def tensor(self, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> NDArray[Any]:
        import torch

        try:
            if zipfile.is_zipfile(io.BytesIO(self.data)):
                with zipfile.ZipFile(io.BytesIO(self.data)) as archive:
                    if sum(entry.file_size for entry in archive.infolist()) > len(self.data):
                        raise ValueError("an archive that unpacks to more than its bytes")
            # weights_only: torch's restricted unpickler, for the few opcodes around the values.
            with warnings.catch_warnings(action="ignore"):  # of what is refused next, and of typed storages
                storage = torch.load(io.BytesIO(self.data), map_location="cpu", weights_only=True)
                if not isinstance(storage, torch.storage.TypedStorage):
                    raise ValueError(f"a storage that is a {type(storage).__name__}")
                untyped = storage.untyped()  # type: ignore[no-untyped-call]
            if untyped.nbytes() > len(self.data):
                raise ValueError("a storage larger than its bytes")
            values = torch.tensor([], dtype=storage.dtype).set_(untyped)
            if min((offset, *size, *stride), default=0) < 0 or math.prod(size) > values.numel():
                raise ValueError(f"a tensor of {reprlib.repr(size)} in a storage of {values.numel()}")
            tensor = values.as_strided(size, stride, offset)
            if tensor.dtype == torch.bfloat16:  # which numpy does not have
                tensor = tensor.float()
            array: NDArray[Any] = tensor.contiguous().numpy()
        except (RuntimeError, OSError, zipfile.BadZipFile, *_DAMAGE) as error:
            raise ValueError(f"a tensor that torch refuses: {_first_line(error)}") from error
        return array


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Lazy:
    if not isinstance(storage, _Storage) or not all(type(n) is int for n in (offset, *size, *stride)):
        raise pickle.UnpicklingError("a tensor without a storage, a size or a stride")
    return Lazy(lambda: storage.tensor(offset, tuple(size), tuple(stride)))


def _checked_array(data: Any, dtype: Any, shape: Any, order: Any) -> Lazy:
    """An array over bytes, of which there must be exactly as many as the shape says."""
    if not isinstance(data, (bytes, bytearray)) or not isinstance(dtype, _Dtype) or order not in ("C", "F"):
        raise pickle.UnpicklingError("an array of something else than numbers")
    if type(shape) is not tuple or not all(type(n) is int and 0 <= n <= sys.maxsize for n in shape):
        raise pickle.UnpicklingError(f"an array of shape {reprlib.repr(shape)}")
    kind = dtype.numpy()
    if math.prod(shape) * kind.itemsize != len(data):
        raise pickle.UnpicklingError(f"an array of shape {reprlib.repr(shape)} in {len(data)} bytes")
    return Lazy(lambda: np.frombuffer(data, kind).reshape(shape, order=order))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


_PLAIN: dict[tuple[str, str], Any] = {
    ("builtins", "dict"): "dict",
    ("__builtin__", "dict"): "dict",
    ("collections", "defaultdict"): lambda factory=None: {},  # what has been read gets no defaults any more
}
_ARRAYS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): lambda: {},
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): lambda code, *flags: _Dtype(code),
    ("torch.storage", "_load_from_bytes"): lambda data: _Storage(data),
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
}
for _core in ("numpy.core", "numpy._core"):  # before and since numpy 2
    # What the arguments say is replaced by the state that follows.
    _ARRAYS[f"{_core}.multiarray", "_reconstruct"] = lambda kind, shape, code: _Array()
    _ARRAYS[f"{_core}.numeric", "_frombuffer"] = _checked_array
