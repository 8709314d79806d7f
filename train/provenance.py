"""What lies beside every trained directory: the settings, inputs and versions that made it."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

from extract.atomic_write import write_atomic
from extract.fingerprint import file_sha256

FILE = "provenance.json"
_LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "zarr", "opencv-python-headless")


def write_provenance(folder: Path, **facts: Any) -> None:
    """Write ``provenance.json`` into a trained directory, with the SHA-256 of every other file in it."""
    record = {
        **facts,
        "files": {
            path.relative_to(folder).as_posix(): file_sha256(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name not in (FILE, "README.md")  # the card is written again with scores
        },
        "versions": versions(),
    }
    write_atomic(folder / FILE, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def versions() -> dict[str, str]:
    """Of Python and of the libraries that decide a result's last digits."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in _LIBRARIES}
