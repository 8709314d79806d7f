"""What a person should know of an index beside its clips: nothing that a dataset holds is left out in silence."""

from __future__ import annotations

import dataclasses
import json
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from extract.atomic_write import write_atomic
from extract.dataset.clip_index import Clip
from extract.dataset.text_convention import encoded_twice, has_word

Kind = Literal[
    "text_without_clip", "clip_without_text", "text_without_word", "text_encoded_twice", "time_clamped", "known_missing"
]

MEANING: dict[Kind, str] = {
    "text_without_clip": "texts without a clip, which stay in the index as missing",
    "clip_without_text": "clips without a text, which are not in the index",
    "text_without_word": "texts without a letter or number, for which a tokenizer may have no piece",
    "text_encoded_twice": "texts that look like UTF-8 written twice (Ã¼ for ü)",
    "time_clamped": "clips whose end lies past the end of the recording, which now end with it",
    "known_missing": "clips that the release itself lacks, which are not in the index",
}
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".mpg", ".mpeg")


@dataclasses.dataclass(frozen=True, slots=True)
class Remark:
    """One finding about one clip."""

    kind: Kind
    id: str
    """Of the clip; of one without a text, its file relative to the dataset's root."""
    detail: str


def missing(root: Path, clip: Clip) -> Iterator[Remark]:
    """A text without a clip: its source does not exist."""
    if (clip.problem or "").startswith("missing: ") and not (root / clip.source).exists():
        yield Remark("text_without_clip", clip.id, clip.source)


def clamped(was: Clip, now: Clip) -> Iterator[Remark]:
    """A clip that ends earlier than its annotation says."""
    if was.end != now.end and was.end is not None and now.end is not None:
        yield Remark("time_clamped", was.id, f"{was.source}: {was.end:g} s, ends at {now.end:.3f} s")


def odd_text(clip: Clip) -> Iterator[Remark]:
    """A text that holds no word, or whose letters were spoilt on the way."""
    if not has_word(clip.text):
        yield Remark("text_without_word", clip.id, clip.text)
    if encoded_twice(clip.text):
        yield Remark("text_encoded_twice", clip.id, clip.text)


def unused(root: Path, sources: Collection[str]) -> Iterator[Remark]:
    """Clips without a text: videos beside the clips' videos, and folders beside their frame folders, of no clip."""
    beside: dict[tuple[str, bool], None] = {}
    for source in sources:
        beside[source.rpartition("/")[0], not _is_video(source)] = None
    parents = {source.rpartition("/")[0] for source in sources}
    for parent, folders in sorted(beside):
        for name in _names(root / parent, folders):
            path = f"{parent}/{name}" if parent else name
            if path not in sources and not any(f"{other}/".startswith(f"{path}/") for other in parents):
                yield Remark("clip_without_text", _readable(path), "no row of the annotations names it")


def write_remarks(path: Path, remarks: Sequence[Remark]) -> None:
    """One JSON object a line, kind by kind; no file when there is nothing to say."""
    if not remarks:
        path.unlink(missing_ok=True)
        return
    kinds = list(MEANING)
    ordered = sorted(remarks, key=lambda remark: kinds.index(remark.kind))
    lines = [json.dumps(dataclasses.asdict(remark), ensure_ascii=False) + "\n" for remark in ordered]
    write_atomic(path, "".join(lines))


def read_remarks(path: Path) -> list[Remark]:
    """What ``write_remarks`` wrote."""
    if not path.is_file():
        return []
    return [Remark(**json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n") if line]


def summary(remarks: Iterable[Remark]) -> list[str]:
    """One line per kind: how many, what it means, and the first ones."""
    named = defaultdict(list)
    for remark in remarks:
        named[remark.kind].append(remark.id)
    return [
        f"{len(ids)} {MEANING[kind]} ({', '.join(ids[:3])}{', …' if len(ids) > 3 else ''})"
        for kind, ids in named.items()
    ]


def _is_video(source: str) -> bool:
    return source.lower().endswith(VIDEO_SUFFIXES)


def _readable(name: str) -> str:
    """A name as text; the bytes of one that is not UTF-8, as of an old archive, stand as ``\\xfc``."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _names(folder: Path, folders: bool) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            seen = [entry for entry in entries if not entry.name.startswith(".")]
            return sorted(e.name for e in seen if (e.is_dir() if folders else _is_video(e.name) and e.is_file()))
    except OSError:  # a folder that is not there has nothing to list
        return []
