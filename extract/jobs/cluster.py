"""Where the extraction runs: processes of this machine, a running Dask cluster, SLURM, or any Dask cluster class."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import logging
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dask
import torch
from dask.system import CPU_COUNT
from distributed import Client, Nanny, Scheduler, SpecCluster
from distributed.deploy import Cluster
from distributed.security import Security

from extract.decoding.decoder_versions import decoder_versions
from extract.errors import InputError
from extract.jobs.worker_plan import Machine
from extract.settings import ClusterSettings, ExtractSettings

_SCHEDULER = {
    # A block that took two workers with it is divided to find the clip.
    "distributed.scheduler.allowed-failures": 1,
    # One task at a worker: one that waits there would be blamed for the death of its neighbour.
    "distributed.scheduler.worker-saturation": 1.0,
}
MALLOC = {"MALLOC_TRIM_THRESHOLD_": 2**28, "MALLOC_MMAP_THRESHOLD_": 2**25}
"""Environment of workers, for glibc. Dask makes malloc give freed memory back at once, and malloc gives that of large
arrays back by itself: every frame would pay for its pages anew, which takes longer than to fill them. The second is as
large as glibc takes."""
_LOCAL = {
    # Dask's own measuring, up to a hundred times a second in each process, took a twentieth of a core.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    **{f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in MALLOC.items()},
}
_DECIDING = ("torch", "transformers", "numpy", "zarr")


@contextlib.contextmanager
def open_cluster(
    settings: ExtractSettings, say: Callable[[str], None] = lambda line: None, computing: bool = True
) -> Iterator[Client]:
    """A client of the cluster that the settings name, with at least one worker.

    What was started is stopped in the end; a cluster that was running before goes on.

    Args:
        say: called with what a person should know, a line each.
        computing: whether it is work for GPUs, where there are any; the rest is work for every core.

    Raises:
        InputError: no scheduler there, no worker in ``settings.wait_seconds``, or no such cluster class.
    """
    if settings.scheduler is None and settings.cluster is None:
        with local_cluster(settings.workers, visible_gpus() if computing else []) as client:
            yield client
        return
    with dask.config.set(_SCHEDULER), contextlib.ExitStack() as stack:
        if settings.scheduler is not None:
            client = _join(settings.scheduler, settings.wait_seconds)
        else:
            assert settings.cluster is not None
            cluster = stack.enter_context(_start(settings.cluster))
            client = Client(cluster)
        stack.enter_context(client)
        _wait_for_worker(client, settings.wait_seconds)
        _compare_scheduler(client, say)
        yield client


@contextlib.contextmanager
def local_cluster(workers: int | None = None, gpus: Sequence[str] | None = None) -> Iterator[Client]:
    """A client of a cluster on this machine: by default a process per GPU or else per core.

    They speak TLS with a certificate that nobody else has: who can reach a scheduler can run code as its user, and any
    user of this machine reaches its loopback. On a CPU each has one thread; beside a GPU two, so that a block is
    decoded while the one before is written.

    Args:
        gpus: as ``visible_gpus``, which is the default.
    """
    gpus = visible_gpus() if gpus is None else gpus
    with tempfile.TemporaryDirectory(prefix="slt-dask-") as folder, dask.config.set({**_SCHEDULER, **_LOCAL}):
        security = Security.temporary()
        place = {"host": "127.0.0.1", "protocol": "tls", "security": security}
        options = {
            **place,
            "nthreads": 2 if gpus else 1,
            "memory_limit": 0,  # no limit: Dask would restart workers for the memory of torch
            "local_directory": folder,
            "dashboard": False,
            "silence_logs": logging.CRITICAL,
        }
        specification = {
            number: {"cls": Nanny, "options": {**options, "env": environment}}
            for number, environment in enumerate(plan_workers(gpus, CPU_COUNT, workers))
        }
        # Any free port for the dashboard: two jobs may share a machine.
        scheduler = {"cls": Scheduler, "options": {**place, "port": 0, "dashboard": True,
                                                   "dashboard_address": "127.0.0.1:0"}}  # fmt: skip
        with (
            SpecCluster(specification, scheduler, security=security, silence_logs=logging.CRITICAL) as cluster,
            Client(cluster, security=security) as client,
        ):
            yield client


def dashboard(client: Client) -> str | None:
    """Address of the scheduler's page, if there is one: Dask draws it with bokeh."""
    return client.dashboard_link or None if importlib.util.find_spec("bokeh") else None


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` has them: indices or UUIDs."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


def plan_workers(gpus: Sequence[str], cores: int, workers: int | None = None) -> list[dict[str, str]]:
    """The environment of each local worker: one per GPU, in turns when there are more, or one per core."""
    if not gpus:
        return [{} for _ in range(workers or cores)]
    return [{"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} for number in range(workers or len(gpus))]


def job_script(settings: ClusterSettings) -> str:
    """What SLURM would be given for each job; only for ``type: slurm``."""
    with _start(settings, scale=False) as cluster:
        script: str = cluster.job_script()
        return script


def check_workers(client: Client, source: str, encoder_dir: str, store: str, fingerprint: str) -> list[Machine]:
    """Whether each worker sees what the extraction needs, and computes with the same versions as this process.

    Args:
        source: the dataset's root, or the folder of its packs.

    Returns:
        Where they run.

    Raises:
        InputError: names a worker and what it lacks.
    """
    needs = {f"the dataset's root {source}": source, f"the encoder {encoder_dir}": f"{encoder_dir}/config.json"}
    _check(client, needs, _store_fingerprint, f"the store {store}", store, fingerprint)
    return list(client.run(Machine.here).values())


def check_packers(client: Client, root: str, pack: str, fingerprint: str) -> None:
    """Whether each worker sees what packing needs, with the same versions as this process.

    Raises:
        InputError: names a worker and what it lacks.
    """
    _check(client, {f"the dataset's root {root}": root}, _pack_fingerprint, f"the pack {pack}", pack, fingerprint)


def check_lookers(client: Client, root: str) -> None:
    """Whether each worker sees the dataset, with the same versions as this process.

    Raises:
        InputError: names a worker and what it lacks.
    """
    _check(client, {f"the dataset's root {root}": root})


def _check(
    client: Client,
    needs: Mapping[str, str],
    read: Callable[[str], str] | None = None,
    named: str = "",
    target: str = "",
    fingerprint: str = "",
) -> None:
    """Without ``read``, the workers write nothing."""
    wanted = _versions()
    answers = client.run(_look, needs, read, named, target, on_error="return")
    for worker, answer in answers.items():
        if isinstance(answer, BaseException):
            raise _refusal(worker, "this package and what it needs", f"{type(answer).__name__}: {answer}",
                           "Give the workers the same environment as this process.")  # fmt: skip
        host, versions, lacks, found = answer
        where = f"{worker} on {host}"
        for package, version in wanted.items():
            if versions[package] != version:
                raise _refusal(where, f"{package} {version} as here", versions[package],
                               "Give the workers the same environment: others give other features.")  # fmt: skip
        if lacks:
            raise _refusal(where, f"{lacks[0]} that it can use", "none",
                           "Workers need the dataset, the encoder and the store at the same paths.")  # fmt: skip
        if found != fingerprint:
            raise _refusal(where, named, f"another one there (fingerprint {found[:12]})",
                           "Use a place that all see: a shared folder, or for features a URL.")  # fmt: skip


def _look(
    needs: Mapping[str, str], read: Callable[[str], str] | None, named: str, target: str
) -> tuple[str, dict[str, str], list[str], str]:
    """On a worker: its host, versions, what it cannot see, and the fingerprint of the target that it sees."""
    found = ""
    lacks = [name for name, path in needs.items() if not os.access(path, os.R_OK | os.X_OK * Path(path).is_dir())]
    if target and "://" not in target and not os.access(target, os.W_OK | os.X_OK):
        lacks.append(f"{named}, to be written,")
    elif read is not None:
        try:
            found = read(target)
        except InputError as error:
            lacks.append(f"{named} ({error.found})")
    return platform.node(), _versions(), lacks, found


def _store_fingerprint(store: str) -> str:
    from extract.store.feature_store import FeatureStore

    return FeatureStore.open(store).fingerprint


def _pack_fingerprint(pack: str) -> str:
    from extract.packs.frame_pack import FramePack

    return FramePack.open(Path(pack)).fingerprint


def _versions() -> dict[str, str]:
    """Of what decides features, without the build: workers with GPUs have another build of torch than a login node."""
    found = {package: importlib.metadata.version(package).partition("+")[0] for package in _DECIDING}
    return {**found, "decoder": decoder_versions("opencv")}


def _refusal(where: object, expected: str, found: str, remedy: str) -> InputError:
    return InputError(f"worker {where}", expected=expected, found=" ".join(found.split()), remedy=remedy)


def _join(address: str, seconds: float) -> Client:
    # When the scheduler is lost, it says in lines of its own what the job then says in one.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    try:
        return Client(address, timeout=min(seconds, 30))
    except (OSError, ValueError) as error:
        raise InputError(f"scheduler {address}", expected="a running Dask scheduler", found=str(error).strip(),
                         remedy="Start one with `dask scheduler`, or mend the address.") from error  # fmt: skip


def _start(settings: ClusterSettings, scale: bool = True) -> Cluster:
    module, _, name = settings.path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, ValueError, AttributeError) as error:
        remedy = "Install it (SLURM: `pip install 'fla-slt[cluster]'`), or mend the path."
        raise InputError("extract.cluster.type", expected="the import path of a Dask cluster class", found=str(error),
                         remedy=remedy) from error  # fmt: skip
    if not (isinstance(cls, type) and issubclass(cls, Cluster)):
        raise InputError("extract.cluster.type", expected="a Dask cluster class", found=settings.path,
                         remedy="For example dask_kubernetes.operator.KubeCluster.")  # fmt: skip
    try:
        cluster = cls(**settings.arguments)
    except (TypeError, ValueError) as error:
        raise InputError("extract.cluster", expected=f"options that {name} takes", found=str(error),
                         remedy="See its documentation.") from error  # fmt: skip
    if scale and settings.jobs is not None:
        cluster.scale(**{"jobs" if settings.type == "slurm" else "n": settings.jobs})
    return cluster


def _wait_for_worker(client: Client, seconds: float) -> None:
    try:
        client.wait_for_workers(1, timeout=seconds)
    except TimeoutError as error:
        raise InputError(f"scheduler {client.scheduler.address}", expected="a worker", found=f"none in {seconds:g} s",
                         remedy="Start workers (`dask worker ADDRESS`), look at the queue, or raise "
                                "extract.wait_seconds.") from error  # fmt: skip


def _compare_scheduler(client: Client, say: Callable[[str], None]) -> None:
    """Says when the scheduler's settings, which a client cannot choose, make the search for a deadly clip longer.

    It finds that clip all the same: a suspect is tried again with no other block in flight.
    """

    def read(dask_scheduler: Any) -> tuple[float, float]:  # by value: the scheduler may not have this package
        return dask_scheduler.allowed_failures, dask_scheduler.WORKER_SATURATION

    found = client.run_on_scheduler(read)
    for (key, wanted), value in zip(_SCHEDULER.items(), found, strict=True):
        if value > wanted:
            variable = "DASK_" + key.replace(".", "__").replace("-", "_").upper()
            say(f"the scheduler has {key.rpartition('.')[2]} {value:g}: clips that kill their worker are found sooner "
                f"when it is started with {variable}={wanted:g}")  # fmt: skip
