"""The Dask job on real files and real processes: the same features whatever happens to the processes."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import cloudpickle
import cv2
import dask
import numpy as np
import pytest
import torch
from distributed import WorkerPlugin

from extract.dataset.clip_index import Clip, write_index
from extract.decoding.read_clip import read_clip
from extract.encoder.extractor import load_encoder
from extract.encoder.feature_provenance import feature_provenance
from extract.encoder.visual_encoder import VisualEncoder
from extract.errors import InputError
from extract.jobs.blocks import plan_blocks
from extract.jobs.cluster import local_cluster
from extract.jobs.extract_job import extract_split
from extract.jobs.extract_worker import extract_block
from extract.jobs.job_account import FailureRateError, Progress
from extract.settings import EncoderSettings, ExtractSettings, FrameSettings, View
from extract.store import upkeep
from extract.store.feature_store import FeatureStore

TINY = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}
FRAMES = FrameSettings(resize=32, crop=28)
REPOSITORY = Path(__file__).parents[3]
EXACT = ExtractSettings(dtype="float32", batch_frames=4, block_frames=8)
ROUNDING = 1e-5 if torch.cuda.is_available() else 0
"""A GPU takes the clips of a block through the temporal module together."""


def save_encoder(directory: Path, frames: FrameSettings = FRAMES, scale: float = 1.0) -> Path:
    torch.manual_seed(0)
    encoder = VisualEncoder.from_settings(EncoderSettings(backbone=TINY, width=16), frames)
    with torch.no_grad():
        encoder.temporal.norms[0].weight *= scale
    encoder.save_pretrained(directory)
    return directory


def write_clip(root: Path, id: str, n_frames: int, seed: int) -> Clip:
    """A square that moves over noise, in a frame folder."""
    rng = np.random.default_rng(seed)
    (root / id).mkdir(parents=True)
    for number in range(n_frames):
        image = rng.integers(0, 80, size=(36, 40, 3), dtype=np.uint8)
        image[5 + number % 20 :][:9, 3 + seed % 20 :][:, :9] = 200
        cv2.imwrite(str(root / id / f"images{number + 1:04d}.png"), image)
    return Clip(id, "train", id, n_frames, 25.0, "text", "de_DE")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("frames")


@pytest.fixture(scope="module")
def clips(root):
    return [write_clip(root, f"clip-{i:02d}", 1 + 3 * (i % 7), seed=i) for i in range(24)]


@pytest.fixture(scope="module")
def encoder_dir(tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        with local_cluster(2) as client:
            assert list(folder.glob("slt-dask-*/*"))
            yield client
    assert not list(folder.glob("slt-dask-*"))


def plainly(clips):
    return ((clip, (View(),)) for clip in clips)


def extract_here(clips, root, encoder_dir, path, settings):
    """What one worker does, in this process: nothing is killed, nothing runs beside it."""
    encoder = load_encoder(encoder_dir)
    provenance = feature_provenance(encoder, settings.dtype)
    store = FeatureStore.create(path, provenance, encoder.config.width, settings.dtype)
    for block in plan_blocks(plainly(clips), encoder.config.frame_settings.keep_every, settings.block_frames):
        extract_block(block, str(root), str(encoder_dir), str(path), store.fingerprint, settings)
    return FeatureStore.open(path)


@pytest.fixture(scope="module")
def undisturbed(clips, root, encoder_dir, tmp_path_factory):
    return extract_here(clips, root, encoder_dir, tmp_path_factory.mktemp("undisturbed") / "train.zarr", EXACT)


def snapshot(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def largest_difference(a: FeatureStore, b: FeatureStore) -> float:
    assert a.lengths() == b.lengths() or sorted(a.lengths()) == sorted(b.lengths())
    ids = sorted(a.lengths())
    return float(np.abs(a.load(ids).array.astype("f8") - b.load(ids).array.astype("f8")).max())


# What the features are


def test_features_are_those_of_the_encoder(undisturbed, clips, root, encoder_dir):
    encoder = load_encoder(encoder_dir)
    for clip in clips:
        frames = torch.from_numpy(read_clip(root, clip, FRAMES))
        with torch.inference_mode():
            expected, lengths = encoder(frames, [len(frames)])
        found = undisturbed[clip.id]
        assert found.shape == (lengths[0], 16)
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    assert len(np.unique(undisturbed.load().array, axis=0)) > len(clips)


@pytest.mark.parametrize(("batch", "block"), [(1, 1), (7, 30), (64, 4096)])
def test_batch_and_block_sizes_do_not_matter(undisturbed, clips, root, encoder_dir, tmp_path, batch, block):
    settings = ExtractSettings(dtype="float32", batch_frames=batch, block_frames=block)
    other = extract_here(clips[::-1], root, encoder_dir, tmp_path / "s.zarr", settings)
    assert other.fingerprint == undisturbed.fingerprint
    assert largest_difference(other, undisturbed) <= 1e-5


def test_float16_is_the_float32_rounded(undisturbed, clips, root, encoder_dir, tmp_path):
    settings = EXACT.model_copy(update={"dtype": "float16"})
    half = extract_here(clips, root, encoder_dir, tmp_path / "s.zarr", settings)
    assert half.fingerprint != undisturbed.fingerprint
    ids = sorted(half.lengths())
    np.testing.assert_array_equal(half.load(ids).array, undisturbed.load(ids).array.astype("f2"), strict=True)


@pytest.mark.long
def test_two_workers_give_what_one_gives_and_a_second_run_does_nothing(
    undisturbed, clips, root, encoder_dir, tmp_path, client
):
    path = tmp_path / "train.zarr"
    seen: list[Progress] = []
    summary = extract_split(iter(clips), len(clips), root, encoder_dir, path, EXACT, client, on_progress=seen.append)
    assert (summary.clips, summary.extracted, summary.skipped) == (24, 24, 0)
    assert not summary.failed
    assert summary.frames == sum(-(-clip.n_frames // 4) for clip in clips)
    assert min(*(summary.spent[step] for step in ("forward", "write")), summary.seconds) > 0
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert (seen[-1].done, seen[-1].total) == (24, 24)
    assert seen[-1].clips_per_second > 0
    assert seen[-1].shares == summary.shares()
    figures = summary.figures()
    assert figures["frames_per_second"] == pytest.approx(summary.frames / summary.seconds)
    assert sum(figures["shares"].values()) == pytest.approx(1)
    store = FeatureStore.open(path)
    assert largest_difference(store, undisturbed) <= ROUNDING
    assert upkeep.verify(store) == []

    before = snapshot(path)
    again = extract_split(clips, len(clips), root, encoder_dir, path, EXACT, client)
    assert (again.extracted, again.skipped, again.frames) == (0, 24, 0)
    assert snapshot(path) == before


@pytest.mark.long
@pytest.mark.skipif(torch.cuda.is_available(), reason="forks, and computes on the CPU")
@pytest.mark.parametrize(
    ("start", "backend", "workers"), [("fork", "torch", 2), ("spawn", "onnxruntime", 1), ("fork", "ncnn", 2)]
)
def test_how_workers_start_and_what_computes_does_not_matter(
    undisturbed, clips, root, encoder_dir, tmp_path, start, backend, workers
):
    settings = EXACT.model_copy(update={"backend": backend, "batch_frames": 5, "block_frames": 11})
    with dask.config.set({"distributed.worker.multiprocessing-method": start}), local_cluster(workers) as client:
        extract_split(clips, len(clips), root, encoder_dir, tmp_path / "s.zarr", settings, client)
    store = FeatureStore.open(tmp_path / "s.zarr")
    assert {commit.versions["backend"].split()[0] for commit in store.commits()} == {backend}
    assert sorted(store.lengths()) == sorted(clip.id for clip in clips)
    assert largest_difference(store, undisturbed) <= 1e-5


# Killed processes

SCRIPT = """
    import sys
    from extract.jobs.cluster import local_cluster
    from extract.dataset.clip_index import ClipIndex
    from extract.jobs.extract_job import extract_split
    from extract.settings import ExtractSettings

    if __name__ == "__main__":
        index, root, encoder, store, settings = sys.argv[1:]
        clips = ClipIndex(index, "train").clips()
        with local_cluster(1) as client:
            extract_split(
                clips, len(clips), root, encoder, store, ExtractSettings.model_validate_json(settings), client
            )
