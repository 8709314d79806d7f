"""Sets of millions of clips, in 16 bytes each."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_RECENT = 2**16
"""Keys that are held as Python objects before they are sorted into the array."""


def key(*names: str) -> bytes:
    """16 bytes that stand for a clip, or for a clip and its view: names that differ anywhere have another key.

    Half of a SHA-256, so that two of a billion keys agree by chance once in 10^20 times.
    """
    return hashlib.sha256(json.dumps(names).encode()).digest()[:16]


class KeySet:
    """A set of keys: a sorted array, and the few that were added since it was sorted."""

    def __init__(self) -> None:
        self._sorted: NDArray[np.bytes_] = np.empty(0, "S16")
        self._recent: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._sorted) + len(self._recent)

    def has(self, keys: Sequence[bytes]) -> list[bool]:
        """Of each key, whether it is in the set."""
        wanted = np.array(keys, "S16")
        if len(self._sorted):
            nearest = np.searchsorted(self._sorted, wanted).clip(max=len(self._sorted) - 1)
            found = self._sorted[nearest] == wanted
        else:
            found = np.zeros(len(keys), bool)
        return [there or key in self._recent for there, key in zip(found.tolist(), keys, strict=True)]

    def add(self, keys: Sequence[bytes]) -> list[bool]:
        """Add keys; of each, whether it is new. Of equal ones, the first is."""
        new = []
        for key, there in zip(keys, self.has(keys), strict=True):
            new.append(not there and key not in self._recent)
            if new[-1]:
                self._recent.add(key)
        # In proportion to the array, so that sorting takes n log n in all and the set stays compact.
        if len(self._recent) > max(_RECENT, len(self._sorted) // 8):
            self._sort()
        return new

    def digest(self) -> str:
        """SHA-256 of the keys in ascending order: equal sets have equal ones, in whatever order they were filled."""
        self._sort()
        return hashlib.sha256(self._sorted.tobytes()).hexdigest()

    def _sort(self) -> None:
        both = np.concatenate([self._sorted, np.array(list(self._recent), "S16")])
        both.sort(kind="stable")  # quick on what is sorted already
        self._sorted, self._recent = both, set()


@dataclasses.dataclass(frozen=True, slots=True)
class Done:
    """What of a split a job need not do, as the store said when it was asked."""

    committed: KeySet
    """``key(clip, view)`` of what is there."""
    failed: dict[str, KeySet]
    """By kind, ``key(clip)`` of what could not be done; one that succeeded later is not among them."""
