"""Reading a clip where one that cannot be read ends nothing: frames, or why there are none, in a bounded time."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from extract.dataset.clip_index import Clip
from extract.decoding.frame_folders import Frame
from extract.decoding.read_clip import Source, read_clip
from extract.errors import ClipError
from extract.settings import FrameSettings, View

_Found = TypeVar("_Found")
_PLAIN = View()


def read_or_failure(
    source: Source,
    clip: Clip,
    settings: FrameSettings,
    rng: np.random.Generator | None = None,
    view: View = _PLAIN,
    warp: Callable[[Frame], Frame] | None = None,
    seconds: float | None = None,
) -> NDArray[np.uint8] | ClipError:
    """``read_clip``, whose arguments these are, with the failure as a value.

    Args:
        seconds: that it may take, as of ``found_or_failure``.

    Raises:
        InputError: as ``read_clip``: what is wrong with all clips alike.
    """
    read = functools.partial(read_clip, source, clip, settings, rng=rng, view=view, warp=warp)
    return found_or_failure(read, f"{source}, {clip.source}", seconds)


def found_or_failure(work: Callable[[], _Found], where: str, seconds: float | None = None) -> _Found | ClipError:
    """What a piece of reading gives, or its failure.

    Args:
        where: what is read, for messages.
        seconds: after which it is given up as ``timeout``, so that a mount that hangs names the clip; None: never. Its
            thread stays behind, for nothing can end it.
    """
    done: list[_Found | BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:
            done.append(error)

    if seconds is None:
        run()
    else:
        thread = threading.Thread(target=run, name="read", daemon=True)
        thread.start()
        thread.join(seconds)
    if not done:
        return ClipError("timeout", f"{where}: not read within {seconds:g} s")
    found = done[0]
    if isinstance(found, (OSError, cv2.error, MemoryError)):  # no permission, a stale mount, too large to allocate
        return ClipError("decode", f"{where}: {type(found).__name__}: {found}")
    if isinstance(found, BaseException) and not isinstance(found, ClipError):
        raise found
    return found
