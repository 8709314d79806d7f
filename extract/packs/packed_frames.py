"""Reading clips from frame packs: the same frames as from the originals, without the dataset's root."""

from __future__ import annotations

import functools
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from extract.dataset.clip_index import Clip
from extract.decoding.frame_folders import Frame
from extract.decoding.sampling import sampled
from extract.errors import ClipError, InputError
from extract.packs.frame_pack import FramePack, PackCommit, Place, pack_provenance
from extract.packs.pack_file import REBUILD, BlockFile
from extract.settings import FrameSettings, PackSettings
from extract.store.json_records import Failure, damaged

MAX_OPEN = 32
"""HDF5 files that a process holds open; the one that was not read for longest is closed."""


class PackedFrames:
    """The packs of a dataset's splits, as a source of ``read_clip``. Safe in threads and in DataLoader workers.

    Args:
        folder: holds one pack per split, by its name.
        settings: which frames are packed, and how: a pack that was made otherwise is refused.
    """

    def __init__(self, folder: Path, settings: PackSettings) -> None:
        self.folder, self.settings = folder.absolute(), settings
        self._begin()

    @property
    def quality(self) -> int | None:
        """Of JPEG; None: the pixels are those of the originals."""
        return self.settings.quality

    def __str__(self) -> str:
        return str(self.folder)

    def __reduce__(self) -> tuple[object, ...]:
        return _shared, (self.folder, self.settings)  # once per process: open files are not sent, records read once

    def failures(self, split: str) -> dict[str, Failure]:
        """Clips of a split that could not be packed."""
        return FramePack.open(self.folder / split).failures()

    def squares(
        self, clip: Clip, settings: FrameSettings, rng: np.random.Generator | None = None, phase: int = 0
    ) -> Iterator[Frame]:
        """The sampled frames of a clip as squares of ``settings.resize`` pixels, RGB: as ``read_clip.read_squares``.

        Raises:
            ClipError, InputError: as ``encoded``.
        """
        for encoded, path in self.encoded(clip, settings, rng, phase):
            image = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
            if image is None or image.shape != (settings.resize, settings.resize, 3):
                raise damaged(str(path), f"a frame of {clip.id} that OpenCV cannot decode", REBUILD)
            yield image.astype(np.uint8, copy=False)

    def encoded(
        self, clip: Clip, settings: FrameSettings, rng: np.random.Generator | None = None, phase: int = 0
    ) -> Iterator[tuple[np.ndarray, Path]]:
        """The sampled frames of a clip, each as (bytes,) uint8 of a JPEG or TIFF, and the pack's file that it lies in.

        Raises:
            ClipError: it could not be packed.
            InputError: the pack lacks the clip, was made for other settings, or is damaged.
        """
        if self._process != os.getpid():
            self._begin()  # forked: the files of the parent are its own
        place = self._place(clip, settings)
        if self.settings.frames == "sampled":
            if rng is not None or phase:
                wanted = "every frame, to draw among them" if rng is not None else f"the view's phase {phase}"
                raise InputError(self.folder / clip.split, expected=wanted, found="the first of each group",
                                 remedy="Pack with pack.frames: all.")  # fmt: skip
            numbers = list(range(place.length))
        else:
            numbers = sampled(place.length, settings.keep_every, rng, phase)
        for number in numbers:
            with self._lock:  # so that no thread closes a file that another one reads
                block = self._open(self.folder / clip.split, place.commit)
                encoded = block[place.start + number]
            yield encoded, block.path

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._blocks: OrderedDict[Path, BlockFile] = OrderedDict()
        self._packs: dict[tuple[str, FrameSettings], FramePack] = {}

    def _place(self, clip: Clip, settings: FrameSettings) -> Place:
        with self._lock:
            pack = self._packs.get((clip.split, settings))
            if pack is None:
                pack = FramePack.open(self.folder / clip.split)
                pack.require(pack_provenance(settings, self.settings))
                self._packs[clip.split, settings] = pack
            place = pack.place(clip.id)
            if place is None:
                if failure := pack.failures().get(clip.id):
                    raise ClipError(failure.kind, failure.detail)
                pack.refresh()  # packed since then
                place = pack.place(clip.id)
        if place is None:
            raise InputError(f"{pack.folder}, clip {clip.id}", expected="its frames", found="none",
                             remedy="Run `slt pack` to the end.")  # fmt: skip
        return place

    def _open(self, folder: Path, commit: PackCommit) -> BlockFile:
        path = folder / commit.file
        block = self._blocks.get(path)
        if block is None:
            while len(self._blocks) >= MAX_OPEN:
                self._blocks.popitem(last=False)[1].close()
            block = self._blocks[path] = BlockFile(path, commit.index_sha256)
        self._blocks.move_to_end(path)
        return block


@functools.lru_cache(maxsize=4)
def _shared(folder: Path, settings: PackSettings) -> PackedFrames:
    return PackedFrames(folder, settings)
