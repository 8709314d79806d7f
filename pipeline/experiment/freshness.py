"""Which stages are done, stale or missing: each leaves a record of what went in and what came out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from extract.atomic_write import write_atomic
from extract.fingerprint import digest, file_sha256
from extract.settings import Settings

EXECUTION = frozenset(
    {
        "workers",
        "scheduler",
        "cluster",
        "wait_seconds",
        "threads",
        "checkpoint_every",
        "check_memory",
        "log_every",
        "report_to",
        "batch_frames",
        "block_frames",
        "max_failure_rate",
        "retry_failed",
        "backend",
        "decode_threads",
        "text",
        "backbone_weights",
        "dominance",
        "frame_batch",
        "gradient_checkpointing",
        "trim_text",
    }
)
"""Settings that decide how a stage runs, not what comes out; of a file, the contents decide, not its path."""

_END_BYTES = 2**20

State = Literal["done", "stale", "missing"]


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """What a finished stage leaves behind."""

    inputs: dict[str, Any]
    """Named inputs: the settings that decide the result, and the results of the stages before."""
    result: Any
    """What identifies the outputs: digests, fingerprints."""
    outputs: list[str]
    """Files and folders, relative to the experiment's folder where they lie in it; of a feature store also a URL."""
    failed: int = 0
    """Clips that failed."""
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)
    """How the work went: counts, rates. They decide nothing."""


class Records:
    """The records of one experiment's stages, ``<folder>/state/<stage>.json``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, stage: str) -> Record | None:
        path = self._path(stage)
        try:
            return Record(**json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None  # absent or not whole: the stage runs again, which is always safe

    def write(self, stage: str, record: Record) -> None:
        write_atomic(self._path(stage), json.dumps(dataclasses.asdict(record), indent=2))

    def forget(self, stage: str) -> None:
        self._path(stage).unlink(missing_ok=True)

    def state(self, stage: str, inputs: Mapping[str, Any]) -> tuple[State, str]:
        """Whether a stage is up to date with its inputs, and why not."""
        record = self.read(stage)
        if record is None:
            return "missing", "not run yet"
        changed = sorted(
            name for name in {*record.inputs, *inputs} if digest(record.inputs.get(name)) != digest(inputs.get(name))
        )
        if changed:
            return "stale", f"changed: {', '.join(changed)}"
        gone = [name for name in record.outputs if not _exists(self.located(name))]
        return ("stale", f"gone: {gone[0]}") if gone else ("done", "")

    def named(self, output: Path | str) -> str:
        """How a record names an output: relative to the folder, absolute where it lies elsewhere, or a URL."""
        if isinstance(output, str):
            return output
        return (output.relative_to(self.folder) if output.is_relative_to(self.folder) else output).as_posix()

    def located(self, name: str) -> Path | str:
        """Where an output lies that a record names."""
        return name if "://" in name else self.folder / name

    def _path(self, stage: str) -> Path:
        return self.folder / "state" / f"{stage}.json"


def _exists(output: Path | str) -> bool:
    if isinstance(output, Path):
        return output.exists()
    from extract.store.json_records import get, storage_at

    return get(storage_at(output), "zarr.json") is not None  # only feature stores lie at URLs


def file_digest(text: str | None) -> str | None:
    """Of a file that a setting names, which may be ``absent``; None where it names none."""
    if text is None:
        return None
    return file_sha256(Path(text)) if Path(text).is_file() else "absent"


def model_digest(named: str | Mapping[str, Any]) -> str | None:
    """Of a model folder's files; None for a hub's name, which stands for itself, and for a dict of settings.

    Sizes and both ends of each file: reading the gigabytes of a large model would take longer than ``slt status`` may.
    """
    if not isinstance(named, str) or not Path(named).is_dir() or named == "lm":
        return None
    found = []
    for path in sorted(Path(named).rglob("*")):
        if path.is_file():
            size = path.stat().st_size
            with path.open("rb") as file:
                ends = hashlib.sha256(file.read(_END_BYTES))
                file.seek(max(0, size - _END_BYTES))
                ends.update(file.read())
            found.append([path.relative_to(named).as_posix(), size, ends.hexdigest()])
    return digest(found)


def deciding(settings: Settings | None) -> Any:
    """The settings that decide a result, as plain values."""
    return _without(settings.model_dump(mode="json"), EXECUTION) if settings is not None else None


def _without(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _without(item, names) for key, item in value.items() if key not in names}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without(item, names) for item in value]
    return value
