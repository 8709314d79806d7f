"""Writing a drawn corpus to disk, in the layout of a release: the built-in one, or the sentences of a table."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import yaml

from extract.atomic_write import replacing
from extract.errors import InputError
from extract.fingerprint import file_sha256
from pipeline.corpus.grammar import Meaning, meanings, sentence
from pipeline.corpus.lexicon import SignForm, lexicon, vocabulary_forms
from pipeline.corpus.motion import poses
from pipeline.corpus.released import LAYOUTS, Images, Utterance
from pipeline.corpus.signer import Canvas, Look
from pipeline.corpus.text_table import read_text_table

VERSION = 1
"""Raised whenever the same preset and seed give other files."""
SEEN_SIGNERS, UNSEEN_SIGNERS = 7, 2
UNSEEN_RATE = 0.25
"""Share of test clips by signers that are in no other split."""
LENGTHS = {1: 0.06, 2: 0.24, 3: 0.40, 4: 0.30}
"""Signs per clip."""
DATASET_FOLDER = LAYOUTS["phoenix14t"].folder
TEXT_FILE = LAYOUTS["phoenix14t"].text_file


@dataclasses.dataclass(frozen=True, slots=True)
class Preset:
    """Size of a corpus: clips per split, sentences of the text-only file, frame size in pixels."""

    train: int
    dev: int
    test: int
    sentences: int
    width: int
    height: int


PRESETS = {
    "tiny": Preset(train=48, dev=12, test=12, sentences=600, width=42, height=52),
    "demo": Preset(train=2400, dev=120, test=300, sentences=20_000, width=72, height=88),
    "large": Preset(train=5000, dev=120, test=300, sentences=20_000, width=72, height=88),
    "bench": Preset(train=240, dev=24, test=48, sentences=2_000, width=210, height=260),
}


def write_corpus(
    folder: Path,
    preset: str,
    seed: int = 0,
    on_clip: Callable[[int, int], None] | None = None,
    workers: int | None = None,
    layout: str = "phoenix14t",
    texts: Path | None = None,
    every: int = 1,
) -> Path:
    """Write the corpus of a preset, or of a table, below ``folder``; does nothing when it is already there.

    The result is complete or absent: it is built beside ``folder`` and renamed at the end.

    Args:
        folder: receives the dataset's root, such as ``PHOENIX-2014-T/``, and plain text, such as ``text.de.txt``.
        on_clip: called with clips done and clips in all.
        workers: drawing processes; default: one per core.
        layout: of which release, one of ``LAYOUTS``.
        texts: a table as ``read_text_table`` reads it, whose sentences are drawn instead of the built-in ones; of the
            preset the size of the frames counts then, and the plain text is that of train.
        every: of so many frames only the first is drawn, for what samples no others.

    Returns:
        The dataset's root, such as ``folder/PHOENIX-2014-T``.

    Raises:
        InputError: something else lies in ``folder``, or the table is none.
    """
    folder = folder.resolve()
    if folder.exists() and not (folder / "corpus.yaml").is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(folder, expected="an empty or new folder, or a built-in corpus", found="something else",
                         remedy="It would be replaced: choose another folder.")  # fmt: skip
    about = {"corpus": "built-in", "version": VERSION, "preset": preset, "seed": seed}
    if layout != "phoenix14t":
        about["layout"] = layout
    if texts is not None:
        about = {"corpus": "drawn", "version": VERSION, "texts": file_sha256(texts), "preset": preset, "seed": seed}
    if every > 1:
        about["every"] = every
    released = LAYOUTS[layout]
    card = folder / "corpus.yaml"
    if card.is_file() and yaml.safe_load(card.read_text()) == about:
        return folder / released.folder
    size = PRESETS[preset]
    if texts is None:
        utterances, monolingual = compose(size, seed, released.sentence)
        forms: Mapping[str, SignForm] = lexicon(seed)
    else:
        utterances = read_text_table(texts, seed)
        monolingual = list(dict.fromkeys(said.text for said in utterances if said.split == "train"))
        forms = vocabulary_forms((sign for said in utterances for sign in said.signs), seed)
    units = released.units(utterances)
    counts: list[list[int]] = []
    # Spawned, not forked: the caller may hold threads.
    spawn = multiprocessing.get_context("spawn")
    with replacing(folder) as new:
        root = new / released.folder
        root.mkdir(parents=True)
        (new / released.text_file).write_text("".join(line + "\n" for line in monolingual), encoding="utf-8")
        draw = functools.partial(_draw, root, size, seed, layout, every)
        signs = [[[forms[sign] for sign in said.signs] for said in unit] for unit in units]
        with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=spawn) as pool:
            for drawn in pool.map(draw, units, signs, chunksize=8):
                counts.append(drawn)
                if on_clip:
                    on_clip(sum(map(len, counts)), len(utterances))
        released.annotate(root, units, counts)
        (new / card.name).write_text(yaml.safe_dump(about))
    return folder / released.folder


def compose(
    size: Preset, seed: int, sentence: Callable[[Meaning, np.random.Generator], str] = sentence
) -> tuple[list[Utterance], list[str]]:
    """What is said in which clip, and the sentences of the text-only file.

    No meaning of dev or test occurs in train, in the other one or in the text-only file; meanings of train recur,
    said by other signers and in other words.
    """
    rng = np.random.default_rng([seed, 0x54657874])
    by_length: dict[int, list[Meaning]] = {length: [] for length in LENGTHS}
    for meaning in meanings():
        by_length[len(meaning.signs())].append(meaning)
    for group in by_length.values():
        rng.shuffle(group)
    held_out = {split: list(_held_out(by_length, getattr(size, split), rng)) for split in ("dev", "test")}
    pools = {"train": _recurring(by_length, rng), "dev": iter(held_out["dev"]), "test": iter(held_out["test"])}
    utterances = []
    for split, pool in pools.items():
        for number in range(getattr(size, split)):
            meaning = next(pool)
            signer = int(rng.integers(SEEN_SIGNERS))
            if split == "test" and rng.random() < UNSEEN_RATE:
                signer = SEEN_SIGNERS + int(rng.integers(UNSEEN_SIGNERS))
            name = _name(split, number)
            utterances.append(Utterance(name, split, signer, meaning.signs(), sentence(meaning, rng)))
    only_text = _recurring(by_length, rng)
    return utterances, [sentence(next(only_text), rng) for _ in range(size.sentences)]


def _held_out(groups: dict[int, list[Meaning]], count: int, rng: np.random.Generator) -> Iterator[Meaning]:
    """Meanings taken out of the groups for good; the few one-sign meanings stay in train."""
    lengths = [length for length in LENGTHS if length > 1]
    weights = np.array([LENGTHS[length] for length in lengths])
    for length in rng.choice(lengths, size=count, p=weights / weights.sum()):
        yield groups[int(length)].pop()


def _recurring(groups: dict[int, list[Meaning]], rng: np.random.Generator) -> Iterator[Meaning]:
    lengths, weights = list(LENGTHS), list(LENGTHS.values())
    while True:
        group = groups[int(rng.choice(lengths, p=weights))]
        yield group[int(rng.integers(len(group)))]


def _name(split: str, number: int) -> str:
    """A name like PHOENIX14T's: the day of the broadcast, the programme and a running number."""
    year = {"train": 2011, "dev": 2012, "test": 2013}[split]
    day = datetime.date(year, 1, 1) + datetime.timedelta(days=(number // 8) % 365)
    series = ("tagesschau", "heute")[number // (8 * 365) % 2]
    return f"{day:%d%B_%Y_%A}_{series}-{number % 8 + 1}"


def _draw(
    root: Path, size: Preset, seed: int, layout: str, every: int, unit: tuple[Utterance, ...],
    signs: Sequence[Sequence[SignForm]],
) -> list[int]:  # fmt: skip
    """Frames of each clip of a unit, which then lies below the root."""
    released = LAYOUTS[layout]
    width = size.height if released.square else size.width
    shape = (width - width % 2, size.height - size.height % 2) if released.square else (width, size.height)
    drawn = (_images(shape, seed, every, said, forms) for said, forms in zip(unit, signs, strict=True))
    return released.write(root, shape, unit, drawn)


def _images(shape: tuple[int, int], seed: int, every: int, said: Utterance, forms: Sequence[SignForm]) -> Images:
    rng = np.random.default_rng([seed, *said.name.encode()])
    look = Look.draw(seed, said.signer)
    camera = (float(rng.normal(0, 0.04)), float(rng.normal(0, 0.03)))
    canvas = Canvas(look, *shape, camera, light=float(rng.uniform(0.85, 1.12)))
    for number, pose in enumerate(poses(forms, look, rng, said.frames)):
        shake = (float(rng.normal(0, 0.25)), float(rng.normal(0, 0.25)))
        if number % every == 0:
            yield canvas.draw(pose, shake)
