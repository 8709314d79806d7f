"""``slt config`` in real processes."""

import json
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]


def slt(*words: str | Path, code: int = 0) -> str:
    command = [sys.executable, "-m", "pipeline", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_each_value_with_where_it_came_from(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ndata: {dataset: csl_daily}\nencoder: {temporal: [{kernel: 3}]}\n"
                    "train: {stage2: {batch_size: 4}}\n")  # fmt: skip
    told = slt("config", path, "--set", "train.stage2.beams=2", "--set", "data.root=/else", "--set", "score.beta=1")
    lines = [line.strip() for line in told.splitlines()]
    assert "name: mine  # mine.yaml" in lines
    assert "root: /else  # --set" in lines
    assert "language: zh_CN  # the manifest" in lines
    assert "temporal: [{kernel: 3, pool: 1}]  # mine.yaml" in lines
    assert "batch_size: 4  # mine.yaml" in lines
    assert "beams: 2  # --set" in lines
    assert "patience: null  # default" in lines
    assert "level: char  # the manifest" in lines
    assert "beta: 1.0  # --set" in lines
    assert yaml.safe_load(told)["train"]["stage2"]["beams"] == 2
    assert json.loads(slt("config", path, "--json"))["data"]["language"] == "zh_CN"


def test_keys() -> None:
    told = slt("config", "--keys", "frames.crop").splitlines()
    assert told[0] == "frames.crop: integer ≥ 8 = 224"
    assert told[1].startswith("    Side of the crop, in pixels [P]: centre outside training")
    assert len(json.loads(slt("config", "--keys", "--json"))) > 250
    assert "Did you mean 'frames.crop'" in slt("config", "--keys", "frames.corp", code=2)


def test_neither() -> None:
    assert "expected CONFIG, or --keys, found neither" in slt("config", code=2)
