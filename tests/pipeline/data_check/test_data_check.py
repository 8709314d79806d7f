"""``slt data check`` in real processes, on the built-in corpus, whole and damaged."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from extract.dataset.clip_index import ClipIndex
from extract.dataset.manifest import load_manifest
from extract.decoding.read_clip import read_clip
from pipeline.corpus.layout import DATASET_FOLDER
from pipeline.data_check.contact_sheet import FRAMES_A_ROW, read_rows
from pipeline.experiment.config import load_config

SLT = [sys.executable, "-c", "from pipeline.commands.cli import main; main()"]


def slt(*words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*SLT, *map(str, words)], capture_output=True, text=True, check=False, timeout=280,
        env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1"},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


def facts(*words: str | Path, code: int = 0) -> dict[str, Any]:
    return json.loads(slt("data", "check", *words, "--json", code=code).stdout)  # type: ignore[no-any-return]


def by_check(told: dict[str, Any], check: str) -> dict[str, Any]:
    return {finding["split"]: finding for finding in told["findings"] if finding["check"] == check}


def indexed(root: Path, out: Path, code: int = 0) -> list[str | Path]:
    words: list[str | Path] = ["tiny", "--out", out, "--set", f"data.root={root}"]
    slt("index", *words, code=code)
    return words


def test_a_whole_corpus_passes_and_its_page_needs_nothing_else(tiny_corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = indexed(tiny_corpus / DATASET_FOLDER, out)
    done = slt("data", "check", *words)
    assert "error" not in done.stdout
    for said in ("clips found", "sampled", "data.html", "partly signer-independent"):
        assert said in done.stdout, said
    page = (out / "data.html").read_text()
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 9
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert str(tmp_path) not in page
    assert str(tiny_corpus) not in page
    told = json.loads((out / "data.json").read_text())
    assert {name: of["found"] for name, of in told["splits"].items()} == {"train": 48, "dev": 12, "test": 12}
    clips = list(ClipIndex(out / "index.parquet"))
    assert told["splits"]["dev"]["lengths"]["frames"]["max"] == max(c.n_frames for c in clips if c.split == "dev")
    assert cv2.imread(str(out / "data.png")) is not None

    before = {path.name: path.read_bytes() for path in out.glob("data.*")}
    slt("data", "check", *words)
    assert {path.name: path.read_bytes() for path in out.glob("data.*")} == before  # the same seed, the same clips
    slt("data", "check", *words, "--seed", "1")
    assert (out / "data.png").read_bytes() != before["data.png"]
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(pictures[0]), np.uint8), cv2.IMREAD_COLOR)
    shown = re.search(r"<figcaption><code>([^<]+)</code>", page)
    assert picture is not None
    assert shown is not None
    settings = load_config("tiny").frames
    seen = read_clip(tiny_corpus / DATASET_FOLDER, next(c for c in clips if c.id == shown[1]), settings)
    first = seen[0].transpose(1, 2, 0)[..., ::-1].repeat(3, axis=0).repeat(3, axis=1)  # 32 pixels, three times
    assert (picture[:96, :96] == first).all()  # the very pixels that the encoder gets


@pytest.mark.long
def test_dry_run_writes_nothing(tiny_corpus: Path, tmp_path: Path) -> None:
    words = indexed(tiny_corpus / DATASET_FOLDER, tmp_path / "out")
    assert "nothing was written" in slt("data", "check", *words, "--dry-run").stdout
    elsewhere = ["tiny", "--out", tmp_path / "other", "--index", tmp_path / "out/index.parquet"]
    told = facts(*elsewhere, "--set", "data.root=/nowhere/to/be/found", "--dry-run")
    assert by_check(told, "contact sheet")[None]["severity"] == "note"
    assert not by_check(told, "positions")
    absent = facts("phoenix14t", *elsewhere[1:], "--set", "train.stage2.language_model=nobody/has-this", "--dry-run",
                   "--set", "data.root=/nowhere/to/be/found", code=3)  # fmt: skip
    assert by_check(absent, "count")["train"]["what"] == "clips found, expected 7096"
    assert by_check(absent, "positions")[None]["severity"] == "note"
    assert not (tmp_path / "other").exists()
    assert not list((tmp_path / "out").glob("data.*"))


@pytest.mark.long
def test_planted_faults(corpus_copy: Path, tmp_path: Path) -> None:
    annotations = corpus_copy / "annotations/manual"
    train = (annotations / "PHOENIX-2014-T.train.corpus.csv").read_text().splitlines()
    test = annotations / "PHOENIX-2014-T.test.corpus.csv"
    lines = test.read_text().splitlines()
    leaking, marked, damaged = (line.split("|")[0] for line in lines[1:4])
    lines[1] = "|".join([*lines[1].split("|")[:-1], train[5].split("|")[-1].replace(" ", "  ")])
    lines[2] += " <script>alert(1)</script> 北京 ."
    test.write_text("\n".join(lines) + "\n")
    (folder,) = corpus_copy.glob(f"features/*/test/{damaged}")
    (folder / "images0002.png").unlink()
    words = indexed(corpus_copy, tmp_path / "out", code=3)

    told = facts(*words, code=3)
    assert told["findings"][0]["severity"] == "error"
    (example,) = by_check(told, "unreadable")["test"]["examples"]
    assert example["id"] == damaged
    assert example["problem"].startswith("missing: features/")  # not the root
    assert [example["id"] for example in by_check(told, "leak")["test"]["examples"]] == [leaking]
    assert [example["id"] for example in by_check(told, "text: final dot")["test"]["examples"]] == [marked]
    assert told["splits"]["test"]["unreadable"] == {"missing": 1}
    page = (tmp_path / "out/data.html").read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt; 北京" in page
    assert "<script" not in page

    shutil.copy(folder / "images0001.png", folder / "images0002.png")  # mended: warnings remain
    slt("index", *words, "--force")
    assert by_check(facts(*words), "leak")["test"]["count"] == 1
    facts(*words, "--strict", code=3)
    stripped = facts(*words, "--set", "score.final_dot=strip")
    assert by_check(stripped, "text: final dot")["test"]["severity"] == "note"

    for image in corpus_copy.glob("features/*/dev/*/images0001.png"):  # after the index was made
        image.write_bytes(image.read_bytes()[:100])
    told = facts(*words, code=3)
    assert by_check(told, "unreadable now")[None]["count"] == 3
    assert "truncated" in by_check(told, "unreadable now")[None]["examples"][0]["problem"]
    test.write_text("\n".join(lines[:-1]) + "\n")
    assert "annotations" in by_check(facts(*words, code=3), "index")[None]["what"]  # stale


def test_counts_of_the_manifest(tiny_corpus: Path, tmp_path: Path) -> None:
    entry = load_manifest()["builtin"].model_copy(
        update={"splits": {"train": 48, "dev": 13, "test": 12}, "level": "char"}
    )
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text(yaml.safe_dump({"datasets": {"builtin": entry.model_dump(mode="json")}}))
    words = indexed(tiny_corpus / DATASET_FOLDER, tmp_path / "out")
    told = facts(*words, "--manifest", manifest, "--clips", "0", code=3)
    (finding,) = by_check(told, "count").values()
    assert (finding["split"], finding["count"], finding["what"]) == ("dev", 12, "clips found, expected 13")
    assert told["level"] == "char"  # the manifest's: the config is silent
    assert facts(*words, "--manifest", manifest, "--clips", "0", "--set", "score.level=word", code=3)["level"] == "word"
    assert not (tmp_path / "out/data.png").exists()  # no clips, no sheet


def test_no_index_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    done = slt("data", "check", "tiny", "--out", tmp_path / "out", code=2)
    assert "Run `slt index tiny` first" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    assert "Parquet" in slt("data", "check", "tiny", "--index", tmp_path / "x.parquet", code=2).stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("frames", [1, 5, 40])
def test_a_row_shows_first_and_last_frame(tiny_corpus: Path, tiny_index: ClipIndex, frames: int) -> None:
    root, clip = tiny_corpus / DATASET_FOLDER, next(iter(tiny_index))
    every = max(1, -(-clip.n_frames // frames))
    settings = load_config("tiny").frames.model_copy(update={"keep_every": every})
    (row,) = read_rows(root, [clip], settings)
    seen = read_clip(root, clip, settings)
    assert row.kept == len(seen)
    assert row.strip is not None
    shown = min(len(seen), FRAMES_A_ROW)
    assert row.strip.shape == (96, 96 * shown + 2 * (shown - 1), 3)
    assert (row.strip[::3, -96::3, ::-1] == seen[-1].transpose(1, 2, 0)).all()
