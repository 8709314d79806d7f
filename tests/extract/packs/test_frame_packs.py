"""Frame packs on real files and real processes: the same frames as the originals', whatever happens to processes."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from distributed import Client
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from extract.dataset.clip_index import Clip, write_index
from extract.decoding.read_clip import read_clip
from extract.encoder.visual_encoder import VisualEncoder
from extract.errors import ClipError, InputError
from extract.jobs.blocks import Block
from extract.jobs.cluster import local_cluster
from extract.jobs.extract_job import extract_split
from extract.jobs.job_account import FailureRateError
from extract.jobs.pack_job import pack_block, pack_split
from extract.packs import packed_frames
from extract.packs.frame_pack import FramePack, pack_provenance
from extract.packs.packed_frames import PackedFrames
from extract.settings import EncoderSettings, ExtractSettings, FrameSettings, PackSettings, View
from extract.store.feature_store import FeatureStore
from train.data.clip_dataset import ClipDataset, collate_clips
from train.settings import WarpSettings

REPOSITORY = Path(__file__).parents[3]
FRAMES = FrameSettings(resize=32, crop=28)
PACK = PackSettings(enabled=True, block_frames=40)


def write_folder(root: Path, id: str, n_frames: int, seed: int) -> Clip:
    rng = np.random.default_rng(seed)
    (root / id).mkdir(parents=True)
    for number in range(n_frames):
        image = rng.integers(0, 256, size=(36, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(root / id / f"images{number + 1:04d}.png"), image)
    return Clip(id, "train", id, n_frames, 25.0, "text", "de_DE")


def write_video(root: Path, id: str, n_frames: int, codec: str, seed: int) -> Clip:
    rng = np.random.default_rng(seed)
    with av.open(str(root / id), "w") as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(n_frames):
            image = np.full((48, 64, 3), 20 + 8 * number % 216, np.uint8)
            image[10:30, number % 40 :][:, :12] = rng.integers(0, 256, (20, 12, 3), dtype=np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode(None))
    return Clip(id, "train", id, n_frames, 25.0, "text", "de_DE")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("frames")


@pytest.fixture(scope="module")
def clips(root: Path) -> list[Clip]:
    videos = [write_video(root, "a.mp4", 30, "libx264", 1), write_video(root, "b.webm", 22, "libvpx-vp9", 2),
              write_video(root, "c.avi", 25, "mpeg4", 3)]  # fmt: skip
    part = dataclasses.replace(videos[0], id="größe/手語", start=0.2, end=0.9, n_frames=18)
    return [*(write_folder(root, f"clip-{i:02d}", 1 + 3 * (i % 7), i) for i in range(12)), *videos, part]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_cluster(2) as client:
        yield client


@pytest.fixture(scope="module")
def packs(root: Path, clips: list[Clip], client: Client, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pack of ``train``; not to be changed by a test."""
    folder = tmp_path_factory.mktemp("packs")
    seen = []
    summary = pack_split(iter(clips), len(clips), root, folder / "train", FRAMES, PACK, client, seen.append)
    assert (summary.extracted, summary.skipped, summary.failed) == (16, 0, {})
    assert set(summary.spent) == {"read", "decode", "encode", "write"}
    assert (seen[-1].done, seen[-1].total) == (16, 16)
    assert summary.frames == sum(FramePack.open(folder / "train").lengths().values())
    return folder


@pytest.fixture
def copy(packs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packs, tmp_path / "packs"))


