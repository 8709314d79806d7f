"""The job on a scheduler and workers in processes of their own, as on a cluster."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from distributed import Client
from distributed.security import Security

from extract.errors import InputError
from extract.jobs.cluster import check_workers, job_script, local_cluster, open_cluster, plan_workers, visible_gpus
from extract.jobs.extract_job import extract_split
from extract.settings import ClusterSettings, ExtractSettings
from extract.store import upkeep
from extract.store.feature_store import FeatureStore

pytestmark = pytest.mark.long

REPOSITORY = Path(__file__).parents[3]
EXACT = {"dtype": "float32", "batch_frames": 16, "block_frames": 1}  # a block per clip
AS_HERE = {
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION": "1.0",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Processes:
    """A scheduler, and workers that join it, each a process group."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack, **environment: str) -> None:
        self.folder, self.stack = folder, stack
        self.address = f"tcp://127.0.0.1:{free_port()}"
        port = self.address.rpartition(":")[2]
        self.scheduler = self.start(
            "scheduler", "--host", "127.0.0.1", "--port", port, "--dashboard-address", "127.0.0.1:0", **environment
        )

    def start(self, what: str, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([*filter(None, [environment.pop("FIRST", "")]), str(REPOSITORY)])
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{what}", *words], start_new_session=True, cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path, **environment}, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.stack.callback(self.end, process)
        return process

    def worker(self, name: str, **environment: str) -> subprocess.Popen[bytes]:
        return self.start(
            "worker", self.address, "--name", name, "--nthreads", "1", "--no-dashboard", "--memory-limit", "0",
            "--local-directory", str(self.folder), **environment,
        )  # fmt: skip

    def end(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


@pytest.fixture
def processes(tmp_path):
    with contextlib.ExitStack() as stack:
        yield Processes(tmp_path, stack, **AS_HERE)


@pytest.fixture
def test_clips(tiny_index):
    return [clip for clip in tiny_index.clips() if clip.split == "test"]


@pytest.fixture(scope="module")
def undisturbed(tiny_index, tiny_dataset, tiny_encoder, tmp_path_factory):
    clips = [clip for clip in tiny_index.clips() if clip.split == "test"]
    path = tmp_path_factory.mktemp("undisturbed") / "test.zarr"
    with local_cluster(1) as client:
        extract_split(clips, len(clips), tiny_dataset.root, tiny_encoder, path, ExtractSettings(**EXACT), client)
    return FeatureStore.open(path)


def settings(processes: Processes, **more: object) -> ExtractSettings:
    return ExtractSettings(scheduler=processes.address, wait_seconds=60, **EXACT, **more)


def worker_pids(client: Client) -> dict[str, int]:
    return {
        client.scheduler_info(-1)["workers"][address]["name"]: pid for address, pid in client.run(os.getpid).items()
    }


def test_a_running_cluster_gives_the_features_of_a_local_run_although_a_worker_is_killed(
    processes, test_clips, tiny_dataset, tiny_encoder, tmp_path, undisturbed
):
    for name in ("a", "b"):
        processes.worker(name)
    path, said = tmp_path / "test.zarr", []
    chosen = settings(processes)
    with open_cluster(chosen, said.append) as client:
        client.wait_for_workers(2, timeout=60)
        before = worker_pids(client)

        def kill_one(progress):
            if progress.done >= 3 and "a" in before:
                os.kill(before.pop("a"), signal.SIGKILL)

        summary = extract_split(
            test_clips, len(test_clips), tiny_dataset.root, tiny_encoder, path, chosen, client, on_progress=kill_one
        )
        assert "a" not in before
    assert said == []
    assert (summary.extracted, summary.failed) == (len(test_clips), {})
    store = FeatureStore.open(path)
    assert upkeep.verify(store) == []
    assert sorted(store.lengths()) == sorted(undisturbed.lengths())
    for clip in test_clips:
        np.testing.assert_array_equal(store[clip.id], undisturbed[clip.id], strict=True)
    assert processes.scheduler.poll() is None  # it was there before the job, and stays
    with open_cluster(chosen) as client:
        assert client.submit(sum, [1, 2]).result() == 3


@pytest.mark.slow
def test_a_scheduler_that_dies_is_one_line(processes, test_clips, tiny_dataset, tiny_encoder, tmp_path):
    processes.worker("a")
    chosen = settings(processes)
    with open_cluster(chosen) as client, pytest.raises(InputError, match="lost connection"):
        extract_split(test_clips, len(test_clips), tiny_dataset.root, tiny_encoder, tmp_path / "test.zarr", chosen,
                      client, on_progress=lambda progress: processes.end(processes.scheduler))  # fmt: skip
    assert 0 < len(FeatureStore.open(tmp_path / "test.zarr").lengths()) < len(test_clips)


def test_settings_of_a_foreign_scheduler_are_said(tmp_path):
    said: list[str] = []
    with contextlib.ExitStack() as stack:
        processes = Processes(tmp_path, stack)
        processes.worker("a")
        with open_cluster(settings(processes), said.append):
            pass
    assert ["allowed-failures 3" in said[0], "worker-saturation 1.1" in said[1]] == [True, True]
    assert "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES=1" in said[0]


def test_what_workers_lack_is_named(processes, tiny_dataset, tiny_encoder, tmp_path):
    store = FeatureStore.create(tmp_path / "test.zarr", {"a": 1}, 4, "float16")
    processes.worker("a")
    with open_cluster(settings(processes)) as client:
        good = (str(tiny_dataset.root), str(tiny_encoder), store.location, store.fingerprint)
        check_workers(client, *good)
        with pytest.raises(InputError, match=r"worker tcp://\S+ on \S+: expected the dataset's root /no/root"):
            check_workers(client, "/no/root", *good[1:])
        with pytest.raises(InputError, match="expected the encoder /no/encoder"):
            check_workers(client, good[0], "/no/encoder", *good[2:])
        with pytest.raises(InputError, match="expected the store /no/store"):
            check_workers(client, *good[:2], "/no/store", good[3])
        with pytest.raises(InputError, match="found another one there"):
            check_workers(client, *good[:3], "0" * 64)


def test_a_worker_with_another_version_is_refused(processes, tiny_dataset, tiny_encoder, tmp_path):
    store = FeatureStore.create(tmp_path / "test.zarr", {"a": 1}, 4, "float16")
    older = tmp_path / "older" / "transformers-1.2.3.dist-info"
    older.mkdir(parents=True)
    (older / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 1.2.3\n")
    processes.worker("good")
    processes.worker("old", FIRST=str(older.parent))
    with open_cluster(settings(processes)) as client:
        client.wait_for_workers(2, timeout=60)
        with pytest.raises(
            InputError, match=r"worker tcp://\S+ on \S+: expected transformers \S+ as here, found 1\.2\.3"
        ):
            check_workers(client, str(tiny_dataset.root), str(tiny_encoder), store.location, store.fingerprint)


def test_a_worker_without_this_package_is_refused(processes, tiny_dataset, tiny_encoder, tmp_path):
    store = FeatureStore.create(tmp_path / "test.zarr", {"a": 1}, 4, "float16")
    broken = tmp_path / "broken" / "extract"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('not here')\n")
    processes.worker("bare", FIRST=str(broken.parent))
    with (
        open_cluster(settings(processes)) as client,
        pytest.raises(InputError, match=r"expected this package and what it needs, found .*not here"),
    ):
        check_workers(client, str(tiny_dataset.root), str(tiny_encoder), store.location, store.fingerprint)


def test_no_worker_and_no_scheduler(processes):
    chosen = settings(processes).model_copy(update={"wait_seconds": 2})
    with pytest.raises(InputError, match="expected a worker, found none in 2 s"), open_cluster(chosen):
        pass
    chosen = ExtractSettings(scheduler=f"tcp://127.0.0.1:{free_port()}", wait_seconds=1)
    with pytest.raises(InputError, match="expected a running Dask scheduler"), open_cluster(chosen):
        pass


# Plans


def test_one_worker_per_gpu_or_per_core():
    assert plan_workers([], 3) == [{}, {}, {}]
    assert plan_workers([], 3, workers=2) == [{}, {}]
    assert plan_workers(["0", "GPU-5e"], 8) == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "GPU-5e"}]
    assert [env["CUDA_VISIBLE_DEVICES"] for env in plan_workers(["4", "7"], 8, workers=3)] == ["4", "7", "4"]


def test_nobody_else_reaches_a_local_cluster():
    """Any user of the machine sees its ports, and a scheduler runs what a client sends."""
    with local_cluster(1) as client:
        place = client.scheduler.address.partition("://")[2]
        stranger = Security.temporary()
        for address, security in ((f"tcp://{place}", None), (f"tls://{place}", stranger)):
            with pytest.raises((OSError, TimeoutError)), Client(address, timeout=3, security=security) as other:
                other.run_on_scheduler(os.getpid)
        assert client.submit(os.getpid).result() != os.getpid()


def test_each_local_worker_has_its_gpu(monkeypatch):
    monkeypatch.setattr("extract.jobs.cluster.visible_gpus", lambda: ["4", "7"])
    with local_cluster() as client:
        assert sorted(client.run(os.getenv, "CUDA_VISIBLE_DEVICES").values()) == ["4", "7"]
        os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
        deadline = time.monotonic() + 60
        while True:  # the restarted one has the same
            time.sleep(1)
            with contextlib.suppress(Exception):
                found = sorted(client.run(os.getenv, "CUDA_VISIBLE_DEVICES", on_error="raise").values())
                if found == ["4", "7"]:
                    break
            assert time.monotonic() < deadline


def test_gpus_that_are_visible(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5e,-1,4")
    assert visible_gpus() == ["3", "GPU-5e"]


def test_the_job_script_asks_slurm_for_what_the_config_says():
    chosen = ClusterSettings(
        type="slurm", queue="gpu", account="slt", cores=2, memory="16GB", walltime="08:00:00", jobs=4,
        options={"processes": 1, "job_extra_directives": ["--gres=gpu:1"]},
    )  # fmt: skip
    script = job_script(chosen)
    for line in ("#SBATCH -p gpu", "#SBATCH -A slt", "#SBATCH --cpus-per-task=2", "#SBATCH --mem=15G",
                 "#SBATCH -t 08:00:00", "#SBATCH --gres=gpu:1"):  # fmt: skip
        assert line in script.splitlines()
    assert "dask worker" in script.replace("distributed.cli.dask_worker", "dask worker")
    assert "--nthreads 2" in script


def test_any_cluster_class_by_its_path(tmp_path):
    options = {
        "n_workers": 0,
        "threads_per_worker": 1,
        "dashboard_address": "127.0.0.1:0",
        "local_directory": str(tmp_path),
    }
    cluster = ClusterSettings(type="distributed.LocalCluster", jobs=2, options=options)
    with open_cluster(ExtractSettings(cluster=cluster)) as client:
        client.wait_for_workers(2, timeout=60)
    for wrong, found in (("no_such_module.Cluster", "no_such_module"), ("os.path.join", "os.path.join")):
        with (
            pytest.raises(InputError, match=f"found .*{found}"),
            open_cluster(ExtractSettings(cluster=ClusterSettings(type=wrong))),
        ):
            pass


def test_features_from_a_cluster_class_are_those_of_a_local_run(
    test_clips, tiny_dataset, tiny_encoder, tmp_path, undisturbed
):
    """The whole job, with options that are a dict, on workers in processes of their own."""
    options = {"n_workers": 0, "threads_per_worker": 1, "dashboard_address": None, "local_directory": str(tmp_path)}
    chosen = ExtractSettings(cluster={"type": "distributed.LocalCluster", "jobs": 2, "options": options}, **EXACT)
    with open_cluster(chosen) as client:
        path = tmp_path / "test.zarr"
        summary = extract_split(test_clips, len(test_clips), tiny_dataset.root, tiny_encoder, path, chosen, client)
    assert (summary.extracted, summary.failed) == (len(test_clips), {})
    store = FeatureStore.open(path)
    for clip in test_clips:
        np.testing.assert_array_equal(store[clip.id], undisturbed[clip.id], strict=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"type": "slurm"}, "needs cores and memory"),
        ({"type": "a.B", "queue": "gpu"}, "queue: only for type slurm"),
        ({"type": "slurm", "cores": 1, "memory": "1GB", "options": {"cores": 2}}, "cores: given twice"),
    ],
)
def test_settings_that_contradict_themselves(wrong, message):
    with pytest.raises(ValueError, match=message):
        ClusterSettings(**wrong)
    with pytest.raises(ValueError, match="exclude each other"):
        ExtractSettings(scheduler="tcp://a:1", cluster={"type": "a.B"})
