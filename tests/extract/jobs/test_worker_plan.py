"""What workers are told to do by the machines that they run on."""

import pytest

from extract.jobs.worker_plan import Machine, WorkerPlan, block_frames, crew_of, told
from extract.settings import ExtractSettings

H200 = "NVIDIA H200"


def on(host: str, worker: str, gpu: str = "", cores: int = 16) -> Machine:
    return Machine(host, worker, "cuda" if gpu else "cpu", gpu, cores)


def test_this_machine_decodes_in_turn_unless_told_otherwise() -> None:
    here = Machine.here()
    if here.gpu:
        pytest.skip("has a GPU")
    assert (here.device, here.worker) == ("cpu", "")
    assert WorkerPlan.of(ExtractSettings(), here, {}) == WorkerPlan(0, 0, 32)
    assert WorkerPlan.of(ExtractSettings(decode_processes=3, batch_frames=7), here, {}).processes == 3
    assert block_frames(ExtractSettings(), [here]) == (32, 2048)
    assert told(ExtractSettings(), [here, here])[0].startswith("2 workers on CPUs, ")


def test_workers_beside_gpus_share_the_cores_and_the_gpus() -> None:
    machines = [on("a", "0", H200), on("a", "1", H200), on("a", "2", H200), on("b", "3", H200), on("c", "4", "", 8)]
    crew = crew_of(machines)
    assert crew == {"a": ["0", "1", "2"], "b": ["3"], "c": ["4"]}
    plans = [WorkerPlan.of(ExtractSettings(), machine, crew) for machine in machines]
    assert [plan.processes for plan in plans] == [5, 5, 5, 15, 0]
    assert [plan.number for plan in plans] == [0, 1, 2, 0, 0]
    assert [plan.batch_frames for plan in plans] == [256, 256, 256, 256, 32]
    late = WorkerPlan.of(ExtractSettings(), on("d", "late", H200, 1), crew)
    assert (late.number, late.processes) == (0, 1)
    assert block_frames(ExtractSettings(), machines[:4]) == (256, 16384)
    assert block_frames(ExtractSettings(), machines) == (256, 2048)
    assert block_frames(ExtractSettings(block_frames=9, batch_frames=5), machines) == (5, 9)
    assert told(ExtractSettings(compute="bfloat16"), machines[:4]) == [
        f"3 workers on a GPU each ({H200}), 16 cores: 5 processes decode ahead of each; batches of 256 frames, "
        "blocks of 16384, bfloat16",
        f"1 worker on a GPU each ({H200}), 16 cores: 15 processes decode ahead of each; batches of 256 frames, "
        "blocks of 16384, bfloat16",
    ]
