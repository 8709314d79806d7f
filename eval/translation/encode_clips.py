"""Clips through a translator's own encoder, to features in memory: for the joint baseline, which has no cached ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from extract.dataset.clip_index import Clip
from extract.decoding.read_clip import Source
from extract.decoding.read_or_failure import read_or_failure
from extract.errors import ClipError
from extract.store.feature_store import Features
from train.models.translator import SignTranslator


def encode_clips(
    model: SignTranslator,
    source: Source,
    clips: Sequence[Clip],
    on_clip: Callable[[int, int], None] | None = None,
    seconds: float | None = None,
) -> tuple[Features, dict[str, str]]:
    """Sign-wise features of the clips in float32, one clip at a time.

    Args:
        model: in ``eval()``, with an encoder.
        source: the dataset's root, or packs of its frames.
        on_clip: called with clips done and clips in all.
        seconds: that reading a clip may take; None: any time.

    Returns:
        The features of the clips that can be read, in their order, and the ids of the others with their reasons.
    """
    encoder = model.encoder
    assert encoder is not None
    found: dict[str, np.ndarray] = {}
    failed: dict[str, str] = {}
    for number, clip in enumerate(clips, start=1):
        frames = read_or_failure(source, clip, encoder.config.frame_settings, seconds=seconds)
        if isinstance(frames, ClipError):
            failed[clip.id] = str(frames)
        else:
            found[clip.id] = encoder.encode_prepared(frames)
        if on_clip:
            on_clip(number, len(clips))
    width = int(encoder.config.width)
    rows = np.concatenate(list(found.values())) if found else np.zeros((0, width), np.float32)
    offsets = np.cumsum([0, *(len(features) for features in found.values())])
    return Features(list(found), rows, offsets), failed
