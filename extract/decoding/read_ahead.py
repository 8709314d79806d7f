"""Reading ahead: the system is told which files will be wanted soon, and fetches them while the encoder computes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from extract.dataset.clip_index import Clip
from extract.decoding.frame_folders import list_frames
from extract.decoding.sampling import sampled
from extract.errors import ClipError

_CAN = hasattr(os, "posix_fadvise")  # not on macOS and Windows, where reading waits for the disk


def read_ahead(root: Path, clip: Clip, keep_every: int, phases: Iterable[int] = (0,)) -> None:
    """Ask for the sampled frames of a folder, or for a whole video file; returns at once.

    Of a clip that is a part of a longer file, nothing is asked for. What cannot be read is left to whoever reads it.

    Args:
        root: the dataset's root, which ``clip.source`` is relative to.
        keep_every: the sampling: one frame of so many is kept.
        phases: of the views that will be read.
    """
    if not _CAN or clip.start is not None:
        return
    path = root / clip.source
    try:
        if not path.is_dir():
            _ask(path)
            return
        names = list_frames(path)
        for number in sorted({number for phase in phases for number in sampled(len(names), keep_every, phase=phase)}):
            _ask(path / names[number])
    except (OSError, ClipError):
        return


def _ask(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would be waited for
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_WILLNEED)
    finally:
        os.close(file)
