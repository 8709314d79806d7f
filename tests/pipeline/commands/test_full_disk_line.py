"""A full disk is one line, whichever library meets it. A file may have 4 KiB here, as on a disk that is full."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.commands.full_disk import full_disk

LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
WRITERS = {
    "bytes": "open('x', 'wb').write(b'x' * 100_000)",
    "weights": "import torch; from safetensors.torch import save_file; save_file({'a': torch.zeros(100_000)}, 'x')",
    "checkpoint": "import torch; torch.save({'a': torch.zeros(100_000)}, 'x')",
    "table": "import pyarrow as pa, pyarrow.parquet as pq; pq.write_table(pa.table({'a': range(100_000)}), 'x')",
}


def run(code: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, timeout=300, cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3]), "COLUMNS": "200"},
    )  # fmt: skip


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_each_library_is_understood(writer: str, tmp_path: Path) -> None:
    code = f"""{LIMIT}
from pipeline.commands.full_disk import full_disk
try:
    exec({writer!r})
except Exception as error:
    print(full_disk(error))
"""
    (line,) = run(code, tmp_path).stdout.splitlines()
    assert line.endswith("the same command goes on from here."), line


def test_it_is_found_behind_other_errors_and_nothing_else_is() -> None:
    full = ValueError("an array")
    full.__cause__ = OSError(errno.EDQUOT, "Disk quota exceeded", "/a/b")
    assert (full_disk(full) or "").startswith("/a/b: Disk quota exceeded. ")
    assert full_disk(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None
    assert full_disk(ValueError("x")) is None


def test_a_command_ends_with_that_line(tmp_path: Path) -> None:
    done = run(f"{LIMIT}from pipeline.commands.cli import main; main()", tmp_path, "demo", "--preset", "tiny",
               "--out", str(tmp_path / "out"))  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "File too large" in line
