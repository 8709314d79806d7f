"""Files that a stage left and somebody changed: noticed by `slt status`, refused before they are used."""

import os
from pathlib import Path

import pytest

from extract.errors import InputError
from pipeline.experiment.freshness import Record, Records
from pipeline.experiment.output_digests import digests, first_changed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("stage2/model.safetensors", "stage2/lora/a.json", "stage2/README.md", "predictions/stage2.jsonl",
                 "features/test.zarr/zarr.json", "features/test.zarr/commits/a.json"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * 3000)
    return tmp_path


def known(folder: Path) -> dict[str, tuple[int, int, str]]:
    return digests(
        folder, [folder / "stage2", folder / "predictions/stage2.jsonl", folder / "features/test.zarr", "s3://b/x.zarr"]
    )


def flip(path: Path, keep_times: bool = False) -> None:
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[2000] ^= 0x40
    path.write_bytes(data)
    if keep_times:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_all_files_but_cards_and_stores_are_vouched_for(folder: Path) -> None:
    assert list(known(folder)) == ["predictions/stage2.jsonl", "stage2/lora/a.json", "stage2/model.safetensors"]


@pytest.mark.parametrize("name", ["predictions/stage2.jsonl", "stage2/lora/a.json", "stage2/model.safetensors"])
def test_a_changed_file_is_named(folder: Path, name: str) -> None:
    before = known(folder)
    assert first_changed(folder, before) is None
    os.utime(folder / name)  # a copy has another date
    assert first_changed(folder, before) is None
    flip(folder / name)
    assert first_changed(folder, before) == folder / name
    (folder / name).unlink()
    assert first_changed(folder, before) == folder / name


def test_a_bit_that_a_disk_lost_is_found_by_reading(folder: Path) -> None:
    before = known(folder)
    flip(folder / "stage2/model.safetensors", keep_times=True)
    assert first_changed(folder, before) is None
    assert first_changed(folder, before, deep=True) == folder / "stage2/model.safetensors"


def test_records_know_it(folder: Path) -> None:
    records = Records(folder)
    records.write("stage2", Record({"a": 1}, "id", ["stage2"], files=known(folder)))
    assert records.state("stage2", {"a": 1})[0] == "done"
    records.require_unchanged("stage2")
    flip(folder / "stage2/model.safetensors")
    assert records.state("stage2", {"a": 1})[:2] == ("stale", "changed since it was written: stage2/model.safetensors")
    with pytest.raises(InputError, match=r"model\.safetensors: expected the file that stage2 wrote, found other bytes"):
        records.require_unchanged("stage2")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"inputs": 5, "result": 1, "outputs": []}', "[" * 100_000, "null"])
def test_a_damaged_record_is_none(folder: Path, text: str) -> None:
    (folder / "state").mkdir()
    (folder / "state/stage2.json").write_text(text)
    assert Records(folder).read("stage2") is None
    assert Records(folder).state("stage2", {})[0] == "missing"