def snapshot(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


# The same pixels


def test_a_pack_gives_the_pixels_of_the_originals(packs: Path, root: Path, clips: list[Clip]) -> None:
    source = PackedFrames(packs, PACK)
    for clip in clips:
        for view in (View(), View(phase=3), View(crop=(0, 1))):
            np.testing.assert_array_equal(
                read_clip(source, clip, FRAMES, view=view), read_clip(root, clip, FRAMES, view=view), strict=True
            )
        for seed in range(4):  # the same frames and the same crop are drawn
            drawn = [read_clip(place, clip, FRAMES, np.random.default_rng(seed)) for place in (source, root)]
            np.testing.assert_array_equal(*drawn, strict=True)


def test_pyav_too(root: Path, clips: list[Clip], client: Client, tmp_path: Path) -> None:
    frames = FRAMES.model_copy(update={"decoder": "pyav", "keep_every": 3})
    pack_split(clips, len(clips), root, tmp_path / "train", frames, PACK, client)
    source = PackedFrames(tmp_path, PACK)
    for clip in clips:
        for seed in (None, 0, 1):
            rngs = [None if seed is None else np.random.default_rng(seed) for _ in range(2)]
            found, expected = (read_clip(p, clip, frames, rng) for p, rng in zip((source, root), rngs, strict=True))
            np.testing.assert_array_equal(found, expected, strict=True)


def test_other_sampling_crop_and_normalisation_share_a_pack(packs: Path, root: Path, clips: list[Clip]) -> None:
    other = FrameSettings(resize=32, crop=16, keep_every=3, mean=(0, 0, 0))
    for clip in clips[:3]:
        np.testing.assert_array_equal(
            read_clip(PackedFrames(packs, PACK), clip, other), read_clip(root, clip, other), strict=True
        )


@pytest.mark.long
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_dataloader_workers(packs: Path, root: Path, clips: list[Clip], context: str) -> None:
    def batches(source: Path | PackedFrames, **options: object) -> list[torch.Tensor]:
        data = ClipDataset(source, clips, [[1]] * len(clips), FRAMES, random=True, seed=5, warp=WarpSettings())
        data.set_epoch(2)
        return [b["frames"] for b in DataLoader(data, batch_size=3, collate_fn=collate_clips, **options)]

    source = PackedFrames(packs, PACK)
    read_clip(source, clips[0], FRAMES)  # this process has files open when others are forked from it
    expected = batches(root)
    for _ in range(2):
        found = batches(source, num_workers=2, multiprocessing_context=context)
        assert len(found) == len(expected)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    np.testing.assert_array_equal(read_clip(source, clips[1], FRAMES), read_clip(root, clips[1], FRAMES))


def test_few_files_are_open(
    packs: Path, root: Path, clips: list[Clip], client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = PACK.model_copy(update={"block_frames": 1})
    pack_split(clips, len(clips), root, tmp_path / "train", FRAMES, small, client)
    assert len(list(tmp_path.glob("train/blocks/*.h5"))) == len(clips)
    monkeypatch.setattr(packed_frames, "MAX_OPEN", 3)
    source = PackedFrames(tmp_path, small)
    for clip in clips + clips[::-1]:
        np.testing.assert_array_equal(read_clip(source, clip, FRAMES), read_clip(root, clip, FRAMES))
        names = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        assert sum(str(tmp_path) in name for name in names) <= 3


def test_jpeg_is_close_and_smaller(root: Path, clips: list[Clip], client: Client, packs: Path, tmp_path: Path) -> None:
    lossy = PACK.model_copy(update={"quality": 95})
    pack_split(clips, len(clips), root, tmp_path / "train", FRAMES, lossy, client)
    found, exact = (read_clip(place, clips[12], FRAMES).astype(int) for place in (PackedFrames(tmp_path, lossy), root))
    assert 0 < np.abs(found - exact).mean() < 4
    sizes = [sum(c.stored_bytes for c in FramePack.open(p / "train").commits()) for p in (tmp_path, packs)]
    assert sizes[0] < sizes[1]
    for wrong, of in ((packs, lossy), (tmp_path, PACK)):
        with pytest.raises(InputError, match=r"expected a pack of pixels\.codec \w+, .*found pixels\.codec \w+"):
            read_clip(PackedFrames(wrong, of), clips[0], FRAMES)


def test_sampled_frames_are_enough_for_an_extraction(
    root: Path, clips: list[Clip], client: Client, tmp_path: Path
) -> None:
    sampled = PACK.model_copy(update={"frames": "sampled"})
    summary = pack_split(clips, len(clips), root, tmp_path / "train", FRAMES, sampled, client)
    source = PackedFrames(tmp_path, sampled)
    for clip in clips:
        np.testing.assert_array_equal(read_clip(source, clip, FRAMES), read_clip(root, clip, FRAMES), strict=True)
    assert summary.frames == sum(len(read_clip(root, clip, FRAMES)) for clip in clips)
    with pytest.raises(InputError, match="expected every frame, to draw among them"):
        read_clip(source, clips[0], FRAMES, np.random.default_rng(0))
    with pytest.raises(InputError, match="the view's phase 2"):
        read_clip(source, clips[0], FRAMES, view=View(phase=2))
    with pytest.raises(InputError, match="expected a pack of kept 1 of each 3, found kept 1 of each 4"):
        read_clip(source, clips[0], FRAMES.model_copy(update={"keep_every": 3}))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"resize": 36}, "frames.resize 36, found frames.resize 32"),
        ({"interpolation": "linear"}, "frames.interpolation linear, found frames.interpolation area"),
        ({"decoder": "pyav"}, "decoder pyav"),
    ],
)
def test_a_pack_made_differently_is_refused(
    packs: Path, root: Path, clips: list[Clip], client: Client, changes: dict[str, object], named: str
) -> None:
    other = FRAMES.model_copy(update=changes)
    before = snapshot(packs)
    with pytest.raises(InputError, match=f"expected a pack of {named}"):
        read_clip(PackedFrames(packs, PACK), clips[0], other)
    with pytest.raises(InputError, match=f"expected a pack of {named}"):
        pack_split(clips, len(clips), root, packs / "train", other, PACK, client)
    assert snapshot(packs) == before