"""


@pytest.mark.long
def test_a_killed_run_goes_on_where_it_was(undisturbed, clips, root, encoder_dir, tmp_path, client):
    path = tmp_path / "train.zarr"
    settings = EXACT.model_copy(update={"block_frames": 1})  # a block per clip
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(SCRIPT))
    index = write_index(tmp_path / "index.parquet", clips)
    command = [sys.executable, script, index, root, encoder_dir, path, settings.model_dump_json()]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 180
        while not list(path.glob("commits/*.json")):
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.001)
        os.killpg(process.pid, signal.SIGKILL)

    killed = FeatureStore.open(path)
    done = killed.lengths()
    assert 0 < len(done) < len(clips)
    assert upkeep.verify(killed) == []

    summary = extract_split(clips, len(clips), root, encoder_dir, path, settings, client)
    assert (summary.skipped, summary.extracted) == (len(done), len(clips) - len(done))
    store = FeatureStore.open(path)
    assert upkeep.verify(store) == []
    assert len(store.commits()) == 1  # merged
    for clip in clips:
        np.testing.assert_allclose(store[clip.id], undisturbed[clip.id], rtol=0, atol=ROUNDING, strict=True)


class DiesOnKiller(WorkerPlugin):
    """Stands for a file that crashes the decoder: reading the clip ``killer`` kills the worker process."""

    name = "dies-on-killer"

    def setup(self, worker):
        import extract.decoding.read_or_failure as module

        read = module.read_clip

        def read_or_die(root, clip, frames, **options):
            if clip.id == "killer":
                os.kill(os.getpid(), signal.SIGKILL)
            return read(root, clip, frames, **options)

        module.read_clip = read_or_die


@pytest.mark.long
def test_a_clip_that_kills_its_worker_is_found_and_recorded(undisturbed, clips, root, encoder_dir, tmp_path, client):
    def set_allowed_failures(number, dask_scheduler=None):
        dask_scheduler.allowed_failures = number

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import test modules
    client.register_plugin(DiesOnKiller())
    client.run_on_scheduler(set_allowed_failures, 0)  # each death costs the test some seconds
    killer = dataclasses.replace(clips[3], id="killer")
    # A block of two clips and then others, so that innocent ones run beside it.
    split = [clips[0], killer, clips[1], *clips[8:14]]
    settings = EXACT.model_copy(update={"block_frames": 4, "max_failure_rate": 0.2})
    path = tmp_path / "train.zarr"
    try:
        summary = extract_split(split, len(split), root, encoder_dir, path, settings, client)
        again = extract_split(split, len(split), root, encoder_dir, path, settings, client)
    finally:
        client.run_on_scheduler(set_allowed_failures, 1)
        client.unregister_worker_plugin(DiesOnKiller.name)
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert summary.failed == {"worker_crash": 1}
    assert summary.extracted == len(split) - 1
    store = FeatureStore.open(path)
    assert store.failures()["killer"].kind == "worker_crash"
    assert clips[3].source in store.failures()["killer"].detail
    assert sorted(store.lengths()) == sorted(clip.id for clip in split if clip.id != "killer")
    assert all((store[id] == undisturbed[id]).all() for id in store.lengths())
    assert (again.extracted, again.skipped, again.failed) == (0, len(split) - 1, {"worker_crash": 1})


# Clips that cannot be extracted


@pytest.fixture
def broken(root, clips, tmp_path):
    """Good and broken clips in a root of their own."""
    for clip in clips[:6]:
        shutil.copytree(root / clip.source, tmp_path / clip.source)
    truncated = tmp_path / clips[1].source / "images0001.png"
    truncated.write_bytes(truncated.read_bytes()[:-20])
    shutil.rmtree(tmp_path / clips[2].source)
    for frame in (tmp_path / clips[3].source).iterdir():
        frame.unlink()
    known = dataclasses.replace(clips[4], problem="too_short: 0.1 s")
    return tmp_path, [*clips[:4], known, clips[5]]


def test_broken_clips_are_recorded_and_the_job_goes_on(broken, encoder_dir, undisturbed, client, root):
    here, split = broken
    settings = EXACT.model_copy(update={"max_failure_rate": 1.0})
    path = here / "train.zarr"
    summary = extract_split(split, 6, here, encoder_dir, path, settings, client)
    assert summary.failed == {"decode": 1, "missing": 1, "empty": 1, "too_short": 1}
    store = FeatureStore.open(path)
    kinds = {id: failure.kind for id, failure in store.failures().items()}
    assert kinds == {"clip-01": "decode", "clip-02": "missing", "clip-03": "empty", "clip-04": "too_short"}
    assert "images0001.png" in store.failures()["clip-01"].detail
    assert store.failures()["clip-04"].detail == "0.1 s"
    assert sorted(store.lengths()) == ["clip-00", "clip-05"]
    assert (store["clip-05"] == undisturbed["clip-05"]).all()

    before = snapshot(path)
    again = extract_split(split, 6, here, encoder_dir, path, settings, client)
    assert (again.extracted, again.skipped, again.failed) == (0, 2, summary.failed)
    assert snapshot(path) == before

    shutil.copytree(root / "clip-02", here / "clip-02")
    again = settings.model_copy(update={"retry_failed": True})
    repaired = extract_split(split, 6, here, encoder_dir, path, again, client)
    assert (repaired.extracted, repaired.skipped) == (1, 2)
    assert repaired.failed == {"decode": 1, "empty": 1, "too_short": 1}
    assert sorted(FeatureStore.open(path).failures()) == ["clip-01", "clip-03", "clip-04"]


def test_too_many_failures_stop_the_job(broken, encoder_dir, client):
    here, split = broken
    settings = EXACT.model_copy(update={"max_failure_rate": 0.3, "block_frames": 1})
    for _ in range(2):  # what an earlier run recorded counts as well
        with pytest.raises(FailureRateError, match=r"of 6 clips failed .*max_failure_rate = 0\.3"):
            extract_split(split, 6, here, encoder_dir, here / "train.zarr", settings, client)
    store = FeatureStore.open(here / "train.zarr")
    assert upkeep.verify(store) == []
    assert len(store.failures()) >= 2


def test_features_that_are_not_finite_are_a_failure(root, clips, tmp_path):
    loud = save_encoder(tmp_path / "loud", scale=1e6)
    settings = EXACT.model_copy(update={"dtype": "float16"})
    store = extract_here(clips[:2], root, loud, tmp_path / "train.zarr", settings)
    assert store.lengths() == {}
    assert {failure.kind for failure in store.failures().values()} == {"nonfinite"}
    assert "not finite in float16" in store.failures()["clip-00"].detail


# Other features than the store's


@pytest.mark.parametrize(
    ("frames", "scale", "dtype", "named"),
    [
        (FRAMES, 1.001, "float32", "weights"),
        (FrameSettings(resize=36, crop=28), 1.0, "float32", "frames.resize 36, found frames.resize 32"),
        (FRAMES, 1.0, "float16", "dtype float16, found dtype float32"),
    ],
)
def test_features_made_differently_are_refused(
    undisturbed, clips, root, encoder_dir, tmp_path, client, frames, scale, dtype, named
):
    other = save_encoder(tmp_path / "other", frames, scale)
    before = snapshot(Path(undisturbed.location))
    settings = EXACT.model_copy(update={"dtype": dtype})
    with pytest.raises(InputError, match=f"expected features of {named}"):
        extract_split(clips, len(clips), root, other, undisturbed.location, settings, client)
    assert snapshot(Path(undisturbed.location)) == before


def test_a_worker_with_another_encoder_refuses_to_work(undisturbed, clips, root, tmp_path):
    other = save_encoder(tmp_path / "other", scale=2.0)
    (block,) = plan_blocks(plainly(clips[:1]), 4, 8)
    with pytest.raises(InputError, match="expected encoder and decoder of fingerprint"):
        extract_block(block, str(root), str(other), undisturbed.location, undisturbed.fingerprint, EXACT)


def test_an_encoder_without_all_weights_is_refused(encoder_dir, tmp_path):
    with pytest.raises(InputError, match=r"no config\.json"):
        load_encoder(tmp_path)
    shutil.copytree(encoder_dir, tmp_path, dirs_exist_ok=True)
    from safetensors.torch import load_file, save_file

    weights = load_file(tmp_path / "model.safetensors")
    del weights["temporal.convs.0.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 that do not fit, e\.g\. temporal\.convs\.0\.weight"):
        load_encoder(tmp_path)
