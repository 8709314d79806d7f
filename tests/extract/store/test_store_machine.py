"""Random sequences of jobs, interruptions and housekeeping at one store, against a model of what it must hold."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from extract.dataset.clip_index import Clip
from extract.encoder.extractor import load_encoder
from extract.encoder.feature_provenance import feature_provenance
from extract.encoder.visual_encoder import VisualEncoder
from extract.errors import InputError
from extract.jobs.blocks import plan_blocks
from extract.jobs.extract_worker import extract_block
from extract.settings import EncoderSettings, ExtractSettings, FrameSettings, View
from extract.store import block_arrays, inventory, json_records, upkeep
from extract.store.compaction import compact
from extract.store.feature_store import FeatureStore

TINY = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8], "depths": [1], "layer_type": "basic"}
FRAMES = FrameSettings(keep_every=2, resize=20, crop=16)
VIEWS = (View(), View(phase=1), View(crop=(0.0, 0.5)))
NUMBER = 6
_DISK = (
    ("put", json_records),
    ("delete", json_records),
    ("delete_folder", json_records),
    ("write", block_arrays),
    ("_write_array", block_arrays),
)
"""All that changes a store."""


class Killed(BaseException):
    """Ends the work at a step. No handler of the code under test catches it, as none runs in a killed process."""


@contextlib.contextmanager
def killed_at(step: int | None) -> Iterator[None]:
    """Within it, the step-th change of the store ends the work: before it is made, or when it is half made."""
    left = step

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def change(*arguments: Any) -> Any:
            nonlocal left
            if left is not None:
                if left <= 0:
                    raise Killed
                left -= 1
            return real(*arguments)

        return change

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
        for name, module in _DISK:
            patch.setattr(module, name, dying(getattr(module, name)))
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(NUMBER):
        write_frames(folder / "whole" / f"c{number}", number)
    torch.manual_seed(0)
    VisualEncoder.from_settings(EncoderSettings(backbone=TINY, width=8), FRAMES).save_pretrained(folder / "encoder")
    return folder


def write_frames(folder: Path, number: int) -> None:
    rng = np.random.default_rng(number)
    folder.mkdir(parents=True)
    for frame in range(2 + number):
        cv2.imwrite(str(folder / f"images{frame + 1:04d}.png"), rng.integers(0, 255, (20, 20, 3), np.uint8))


class StoreMachine(RuleBasedStateMachine):
    corpus: Path
    right: dict[tuple[str, str], np.ndarray]
    """Features of every clip and view, from a store that nothing ever interrupted."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="machine-", dir=self.corpus))
        self.root, self.path = self.folder / "frames", self.folder / "s.zarr"
        self.root.mkdir()
        self.wanted: list[Clip] = []
        self.views = VIEWS[:1]
        self.whole: set[str] = set()
        """Clips whose files are readable now."""
        self.present: set[tuple[str, str]] = set()
        """What a run has reported as extracted, or a reader has seen: never to be lost."""
        self.failed: set[str] = set()
        """Clips that a finished run reported as failed, and nobody asked to be tried again."""

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @initialize()
    def make(self) -> None:
        self.store()

    def store(self, dtype: str = "float32") -> FeatureStore:
        encoder = load_encoder(self.corpus / "encoder")
        return FeatureStore.create(self.path, feature_provenance(encoder, dtype), encoder.config.width, dtype)

    @rule(numbers=st.sets(st.integers(0, NUMBER - 1), min_size=1), broken=st.booleans())
    def want_more(self, numbers: set[int], broken: bool) -> None:
        for number in sorted(numbers):
            id = f"c{number}"
            if id in {clip.id for clip in self.wanted}:
                continue
            self.wanted.append(Clip(id, "train", id, 2 + number, 25.0, "text", "de_DE"))
            if broken:
                (self.root / id).mkdir()  # without frames
            else:
                shutil.copytree(self.corpus / "whole" / id, self.root / id)
                self.whole.add(id)

    @precondition(lambda self: len(self.views) < len(VIEWS))
    @rule()
    def want_another_view(self) -> None:
        self.views = VIEWS[: len(self.views) + 1]

    @rule()
    def mend_the_clips(self) -> None:
        for clip in self.wanted:
            if clip.id not in self.whole:
                shutil.copytree(self.corpus / "whole" / clip.id, self.root / clip.id, dirs_exist_ok=True)
                self.whole.add(clip.id)

    @rule(step=st.none() | st.integers(0, 25), block_frames=st.integers(1, 9), retry=st.booleans())
    def extract(self, step: int | None, block_frames: int, retry: bool) -> None:
        """As the job does, in this process; ``step``: where it is killed."""
        chosen = ExtractSettings(dtype="float32", backend="torch", batch_frames=4, views=self.views)
        ended = False
        with killed_at(step):
            store = self.store()
            if retry:
                store.forget_failures(store.failures())
            committed, failed = {view: store.lengths(view.name) for view in self.views}, store.failures()
            todo = [
                (clip, tuple(view for view in self.views if clip.id not in committed[view]))
                for clip in self.wanted
                if clip.id not in failed
            ]
            for block in plan_blocks(((clip, views) for clip, views in todo if views), 2, block_frames):
                record = extract_block(
                    block, str(self.root), str(self.corpus / "encoder"), str(self.path), store.fingerprint, chosen
                )
                self.present |= {
                    (clip.id, view.name) for clip in block.clips if clip.id not in record.failed for view in block.views
                }
                self.failed |= set(record.failed)
                self.failed -= {clip.id for clip in block.clips if clip.id not in record.failed}
                assert set(record.failed).isdisjoint(self.whole)
            compact(store)
            ended = True
        if retry:  # some may have been forgotten before the kill
            self.failed &= set(FeatureStore.open(self.path).failures())
        if ended:
            store = FeatureStore.open(self.path)
            for clip in self.wanted:
                complete = all(clip.id in store.lengths(view.name) for view in self.views)
                assert complete or clip.id in store.failures()
                assert complete or clip.id not in self.whole or not retry

    @rule(step=st.none() | st.integers(0, 12), rows=st.integers(1, 60))
    def merge(self, step: int | None, rows: int) -> None:
        with killed_at(step):
            compact(self.store(), rows * 8 * 4)

    @rule(step=st.none() | st.integers(0, 4))
    def collect_garbage(self, step: int | None) -> None:
        ended = False
        with killed_at(step):
            upkeep.gc(FeatureStore.open(self.path), grace_seconds=0)
            ended = True
        if ended:
            store = FeatureStore.open(self.path)
            assert inventory.take(store)[0].orphans == 0
            folders = {f"blocks/{item.name}" for item in self.path.glob("blocks/*") if item.is_dir()}
            assert folders == {commit.group for commit in store.commits()}

    @rule()
    def another_dtype_is_refused(self) -> None:
        before = {path: path.stat().st_mtime_ns for path in self.path.rglob("*")}
        with pytest.raises(InputError, match="features of dtype float16, found dtype float32"):
            self.store("float16")
        assert {path: path.stat().st_mtime_ns for path in self.path.rglob("*")} == before

    @invariant()
    def nothing_is_lost_and_nothing_is_wrong(self) -> None:
        store = FeatureStore.open(self.path)
        assert upkeep.verify(store) == []
        found = {(id, view) for view in store.views() for id in store.lengths(view)}
        assert self.present <= found
        wanted = {clip.id for clip in self.wanted}
        assert {id for id, _ in found} <= wanted & self.whole
        self.present = found
        for view in store.views():
            loaded = store.load(view=view)
            assert len(set(loaded.ids)) == len(loaded.ids)
            for id, start, end in zip(loaded.ids, loaded.offsets, loaded.offsets[1:], strict=False):
                np.testing.assert_array_equal(loaded.array[start:end], self.right[id, view], strict=True)
        assert set(store.failures()) <= wanted - set(store.lengths())
        assert self.failed - set(store.lengths()) <= set(store.failures())


def test_sequences(corpus: Path) -> None:
    encoder = load_encoder(corpus / "encoder")
    store = FeatureStore.create(
        corpus / "right.zarr", feature_provenance(encoder, "float32"), encoder.config.width, "float32"
    )
    clips = [Clip(f"c{number}", "train", f"c{number}", 2 + number, 25.0, "text", "de_DE") for number in range(NUMBER)]
    chosen = ExtractSettings(dtype="float32", backend="torch", batch_frames=4, views=VIEWS)
    for block in plan_blocks(((clip, VIEWS) for clip in clips), 2, 1000):
        extract_block(block, str(corpus / "whole"), str(corpus / "encoder"), store.location, store.fingerprint, chosen)
    store.refresh()
    right = {(clip.id, view.name): store.load([clip.id], view.name).array for clip in clips for view in VIEWS}

    class Machine(StoreMachine):
        pass

    Machine.corpus, Machine.right = corpus, right
    run_state_machine_as_test(Machine, settings=settings(max_examples=25, stateful_step_count=12, deadline=None))
