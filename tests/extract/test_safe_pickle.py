"""Pickles: what neccam/slt's files hold comes back, and nothing that a pickle says is run."""

import builtins
import collections
import functools
import gzip
import io
import operator
import os
import pickle
import resource
import struct
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.errors import InputError
from extract.safe_pickle import Lazy, read_pickle
from extract.store.import_sources import open_source


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


def write(path, value, protocol=pickle.DEFAULT_PROTOCOL):
    with gzip.open(path, "wb") as file:
        pickle.dump(value, file, protocol=protocol)
    return path


def write_raw(path, data):
    with gzip.open(path, "wb") as file:
        file.write(data)
    return path


def clip(sign, name="train/a"):
    return {"name": name, "signer": "Signer01", "gloss": "MORGEN REGEN", "text": "morgen regnet es", "sign": sign}


def zip_storage(tensor):
    """A tensor whose storage was saved in torch's zip format."""
    buffer = io.BytesIO()
    torch.save(tensor._typed_storage(), buffer)
    storage = Call(torch.storage._load_from_bytes, buffer.getvalue())
    arguments = (storage, tensor.storage_offset(), tuple(tensor.size()), tensor.stride(), False)
    return Call(torch._utils._rebuild_tensor_v2, *arguments, collections.OrderedDict())


def legacy_storage(tensor):
    buffer = io.BytesIO()
    torch.save(tensor._typed_storage(), buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def tensor_of(data, offset, size, stride):
    storage = Call(torch.storage._load_from_bytes, data)
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, collections.OrderedDict())


SIGNS = {
    "tensor": lambda t: t,
    "part of a tensor": lambda t: torch.cat([t, t, t])[len(t) : 2 * len(t)],
    "turned tensor": lambda t: t.T.contiguous().T,
    "zip": zip_storage,
    "half": lambda t: t.half(),
    "double": lambda t: t.double(),
    "bfloat16": lambda t: t.bfloat16(),
    "array": lambda t: t.numpy(),
    "turned array": lambda t: np.asfortranarray(t.numpy()),
    "other byte order": lambda t: t.numpy().astype(">f4"),
}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", SIGNS)
def test_lists_of_clips_come_back(tmp_path, kind, protocol):
    tensor = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    sign = SIGNS[kind](tensor)
    path = write(tmp_path / "phoenix14t.pami0.train", [clip(sign), clip(sign, "train/b")], protocol)
    listed = read_pickle(path)
    assert [entry["name"] for entry in listed] == ["train/a", "train/b"]
    assert listed[0]["text"] == "morgen regnet es"
    expected = {"half": tensor.half(), "double": tensor.double(), "bfloat16": tensor.bfloat16().float()}
    for entry in listed:
        assert isinstance(entry["sign"], Lazy)
        assert np.array_equal(entry["sign"].array(), expected.get(kind, tensor).numpy())
    with open_source(path) as source:
        assert source.format == "pickle"
        assert source.read("train/b").shape == (5, 4)


@settings(max_examples=30, deadline=None)
@given(steps=st.integers(1, 6), width=st.integers(1, 6), seed=st.integers(0, 9), protocol=st.integers(2, 5))
def test_every_bit_comes_back(tmp_path_factory, steps, width, seed, protocol):
    bits = np.random.default_rng(seed).integers(0, 2**32, (steps, width), np.uint32)
    tensor = torch.from_numpy(bits.view(np.float32))
    path = write(tmp_path_factory.getbasetemp() / "bits.gz", [tensor], protocol)
    assert np.array_equal(read_pickle(path)[0].array().view(np.uint32), bits)


def test_a_file_that_is_not_packed(tmp_path):
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps([clip(torch.ones(2, 3))]))
    assert read_pickle(tmp_path / "plain.pkl")[0]["sign"].array().tolist() == [[1, 1, 1], [1, 1, 1]]


FORBIDDEN = {
    "os.system": Call(os.system, "touch ran"),
    "builtins.eval": Call(builtins.eval, "open('ran', 'w')"),
    "builtins.exec": Call(builtins.exec, "open('ran', 'w')"),
    "builtins.getattr": Call(builtins.getattr, Call(os.getcwd), "upper"),
    "subprocess.check_output": Call(subprocess.check_output, ["touch", "ran"]),
    "operator.attrgetter": Call(operator.attrgetter, "system"),
    "functools.partial": Call(functools.partial, os.system, "touch ran"),
    "types.SimpleNamespace": Call(types.SimpleNamespace),
    "torch.load": Call(torch.load, "ran"),
    "torch.hub.load": Call(torch.hub.load, "x", "y"),
    "numpy.load": Call(np.load, "ran"),
    "numpy.memmap": Call(np.memmap, "ran", "u1", "w+", 0, (1,)),
    "builtins.bytearray": Call(bytearray, 10**12),
    "a class": Call,
    "a set": {1, 2},
    "a complex number": 1j,
}


