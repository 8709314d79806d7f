"""Batches by length: every example once, in equal numbers of batches for every process, in every epoch."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from extract.errors import InputError
from train.data.length_batches import LengthBatches

sizes = st.lists(st.tuples(st.integers(1, 120), st.integers(1, 60)), min_size=1, max_size=90)


def epoch_of(lengths: list[tuple[int, int]], epoch: int, processes: int, **limits: int | None) -> list[list[list[int]]]:
    found = []
    for rank in range(processes):
        batches = LengthBatches(lengths, limits.get("clips") or 16, limits.get("tokens"), 5, processes, rank)
        batches.set_epoch(epoch)
        found.append(list(batches))
        assert len(found[-1]) == len(batches)
    return found


@given(sizes, st.integers(1, 4), st.integers(1, 12), st.one_of(st.none(), st.integers(40, 900)))
def test_every_example_once_and_as_many_batches_in_every_epoch(
    lengths: list[tuple[int, int]], processes: int, clips: int, tokens: int | None
) -> None:
    assume(len(lengths) >= 4 * processes or processes == 1)
    try:
        first = epoch_of(lengths, 0, processes, clips=clips, tokens=tokens)
    except InputError:
        assert processes > 1  # each batch is one example, and their number no multiple
        return
    later = epoch_of(lengths, 7, processes, clips=clips, tokens=tokens)
    for ranks in (first, later):
        assert sorted(i for rank in ranks for batch in rank for i in batch) == list(range(len(lengths)))
        assert len({len(rank) for rank in ranks}) == 1
    assert sorted(len(b) for r in first for b in r) == sorted(len(b) for r in later for b in r)
    for batch in (batch for rank in first for batch in rank):
        if tokens is None:
            assert len(batch) <= clips
        else:
            padded = len(batch) * (max(lengths[i][0] for i in batch) + max(lengths[i][1] for i in batch))
            assert padded <= tokens or len(batch) == 1


def realistic(count: int) -> list[tuple[int, int]]:
    """Source steps and target pieces as in a corpus: longer sentences take longer to sign."""
    rng = np.random.default_rng(0)
    source = rng.lognormal(3.3, 0.5, count).clip(4, 120).astype(int)
    target = (source * rng.lognormal(-0.35, 0.35, count)).clip(3, 80).astype(int)
    return list(zip(source.tolist(), target.tolist(), strict=True))


def padded_share(lengths: list[tuple[int, int]], batches: list[list[int]]) -> float:
    real = sum(sum(lengths[i]) for batch in batches for i in batch)
    padded = sum(len(b) * (max(lengths[i][0] for i in b) + max(lengths[i][1] for i in b)) for b in batches)
    return 1 - real / padded


def test_little_is_padding_and_epochs_differ() -> None:
    lengths = realistic(4000)
    (first,), (second,) = epoch_of(lengths, 0, 1), epoch_of(lengths, 1, 1)
    order = np.random.default_rng(1).permutation(4000)
    shuffled = [order[start : start + 16].tolist() for start in range(0, 4000, 16)]
    assert padded_share(lengths, first) < 0.12
    assert padded_share(lengths, shuffled) > 0.4
    assert {frozenset(batch) for batch in first}.isdisjoint({frozenset(batch) for batch in second})
    places = [np.mean([lengths[i][0] for i in batch]) for batch in first]
    assert abs(np.corrcoef(places, np.arange(len(places)))[0, 1]) < 0.2  # not from short to long
    assert epoch_of(lengths, 0, 1) == [first]


def test_processes_share_the_steps_of_one() -> None:
    """Two processes with batches of 8 take the steps of one with batches of 16."""
    lengths = realistic(640)
    (alone,) = epoch_of(lengths, 3, 1, clips=16)
    left, right = epoch_of(lengths, 3, 2, clips=8)
    assert [sorted(a + b) for a, b in zip(left, right, strict=True)] == [sorted(batch) for batch in alone]


def test_the_largest_batch_is_told() -> None:
    batches = LengthBatches([(10, 5), (10, 6), (100, 50)], 2, None)
    assert batches.largest == (1, 100, 50)


def test_fewer_examples_than_processes_are_refused() -> None:
    with pytest.raises(InputError, match="each of 4 processes"):
        LengthBatches([(5, 5)] * 3, 2, None, 0, 4, 0)