def test_a_scaled_view_is_refused(packs: Path, clips: list[Clip]) -> None:
    with pytest.raises(InputError, match=r"frames\.resize 64, found frames\.resize 32"):
        read_clip(PackedFrames(packs, PACK), clips[0], FRAMES, view=View(scale=2))


# The extraction


def test_features_from_a_pack_are_those_of_the_originals(
    packs: Path, root: Path, clips: list[Clip], client: Client, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    backbone = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1],
                "layer_type": "basic"}  # fmt: skip
    VisualEncoder.from_settings(EncoderSettings(backbone=backbone, width=16), FRAMES).save_pretrained(tmp_path / "e")
    settings = ExtractSettings(dtype="float32", batch_frames=4, block_frames=40, views=(View(), View(phase=2)))
    stores = []
    ahead = settings.model_copy(update={"decode_processes": 2})
    sources = (("root", root, settings), ("packs", PackedFrames(packs, PACK), settings),
               ("ahead", PackedFrames(packs, PACK), ahead))  # fmt: skip
    for name, source, chosen in sources:
        summary = extract_split(clips, 16, source, tmp_path / "e", tmp_path / f"{name}.zarr", chosen, client)
        assert (summary.extracted, summary.failed) == (16, {})
        stores.append(FeatureStore.open(tmp_path / f"{name}.zarr"))
    for other in stores[1:]:
        assert stores[0].fingerprint == other.fingerprint
        for view in ("plain", "phase=2"):
            assert stores[0].digests(view) == other.digests(view)

    lossy = PACK.model_copy(update={"quality": 90})
    pack_split(clips, 16, root, tmp_path / "lossy" / "train", FRAMES, lossy, client)
    source = PackedFrames(tmp_path / "lossy", lossy)
    with pytest.raises(InputError, match=r"expected features of pack\.codec jpeg, pack\.quality 90, found pack\.codec"):
        extract_split(clips, 16, source, tmp_path / "e", tmp_path / "root.zarr", settings, client)
    extract_split(clips, 16, source, tmp_path / "e", tmp_path / "lossy.zarr", settings, client)
    store = FeatureStore.open(tmp_path / "lossy.zarr")
    assert store.provenance["pack"] == {"codec": "jpeg", "quality": 90}
    assert store.digests() != stores[0].digests()


