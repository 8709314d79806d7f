"""``slt index`` in real processes that are killed, or die of a file, and go on."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from extract.dataset.clip_index import ClipIndex
from extract.dataset.index_remarks import read_remarks
from extract.jobs.check_sources import ALONE

SLT = [sys.executable, "-c", "from pipeline.commands.cli import main; main()"]
FRAMES = 4
THREADS = 16

# Python's own account of what each process opens, workers included. Folders named in ``hanging`` keep who opens a file
# of them waiting, as a network disk may.
WATCH = """
import os, signal, sys, time
def note(event, arguments):
    if event == "open" and str(arguments[0]).endswith(".png"):
        path = os.fspath(arguments[0])
        with open(os.environ["OPENED"], "a") as file:
            file.write(path.split("/")[-2] + chr(10))
        while os.path.exists(os.path.join(os.environ["HANGING"], path.split("/")[-2])):
            time.sleep(0.02)
        if "/killer/" in path:
            os.kill(os.getpid(), signal.SIGSEGV)
sys.addaudithook(note)
"""


def write_folder(folder: Path, seed: int) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(FRAMES):
        cv2.imwrite(str(folder / f"{number}.png"), rng.integers(0, 255, (24, 24, 3), dtype=np.uint8))


def write_table(root: Path, rows: list[dict[str, Any]]) -> None:
    (root / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def row(number: int, path: str, split: str = "train", **more: Any) -> dict[str, Any]:
    return {"id": f"clip-{number:02d}", "path": path, "text": f"Text {number}.", "split": split, **more}


class Index:
    """``slt index`` of a folder, in a process group of its own."""

    def __init__(self, root: Path, out: Path, opened: Path) -> None:
        watch = opened.parent / "watch"
        watch.mkdir(exist_ok=True)
        (watch / "sitecustomize.py").write_text(WATCH)
        opened.write_text("")
        words = ["index", "folder.yaml", "--out", out, "--set", f"data.root={root}"]
        config = {"name": "x", "data": {"dataset": "folder", "options": {"file": "clips.jsonl"}},
                  "extract": {"workers": 1}}  # fmt: skip
        (opened.parent / "folder.yaml").write_text(json.dumps(config))
        self.opened, self.log = opened, opened.parent / "index.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*SLT, *map(str, words)], cwd=opened.parent, start_new_session=True, stdout=log, stderr=log,
                env={**os.environ, "PYTHONPATH": f"{watch}:{Path(__file__).parents[3]}", "OPENED": str(opened),
                     "HANGING": str(opened.parent / "hanging"), "NO_COLOR": "1", "COLUMNS": "200"},
            )  # fmt: skip

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.01)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def finish(self, code: int) -> set[str]:
        """The frame folders of which a file was opened."""
        assert self.process.wait(120) == code, self.log.read_text()
        return set(self.opened.read_text().split())


def looked_at(out: Path) -> set[str]:
    lines = [line for file in out.glob("work/index-looks/*.jsonl") for line in file.read_text().split("\n")]
    return {json.loads(line)["source"] for line in lines if line.endswith("}")}


@pytest.mark.long
def test_killed_midway_it_goes_on_and_opens_nothing_again(tmp_path: Path) -> None:
    """Folders 0 to 23 are looked at, 24 to 39 keep all threads waiting, then comes the kill."""
    root, out = tmp_path / "root", tmp_path / "out"
    rows = [row(number, f"{number:02d}", "train" if number < 40 else "dev") for number in range(56)]
    for number in range(56):
        write_folder(root / f"{number:02d}", number)
    damaged = root / "05/2.png"
    damaged.write_bytes(damaged.read_bytes()[:50])
    video = cv2.VideoWriter(str(root / "two.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25.0, (32, 32))
    for number in range(50):
        video.write(np.full((32, 32, 3), 4 * number, np.uint8))
    video.release()
    rows[3:3] = [row(90, "two.mp4", start=0.0, end=0.8), row(91, "two.mp4", start=0.8)]
    rows.append(row(92, "absent", "test"))
    write_table(root, rows)
    hanging = tmp_path / "hanging"
    hanging.mkdir()
    for number in range(24, 24 + THREADS):
        (hanging / f"{number:02d}").touch()

    first = Index(root, out, tmp_path / "opened")
    early = {f"{number:02d}" for number in range(24)} | {"two.mp4"}
    first.wait_until(lambda: looked_at(out) == early)
    time.sleep(0.2)
    assert looked_at(out) == early
    first.kill()
    assert [path.name for path in out.iterdir() if path.name.startswith("index")] == []  # neither whole nor half

    shutil.rmtree(hanging)
    (log,) = out.glob("work/index-looks/*.jsonl")
    with log.open("a") as file:
        file.write('{"source": "50", "sta')  # what a kill may leave of a line
    changed = root / "07/0.png"  # replaced by another of its size, and dated back
    before, data = changed.stat(), changed.read_bytes()
    changed.write_bytes(data[:-30] + bytes(30))
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    rows[0]["text"] = "Another one."
    rows.append(row(93, "two.mp4", "test", start=1.0, end=1.2))
    write_table(root, rows)

    opened = Index(root, out, tmp_path / "opened").finish(3)
    assert opened == {f"{number:02d}" for number in range(24, 56)} | {"07"}
    assert not (out / "work/index-looks").exists()
    Index(root, tmp_path / "undisturbed", tmp_path / "opened").finish(3)
    for name in ("index.parquet", "index.remarks.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
    clips = {clip.id: clip for clip in ClipIndex(out / "index.parquet")}
    assert len(clips) == len(rows)
    bad = {id: str(clip.problem).partition(":")[0] for id, clip in clips.items() if clip.problem}
    assert bad == {"clip-05": "decode", "clip-07": "decode", "clip-92": "missing"}
    assert {clip.n_frames for clip in clips.values() if clip.source < "60" and not clip.problem} == {FRAMES}
    assert [clips[f"clip-{number}"].n_frames for number in (90, 91, 93)] == [20, 30, 5]
    assert {clip.source for clip in clips.values() if not clip.counted and not clip.problem} == {"two.mp4"}
    assert [remark.kind for remark in read_remarks(out / "index.remarks.jsonl")] == ["text_without_clip"]


def test_a_small_index_starts_no_cluster(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for number in range(6):
        write_folder(root / f"{number}", number)
    write_table(root, [row(number, f"{number}", ("train", "dev", "test")[number % 3]) for number in range(6)])
    began = time.monotonic()
    index = Index(root, tmp_path / "out", tmp_path / "opened")
    children = set()
    while index.process.poll() is None:
        children |= set(Path(f"/proc/{index.process.pid}/task/{index.process.pid}/children").read_text().split())
        time.sleep(0.05)
    assert index.finish(0) == set("012345")
    assert not children
    assert time.monotonic() - began < ALONE + 20


@pytest.mark.slow
def test_a_file_that_kills_the_process_is_found_by_the_next_run(tmp_path: Path) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    names = [f"{number:02d}" for number in range(20)]
    for number, name in enumerate(names):
        write_folder(root / name, number)
    write_folder(root / "killer", 99)
    order = [*names[:9], "killer", *names[9:]]
    write_table(root, [row(n, name, ("train", "dev", "test")[max(0, n - 18)]) for n, name in enumerate(order)])
    first = Index(root, out, tmp_path / "opened")
    assert first.process.wait(60) == -signal.SIGSEGV
    assert not (out / "index.parquet").exists()
    Index(root, out, tmp_path / "opened").finish(3)
    clips = ClipIndex(out / "index.parquet").clips()
    assert [clip.id for clip in clips if clip.problem] == ["clip-09"]
    assert str(next(clip.problem for clip in clips if clip.problem)).startswith("worker_crash: killer: ")
