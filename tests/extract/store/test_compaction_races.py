"""Several processes at one store while blocks are merged: each step of one may fall between any two of another.

Threads stand for the processes: they share nothing but the store. Which of them takes the next step at the storage is
drawn by Hypothesis, so that a failure comes with its schedule.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from extract.store import block_arrays, block_reading, compaction, inventory, json_records, upkeep
from extract.store.compaction import compact
from extract.store.feature_store import FeatureStore
from extract.store.json_records import Failure

WIDTH = 8
PARTS = {"a": ["p", "q"], "b": ["r"], "c": ["p", "s"], "d": ["t"], "e": ["r", "t"]}
"""Blocks and their clips; some clips are in two of them."""
CLIPS = {id: np.full((3 + number, WIDTH), number, np.float32) for number, id in enumerate("pqrst")}


class Turns:
    """Lets one thread at a time take a step, as a schedule says; when it has ended, or its thread has, any."""

    def __init__(self, schedule: list[int]) -> None:
        self.schedule, self.position = schedule, 0
        self.working: set[int] = set()
        self.changed = threading.Condition()
        self.me = threading.local()

    def _mine(self) -> bool:
        left = [who for who in self.schedule[self.position :] if who in self.working]
        return self.me.number == (left[0] if left else min(self.working))

    def wrap(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any) -> Any:
            if not hasattr(self.me, "number"):
                return real(*arguments)
            with self.changed:
                assert self.changed.wait_for(self._mine, timeout=60)
                while self.position < len(self.schedule) and self.schedule[self.position] != self.me.number:
                    self.position += 1  # those of threads that have ended
                self.position += 1
                try:
                    return real(*arguments)
                finally:
                    self.changed.notify_all()

        return step

    def wrap_each(self, real: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """Every item is a step."""

        def items(*arguments: Any) -> Iterator[Any]:
            iterator = real(*arguments)
            step = self.wrap(lambda: next(iterator, None))
            while (item := step()) is not None:
                yield item

        return items

    def run(self, works: list[Callable[[], None]]) -> list[BaseException]:
        """Every work in a thread of its own; the errors that they ended with."""
        errors: list[BaseException] = []

        def thread(number: int, work: Callable[[], None]) -> None:
            self.me.number = number
            try:
                work()
            except BaseException as error:
                errors.append(error)
            finally:
                with self.changed:
                    self.working.discard(number)
                    self.changed.notify_all()

        self.working = set(range(len(works)))
        threads = [threading.Thread(target=thread, args=pair) for pair in enumerate(works)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        return errors


def contents(path: Path) -> dict[str, list[list[float]]]:
    store = FeatureStore.open(path)
    return {id: store[id].tolist() for id in store.lengths()}


EXPECTED = {id: array.tolist() for id, array in CLIPS.items()}


@settings(deadline=None, max_examples=40)
@given(
    first=st.sampled_from("05f"),
    runs=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 12)), max_size=10),
    killed=st.none() | st.integers(0, 6),
    targets=st.tuples(*[st.sampled_from([1, 12, 60])] * 2),
)
# After a kill, a merged block and its parts are there. Both list them; one finishes before the other deletes anything.
@pytest.mark.long
@example(first="0", runs=[(0, 1), (1, 1), (0, 12), (0, 12)], killed=3, targets=(60, 60))
def test_whoever_merges_meanwhile_nothing_is_lost(
    tmp_path_factory: pytest.TempPathFactory,
    first: str,
    runs: list[tuple[int, int]],
    killed: int | None,
    targets: tuple[int, int],
) -> None:
    path = tmp_path_factory.mktemp("s") / "s.zarr"
    store = FeatureStore.create(path, {"test": "yes"}, WIDTH, "float32")
    for block, ids in PARTS.items():
        store.write_block(first + block, [(id, CLIPS[id]) for id in ids])
    if killed is not None:
        _compact_until(path, killed)

    def merge(rows: int) -> Callable[[], None]:
        return lambda: void(compact(FeatureStore.open(path), rows * WIDTH * 4))

    def read() -> None:
        for _ in range(2):
            assert contents(path) == EXPECTED
            assert upkeep.verify(FeatureStore.open(path)) == []

    def extract_again() -> None:  # of a job that planned before the other had committed
        FeatureStore.open(path).write_block(first + "b", [("r", CLIPS["r"])], {"x": Failure("empty", "")})

    turns = Turns([who for who, steps in runs for _ in range(steps)])
    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            (json_records, "get"), (json_records, "put"), (json_records, "delete"), (json_records, "delete_folder"),
            (block_arrays, "write"), (compaction, "load_places"), (block_reading, "check"),
        ):  # fmt: skip
            patch.setattr(module, name, turns.wrap(getattr(module, name)))
        patch.setattr(json_records, "_AT_ONCE", 1)
        patch.setattr(json_records, "each", turns.wrap_each(json_records.each))
        errors = turns.run([merge(targets[0]), merge(targets[1]), read, extract_again])
    assert errors == []
    assert contents(path) == EXPECTED
    assert upkeep.verify(FeatureStore.open(path)) == []
    compact(FeatureStore.open(path))
    upkeep.gc(FeatureStore.open(path), grace_seconds=0)
    assert contents(path) == EXPECTED
    last = FeatureStore.open(path)
    assert (len(last.commits()), inventory.take(last)[0].orphans) == (1, 0)


def void(_: object) -> None:
    """Of a result that nobody looks at."""


class Killed(BaseException):
    """No handler of the code under test catches it."""


def _compact_until(path: Path, steps: int) -> None:
    left = steps

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any) -> Any:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return real(*arguments)

        return step

    with pytest.MonkeyPatch.context() as patch:
        for name in ("put", "delete", "delete_folder"):
            patch.setattr(json_records, name, dying(getattr(json_records, name)))
        with contextlib.suppress(Killed):
            compact(FeatureStore.open(path))


def test_a_record_that_is_replaced_while_the_others_are_read_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the listing of the records and the last of them."""
    path = tmp_path / "s.zarr"
    store = FeatureStore.create(path, {"test": "yes"}, WIDTH, "float32")
    for block, ids in PARTS.items():
        store.write_block(block, [(id, CLIPS[id]) for id in ids])
    list_names, merged = json_records.names, []

    def merge_after_listing(*arguments: Any) -> list[str]:
        listed = list_names(*arguments)
        if not merged:
            merged.append(True)
            compact(FeatureStore.open(path))
        return listed

    monkeypatch.setattr(json_records, "names", merge_after_listing)
    assert sorted(FeatureStore.open(path).lengths()) == sorted(CLIPS)
