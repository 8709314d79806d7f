"""How2Sign (Duarte et al., CVPR 2021): American Sign Language, recordings that clips are cut from, or cut clips."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from extract.dataset.annotations import Ids, InsidePath, file_name, read_table, seconds
from extract.dataset.clip_index import Clip
from extract.dataset.index_remarks import Remark
from extract.settings import Settings

COLUMNS = [
    "VIDEO_ID", "VIDEO_NAME", "SENTENCE_ID", "SENTENCE_NAME", "START_REALIGNED", "END_REALIGNED", "SENTENCE",
]  # fmt: skip
_SIGNER = re.compile(r"-(\d+)-rgb_\w+$")


class How2SignOptions(Settings):
    """Where things lie below the root; ``{split}`` stands for train, val or test."""

    clips: Literal["recordings", "cut"] = "recordings"
    """Full recordings, cut by the realigned times; or the released cut clips, which are known to be misaligned."""
    annotations: InsidePath = "how2sign_realigned_{split}.csv"
    recordings: InsidePath = "raw_videos"
    cut: InsidePath = "{split}_realigned"


class How2Sign:
    """The release: ``how2sign_realigned_*.csv``, and ``raw_videos/`` or ``*_realigned/``."""

    Options = How2SignOptions

    def __init__(self, root: Path, language: str, fps: float, options: How2SignOptions | None = None) -> None:
        self.root, self.language, self.fps = root, language, fps
        self.options = options or How2SignOptions()
        self.remarks: list[Remark] = []

    def annotation_files(self, split: str) -> list[Path]:
        return [self.root / self._named(self.options.annotations, split)]

    def clips(self, split: str) -> Iterator[Clip]:
        (path,) = self.annotation_files(split)
        cut = self.options.clips == "cut"
        folder = self._named(self.options.cut if cut else self.options.recordings, split)
        remedy = "Set the dataset's root to the folder that holds the files how2sign_realigned_*.csv."
        ids = Ids(path)
        for where, row in read_table(path, "\t", COLUMNS, remedy):
            name = file_name(where, row["SENTENCE_NAME"], path)
            video = file_name(where, row["VIDEO_NAME"], path)
            ids.add(name, where)
            start, end = (seconds(where, column, row[column], path) for column in ("START_REALIGNED", "END_REALIGNED"))
            if not row["SENTENCE"]:
                self.remarks.append(Remark("clip_without_text", name, f"{where}: an empty sentence"))
                continue
            signer = _SIGNER.search(video)
            yield Clip(
                id=name, split=split, source=f"{folder}/{name if cut else video}.mp4", n_frames=0, fps=self.fps,
                text=row["SENTENCE"], language=self.language, signer=signer[1] if signer else None,
                start=None if cut else start, end=None if cut else end,
            )  # fmt: skip

    def _named(self, template: str, split: str) -> str:
        return template.replace("{split}", "val" if split == "dev" else split)
