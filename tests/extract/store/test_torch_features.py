"""A store as a dataset of torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from extract.errors import InputError
from extract.store.feature_store import FeatureStore


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    made = FeatureStore.create(tmp_path / "train.zarr", {"schema": 1}, 4, "float16")
    rows = [(id, np.full((steps, 4), steps, np.float16)) for id, steps in (("a", 2), ("b", 3), ("c", 1))]
    made.write_block("plain", rows)
    made.write_block("other", rows[:2], views=["phase=1"] * 2)
    return FeatureStore.open(tmp_path / "train.zarr")


def test_a_store_is_a_collection_of_clips(store: FeatureStore) -> None:
    assert (len(store), list(store)) == (3, ["a", "b", "c"])
    assert "a" in store
    assert "z" not in store
    with pytest.raises(InputError, match="clip z: expected features"):
        store["z"]


@pytest.mark.long
@pytest.mark.parametrize("workers", [0, 2])
def test_workers_read_every_clip(store: FeatureStore, workers: int) -> None:
    loader = DataLoader(
        store.torch_dataset(), batch_size=None, num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
    )  # fmt: skip
    found = {item["id"]: item["features"] for item in loader}
    assert {id: features.shape for id, features in found.items()} == {"a": (2, 4), "b": (3, 4), "c": (1, 4)}
    assert found["b"].dtype == torch.float16
    assert (found["b"] == 3).all()


def test_a_view_has_its_own_clips(store: FeatureStore) -> None:
    assert store.torch_dataset("phase=1").ids == ["a", "b"]
