"""What lies beside every trained directory: the settings, inputs and versions that made it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

FILE = "provenance.json"
_LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "zarr", "opencv-python-headless")


def write_provenance(folder: Path, **facts: Any) -> None:
    """Write ``provenance.json`` into a trained directory, with the SHA-256 of every other file in it."""
    record = {
        **facts,
        "files": {
            path.relative_to(folder).as_posix(): _sha256(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name not in (FILE, "README.md")  # the card is written again with scores
        },
        "versions": versions(),
    }
    (folder / FILE).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def versions() -> dict[str, str]:
    """Of Python and of the libraries that decide a result's last digits."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in _LIBRARIES}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
