"""The clip index, written and read a few clips at a time, beside a list."""

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.dataset import clip_index as module
from extract.dataset.clip_index import SPLITS, Clip, ClipIndex, write_index
from extract.errors import InputError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
CLIPS = st.lists(
    st.builds(
        Clip,
        id=st.uuids().map(str),
        split=st.sampled_from([*SPLITS, "", "dev2", "ü"]),
        source=TEXT,
        n_frames=st.integers(0, 10**9),
        fps=st.floats(1, 120),
        text=TEXT,
        language=st.just("de_DE"),
        signer=st.none() | TEXT,
        start=st.none() | st.floats(0, 9),
        end=st.none() | st.floats(0, 9),
        problem=st.none() | TEXT,
    ),
    max_size=30,
    unique_by=lambda clip: clip.id,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("index")


@given(clips=CLIPS, group=st.integers(1, 8), batch=st.integers(1, 8), ordered=st.booleans())
def test_a_split_is_what_a_list_would_have(folder, clips, group, batch, ordered):
    """In groups of one split, of several, and of none that is asked for."""
    if ordered:
        clips.sort(key=lambda clip: clip.split)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_GROUP", group)
        patch.setattr(module, "_BATCH", batch)
        path = write_index(folder / "index.parquet", iter(clips))
        assert list(ClipIndex(path)) == clips
        assert len(ClipIndex(path)) == len(clips)
        for split in [*SPLITS, "", "dev2", "ü", "never"]:
            index, expected = ClipIndex(path, split), [clip for clip in clips if clip.split == split]
            assert list(index) == expected
            assert len(index) == len(expected)
            if expected:
                assert index.clips() == expected
            else:
                with pytest.raises(InputError, match="found none"):
                    index.filled()


def test_the_digest_of_a_split_is_of_its_clips_alone(folder):
    clips = [Clip(str(i), ("train", "test")[i % 2], "", 1, 25.0, "ä", "de_DE") for i in range(6)]

    def digests(clips):
        path = write_index(folder / "digests.parquet", clips)
        return [ClipIndex(path, split).digest() for split in ("train", "test")]

    train, test = digests(clips)
    assert train != test
    more = [Clip("6", "test", "", 1, 25.0, "ä", "de_DE"), *clips]
    assert digests(more)[0] == train
    assert digests(more)[1] != test
    for change in ({"text": "a"}, {"problem": "missing: x"}, {"n_frames": 2}):
        changed = [dataclasses.replace(clips[0], **change), *clips[1:]]
        assert digests(changed) != [train, test], change
        assert digests(changed)[1] == test
    assert digests([*clips[2:], *clips[:2]])[0] != train


def test_reading_some_clips_reads_no_more_than_their_row_groups(folder, monkeypatch):
    monkeypatch.setattr(module, "_GROUP", 10)
    monkeypatch.setattr(module, "_BATCH", 5)
    clips = [Clip(str(i), "dev" if i < 10 else "train", "", 1, 25.0, "", "de_DE") for i in range(40)]
    path = write_index(folder / "damaged.parquet", clips)
    data = bytearray(path.read_bytes())
    middle = data.find(b"PAR1") + 4
    # The rows of the first group, which has only dev clips, are made unreadable.
    end = ClipIndex(path)._file.metadata.row_group(1).column(0).dictionary_page_offset
    data[middle:end] = bytes(end - middle)
    path.write_bytes(data)
    assert list(ClipIndex(path, "train")) == clips[10:]
    assert len(ClipIndex(path, "dev")) == 10
    with pytest.raises(InputError, match=r"expected a Parquet file as it was written.*run `slt index` again"):
        list(ClipIndex(path, "dev"))
    assert len(list(itertools.islice(ClipIndex(path, "train"), 3))) == 3


@pytest.mark.parametrize("distance", [1, 9, 10, 25])
def test_an_id_twice_is_refused_however_far_apart(folder, monkeypatch, distance):
    monkeypatch.setattr(module, "_GROUP", 10)
    clips = [Clip(str(i), "dev", "", 1, 25.0, "", "de_DE") for i in range(30)]
    clips[distance:distance] = [clips[0], clips[0]]
    with pytest.raises(InputError, match="'0' and 0 more repeated"):
        write_index(folder / "new" / "index.parquet", clips)
    clips.append(clips[5])
    with pytest.raises(InputError, match="'0' and 1 more repeated"):
        write_index(folder / "new" / "index.parquet", clips)
    assert not list((folder / "new").iterdir())


def test_an_annotation_error_while_writing_leaves_the_old_file(folder, monkeypatch):
    monkeypatch.setattr(module, "_GROUP", 2)
    clips = [Clip(str(i), "dev", "", 1, 25.0, "", "de_DE") for i in range(8)]
    path = write_index(folder / "old" / "index.parquet", clips[:3])

    def failing():
        yield from clips[:5]
        raise InputError("train.csv", expected="a row", found="half of one", remedy="Mend it.")

    with pytest.raises(InputError, match="half of one"):
        write_index(path, failing())
    assert list(ClipIndex(path)) == clips[:3]
    assert list(path.parent.iterdir()) == [path]
