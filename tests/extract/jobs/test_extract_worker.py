"""Workers whose frames come from processes: the same store as in turn, on clusters with and without nannies."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from distributed import Client, LocalCluster

from extract.dataset.clip_index import Clip
from extract.encoder.extractor import load_encoder
from extract.encoder.feature_provenance import feature_provenance
from extract.encoder.visual_encoder import VisualEncoder
from extract.jobs.blocks import Block
from extract.jobs.cluster import local_cluster
from extract.jobs.extract_job import extract_split
from extract.jobs.extract_worker import extract_block
from extract.jobs.job_account import Summary
from extract.settings import EncoderSettings, ExtractSettings, FrameSettings, View
from extract.store.feature_store import FeatureStore

TINY = {"model_type": "resnet", "layer_type": "basic", "embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1]}
VIEWS = (View(), View(phase=1))
SETTINGS = ExtractSettings(dtype="float32", batch_frames=4, block_frames=20, views=VIEWS, max_failure_rate=0.2,
                           decode_processes=0)  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(20):
        (folder / f"clip{number:02d}").mkdir()
        for frame in range(1 + 3 * (number % 7)):
            image = np.random.default_rng([number, frame]).integers(0, 256, (36, 40, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / f"clip{number:02d}/{frame:04d}.png"), image)
    (folder / "clip06/0004.png").write_bytes(b"no image")
    torch.manual_seed(0)
    frames = FrameSettings(keep_every=2, resize=32, crop=28)
    VisualEncoder.from_settings(EncoderSettings(backbone=TINY, width=16), frames).save_pretrained(folder / "encoder")
    return folder


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [Clip(f"c{n:02d}", "train", f"clip{n:02d}", 1 + 3 * (n % 7), 25.0, "", "de_DE") for n in range(20)]


@pytest.fixture(scope="module")
def in_turn(corpus: Path, clips: list[Clip], tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    path = tmp_path_factory.mktemp("in_turn") / "train.zarr"
    extract_here(corpus, clips, path, SETTINGS)
    return FeatureStore.open(path)


def extract_here(corpus: Path, clips: list[Clip], path: Path, settings: ExtractSettings) -> list[str]:
    provenance = feature_provenance(load_encoder(corpus / "encoder"), "float32")
    store = FeatureStore.create(path, provenance, 16, "float32")
    arguments = (str(corpus), str(corpus / "encoder"), store.location, store.fingerprint, settings)
    record = extract_block(Block.of(clips, settings.views), *arguments)
    assert record.failed == {"c06": "decode"}
    assert min(record.seconds.values()) > 0
    (commit,) = FeatureStore.open(path).commits()
    assert commit.timings["decode"] > 0
    return list(record.seconds)


def check_same(path: Path, in_turn: FeatureStore) -> None:
    store = FeatureStore.open(path)
    assert store.fingerprint == in_turn.fingerprint
    for view in VIEWS:
        digests = store.digests(view.name)
        assert len(digests) == 19
        assert torch.cuda.is_available() or digests == in_turn.digests(view.name)  # where clips are not taken together
        found, expected = (one.load(sorted(digests), view.name).array for one in (store, in_turn))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert store.failures().keys() == {"c06"}
    assert store.failures()["c06"].detail == in_turn.failures()["c06"].detail


def test_processes_give_what_decoding_in_turn_gives(
    corpus: Path, clips: list[Clip], in_turn: FeatureStore, tmp_path: Path
) -> None:
    for processes in (0, 1, 3):
        settings = SETTINGS.model_copy(update={"decode_processes": processes})
        steps = extract_here(corpus, clips, tmp_path / f"{processes}.zarr", settings)
        assert steps == [*(["starved"] if processes else ["read", "decode"]), "forward", "write"]
        check_same(tmp_path / f"{processes}.zarr", in_turn)


def children(pid: int) -> set[int]:
    return {
        int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in (task / "children").read_text().split()
    }


def decoders(client: Client) -> set[int]:
    """Decoding processes of the workers."""
    return {child for pid in client.run(os.getpid).values() for child in children(pid) if is_decoder(child)}


def is_decoder(pid: int) -> bool:
    try:
        return b"decode_process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def run(
    corpus: Path, clips: list[Clip], path: Path, client: Client, then: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda line: None,
) -> Summary:  # fmt: skip
    settings = SETTINGS.model_copy(update={"decode_processes": 2})
    return extract_split(
        clips, len(clips), corpus, corpus / "encoder", path, settings, client, lambda progress: then(), say
    )


@pytest.mark.long
def test_under_a_nanny_processes_and_workers_may_be_killed(
    corpus: Path, clips: list[Clip], in_turn: FeatureStore, tmp_path: Path
) -> None:
    said: list[str] = []
    killed: list[int] = []
    with local_cluster(1) as client:

        def kill() -> None:
            if len(killed) < 2:
                killed.append(decoders(client).pop())
                os.kill(killed[-1], signal.SIGKILL)

        summary = run(corpus, clips, tmp_path / "a.zarr", client, kill, said.append)
        assert len(killed) == 2
        assert (summary.extracted, dict(summary.failed)) == (19, {"decode": 1})
        assert summary.seconds > summary.start_up + summary.tail > 0
        assert list(summary.shares()) == ["starved", "forward", "write"]
        check_same(tmp_path / "a.zarr", in_turn)
        assert len(said) == 1
        assert "2 processes decode ahead of each, as set; batches of 4 frames, blocks of 20, float32" in said[0]

        left = decoders(client)  # they live from split to split
        assert len(left) == 2

        def kill_worker() -> None:
            for pid in client.run(os.getpid).values() if left else ():
                os.kill(pid, signal.SIGKILL)
                killed.extend(left)
                left.clear()

        assert run(corpus, clips, tmp_path / "b.zarr", client, kill_worker).extracted == 19
        check_same(tmp_path / "b.zarr", in_turn)
        assert not set(killed) & decoders(client)
        left = decoders(client)
    assert left
    deadline = time.monotonic() + 30
    while any(map(is_decoder, [*left, *killed])):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.long
@pytest.mark.parametrize("processes", [True, False])
def test_two_blocks_of_a_worker_at_a_time(
    corpus: Path, clips: list[Clip], in_turn: FeatureStore, tmp_path: Path, processes: bool
) -> None:
    """As beside a GPU; and on a cluster that lives in this process."""
    options = {"n_workers": 1, "threads_per_worker": 2, "dashboard_address": None, "memory_limit": 0}
    with LocalCluster(processes=processes, **options) as cluster, Client(cluster) as client:
        assert run(corpus, clips, tmp_path / "train.zarr", client).extracted == 19
    check_same(tmp_path / "train.zarr", in_turn)