# Killed, again, damaged

SCRIPT = """
    import sys
    from extract.jobs.cluster import local_cluster
    from extract.dataset.clip_index import ClipIndex
    from extract.jobs.pack_job import pack_split
    from extract.settings import FrameSettings, PackSettings

    if __name__ == "__main__":
        index, root, folder, frames, settings = sys.argv[1:]
        clips = ClipIndex(index, "train").clips()
        with local_cluster(1) as client:
            pack_split(clips, len(clips), root, folder, FrameSettings.model_validate_json(frames),
                       PackSettings.model_validate_json(settings), client)
"""


@pytest.mark.long
def test_a_killed_run_goes_on_where_it_was(
    packs: Path, root: Path, clips: list[Clip], client: Client, tmp_path: Path
) -> None:
    folder = tmp_path / "packs" / "train"
    settings = PACK.model_copy(update={"block_frames": 1})  # a block per clip
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(SCRIPT))
    index = write_index(tmp_path / "index.parquet", clips)
    command = [sys.executable, script, index, root, folder, FRAMES.model_dump_json(), settings.model_dump_json()]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 180
        while not list(folder.glob("commits/*.json")):
            assert process.poll() is None, process.stderr.read().decode()  # type: ignore[union-attr]
            assert time.monotonic() < deadline
            time.sleep(0.001)
        os.killpg(process.pid, signal.SIGKILL)

    killed = FramePack.open(folder)
    done = killed.lengths()
    assert 0 < len(done) < len(clips)
    assert killed.verify() == []
    absent = next(clip for clip in clips if clip.id not in done)
    with pytest.raises(InputError, match=r"expected its frames, found none\. Run `slt pack` to the end"):
        read_clip(PackedFrames(folder.parent, settings), absent, FRAMES)

    source = PackedFrames(folder.parent, settings)  # one that was open meanwhile sees the rest
    read_clip(source, next(clip for clip in clips if clip.id in done), FRAMES)
    summary = pack_split(clips, len(clips), root, folder, FRAMES, settings, client)
    assert (summary.skipped, summary.extracted) == (len(done), len(clips) - len(done))
    assert FramePack.open(folder).verify() == []
    for clip in clips:
        np.testing.assert_array_equal(read_clip(source, clip, FRAMES), read_clip(root, clip, FRAMES), strict=True)


def test_a_second_run_does_nothing(copy: Path, root: Path, clips: list[Clip], client: Client) -> None:
    before = snapshot(copy)
    summary = pack_split(clips, len(clips), root, copy / "train", FRAMES, PACK, client)
    assert (summary.extracted, summary.skipped, summary.frames) == (0, 16, 0)
    assert snapshot(copy) == before


def test_the_same_block_is_the_same_file(
    packs: Path, root: Path, clips: list[Clip], client: Client, copy: Path
) -> None:
    names = {path.name for path in copy.glob("train/blocks/*.h5")}
    shutil.rmtree(copy / "train" / "commits")
    for path in copy.glob("train/blocks/*.h5"):
        path.write_bytes(b"of a killed run")
    settings = PACK.model_copy(update={"workers": 1})
    pack_split(clips, len(clips), root, copy / "train", FRAMES, settings, client)
    assert {path.name for path in copy.glob("train/blocks/*.h5")} == names
    assert FramePack.open(copy / "train").verify() == []


def test_leftovers_go_when_they_are_old(copy: Path, root: Path, clips: list[Clip], client: Client) -> None:
    blocks = copy / "train" / "blocks"
    old, new = blocks / "0-aa.partial", blocks / "0-bb.partial"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    pack_split(clips, len(clips), root, copy / "train", FRAMES, PACK, client)
    assert (old.exists(), new.exists()) == (False, True)
    assert FramePack.open(copy / "train").verify() == []


