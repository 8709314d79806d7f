"""The checkpoint that training goes on from: the last one that is whole."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers.trainer import TRAINER_STATE_NAME
from transformers.utils import SAFE_WEIGHTS_NAME

from train.processes import process_rank

_STATES = ("optimizer.pt", "scheduler.pt")


def last_whole_checkpoint(work: Path) -> str | None:
    """Of the checkpoints in a folder, the last that was written to its end, before a kill or a full disk.

    Those after it are removed: the loop writes them again.
    """
    found = [(int(match[1]), path) for path in work.glob("checkpoint-*")
             if (match := re.fullmatch(r"checkpoint-(\d+)", path.name))]  # fmt: skip
    for _, path in sorted(found, reverse=True):
        if _is_whole(path):
            return str(path)
        if process_rank() == 0:
            shutil.rmtree(path)
    return None


def _is_whole(path: Path) -> bool:
    try:
        json.loads((path / TRAINER_STATE_NAME).read_bytes())  # it is written last
        with safe_open(path / SAFE_WEIGHTS_NAME, "pt"):  # its header says how long it is
            pass
    except (OSError, ValueError, SafetensorError):
        return False
    return all(zipfile.is_zipfile(path / name) for name in _STATES)
