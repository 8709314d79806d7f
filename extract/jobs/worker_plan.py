"""What each worker does with its machine: how many processes decode, how large a batch is, and why."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import torch
from dask.system import CPU_COUNT
from distributed import get_worker

from extract.encoder.encoder_device import encoder_device, usual_batch
from extract.settings import ExtractSettings

_BLOCK_FRAMES = {"cuda": 16384, "cpu": 2048}

Crew = Mapping[str, Sequence[str]]
"""Host to the names of the workers on it, in order: the same in all tasks of a job, and kept by a worker that a nanny
starts again."""


@dataclasses.dataclass(frozen=True, slots=True)
class Machine:
    """Where a worker runs."""

    host: str
    worker: str
    """Its name."""
    device: str
    """``cpu`` or ``cuda``."""
    gpu: str
    """Its name, empty without one."""
    cores: int

    @classmethod
    def here(cls) -> Machine:
        """This process's: on a Dask worker or anywhere else."""
        device = encoder_device()
        gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
        return cls(platform.node(), _name(), device.type, gpu, CPU_COUNT)


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerPlan:
    """What a worker runs."""

    number: int
    """Of its GPU, among those that it may use; from the first again after the last."""
    processes: int
    """That decode; 0: in turn with the encoder."""
    batch_frames: int

    @classmethod
    def of(cls, settings: ExtractSettings, machine: Machine, crew: Crew) -> WorkerPlan:
        """
        Args:
            crew: of the job; a worker that joined later counts as the only one of its machine.
        """
        names = crew.get(machine.host, ())
        number = names.index(machine.worker) if machine.worker in names else 0
        processes = settings.decode_processes
        if processes is None:
            processes = 0 if machine.device == "cpu" else max(1, (machine.cores - 1) // max(1, len(names)))
        if os.name != "posix" or settings.jpeg_decoder != "opencv":  # elsewhere a process is not given a file to share
            processes = 0
        return cls(number, processes, settings.batch_frames or usual_batch(machine.device))


def crew_of(machines: Iterable[Machine]) -> dict[str, list[str]]:
    """The workers by host."""
    crew: dict[str, list[str]] = {}
    for machine in sorted(machines, key=lambda machine: (machine.host, machine.worker)):
        crew.setdefault(machine.host, []).append(machine.worker)
    return crew


def block_frames(settings: ExtractSettings, machines: Iterable[Machine]) -> tuple[int, int]:
    """Least and most frames of a block: fewer would not fill a batch, and the slowest of the workers takes no more."""
    devices = {machine.device for machine in machines}
    least = max(settings.batch_frames or usual_batch(device) for device in devices)
    return least, settings.block_frames or min(_BLOCK_FRAMES[device] for device in devices)


def told(settings: ExtractSettings, machines: Sequence[Machine]) -> list[str]:
    """A line for workers that are alike: what was chosen for them."""
    crew = crew_of(machines)
    plans = Counter(
        (machine.gpu, machine.cores, plan.processes, plan.batch_frames)
        for machine in machines
        for plan in [WorkerPlan.of(settings, machine, crew)]
    )
    lines = []
    for (gpu, cores, processes, batch), count in plans.items():
        where = f"on a GPU each ({gpu})" if gpu else "on CPUs"
        ahead = f"{processes} processes decode ahead of each" if processes else "decoding in turn with the encoder"
        if settings.jpeg_decoder != "opencv":
            ahead = f"JPEG decoded by {settings.jpeg_decoder} on {'the GPU' if gpu else 'the CPU, for there is no GPU'}"
        given = ", as set" if settings.decode_processes is not None else ""
        lines.append(
            f"{count} worker{'s' * (count > 1)} {where}, {cores} cores: {ahead}{given}; batches of {batch} frames, "
            f"blocks of {block_frames(settings, machines)[1]}, {settings.compute}"
        )
    return lines


def _name() -> str:
    try:
        return str(get_worker().name)
    except ValueError:  # no task, and no worker
        return ""
