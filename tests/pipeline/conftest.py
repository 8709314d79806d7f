"""A finished experiment that the tests of commands share."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def finished_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished tiny demo; not to be changed by a test."""
    out = tmp_path_factory.mktemp("demo") / "out"
    command = [
        sys.executable,
        "-c",
        "from pipeline.commands.cli import main; main()",
        "demo",
        "--preset",
        "tiny",
        "--json",
    ]
    done = subprocess.run(
        [*command, "--out", str(out)], capture_output=True, text=True, check=False, timeout=280,
        env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(json.loads(done.stdout)) == ["stage1", "stage2", "shuffled", "text_prior"]
    return out
