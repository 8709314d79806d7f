"""Two jobs that begin at the same store at once, each a driver with its own cluster."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from extract.dataset.clip_index import ClipIndex
from extract.dataset.manifest import Dataset
from extract.encoder.visual_encoder import VisualEncoder
from extract.errors import InputError
from extract.jobs.cluster import local_cluster
from extract.jobs.extract_job import extract_split
from extract.settings import ExtractSettings
from extract.store import upkeep
from extract.store.feature_store import FeatureStore

REPOSITORY = Path(__file__).parents[3]
SETTINGS = {"dtype": "float32", "backend": "torch", "batch_frames": 8, "workers": 1}

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
        clips = ClipIndex(index, "test").clips()
        with open_cluster(settings) as client:
            print("ready", flush=True)
            sys.stdin.readline()  # both begin together
            try:
                summary = extract_split(clips, len(clips), root, encoder, store, settings, client)
            except SltError as error:
                print(error, file=sys.stderr)
                sys.exit(error.exit_code)
        print(summary.extracted, summary.skipped)
"""


class Driver:
    def __init__(self, folder: Path, index: ClipIndex, root: Path, encoder: Path, store: Path, **more: object) -> None:
        folder.mkdir()
        script = folder / "driver.py"
        script.write_text(textwrap.dedent(DRIVER))
        words = map(str, (script, index.path, root, encoder, store, json.dumps({**SETTINGS, **more})))
        self.process = subprocess.Popen(
            [sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate("go\n", timeout=120)
        return self.process.returncode, out, err


@pytest.fixture
def running() -> Iterator[list[Driver]]:
    drivers: list[Driver] = []
    yield drivers
    for driver in drivers:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(driver.process.pid, signal.SIGKILL)
        driver.process.wait(30)


def together(drivers: list[Driver]) -> list[tuple[int, str, str]]:
    for driver in drivers:
        driver.ready()
    answers: dict[int, tuple[int, str, str]] = {}
    threads = [
        threading.Thread(target=lambda n=n, driver=driver: answers.update({n: driver.end()}))
        for n, driver in enumerate(drivers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answers[n] for n in range(len(drivers))]


@pytest.fixture(scope="module")
def undisturbed(
    tiny_index: ClipIndex, tiny_dataset: Dataset, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> FeatureStore:
    clips = ClipIndex(tiny_index.path, "test").clips()
    path = tmp_path_factory.mktemp("undisturbed") / "test.zarr"
    settings = ExtractSettings.model_validate(SETTINGS)
    with local_cluster(1) as client:
        extract_split(clips, len(clips), tiny_dataset.root, tiny_encoder, path, settings, client)
    return FeatureStore.open(path)


@pytest.mark.slow
def test_the_same_job_twice_at_once(
    tiny_index: ClipIndex, tiny_dataset: Dataset, tiny_encoder: Path, undisturbed: FeatureStore, tmp_path: Path,
    running: list[Driver],
) -> None:  # fmt: skip
    """Other block sizes too: both extract all clips, in other blocks, and merge them at about the same time."""
    path = tmp_path / "test.zarr"
    for name, frames in (("a", 1), ("b", 8)):
        running.append(Driver(tmp_path / name, tiny_index, tiny_dataset.root, tiny_encoder, path, block_frames=frames))
    for code, _, err in together(running):
        assert code == 0, err
    store = FeatureStore.open(path)
    assert upkeep.verify(store) == []
    assert store.failures() == {}
    assert sorted(store.lengths()) == sorted(undisturbed.lengths())
    for id in store.lengths():
        np.testing.assert_array_equal(store[id], undisturbed[id], strict=True)


@pytest.mark.slow
def test_two_encoders_at_one_store(
    tiny_index: ClipIndex, tiny_dataset: Dataset, tiny_encoder: Path, undisturbed: FeatureStore, tmp_path: Path,
    running: list[Driver],
) -> None:  # fmt: skip
    other = VisualEncoder.from_pretrained(tiny_encoder)
    with torch.no_grad():
        other.temporal.norms[0].weight *= 1.5
    other.save_pretrained(tmp_path / "other")
    path = tmp_path / "test.zarr"
    for name, encoder in (("a", tiny_encoder), ("b", tmp_path / "other")):
        running.append(Driver(tmp_path / name, tiny_index, tiny_dataset.root, encoder, path, block_frames=1))
    ended = together(running)
    assert sorted(code for code, _, _ in ended) == [0, 2], [err for _, _, err in ended]
    refused = next(err for code, _, err in ended if code == 2)
    assert "expected features of weights" in refused
    assert "They are never mixed" in refused
    assert refused.count("\n") == 1
    store = FeatureStore.open(path)
    assert upkeep.verify(store) == []
    assert sorted(store.lengths()) == sorted(undisturbed.lengths())
    first = ended[0][0] == 0
    same = [bool((store[id] == undisturbed[id]).all()) for id in store.lengths()]
    assert all(same) if first else not any(same)


@pytest.mark.parametrize("round", range(5))
def test_of_two_that_make_a_store_at_once_one_is_refused(tmp_path: Path, round: int) -> None:
    """Many times what two drivers do once: the attributes are never replaced."""
    for attempt in range(20):
        path, start = tmp_path / f"{attempt}.zarr", threading.Barrier(4)
        made: list[int] = []
        refused: list[str] = []

        def make(number: int, path: Path = path, start: threading.Barrier = start,
                 made: list[int] = made, refused: list[str] = refused) -> None:  # fmt: skip
            start.wait()
            try:
                FeatureStore.create(path, {"weights": str(number)}, 4, "float32")
                made.append(number)
            except InputError as error:
                refused.append(str(error))

        threads = [threading.Thread(target=make, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 1
        assert all("found weights " in line for line in refused)
        assert len(refused) == 3
        assert FeatureStore.open(path).provenance == {"weights": str(made[0])}
