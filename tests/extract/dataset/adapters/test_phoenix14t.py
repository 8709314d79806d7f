"""The PHOENIX14T adapter and the clip index, on a real tree of the release's layout, whole and damaged."""

from pathlib import Path

import pytest

from extract.dataset.adapters import load_adapter
from extract.dataset.adapters.phoenix14t import Phoenix14T
from extract.dataset.clip_index import Clip, ClipIndex, write_index
from extract.dataset.manifest import Dataset, locate
from extract.errors import InputError
from extract.jobs.index_job import index_dataset
from extract.settings import DataSettings

ANNOTATIONS = "annotations/manual/PHOENIX-2014-T.{}.corpus.csv"


def dataset(root: Path) -> Dataset:
    return locate(DataSettings(dataset="builtin", root=str(root)))


def lines(root: Path, split: str) -> list[str]:
    return (root / ANNOTATIONS.format(split)).read_text(encoding="utf-8").splitlines()


def rewrite(root: Path, split: str, rows: list[str]) -> None:
    (root / ANNOTATIONS.format(split)).write_text("\n".join(rows) + "\n", encoding="utf-8")


def test_index_of_a_whole_corpus(tiny_index: ClipIndex, tiny_dataset: Dataset) -> None:
    clips = tiny_index.clips()
    assert {split: len(ClipIndex(tiny_index.path, split)) for split in ("train", "dev", "test")} == {
        "train": 48, "dev": 12, "test": 12
    }  # fmt: skip
    first = clips[0]
    assert (first.fps, first.language, first.problem) == (25.0, "de_DE", None)
    assert first.signer is not None
    assert first.signer.startswith("Signer")
    folder = tiny_dataset.root / first.source
    assert first.n_frames == len(list(folder.iterdir()))
    assert not Path(first.source).is_absolute()
    expected = lines(tiny_dataset.root, "train")[1].split("|")
    assert (first.id, first.text) == (expected[0], expected[6])


def test_annotations_with_quotation_marks(corpus_copy: Path) -> None:
    rows = lines(corpus_copy, "dev")
    rows[1] = rows[1].rsplit("|", 1)[0] + '|das ist "stark'
    rewrite(corpus_copy, "dev", rows)
    adapter = load_adapter("phoenix14t")(corpus_copy, "de_DE", 25.0)
    assert isinstance(adapter, Phoenix14T)
    assert next(iter(adapter.clips("dev"))).text == 'das ist "stark'


def damage_header(root: Path) -> None:
    rewrite(root, "dev", ["name|video|speaker|translation", *lines(root, "dev")[1:]])


def duplicate_row(root: Path) -> None:
    rewrite(root, "dev", [*lines(root, "dev"), lines(root, "dev")[3]])


def shorten_row(root: Path) -> None:
    rows = lines(root, "dev")
    rewrite(root, "dev", [*rows[:2], "|".join(rows[2].split("|")[:5]), *rows[3:]])


def empty_text(root: Path) -> None:
    rows = lines(root, "dev")
    rewrite(root, "dev", [*rows[:2], rows[2].rsplit("|", 1)[0] + "| "])


def escape_root(root: Path) -> None:
    rewrite(root, "dev", [lines(root, "dev")[0], "../../x|x|-1|-1|Signer01|A|a"])


def empty_split(root: Path) -> None:
    rewrite(root, "dev", lines(root, "dev")[:1])


def empty_file(root: Path) -> None:
    (root / ANNOTATIONS.format("dev")).write_bytes(b"")


def not_utf8(root: Path) -> None:
    (root / ANNOTATIONS.format("dev")).write_bytes("\n".join(lines(root, "dev")).encode("latin-1") + b"\xfc")


def no_annotations(root: Path) -> None:
    (root / ANNOTATIONS.format("dev")).unlink()


