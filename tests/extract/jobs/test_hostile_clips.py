"""Good, odd and hostile clips through the whole job: nothing is lost but what cannot be read."""

import dataclasses
import os
import signal
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cloudpickle
import cv2
import numpy as np
import pytest
import torch
from distributed import Client, WorkerPlugin

from extract.dataset.clip_index import Clip
from extract.decoding.read_clip import read_clip
from extract.encoder.visual_encoder import VisualEncoder
from extract.jobs.check_sources import look_at_sources
from extract.jobs.cluster import local_cluster
from extract.jobs.extract_job import extract_split
from extract.jobs.extract_worker import load_encoder
from extract.settings import EncoderSettings, ExtractSettings, FrameSettings
from extract.store import upkeep
from extract.store.feature_store import FeatureStore

pytestmark = pytest.mark.long

TINY = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}
DECODERS = ("opencv", "pyav")
EXACT = ExtractSettings(dtype="float32", batch_frames=4, block_frames=16, max_failure_rate=1.0)
ULTRA_HD, LONG = (3840, 2160), 100
"""A clip that takes 2.5 GB when all of its frames are held."""


def video(path: Path, count: int, codec: str = "libx264", size: tuple[int, int] = (64, 48), **options: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as file:
        stream = file.add_stream(codec, rate=25, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for number in range(count):
            image = np.full((size[1], size[0], 3), 20 + 9 * number % 200, np.uint8)
            image[:: 2 + number % 5, : size[0] // 2] = 90
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode(None))


def folder(path: Path, count: int) -> None:
    path.mkdir(parents=True)
    for number in range(count):
        cv2.imwrite(str(path / f"{number:06d}.png"), np.full((40, 30, 3), 20 + 9 * number, np.uint8))


def cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def truncated(path: Path) -> None:
    video(path, 100)
    cut(path, 0.5)


def text(path: Path) -> None:
    path.write_text("this is no video\n" * 99, "utf-8")


def sound(path: Path) -> None:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def enormous(path: Path) -> None:
    """A PNG of 100 bytes that claims 2.7 GB."""
    folder(path, 3)
    data = bytearray((path / "000000.png").read_bytes())
    data[16:24] = struct.pack(">II", 30000, 30000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (path / "000000.png").write_bytes(data)


def gap(path: Path) -> None:
    folder(path, 5)
    (path / "000002.png").unlink()


GOOD: dict[str, Callable[[Path], None]] = {
    "h264.mp4": lambda path: video(path, 30),
    "vp9.webm": lambda path: video(path, 30, "libvpx-vp9"),
    "mpeg4.avi": lambda path: video(path, 30, "mpeg4"),
    "one frame.mp4": lambda path: video(path, 1),
    "größe/手語 clip.mkv": lambda path: video(path, 17),
    "really an mp4.avi": lambda path: (video(path.with_suffix(".mp4"), 9), path.with_suffix(".mp4").rename(path)),
    "folder": lambda path: folder(path, 11),
    "4k.mp4": lambda path: video(path, LONG, size=ULTRA_HD, preset="ultrafast", g="10"),
}
BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "absent.mp4": (lambda path: None, "missing"),
    "zero bytes.mp4": (lambda path: path.write_bytes(b""), "empty"),
    "text.mp4": (text, "decode"),
    "truncated.mp4": (truncated, "decode"),
    "truncated.mkv": (truncated, "decode"),
    "sound.mp4": (sound, "decode"),
    "no frames": (lambda path: path.mkdir(), "empty"),
    "gap": (gap, "missing"),
    "enormous": (enormous, "decode"),
}
TIMES = {"inside": (0.2, 0.8, None), "late": (0.9, 1.5, None), "beyond": (3.0, 4.0, "missing"), "none": (1, 1, "empty")}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hostile")
    for name, make in [*GOOD.items(), *((name, make) for name, (make, _) in BAD.items())]:
        make(root / name)
    return root


@pytest.fixture(scope="module")
def split() -> list[Clip]:
    """Good and bad ones in turn."""
    good = [Clip(name, "train", name, 0, 25.0, "text", "de_DE") for name in GOOD]
    good += [
        Clip(name, "train", "h264.mp4", 0, 25.0, "text", "de_DE", start=start, end=end)
        for name, (start, end, _) in TIMES.items()
    ]
    bad = [Clip(name, "train", name, 0, 25.0, "text", "de_DE") for name in BAD]
    shuffled = np.random.default_rng(0).permutation(len(good) + len(bad))
    return [(good + bad)[i] for i in shuffled]


EXPECTED = {name: kind for name, (_, kind) in BAD.items()} | {
    name: kind for name, (_, _, kind) in TIMES.items() if kind is not None
}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_cluster(2) as client:
        yield client


@pytest.fixture(scope="module", params=DECODERS)
def encoder_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    frames = FrameSettings(decoder=request.param, keep_every=2, resize=32, crop=28)
    VisualEncoder.from_settings(EncoderSettings(backbone=TINY, width=16), frames).save_pretrained(directory)
    return directory


def peak_megabytes() -> float:
    # Not ru_maxrss, which a process inherits from the one that started it.
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


def test_good_clips_get_features_and_bad_ones_their_kind(
    root: Path, split: list[Clip], encoder_dir: Path, client: Client, tmp_path: Path
) -> None:
    client.wait_for_workers(2)  # another test may have killed one
    workers = dict(client.run(os.getpid))
    summary = extract_split(split, len(split), root, encoder_dir, tmp_path / "s.zarr", EXACT, client)
    store = FeatureStore.open(tmp_path / "s.zarr")
    failures = store.failures()
    assert {id: failure.kind for id, failure in failures.items()} == EXPECTED
    assert sorted(store.lengths()) == sorted(clip.id for clip in split if clip.id not in EXPECTED)
    assert summary.failed.total() + summary.extracted == len(split)
    assert upkeep.verify(store) == []
    for clip in split:
        if clip.id in failures:
            assert str(root / clip.source) in failures[clip.id].detail
    assert client.run(os.getpid) == workers, "a worker died"
    assert max(client.run(peak_megabytes).values()) < 1700

    encoder = load_encoder(encoder_dir)
    for clip in split:
        if clip.id not in EXPECTED and clip.id != "4k.mp4":
            frames = torch.from_numpy(read_clip(root, clip, encoder.config.frame_settings))
            with torch.inference_mode():
                expected, _ = encoder(frames, [len(frames)])
            np.testing.assert_allclose(store[clip.id], expected.numpy(), atol=1e-5)
    assert store.lengths()["4k.mp4"] == LONG // 2
    assert store.lengths()["inside"] == 8  # frames 5 to 19, one of two


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_index_says_the_same_before(root: Path, split: list[Clip], decoder: str) -> None:
    looks = look_at_sources([clip.source for clip in split], root, decoder)  # type: ignore[arg-type]
    checked = [looks[clip.source].at(root, clip, clamp=False) for clip in split]
    assert [clip.id for clip in checked] == [clip.id for clip in split]
    assert {clip.id: clip.problem.partition(":")[0] for clip in checked if clip.problem} == EXPECTED
    frames = {clip.id: clip.n_frames for clip in checked if clip.problem is None}
    assert frames == {
        "h264.mp4": 30, "vp9.webm": 30, "mpeg4.avi": 30, "one frame.mp4": 1, "größe/手語 clip.mkv": 17,
        "really an mp4.avi": 9, "folder": 11, "4k.mp4": LONG, "inside": 15, "late": 7,
    }  # fmt: skip
    assert all(clip.fps == pytest.approx(25) for clip in checked)


class DiesOnKiller(WorkerPlugin):
    """Stands for a file that crashes the decoder: reading the clip ``killer`` is a segmentation fault."""

    name = "dies-on-killer"

    def setup(self, worker: object) -> None:
        import extract.decoding.read_or_failure as module

        read = module.read_clip

        def read_or_die(root: Path, clip: Clip, frames: FrameSettings, **options: Any) -> np.ndarray:
            if clip.id == "killer":
                os.kill(os.getpid(), signal.SIGSEGV)
            return read(root, clip, frames, **options)

        module.read_clip = read_or_die  # type: ignore[assignment]


def test_a_clip_that_kills_the_process_is_found_among_the_others(
    root: Path, split: list[Clip], encoder_dir: Path, client: Client, tmp_path: Path
) -> None:
    def set_allowed_failures(number: int, dask_scheduler: object = None) -> None:
        dask_scheduler.allowed_failures = number  # type: ignore[attr-defined]

    some = [clip for clip in split if clip.id != "4k.mp4"]
    killer = dataclasses.replace(next(clip for clip in some if clip.id == "h264.mp4"), id="killer")
    whole = [*some[:5], killer, *some[5:]]
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import test modules
    client.register_plugin(DiesOnKiller())
    client.run_on_scheduler(set_allowed_failures, 0)  # each death costs the test some seconds
    try:
        summary = extract_split(whole, len(whole), root, encoder_dir, tmp_path / "s.zarr", EXACT, client)
    finally:
        client.run_on_scheduler(set_allowed_failures, 1)
        client.unregister_worker_plugin(DiesOnKiller.name)
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    store = FeatureStore.open(tmp_path / "s.zarr")
    kinds = {id: failure.kind for id, failure in store.failures().items()}
    assert kinds == EXPECTED | {"killer": "worker_crash"}
    assert sorted(store.lengths()) == sorted(clip.id for clip in some if clip.id not in EXPECTED)
    assert summary.failed["worker_crash"] == 1
    assert upkeep.verify(store) == []
