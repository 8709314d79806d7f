"""``slt translate`` of videos, in real processes, from files, a folder, and a server."""

import functools
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

import fla_slt

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]


def slt(*words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "translate", *map(str, words)],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=200, env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def clips(finished_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of frames, and the same clip as a video."""
    folder = tmp_path_factory.mktemp("clips")
    run = fla_slt.open(finished_demo)
    (folder / "frames").symlink_to((run.dataset.root / run.clips("test")[0].source).resolve())
    first = sorted((folder / "frames").glob("*.png"))
    height, width = cv2.imread(str(first[0])).shape[:2]
    writer = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (width, height))
    for path in first:
        writer.write(cv2.imread(str(path)))
    writer.release()
    return folder


@pytest.fixture
def server(clips: Path) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(clips))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def test_videos_are_translated_as_the_test_split_is(finished_demo: Path, clips: Path, server: str) -> None:
    run = fla_slt.open(finished_demo)
    first = next(iter(run.predictions()))
    videos = [clips / "frames", clips / "clip.mp4", f"{server}/clip.mp4", f"{server}/gone.mp4", clips / "nothing.mp4"]
    done = slt(*videos, "--model", finished_demo, "--json", code=3)
    frames, video, fetched, gone, nothing = json.loads(done.stdout)
    assert (frames["text"], frames["score"]) == (first.hypothesis, pytest.approx(first.score, abs=1e-3))
    assert set(frames) == {"video", "text", "score", "pieces", "seconds"}
    assert (fetched["text"], fetched["score"]) == (video["text"], video["score"])
    assert "HTTP Error 404" in gone["error"]
    assert nothing["error"].endswith("found nothing there. Check the path.")


def test_the_text_alone_is_printed(finished_demo: Path, clips: Path) -> None:
    first = next(iter(fla_slt.open(finished_demo).predictions()))
    done = slt(clips / "frames", "--model", finished_demo / "stage2")
    assert done.stdout == first.hypothesis + "\n"
    assert first.score is not None
    assert re.fullmatch(r"score (-\d\.\d{3}), \d+\.\d\d s\n", done.stderr)
    assert float(done.stderr.split()[1].rstrip(",")) == pytest.approx(first.score, abs=2e-3)


def test_what_is_neither(finished_demo: Path, clips: Path) -> None:
    said = slt(clips / "clip.mp4", code=2).stderr
    assert "expected one CONFIG, or --model with videos" in said
    assert "--model runs/demo" in said
    assert "expected one CONFIG" in slt(clips / "frames", code=2).stderr
    assert "expected the folder of an experiment" in slt(clips / "clip.mp4", "--model", clips, code=2).stderr
    assert "found options of a config" in slt(clips / "clip.mp4", "--model", finished_demo, "--force", code=2).stderr
