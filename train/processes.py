"""Several processes that train one model: ``torchrun`` starts them and says in the environment which is which."""

from __future__ import annotations

import os


def process_count() -> int:
    """Processes in all; 1 where none were started by ``torchrun``."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_process_count() -> int:
    """Processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def process_rank() -> int:
    """This one's number, from 0, on all machines together. Only number 0 writes results."""
    return int(os.environ.get("RANK", "0"))
