"""Any process of a job killed at any moment: the same command then goes on, and the store is as an undisturbed one.

The moments are drawn from a seed, relative to what the job has done so far (a folder of a block, a commit, a merged
block) and not to the clock, so that they are spread over start-up, extraction and merging on any machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from distributed import Client

from extract.dataset.clip_index import Clip, ClipIndex, write_index
from extract.encoder.visual_encoder import VisualEncoder
from extract.jobs.cluster import local_cluster
from extract.jobs.extract_job import extract_split
from extract.settings import EncoderSettings, ExtractSettings, FrameSettings
from extract.store import inventory, upkeep
from extract.store.feature_store import FeatureStore

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[3]
CLIPS = 40
TINY = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1], "layer_type": "basic"}
# A clip or two per block: many commits, and much to merge.
SETTINGS = {"dtype": "float32", "backend": "torch", "batch_frames": 4, "block_frames": 4, "wait_seconds": 60}

DRIVER = """
    import sys
    from extract.jobs.cluster import open_cluster
    from extract.errors import SltError
    from extract.dataset.clip_index import ClipIndex
    from extract.jobs.extract_job import extract_split
    from extract.settings import ExtractSettings

    if __name__ == "__main__":
        index, root, encoder, store, said = sys.argv[1:]
        settings = ExtractSettings.model_validate_json(said)
        clips = ClipIndex(index, "train").clips()
        try:
            with open_cluster(settings) as client:
                summary = extract_split(clips, len(clips), root, encoder, store, settings, client)
        except SltError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
        print(summary.extracted, summary.skipped)
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``frames``, ``index.parquet``, ``encoder`` and ``driver.py``."""
    folder = tmp_path_factory.mktemp("corpus")
    clips = []
    for number in range(CLIPS):
        rng, id = np.random.default_rng(number), f"clip-{number:02d}"
        (folder / "frames" / id).mkdir(parents=True)
        count = 1 + 2 * (number % 7)
        for frame in range(count):
            image = rng.integers(0, 255, size=(36, 40, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / "frames" / id / f"images{frame + 1:04d}.png"), image)
        clips.append(Clip(id, "train", id, count, 25.0, "text", "de_DE"))
    write_index(folder / "index.parquet", clips)
    torch.manual_seed(0)
    frames = FrameSettings(keep_every=2, resize=32, crop=28)
    VisualEncoder.from_settings(EncoderSettings(backbone=TINY, width=16), frames).save_pretrained(folder / "encoder")
    (folder / "driver.py").write_text(textwrap.dedent(DRIVER))
    return folder


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    clips = ClipIndex(corpus / "index.parquet", "train").clips()
    path = tmp_path_factory.mktemp("undisturbed") / "train.zarr"
    settings = ExtractSettings.model_validate(SETTINGS)
    with local_cluster(1) as client:
        extract_split(clips, CLIPS, corpus / "frames", corpus / "encoder", path, settings, client)
    return FeatureStore.open(path)


class Job:
    """A driver in a process group of its own."""

    def __init__(self, corpus: Path, store: Path, folder: Path, **settings: object) -> None:
        self.log = folder / "driver.log"
        said = json.dumps({**SETTINGS, **settings})
        names = (corpus / "driver.py", corpus / "index.parquet", corpus / "frames", corpus / "encoder", store)
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, *map(str, names), said], start_new_session=True, stdout=log, stderr=log,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"},
            )  # fmt: skip

    def kill(self) -> None:
        """The driver, and with it the workers and the scheduler that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def workers(self) -> list[int]:
        """Of a local cluster: the processes of the group that Dask started."""
        return [pid for pid in processes(self.process.pid) if "spawn_main" in commandline(pid)]

    def finish(self) -> int:
        return self.process.wait(120)