@pytest.mark.parametrize("name", FORBIDDEN)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_anything_else_is_refused_and_not_run(tmp_path, monkeypatch, name, protocol):
    monkeypatch.chdir(tmp_path)
    for place, value in enumerate(
        [FORBIDDEN[name], [clip(FORBIDDEN[name])], [clip(torch.ones(2, 3), FORBIDDEN[name])]]
    ):
        with pytest.raises(InputError, match="expected a pickle of plain values, arrays and tensors only"):
            read_pickle(write(tmp_path / f"{place}.gz", value, protocol))
    assert not (tmp_path / "ran").exists()


def test_nested_reductions_are_refused(tmp_path, monkeypatch):
    """Calls hidden in the arguments and states of what is allowed, and calls of what calls return."""
    monkeypatch.chdir(tmp_path)
    evil = Call(os.system, "touch ran")
    reconstruct = np._core.multiarray._reconstruct
    nested = [
        Call(collections.OrderedDict, [("a", evil)]),
        Call(collections.OrderedDict, state={"__class__": evil}),
        Call(torch._utils._rebuild_tensor_v2, evil, 0, (1,), (1,), False, collections.OrderedDict()),
        Call(torch.storage._load_from_bytes, evil),
        Call(torch._utils._rebuild_tensor_v2, "storage", 0, (1,), (1,), False, None),
        Call(reconstruct, np.ndarray, (0,), b"b", state=(1, (1,), evil, False, b"")),
        Call(reconstruct, np.ndarray, (0,), b"b", state=(1, (1,), np.dtype("O"), False, [os.system])),
        Call(reconstruct, np.ndarray, (0,), b"b", state={"_make": "x"}),
        Call(np.dtype, "O"),
        Call(np.dtype, [("x", "f4")]),
        Call(np.dtype, "f4", False, True, state={"code": "O"}),
    ]
    for position, value in enumerate(nested):
        with pytest.raises(InputError):
            read_pickle(write(tmp_path / f"{position}.gz", [clip(value)]))
    assert not (tmp_path / "ran").exists()


RAW = {
    "an instance of a class": b"(i__main__\nCall\n.",
    "a new object": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "a persistent id": b"\x80\x02X\x01\x00\x00\x00aQ.",
    "an extension": b"\x80\x02\x82\x01.",
    "a call of a text": b"\x80\x02X\x01\x00\x00\x00a)R.",
    "a call of what a call returned": b"\x80\x02ccollections\nOrderedDict\n)R)R.",
    "a state for a function": b"\x80\x02ctorch._utils\n_rebuild_tensor\n}X\x08\x00\x00\x00__code__NsN\x86b.",
    "a state for a storage": b"\x80\x02ctorch.storage\n_load_from_bytes\nC\x00\x85R}b.",
    "a dotted name": b"\x80\x04\x8c\x05torch\x8c\x0e_utils.os.exec\x93.",
    "no end": b"\x80\x02](",
    "an empty stack": b"\x80\x02.",
    "no opcode": b"\x80\x02\xff",
    "an unknown protocol": b"\x80\x63.",
    "a number of endless digits": b"I" + b"9" * 10**5 + b"\n.",
    "an endless line": b"c" + b"a" * (2**20 + 5),
}


@pytest.mark.parametrize("name", RAW)
def test_opcodes_that_no_such_file_needs(tmp_path, name):
    with pytest.raises(InputError, match="expected a pickle of plain values"):
        read_pickle(write_raw(tmp_path / "x.gz", RAW[name]))


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 10**6), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_file_is_refused_or_read(tmp_path_factory, at, byte, cut):
    data = bytearray(pickle.dumps([clip(torch.ones(2, 3)), clip(np.ones((2, 3), "f4"))]))
    at %= len(data)
    data = data[:at] if cut else data[:at] + bytes([byte]) + data[at + 1 :]
    path = write_raw(tmp_path_factory.getbasetemp() / "damaged.gz", bytes(data))
    try:
        with open_source(path) as source:
            for id in source.clips:
                assert source.read(id).ndim == 2
    except InputError:
        pass


