"""How long a step takes in all, over many short turns."""

from __future__ import annotations

import threading
import time
from types import TracebackType


class Stopwatch:
    """Seconds spent in its ``with`` blocks, summed over all threads."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._lock = threading.Lock()
        self._local = threading.local()

    def __enter__(self) -> None:
        self._local.began = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        spent = time.perf_counter() - self._local.began
        with self._lock:
            self.seconds += spent
