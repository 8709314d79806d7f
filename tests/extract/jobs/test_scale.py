"""Memory that does not grow with the number of clips: the benchmark, in fresh processes, at two sizes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[3]
FEW, MANY = 10_000, 50_000
GROWTH_MIB = {"plan": 36, "resume": 42, "info": 20}
"""For 40,000 clips more. Kept as objects, clips take 60, with their places 70, and places alone 33."""


@pytest.fixture(scope="module")
def scales(tmp_path_factory):
    out = tmp_path_factory.mktemp("scale") / "scale.json"
    command = [sys.executable, REPOSITORY / "benchmarks/scale.py", "--clips", str(FEW), str(MANY), "--out", out]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())["scales"]


@pytest.mark.parametrize("what", ["plan", "resume", "info"])
def test_peak_memory_hardly_grows(scales, what):
    few, many = scales[str(FEW)][what], scales[str(MANY)][what]
    assert few["peak_mib"] > 50
    assert many["peak_mib"] - few["peak_mib"] < GROWTH_MIB[what]


def test_what_was_planned_adds_up(scales):
    for clips in (FEW, MANY):
        whole, rest = scales[str(clips)]["plan"], scales[str(clips)]["resume"]
        assert whole["wanted"] == round(0.98 * clips)
        assert rest["wanted"] + rest["skipped"] + rest["failed"] == whole["wanted"]
        assert rest["skipped"] > 0.8 * whole["wanted"]
        assert rest["failed"] > 0
