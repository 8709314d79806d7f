"""RWTH-PHOENIX-Weather 2014 T (Camgoz et al., CVPR 2018): German Sign Language, frame folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from extract.dataset.clip_index import Clip
from extract.dataset.index_remarks import Remark
from extract.errors import InputError
from extract.settings import Settings

COLUMNS = ["name", "video", "start", "end", "speaker", "orth", "translation"]


class Phoenix14T:
    """The release ``PHOENIX-2014-T``: ``annotations/manual/*.csv`` and ``features/fullFrame-*px``."""

    Options = Settings

    def __init__(self, root: Path, language: str, fps: float, options: Settings | None = None) -> None:
        self.root, self.language, self.fps = root, language, fps
        self.remarks: list[Remark] = []

    def annotation_files(self, split: str) -> list[Path]:
        return [self.root / "annotations/manual" / f"PHOENIX-2014-T.{split}.corpus.csv"]

    def clips(self, split: str) -> Iterator[Clip]:
        (path,) = self.annotation_files(split)
        if not path.is_file():
            raise InputError(
                path, expected="the annotation file of the release", found="no such file",
                remedy="Set the dataset's root to the folder PHOENIX-2014-T.",
            )  # fmt: skip
        frames = self._frame_folder(split)
        # No csv module: the release has no quoting, and sentences may hold quotation marks.
        try:
            lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
        except UnicodeDecodeError as error:
            raise InputError(path, expected="UTF-8", found=f"byte {error.start} is not",
                             remedy="Unpack the release again.") from error  # fmt: skip
        if not lines or lines[0].split("|") != COLUMNS:
            raise InputError(
                f"{path.name}, row 1", expected="|".join(COLUMNS), found=repr(lines[0][:80] if lines else ""),
                remedy=f"Replace {path} by the file of the release.",
            )  # fmt: skip
        seen: dict[str, int] = {}
        for row, line in enumerate(lines[1:], start=2):
            if not line.strip():
                continue
            fields = line.split("|")
            where = f"{path.name}, row {row}"
            if len(fields) != len(COLUMNS):
                raise InputError(where, expected=f"{len(COLUMNS)} fields", found=f"{len(fields)}",
                                 remedy=f"Mend the row in {path}.")  # fmt: skip
            name, speaker, text = fields[0], fields[4], fields[6].strip()
            if not name or "/" in name or name in (".", ".."):
                raise InputError(where, expected="a clip name", found=repr(name), remedy=f"Mend the row in {path}.")
            if name in seen:
                raise InputError(where, expected="every clip once", found=f"{name!r} again, first in row {seen[name]}",
                                 remedy=f"Remove one of the two rows from {path}.")  # fmt: skip
            if not text:
                raise InputError(where, expected="a translation", found="an empty one",
                                 remedy=f"Mend or remove the row of {name!r} in {path}.")  # fmt: skip
            seen[name] = row
            yield Clip(
                id=name, split=split, source=f"{frames}/{name}", n_frames=0, fps=self.fps,
                text=text, language=self.language, signer=speaker or None,
            )  # fmt: skip

    def _frame_folder(self, split: str) -> str:
        found = sorted((self.root / "features").glob("fullFrame-*px"))
        if len(found) != 1:
            raise InputError(
                self.root / "features", expected="one folder fullFrame-<width>x<height>px",
                found=", ".join(folder.name for folder in found) or "none",
                remedy="Unpack the frames of the release there.",
            )  # fmt: skip
        return f"features/{found[0].name}/{split}"
