"""Batches in few shapes hold what packed ones hold; loader processes that stay see every epoch."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from extract.own_device import own_device
from extract.store.feature_store import Features
from train.data.feature_dataset import FeatureDataset
from train.data.padded_batches import PaddedBatches, ResidentFeatures

LENGTHS = [3, 9, 5, 8, 2]
TARGETS = [[5, 6], [7], [8] * 9, [9, 9, 9], [4]]


def dataset(views: int = 2) -> FeatureDataset:
    rng = np.random.default_rng(0)
    ids, offsets = [f"c{place}" for place in range(5)], np.cumsum([0, *LENGTHS])
    arrays = [rng.standard_normal((offsets[-1], 4)).astype(np.float16) for _ in range(views)]
    return FeatureDataset([Features(ids, array, offsets) for array in arrays], TARGETS, seed=2)


@pytest.mark.parametrize(
    ("clips", "longest", "shape"), [(None, None, (8, 16, 16)), (6, 12, (6, 12, 12)), (5, 9, (5, 9, 9))]
)
def test_a_batch_is_padded_up_to_bounds(clips: int | None, longest: int | None, shape: tuple[int, int, int]) -> None:
    data = dataset()
    batch = PaddedBatches(clips, longest)([data[item] for item in range(5)])
    assert next(iter(batch)) == "labels"
    assert (*batch["mask"].shape, batch["labels"].shape[1]) == shape
    assert batch["features"].shape == (*shape[:2], 4)
    for row, (length, target) in enumerate(zip(LENGTHS, TARGETS, strict=True)):
        assert batch["mask"][row].nonzero().flatten().tolist() == list(range(length))
        assert torch.equal(batch["features"][row, :length], data[row]["features"].float())
        assert batch["labels"][row][batch["labels"][row] >= 0].tolist() == target
    assert not batch["features"][~batch["mask"]].any()
    assert batch["mask"][5:].all()
    assert not (batch["labels"][5:] >= 0).any()


@pytest.mark.parametrize("views", [1, 2])
def test_resident_features_are_those_of_the_dataset(views: int) -> None:
    data, collate = dataset(views), PaddedBatches(None, None)
    resident = ResidentFeatures(data, own_device())
    for epoch in range(3):
        data.set_epoch(epoch)
        expected = collate([data[item] for item in (4, 0, 2)])
        batch = {name: tensor.to(own_device()) for name, tensor in collate([resident[n] for n in (4, 0, 2)]).items()}
        found = resident.filled(batch)
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            assert torch.equal(found[name].cpu(), tensor), name


def test_loader_processes_that_stay_draw_anew_in_every_epoch() -> None:
    data = dataset()
    loader = DataLoader(data, batch_size=1, num_workers=1, persistent_workers=True, collate_fn=lambda one: one[0])

    def seen(epoch: int) -> list[float]:
        data.set_epoch(epoch)
        return [float(example["features"][0, 0]) for example in loader]

    def expected(epoch: int) -> list[float]:
        data.set_epoch(epoch)
        return [float(data[item]["features"][0, 0]) for item in range(len(data))]

    epochs = [seen(epoch) for epoch in range(4)]
    assert epochs == [expected(epoch) for epoch in range(4)]
    assert len({tuple(values) for values in epochs}) > 1