def two_resolutions(root: Path) -> None:
    (root / "features/fullFrame-227x227px").mkdir()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_header, r"dev\.corpus\.csv, row 1: expected name\|video"),
        (duplicate_row, r"dev\.corpus\.csv, row 14: expected every clip once, found .* first in row 4\. Remove"),
        (shorten_row, r"dev\.corpus\.csv, row 3: expected 7 fields, found 5"),
        (empty_text, r"row 3: expected a translation"),
        (escape_root, r"row 2: expected a clip name, found '\.\./\.\./x'"),
        (empty_split, r"expected clips of split 'dev', found none"),
        (empty_file, r"row 1: expected name"),
        (not_utf8, "expected UTF-8"),
        (no_annotations, "no such file.* Set the dataset's root"),
        (two_resolutions, "expected one folder fullFrame"),
    ],
)
def test_bad_annotations_are_one_line_and_leave_nothing(corpus_copy: Path, damage: object, says: str) -> None:
    damage(corpus_copy)  # type: ignore[operator]
    out = corpus_copy.parent / "out"
    with pytest.raises(InputError, match=says) as raised:
        index_dataset(dataset(corpus_copy), out / "index.parquet")
    assert raised.value.exit_code == 2
    assert "\n" not in str(raised.value)
    assert not out.exists()


def test_a_damaged_clip_is_noted_and_the_others_kept(corpus_copy: Path) -> None:
    clips = list(Phoenix14T(corpus_copy, "de_DE", 25.0).clips("test"))
    gap, truncated, gone = (corpus_copy / clip.source for clip in clips[:3])
    (gap / "images0005.png").unlink()
    (truncated / "images0001.png").write_bytes((truncated / "images0001.png").read_bytes()[:-9])
    gone.rename(gone.with_name("elsewhere"))
    path = corpus_copy.parent / "index.parquet"
    assert index_dataset(dataset(corpus_copy), path)["test"] == {None: 9, "decode": 1, "missing": 2}
    indexed = ClipIndex(path, "test").clips()
    assert [clip.id for clip in indexed] == [clip.id for clip in clips]
    problems = [str(clip.problem) for clip in indexed[:3]]
    assert "frame number 5" in problems[0]
    assert "images0001.png: truncated" in problems[1]
    assert problems[2].startswith("missing: ")
    assert all(clip.problem is None and clip.n_frames > 0 for clip in indexed[3:])


def test_unknown_dataset_and_adapter_are_suggested() -> None:
    with pytest.raises(InputError, match="Did you mean 'phoenix14t'"):
        locate(DataSettings(dataset="phoenix14"))
    with pytest.raises(InputError, match="Did you mean 'phoenix14t'"):
        load_adapter("phenix14t")


def test_a_root_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="nowhere, which does not exist"):
        _ = locate(DataSettings(dataset="phoenix14t", root=str(tmp_path / "nowhere"))).root
    monkeypatch.delenv("PHOENIX14T_ROOT", raising=False)
    with pytest.raises(InputError, match="environment variable PHOENIX14T_ROOT, found unset"):
        _ = locate(DataSettings(dataset="phoenix14t")).root
    monkeypatch.setenv("PHOENIX14T_ROOT", str(tmp_path))
    assert locate(DataSettings(dataset="phoenix14t")).root == tmp_path


def clip(name: str) -> Clip:
    return Clip(id=name, split="train", source=name, n_frames=3, fps=25.0, text="ja", language="de_DE")


def test_index_round_trip(tmp_path: Path) -> None:
    clips = [clip("a"), Clip("b", "dev", "v.mp4", 0, 30.0, "ü", "de_DE", None, 0.5, 1.25, "decode: x")]
    write_index(tmp_path / "index.parquet", clips)
    index = ClipIndex(tmp_path / "index.parquet")
    assert list(index) == clips
    assert len(index) == 2
    assert ClipIndex(index.path, "dev").clips() == clips[1:]
    with pytest.raises(InputError, match=r"clips in split 'test', found none\. Splits in this index: dev, train"):
        ClipIndex(index.path, "test").clips()


def test_index_refuses_an_id_twice_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_index(tmp_path / "index.parquet", [clip("a")])
    with pytest.raises(InputError, match="'b' and 0 more repeated"):
        write_index(path, [clip("b"), clip("b")])
    assert [clip.id for clip in ClipIndex(path)] == ["a"]
    assert list(tmp_path.iterdir()) == [path]


def test_index_that_is_not_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Run `slt index` first"):
        ClipIndex(tmp_path / "index.parquet")
    (tmp_path / "index.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(InputError, match="expected a Parquet file"):
        ClipIndex(tmp_path / "index.parquet")