def test_clips_that_cannot_be_read_are_recorded(root: Path, clips: list[Clip], client: Client, tmp_path: Path) -> None:
    here = tmp_path / "root"
    for clip in clips[1:6]:
        shutil.copytree(root / clip.source, here / clip.source)
    truncated = here / clips[2].source / "images0002.png"  # one that sampling would not read
    truncated.write_bytes(truncated.read_bytes()[:-20])
    shutil.rmtree(here / clips[3].source)
    split = [*clips[1:5], dataclasses.replace(clips[5], problem="too_short: 0.1 s")]
    loose = PACK.model_copy(update={"max_failure_rate": 0.7})
    with pytest.raises(FailureRateError, match="max_failure_rate"):
        pack_split(split, 5, here, tmp_path / "strict" / "train", FRAMES, PACK, client)
    for extracted in (2, 0):
        summary = pack_split(split, 5, here, tmp_path / "train", FRAMES, loose, client)
        assert (summary.extracted, summary.failed) == (extracted, {"decode": 1, "missing": 1, "too_short": 1})
    source = PackedFrames(tmp_path, loose)
    assert sorted(source.failures("train")) == sorted(clip.id for clip in split[1:3] + split[4:])
    with pytest.raises(ClipError, match=r"decode: .*truncated"):
        read_clip(source, split[1], FRAMES)
    shutil.copytree(root / clips[3].source, here / clips[3].source)
    again = loose.model_copy(update={"retry_failed": True})
    assert pack_split(split, 5, here, tmp_path / "train", FRAMES, again, client).extracted == 1
    np.testing.assert_array_equal(read_clip(source, split[2], FRAMES), read_clip(root, clips[3], FRAMES))


