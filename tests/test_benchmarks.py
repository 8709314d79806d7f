"""What is measured by hand on other machines runs here too, in small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

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