BOMBS = {
    "tensor beyond its storage": tensor_of(legacy_storage(torch.ones(4)), 0, (10**9, 1024), (1024, 1)),
    "tensor of one value again and again": tensor_of(legacy_storage(torch.ones(4)), 0, (10**9, 1024), (0, 0)),
    "tensor before its storage": tensor_of(legacy_storage(torch.ones(4)), -4, (2, 2), (2, 1)),
    "tensor with a negative stride": tensor_of(legacy_storage(torch.ones(4)), 3, (2, 2), (-2, -1)),
    "tensor of text sizes": tensor_of(legacy_storage(torch.ones(4)), 0, ("a", 2), (2, 1)),
    "storage that announces more than it has": tensor_of(
        legacy_storage(torch.ones(300)).replace(b"M,\x01", b"J\xff\xff\xff\x7f"), 0, (2, 2), (2, 1)
    ),
    "storage of no bytes": tensor_of(b"", 0, (2, 2), (2, 1)),
    "storage that is a pickle": tensor_of(pickle.dumps(Call(os.system, "touch ran")), 0, (2, 2), (2, 1)),
    "array beyond its bytes": Call(
        np._core.multiarray._reconstruct, np.ndarray, (0,), b"b", state=(1, (10**9, 1024), np.dtype("f4"), False, b"x")
    ),
    "array that reserves": Call(np._core.multiarray._reconstruct, np.ndarray, (10**12,), "f8"),
    "array of a huge number of dimensions": Call(
        np._core.multiarray._reconstruct, np.ndarray, (0,), b"b", state=(1, (2**62, 2**62), np.dtype("f4"), False, b"")
    ),
}


def deflated_storage():
    """A zip storage whose one entry unpacks to a thousand times its size."""
    buffer, packed = io.BytesIO(), io.BytesIO()
    torch.save(torch.zeros(10**7)._typed_storage(), buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return packed.getvalue()


@pytest.mark.parametrize("name", [*BOMBS, "zip"])
def test_declared_sizes_are_not_believed(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    sign = tensor_of(deflated_storage(), 0, (10**7, 1), (1, 1)) if name == "zip" else BOMBS[name]
    path = write(tmp_path / "x.gz", [clip(sign)])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError), open_source(path) as source:
        source.read("train/a")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB
    assert not (tmp_path / "ran").exists()


ANNOUNCED = {
    "memo": b"\x80\x02]r\xff\xff\xff\x7f.",
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**40),
    "some bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**29),
    "byte array": b"\x80\x05\x96" + struct.pack("<Q", 2**29),
    "text": b"\x80\x04\x8d" + struct.pack("<Q", 2**29),
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 2**29),
    "number": b"\x80\x02\x8b" + struct.pack("<i", 2**29),
    "zeros": pickle.dumps(b"\0" * (2**27)),
    "tuples in tuples as a key": b"\x80\x02}N" + b"\x85" * 10**6 + b"Ns.",
    "one text encoded again and again": (
        b"\x80\x02(c_codecs\nencode\nq\x000X"
        + struct.pack("<I", 2**20)
        + b"a" * 2**20
        + b"q\x010"
        + b"h\x00h\x01X\x06\x00\x00\x00latin1\x86R" * 10**4
        + b"l."
    ),
}


@pytest.mark.parametrize("name", ANNOUNCED)
def test_announced_sizes_reserve_nothing(tmp_path, name):
    """In a process that may have 1 GiB: the file is refused, or harmless, and takes a fraction of that."""
    path = write_raw(tmp_path / "x.gz", ANNOUNCED[name])
    code = (
        "import resource, sys, tracemalloc; from pathlib import Path; from extract.errors import InputError\n"
        "from extract.safe_pickle import read_pickle\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\n"
        "tracemalloc.start()\n"
        "try: print(read_pickle(Path(sys.argv[1])))\n"
        "except InputError as error: print(error)\n"
        "assert tracemalloc.get_traced_memory()[1] < 80 * 2**20\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]" if name == "memo" else "expected a pickle of plain values" in done.stdout


def test_other_lists(tmp_path):
    for value, says in (
        ({"a": 1}, "expected a list of clips, found a dict"),
        ([], "expected features of clips, found none"),
        ([1], "clip 0: expected a dict with a text `name`"),
        ([clip(None)], "NoneType"),
        ([clip([[1.0, 2.0]])], "and list"),
        ([clip(torch.ones(2, 3))] * 2, "'train/a' twice"),
    ):
        path = write(tmp_path / "x.gz", value)
        with pytest.raises(InputError, match=says), open_source(path):
            pass
    for value, says in (
        ([clip(torch.ones(2, 3, 4))], r"found float32 of shape \(2, 3, 4\)"),
        ([clip(torch.ones(2, 3, dtype=torch.int64))], "found int64 of shape"),
    ):
        path = write(tmp_path / "x.gz", value)
        with pytest.raises(InputError, match=says), open_source(path) as source:
            source.read("train/a")