def damage(path: Path, place: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 0x10
    path.write_bytes(data)


def some(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[0]


@pytest.mark.parametrize("what", ["frames", "cut", "absent", "record", "cut record", "of another pack", "attributes"])
def test_damage_is_found_and_refused(copy: Path, clips: list[Clip], what: str) -> None:
    folder = copy / "train"
    block, record = some(folder, "blocks/*.h5"), some(folder, "commits/*.json")
    block = folder / json.loads(record.read_text())["file"]
    inside = [clip for clip in clips if clip.id in json.loads(record.read_text())["clips"]]
    if what == "frames":
        damage(block, 0.5)
    elif what == "cut":
        block.write_bytes(block.read_bytes()[:3000])
    elif what == "absent":
        block.unlink()
    elif what == "record":
        record.write_bytes(record.read_bytes().replace(b'"lengths":[', b'"lengths":[1'))
    elif what == "cut record":
        record.write_bytes(record.read_bytes()[:50])
    elif what == "of another pack":
        some(folder, "commits/*.json").rename(folder / "commits" / "moved.json")
        block.write_bytes(sorted(folder.glob("blocks/*.h5"))[-1].read_bytes() + b" ")
    else:
        (folder / "pack.json").write_bytes((folder / "pack.json").read_bytes().replace(b'"area"', b'"cubic"'))

    if what == "attributes":
        with pytest.raises(InputError, match="found a changed one"):
            FramePack.open(folder)
    else:
        problems = FramePack.open(folder).verify()
        assert problems
        assert all("expected what was written, found" in line and "\n" not in line for line in problems)

    def read_all() -> None:
        for clip in inside:
            read_clip(PackedFrames(copy, PACK), clip, FRAMES.model_copy(update={"keep_every": 1}))

    with pytest.raises(InputError, match="expected"):
        read_all()


def test_every_byte_of_a_block_counts(copy: Path, root: Path, clips: list[Clip]) -> None:
    """A flipped bit anywhere is found by verify, and never gives other pixels."""
    folder = copy / "train"
    block = some(folder, "blocks/*.h5")
    whole = block.read_bytes()
    record = next(c for c in FramePack.open(folder).commits() if c.file.endswith(block.name))
    inside = [clip for clip in clips if clip.id in record.clips]
    for place in np.random.default_rng(0).uniform(0, 1, 40):
        damage(block, place)
        assert FramePack.open(folder).verify(), place
        source = PackedFrames(copy, PACK)
        for clip in inside:
            try:
                found = read_clip(source, clip, FRAMES)
            except InputError:
                continue
            np.testing.assert_array_equal(found, read_clip(root, clip, FRAMES))
        block.write_bytes(whole)


def test_what_is_no_pack_is_left_alone(root: Path, clips: list[Clip], client: Client, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="expected a frame pack or an empty folder"):
        pack_split(clips, len(clips), root, tmp_path / "train", FRAMES, PACK, client)
    with pytest.raises(InputError, match="expected a frame pack, found none"):
        read_clip(PackedFrames(tmp_path, PACK), clips[0], FRAMES)
    with pytest.raises(InputError, match="expected the dataset's root /no/root"):
        pack_split(clips, len(clips), "/no/root", tmp_path / "new", FRAMES, PACK, client)


# The format

encoded = st.binary(min_size=1, max_size=300)
blocks = st.lists(
    st.lists(st.tuples(st.text(min_size=1, max_size=20), st.lists(encoded, min_size=1, max_size=6)), max_size=5,
             unique_by=lambda clip: clip[0]),
    max_size=4,
)  # fmt: skip


@given(blocks)
@hypothesis_settings(deadline=None, max_examples=40)
def test_any_bytes_come_back(tmp_path_factory: pytest.TempPathFactory, given_blocks: list) -> None:
    folder = tmp_path_factory.mktemp("pack")
    pack = FramePack.create(folder, {"schema": "fla-slt frame pack 1"})
    expected: dict[str, list[bytes]] = {}
    for number, clips in enumerate(given_blocks):
        pack.write_block(f"{number:032x}", clips)
        for id, frames in clips:
            expected.setdefault(id, frames)  # of two, the first block counts
    opened = FramePack.open(folder)
    assert opened.verify() == []
    assert opened.lengths() == {id: len(frames) for id, frames in expected.items()}
    reader = re.search(r"```python\n(.*?)```", (REPOSITORY / "docs/packs.md").read_text(), re.DOTALL)
    assert reader is not None
    source = reader[1].replace("cv2.imdecode(data[offsets[i] : offsets[i + 1]], cv2.IMREAD_COLOR)",
                               "data[offsets[i] : offsets[i + 1]].tobytes()")  # fmt: skip
    assert "tobytes" in source
    names: dict[str, object] = {"path": folder}
    exec(source, names)
    assert names["frames"] == expected


def test_the_reader_of_the_documentation(packs: Path, root: Path, clips: list[Clip]) -> None:
    source = re.search(r"```python\n(.*?)```", (REPOSITORY / "docs/packs.md").read_text(), re.DOTALL)
    assert source is not None
    names: dict = {"path": packs / "train"}
    exec(source[1], names)
    every = FrameSettings(resize=32, crop=32, keep_every=1)
    for clip in clips:
        shown = np.stack(names["frames"][clip.id])[..., ::-1].transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(shown, read_clip(root, clip, every))


@pytest.mark.parametrize("order", [(False, True), (True, False)])
def test_a_job_that_fails_a_clip_takes_none_from_another(tmp_path: Path, order: tuple[bool, bool]) -> None:
    """Two jobs plan the same block; the clip cannot be read by one of them."""
    block = Block.of([write_folder(tmp_path / "root", f"c{number}", 2, number) for number in range(3)])
    broken = tmp_path / "broken"
    shutil.copytree(tmp_path / "root", broken)
    shutil.rmtree(broken / "c1")
    pack = FramePack.create(tmp_path / "pack", pack_provenance(FRAMES, PACK))
    for fails in order:
        pack_block(block, str(broken if fails else tmp_path / "root"), str(pack.folder), FRAMES, PACK)
    again = FramePack.open(tmp_path / "pack")
    assert again.verify() == []
    assert again.lengths() == {"c0": 2, "c1": 2, "c2": 2}
    assert again.failures() == {}
