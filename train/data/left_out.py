"""Clips that could not be read while training: left out, kept on disk and counted."""

from __future__ import annotations

import json
from pathlib import Path

from extract.dataset.clip_index import Clip
from extract.errors import ClipError
from extract.jobs.job_account import FailureRateError
from extract.settings import ExtractSettings


class LeftOut:
    """A file with a JSON line for each such clip, to which all processes of a training run add.

    Args:
        total: clips that are learnt from.
        settings: how many of them may fail, and how long reading one may take.
    """

    def __init__(self, path: Path, total: int, settings: ExtractSettings) -> None:
        self.path, self.total, self.settings = path, total, settings

    def read(self) -> dict[str, str]:
        """Id to reason."""
        try:
            lines = self.path.read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            return {}
        return dict(json.loads(line) for line in lines if line.endswith("]"))  # a kill may cut off the last one

    def add(self, clip: Clip, reason: ClipError) -> FailureRateError | None:
        """Count a clip, once; too many of them are an error."""
        if clip.id not in self.read():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as file:
                file.write(f"\n{json.dumps([clip.id, str(reason)])}\n".encode())
        found = self.read()
        if len(found) <= max(1, self.settings.max_failure_rate * self.total):
            return None
        reasons = "; ".join(found.values())[:200]
        return FailureRateError(
            f"{len(found)} of {self.total} clips could not be read while training ({reasons}), more than "
            f"extract.max_failure_rate = {self.settings.max_failure_rate:g} allows. {self.path} lists them: "
            "repair them and run again, or raise it."
        )
