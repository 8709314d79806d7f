"""The released layouts that the built-in corpus is written in, each with what is odd about the release."""

from __future__ import annotations

import dataclasses
import pickle
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.grammar import Meaning, sentence
from pipeline.corpus.translations import chinese, english

Images = Iterator[NDArray[np.uint8]]
"""Frames of a clip, (height, width, 3) BGR."""
LACKING = "S000005_P0004_T00"
FPS, RECORDED, GAP, BEYOND, LATE_EVERY = 25.0, 3, 5, 3.0, 4


@dataclasses.dataclass(frozen=True, slots=True)
class Utterance:
    """One clip before it is drawn."""

    name: str
    split: str
    signer: int
    signs: tuple[str, ...]
    text: str
    frames: int | None = None
    """At 25 fps; None: as many as the signer takes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """How one release lies on disk."""

    folder: str
    """The dataset's root, in the corpus's folder."""
    text_file: str
    sentence: Callable[[Meaning, np.random.Generator], str]
    square: bool
    units: Callable[[Sequence[Utterance]], list[tuple[Utterance, ...]]]
    """The clips, renamed as the release names them; those of a unit are drawn together."""
    write: Callable[[Path, tuple[int, int], tuple[Utterance, ...], Iterable[Images]], list[int]]
    """Draws a unit below the root, at a width and height; gives the frames of each clip."""
    annotate: Callable[[Path, list[tuple[Utterance, ...]], list[list[int]]], None]


def _one_by_one(utterances: Sequence[Utterance]) -> list[tuple[Utterance, ...]]:
    return [(said,) for said in utterances]


def _write_phoenix(
    root: Path, size: tuple[int, int], unit: tuple[Utterance, ...], drawn: Iterable[Images]
) -> list[int]:
    ((said, images),) = zip(unit, drawn, strict=True)
    folder = root / f"features/fullFrame-{size[0]}x{size[1]}px/{said.split}/{said.name}"
    folder.mkdir(parents=True)
    number = 0
    for number, image in enumerate(images, start=1):
        cv2.imwrite(str(folder / f"images{number:04d}.png"), image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return [number]


def _annotate_phoenix(root: Path, units: list[tuple[Utterance, ...]], counts: list[list[int]]) -> None:
    (root / "annotations/manual").mkdir(parents=True)
    for split in ("train", "dev", "test"):
        lines = ["name|video|start|end|speaker|orth|translation"]
        for (said,) in units:
            if said.split == split:
                speaker = f"Signer{said.signer + 1:02d}"
                lines.append(f"{said.name}|{said.name}/1/*.png|-1|-1|{speaker}|{' '.join(said.signs)}|{said.text}")
        path = root / "annotations/manual" / f"PHOENIX-2014-T.{split}.corpus.csv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _csl_names(utterances: Sequence[Utterance]) -> list[tuple[Utterance, ...]]:
    return [
        (dataclasses.replace(said, name=f"S{number:06d}_P{said.signer:04d}_T00"),)
        for number, said in enumerate(utterances, start=6)  # no number of the clip that is lacking
    ]


def _write_csl(root: Path, size: tuple[int, int], unit: tuple[Utterance, ...], drawn: Iterable[Images]) -> list[int]:
    ((said, images),) = zip(unit, drawn, strict=True)
    folder = root / "sentence/frames_512x512" / said.name
    folder.mkdir(parents=True)
    number = -1
    for number, image in enumerate(images):
        cv2.imwrite(str(folder / f"{number:06d}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    return [number + 1]


def _annotate_csl(root: Path, units: list[tuple[Utterance, ...]], counts: list[list[int]]) -> None:
    (root / "sentence_label").mkdir(parents=True)
    info = [
        {
            "name": said.name, "length": length, "signer": said.signer, "label_gloss": list(said.signs),
            "label_char": list(said.text), "label_word": [said.text], "label_postag": ["x"],
        }
        for (said,), (length,) in zip(units, counts, strict=True)
    ]  # fmt: skip
    held = {"info": info, "char_map": sorted({c for (said,) in units for c in said.text})}
    (root / "sentence_label/csl2020ct_v2.pkl").write_bytes(pickle.dumps(held, protocol=3))
    rows = ["name|split", f"{LACKING}|train", *(f"{said.name}|{said.split}" for (said,) in units)]
    (root / "sentence_label/split_1.txt").write_text("\n".join(rows) + "\n")


def _recordings(utterances: Sequence[Utterance]) -> list[tuple[Utterance, ...]]:
    """Up to ``RECORDED`` clips of one signer and split; clips are named after their recording."""
    by_signer: dict[tuple[str, int], list[Utterance]] = {}
    for said in utterances:
        by_signer.setdefault((said.split, said.signer), []).append(said)
    units: list[tuple[Utterance, ...]] = []
    for clips in by_signer.values():
        waiting = iter(clips)
        while unit := tuple(islice(waiting, RECORDED)):
            id = f"w{len(units):09d}A"
            units.append(
                tuple(dataclasses.replace(c, name=f"{id}_{n}-{c.signer + 1}-rgb_front") for n, c in enumerate(unit))
            )
    return units


def _video_name(said: Utterance) -> str:
    id, _, rest = said.name.partition("_")
    return f"{id}{rest[rest.index('-') :]}"


def _write_how2sign(
    root: Path, size: tuple[int, int], unit: tuple[Utterance, ...], drawn: Iterable[Images]
) -> list[int]:
    cut = root / f"{_released_split(unit[0])}_realigned"
    for folder in (cut, root / "raw_videos"):
        folder.mkdir(parents=True, exist_ok=True)
    counts = []
    whole = _video(root / "raw_videos" / f"{_video_name(unit[0])}.mp4", size)
    for said, images in zip(unit, drawn, strict=True):
        frames = list(images)
        clip = _video(cut / f"{said.name}.mp4", size)
        for image in frames:
            clip.write(image)
            whole.write(image)
        clip.release()
        if said is not unit[-1]:
            for _ in range(GAP):
                whole.write(frames[-1])
        counts.append(len(frames))
    whole.release()
    return counts


def _annotate_how2sign(root: Path, units: list[tuple[Utterance, ...]], counts: list[list[int]]) -> None:
    columns = ["VIDEO_ID", "VIDEO_NAME", "SENTENCE_ID", "SENTENCE_NAME", "START_REALIGNED", "END_REALIGNED", "SENTENCE"]
    rows: dict[str, list[str]] = {split: ["\t".join(columns)] for split in ("train", "val", "test")}
    for number, (unit, lengths) in enumerate(zip(units, counts, strict=True)):
        first = 0
        for said, length in zip(unit, lengths, strict=True):
            end = (first + length) / FPS
            if said is unit[-1] and number % LATE_EVERY == 0:
                end += BEYOND
            id = said.name.partition("_")[0]
            where = [id, _video_name(said), said.name.partition("-")[0], said.name, f"{first / FPS:.2f}", f"{end:.2f}"]
            rows[_released_split(said)].append("\t".join([*where, said.text]))
            first += length + GAP
    for split, lines in rows.items():
        video = f"z{split}A-1-rgb_front"  # of this text there is no clip, and of the copies below no text
        lines.append("\t".join([f"z{split}A", video, f"z{split}A_0", f"z{split}A_0-1-rgb_front", "0", "1", "Nobody."]))
        (root / f"how2sign_realigned_{split}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        clips = sorted((root / f"{split}_realigned").iterdir())
        shutil.copy(clips[0], clips[0].with_name(f"y{split}A_0-1-rgb_front.mp4"))
    recordings = sorted((root / "raw_videos").iterdir())
    shutil.copy(recordings[0], recordings[0].with_name("yA-1-rgb_front.mp4"))


def _released_split(said: Utterance) -> str:
    return "val" if said.split == "dev" else said.split


def _video(path: Path, size: tuple[int, int]) -> cv2.VideoWriter:
    return cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), FPS, size)  # type: ignore[attr-defined]


LAYOUTS = {
    "phoenix14t": Layout(
        "PHOENIX-2014-T", "text.de.txt", sentence, False, _one_by_one, _write_phoenix, _annotate_phoenix
    ),
    "csl_daily": Layout("CSL-Daily", "text.zh.txt", chinese, True, _csl_names, _write_csl, _annotate_csl),
    "how2sign": Layout("How2Sign", "text.en.txt", english, True, _recordings, _write_how2sign, _annotate_how2sign),
}
