"""What is measured by hand on other machines runs here too, in small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.stage2.perfect_sight import Row, sight, vector
from extract.dataset.clip_index import Clip

pytestmark = pytest.mark.long


def test_the_gpu_benchmark_runs_every_section_that_it_can() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu.py", "--smoke"], capture_output=True, text=True, check=False, timeout=280,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert list(report["left_out"]) == ([] if torch.cuda.is_available() else ["replay"])
    assert {"extract_vs_bound", "cached_vs_end_to_end_sampled", "stage1_vs_bound"} <= report["ratios"].keys()
    assert report["figures"]["extract_float32_failed"] == 0
    assert all(value > 0 for name, value in report["figures"].items() if name.endswith(("second", "ms", "resident")))


def test_the_gloss_oracle_trains_translates_and_compares(tmp_path: Path) -> None:
    words = ["regen", "schnee", "sonne", "wind", "norden"]
    splits = ["train"] * 40 + ["dev"] * 8 + ["test"] * 8
    lines = ["id\tsplit\tframes\tgloss\ttext"]
    for number, split in enumerate(splits):
        said = [words[(number + step) % 5] for step in range(number % 4)]
        lines.append(f"c{number}\t{split}\t{16 + number}\t{' '.join(said).upper()}\tim osten {' und '.join(said)}")
    (tmp_path / "table.tsv").write_text("\n".join(lines) + "\n")
    command = [sys.executable, "benchmarks/gloss_oracle.py", str(tmp_path / "table.tsv"), "--smoke", "--clips", "32",
               "--seeds", "0", "1", "--arm", "slow", "train.stage2.learning_rate=1e-6"]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=280, cwd=Path(__file__).parents[1]
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["clips"] == {"train": 32, "dev": 8, "test": 8}
    assert report["by_seed"]["plain"].keys() == report["by_seed"]["slow"].keys() == {"0", "1"}
    assert report["ratios"]["slow_p_value_0"] > 0
    assert report["figures"]["plain_adapter_deviation_1"] > 0
    assert "regen" not in done.stdout


def test_what_the_gloss_oracle_sees_is_the_gloss_and_its_share_of_the_clip() -> None:
    glosses = ("REGEN", "SCHNEE", "REGEN")
    clip = Clip("c", "train", "", 46, 25.0, "regen", "de_DE")
    seen = sight(Row(clip, glosses), 4, 512)
    assert seen.shape == (12, 512)
    likeness = seen @ np.stack([vector(name, 512) for name in ("SCHNEE", "REGEN")]).T
    assert likeness.argmax(1).tolist() == [1] * 4 + [0] * 4 + [1] * 4
    assert np.std(seen - sight(Row(clip, ()), 4, 512)) == pytest.approx(1, abs=0.1)  # what is left is noise
