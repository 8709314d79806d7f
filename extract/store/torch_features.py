"""A feature store as a dataset of torch: for people's own models, which need no part of this pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset


class Loaded(Protocol):
    """``Features``."""

    @property
    def array(self) -> NDArray[Any]: ...


class Loads(Protocol):
    """``FeatureStore``, which imports this module."""

    def lengths(self, view: str) -> Mapping[str, int]: ...

    def load(self, ids: Sequence[str], view: str) -> Loaded: ...


class TorchFeatures(Dataset[dict[str, Any]]):
    """The clips of a store: each item has ``id`` and ``features``, a (steps, C) tensor in the store's dtype.

    An item is read when it is asked for, and checked against its digest; workers of a DataLoader may share the dataset.
    """

    def __init__(self, store: Loads, view: str) -> None:
        self.store, self.view, self.ids = store, view, list(store.lengths(view))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, item: int) -> dict[str, Any]:
        id = self.ids[item]
        return {"id": id, "features": torch.from_numpy(self.store.load([id], self.view).array)}