def processes(group: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.getpgid(int(entry.name)) == group:
                    found.append(int(entry.name))
    return found


def commandline(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def wait_until(condition: Callable[[], bool], job: Job) -> bool:
    """False when the job ends before the condition holds."""
    deadline = time.monotonic() + 60
    while not condition():
        if job.process.poll() is not None:
            return False
        assert time.monotonic() < deadline, job.log.read_text()
        time.sleep(0.002)
    return True


def committed(store: Path) -> int:
    """Clips, as the records say; those that are replaced at this moment may be missed."""
    count = 0
    for path in store.glob("commits/*.json"):
        with contextlib.suppress(OSError):
            count += len(set(json.loads(path.read_bytes())["clips"]))
    return count


def merging(store: Path) -> bool:
    return any(store.glob("blocks/m0*"))


def check_readable(path: Path, undisturbed: FeatureStore) -> int:
    """A store that was just interrupted: what it has is right; the number of its clips."""
    if not (path / "zarr.json").exists():
        return 0
    store = FeatureStore.open(path)
    assert upkeep.verify(store) == []
    ids = list(store.lengths())
    for id in ids:
        np.testing.assert_array_equal(store[id], undisturbed[id], strict=True)
    assert store.failures() == {}
    return len(ids)


def check_equal(path: Path, undisturbed: FeatureStore) -> None:
    assert check_readable(path, undisturbed) == CLIPS
    store = FeatureStore.open(path)
    assert len(store.commits()) == 1  # merged
    orphans = inventory.take(store)[0].orphans
    removed = upkeep.gc(store, grace_seconds=0)  # records that were never finished, besides
    assert sum(key.startswith("blocks/") for key in removed) == orphans
    assert inventory.take(store)[0].orphans == 0
    assert sorted(item.name for item in (path / "blocks").iterdir() if item.is_dir()) == [
        commit.group.partition("/")[2] for commit in store.commits()
    ]
    assert check_readable(path, undisturbed) == CLIPS


def test_the_driver_killed_with_its_cluster(corpus: Path, undisturbed: FeatureStore, tmp_path: Path) -> None:
    path, rng, seen = tmp_path / "train.zarr", random.Random(1), []
    moments: list[Callable[[], bool]] = [
        lambda: True,  # importing
        (path / "zarr.json").exists,  # the store was just made
        *[lambda more=more: committed(path) >= len_before + more for more in (1, 2, *rng.choices(range(2, 10), k=3))],
        lambda: merging(path),
        lambda: merging(path),
    ]
    for moment in moments:
        len_before = check_readable(path, undisturbed)
        job = Job(corpus, path, tmp_path, workers=1)
        ended = not wait_until(moment, job)
        time.sleep(rng.random() * (0.01 if merging(path) else 0.05))
        job.kill()
        assert not ended or job.process.returncode == 0, job.log.read_text()
        seen.append(check_readable(path, undisturbed))
        assert seen[-1] >= len_before
    job = Job(corpus, path, tmp_path, workers=1)
    assert job.finish() == 0, job.log.read_text()
    assert job.log.read_text().split() == [str(CLIPS - seen[-1]), str(seen[-1])]
    assert len({*seen}) > 3, "the moments were too much alike"
    check_equal(path, undisturbed)


def test_workers_killed_one_after_the_other(corpus: Path, undisturbed: FeatureStore, tmp_path: Path) -> None:
    """One job lives through it: the nannies start new workers. Where none is left, it ends with one line."""
    path, rng, killed = tmp_path / "train.zarr", random.Random(2), 0
    job = Job(corpus, path, tmp_path, workers=2, wait_seconds=10)
    while killed < 5:
        # Two that have started: one that is killed before that is never started again.
        count = committed(path)
        if not wait_until(lambda count=count: committed(path) > count and len(job.workers()) == 2, job):
            break
        time.sleep(rng.random() * 0.03)
        with contextlib.suppress(ProcessLookupError, IndexError):
            os.kill(rng.choice(job.workers()), signal.SIGKILL)
            killed += 1
    code = job.finish()
    if code:  # a worker was killed while it started, and none was left
        assert code == 2, job.log.read_text()
        assert "expected a worker, found none" in job.log.read_text()
        check_readable(path, undisturbed)
        job = Job(corpus, path, tmp_path, workers=2)
        assert job.finish() == 0, job.log.read_text()
    assert killed >= 4
    check_equal(path, undisturbed)


def test_the_driver_alone_killed_takes_its_workers_with_it(
    corpus: Path, undisturbed: FeatureStore, tmp_path: Path
) -> None:
    """As the system does when memory runs out. A worker that stayed would hold a GPU, and write on."""
    path = tmp_path / "train.zarr"
    job = Job(corpus, path, tmp_path, workers=2)
    assert wait_until(lambda: committed(path) >= 3, job)
    job.process.kill()
    job.process.wait(30)
    deadline = time.monotonic() + 30
    while job.workers():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    again = Job(corpus, path, tmp_path, workers=2)
    assert again.finish() == 0, again.log.read_text()
    check_equal(path, undisturbed)


# Scheduler and workers as processes of their own


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """What a test has started, to be ended with it."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def dask(started: list[subprocess.Popen[bytes]], folder: Path, *words: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", *words], start_new_session=True, cwd=folder, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1",
             "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
             "DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION": "1.0"},
    )  # fmt: skip
    started.append(process)
    return process


def test_the_scheduler_killed(
    corpus: Path, undisturbed: FeatureStore, tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    """The job ends with one line. The workers wait for a scheduler at the same address, and do the next job."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    address, path, rng = f"tcp://127.0.0.1:{port}", tmp_path / "train.zarr", random.Random(3)

    def scheduler() -> subprocess.Popen[bytes]:
        return dask(started, tmp_path, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", port,
                    "--no-dashboard", "--dashboard-address", "127.0.0.1:0")  # fmt: skip

    def worker() -> subprocess.Popen[bytes]:
        return dask(started, tmp_path, "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard",
                    "--memory-limit", "0", "--local-directory", str(tmp_path))  # fmt: skip

    before = 0
    moments: list[tuple[Callable[[], bool], float]] = [
        ((path / "zarr.json").exists, 0.0),  # while the workers are asked what they see
        (lambda: any(path.glob("blocks/*-*")), 0.01),
        (lambda: committed(path) >= before + 2, 0.02),
        (lambda: committed(path) >= before + 5, 0.05),
        (lambda: committed(path) >= CLIPS or merging(path), 0.01),
    ]
    for number, (moment, delay) in enumerate(moments):
        serving = scheduler()
        worker()
        with Client(address, timeout=60) as client:
            client.wait_for_workers(1, timeout=60)
        job = Job(corpus, path, tmp_path, scheduler=address, wait_seconds=6)  # so long the lost one is looked for
        reached = wait_until(moment, job)
        time.sleep(rng.random() * delay)
        os.killpg(serving.pid, signal.SIGKILL)
        serving.wait(30)
        code = job.finish()
        said = job.log.read_text()
        assert reached, said
        last = number == len(moments) - 1  # merging needs no scheduler
        assert code == 2 or (last and code == 0), said
        if code:
            assert said.startswith(f"error: scheduler {address}: expected an answer, found a lost connection"), said
            assert said.count("\n") == 1, said
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)
        before = check_readable(path, undisturbed)
    serving = scheduler()
    worker()
    job = Job(corpus, path, tmp_path, scheduler=address)
    assert job.finish() == 0, job.log.read_text()
    check_equal(path, undisturbed)
