"""CSL-Daily (Zhou et al., CVPR 2021): Chinese Sign Language, frame folders."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from extract.dataset.annotations import Ids, InsidePath, file_name, read_table
from extract.dataset.clip_index import SPLITS, Clip
from extract.dataset.index_remarks import Remark
from extract.errors import InputError
from extract.safe_pickle import read_pickle
from extract.settings import Settings

_LONGEST = 1000
"""Characters of a sentence, far more than any has: a list in a pickle may hold the same text a million times."""
_REMEDY = "Set the dataset's root to the folder that holds sentence_label and sentence."


class CSLDailyOptions(Settings):
    """Where things lie below the root."""

    annotations: InsidePath = "sentence_label/csl2020ct_v2.pkl"
    splits: InsidePath = "sentence_label/split_1.txt"
    frames: InsidePath = "sentence/frames_512x512"
    missing: tuple[str, ...] = ("S000005_P0004_T00",)
    """Names of the split file that the release lacks. Some published loaders take another clip instead of it."""


class CSLDaily:
    """The release: ``sentence_label/`` and ``sentence/frames_512x512/``."""

    Options = CSLDailyOptions

    def __init__(self, root: Path, language: str, fps: float, options: CSLDailyOptions | None = None) -> None:
        self.root, self.language, self.fps = root, language, fps
        self.options = options or CSLDailyOptions()
        self.remarks: list[Remark] = []

    def annotation_files(self, split: str) -> list[Path]:
        return [self.root / self.options.splits, self.root / self.options.annotations]

    def clips(self, split: str) -> Iterator[Clip]:
        path, annotations = self.annotation_files(split)
        ids = Ids(path)
        for where, row in read_table(path, "|", ["name", "split"], _REMEDY):
            name = file_name(where, row["name"], path)
            ids.add(name, where)
            if row["split"] not in SPLITS:
                raise InputError(where, expected="train, dev or test", found=repr(row["split"])[:80],
                                 remedy=f"Mend the row in {path}.")  # fmt: skip
            if row["split"] != split:
                continue
            source = f"{self.options.frames}/{name}"
            known = self._sentences.get(name)
            if name in self.options.missing and (known is None or not (self.root / source).exists()):
                self.remarks.append(Remark("known_missing", name, f"{where}: {source}"))
                continue
            if known is None:
                raise InputError(where, expected=f"a sentence of {name} in {annotations.name}", found="none",
                                 remedy="Use both files of the same release.")  # fmt: skip
            text, signer, length = known
            yield Clip(
                id=name, split=split, source=source, n_frames=length, fps=self.fps, text=text,
                language=self.language, signer=signer,
            )  # fmt: skip

    @cached_property
    def _sentences(self) -> dict[str, tuple[str, str | None, int]]:
        """Name to text, signer and number of frames."""
        path = self.root / self.options.annotations
        if not path.is_file():
            raise InputError(path, expected="the annotation file of the release", found="no such file", remedy=_REMEDY)
        held = read_pickle(path, plain=True)
        info = held.get("info") if isinstance(held, dict) else None
        if not isinstance(info, list):
            raise InputError(path, expected="a dict with a list `info`", found=_short(held),
                             remedy="Use the file of the release.")  # fmt: skip
        return dict(self._sentence(f"{path.name}, entry {number}", entry) for number, entry in enumerate(info))

    def _sentence(self, where: str, entry: Any) -> tuple[str, tuple[str, str | None, int]]:
        path = self.root / self.options.annotations
        if not isinstance(entry, dict):
            raise InputError(where, expected="a dict with name and label_char", found=_short(entry),
                             remedy=f"Replace {path} by the file of the release.")  # fmt: skip
        name = file_name(where, entry.get("name"), path)
        characters = entry.get("label_char")
        if (
            not isinstance(characters, list)
            or not all(isinstance(character, str) for character in characters)
            or not 0 < sum(map(len, characters)) <= _LONGEST
            or not (text := "".join(characters).strip())
        ):
            raise InputError(where, expected="label_char, the characters of a sentence", found=_short(characters),
                             remedy=f"Replace {path} by the file of the release.")  # fmt: skip
        signer, length = entry.get("signer"), entry.get("length")
        said = str(signer) if isinstance(signer, (int, str)) else None
        return name, (text, said, length if type(length) is int and length > 0 else 0)


def _short(value: Any) -> str:
    if isinstance(value, (str, list, dict)) and not value:
        return f"an empty {type(value).__name__}"
    return f"a {type(value).__name__}" if isinstance(value, (list, dict)) else repr(value)[:60]
