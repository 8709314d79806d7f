"""Which stages are done, stale or missing: each leaves a record of what went in and what came out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter

from extract.atomic_write import write_atomic
from extract.errors import InputError
from extract.fingerprint import digest, file_sha256
from extract.settings import Contents, Execution, Settings
from pipeline.experiment.output_digests import first_changed

RECORD_SCHEMA = 2
"""Of records: since 2, a stage whose result has parts names them by split."""

OLD_STAGES = {"stage1": "visual", "stage2": "finetune"}
"""Stages under the names that their records had before version 0.2."""

BEFORE_0_2 = "made by a version before 0.2"

_END_BYTES = 2**20

_MODEL_FILES = ("*.safetensors", "*.bin", "*.json", "*.model", "vocab.txt", "merges.txt")
"""Weights, configs and tokenizers; a model's card or its pictures decide nothing."""

State = Literal["done", "stale", "missing"]


class Standing(NamedTuple):
    """Whether a stage is up to date."""

    state: State
    why: str
    changed: Sequence[str] = ()
    """Names of the inputs that are others than those it was made with."""


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """What a finished stage leaves behind."""

    inputs: dict[str, Any]
    """Named inputs: the settings that decide the result, and the results of the stages before."""
    result: Any
    """What identifies the outputs: digests, fingerprints. By split, where the stages after it read only some."""
    outputs: list[str]
    """Files and folders, relative to the experiment's folder where they lie in it; of a feature store also a URL."""
    failed: int = 0
    """Clips that failed."""
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)
    """How the work went: counts, rates. They decide nothing."""
    schema: int = RECORD_SCHEMA
    files: dict[str, tuple[int, int, str]] = dataclasses.field(default_factory=dict)
    """``pipeline.experiment.output_digests.digests`` of the outputs; empty in records of before."""

    def part(self, name: str) -> Any:
        """A part of the result; the whole of one that has none, or where no part is named."""
        return self.result.get(name) if name and isinstance(self.result, Mapping) else self.result


_RECORD = TypeAdapter(Record)


class Records:
    """The records of one experiment's stages, ``<folder>/state/<stage>.json``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, stage: str) -> Record | None:
        path = self._path(stage)
        try:
            return _RECORD.validate_python({"schema": 1, **json.loads(path.read_text(encoding="utf-8"))})
        except (OSError, ValueError, TypeError, RecursionError):
            return None  # absent or not whole: the stage runs again, which is always safe

    def write(self, stage: str, record: Record) -> None:
        write_atomic(self._path(stage), json.dumps(dataclasses.asdict(record), indent=2))

    def forget(self, stage: str) -> None:
        self._path(stage).unlink(missing_ok=True)
        self.config(stage).unlink(missing_ok=True)

    def config(self, stage: str) -> Path:
        """Where the resolved config lies that a stage's result was made with."""
        return self.folder / "configs" / f"{stage}.yaml"

    def state(self, stage: str, inputs: Mapping[str, Any]) -> Standing:
        """Whether a stage is up to date with its inputs, and why not."""
        record = self.read(stage)
        if record is None:
            old = stage in OLD_STAGES and self._path(OLD_STAGES[stage]).is_file()
            return Standing("stale", BEFORE_0_2) if old else Standing("missing", "not run yet")
        if record.schema < RECORD_SCHEMA:
            return Standing("stale", BEFORE_0_2)
        changed = sorted(
            name for name in {*record.inputs, *inputs} if digest(record.inputs.get(name)) != digest(inputs.get(name))
        )
        if changed:
            return Standing("stale", f"changed: {', '.join(changed)}", changed)
        if gone := [name for name in record.outputs if not _exists(self.located(name))]:
            return Standing("stale", f"gone: {gone[0]}")
        if other := first_changed(self.folder, record.files):
            return Standing("stale", f"changed since it was written: {self.named(other)}")
        return Standing("done", "")

    def require_unchanged(self, stage: str) -> None:
        """Refuse what a stage left when a byte of it is another than it was; all of it is read.

        Raises:
            InputError: names the first such file.
        """
        record = self.read(stage)
        if record is not None and (other := first_changed(self.folder, record.files, deep=True)):
            raise InputError(other, expected=f"the file that {stage} wrote",
                             found="other bytes" if other.is_file() else "none",
                             remedy=f"Restore it from a copy, or run {stage} again: `slt run` does.")  # fmt: skip

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
    """Of a folder's weights, configs and tokenizer, right in it as ``save_pretrained`` leaves them; None for a hub's
    name, which stands for itself, and for a dict of settings.

    Sizes and both ends of each file: reading the gigabytes of a large model would take longer than ``slt status`` may.
    """
    if not isinstance(named, str) or not Path(named).is_dir() or named == "lm":
        return None
    found = []
    for path in sorted(path for pattern in _MODEL_FILES for path in Path(named).glob(pattern)):
        size = path.stat().st_size
        with path.open("rb") as file:
            ends = hashlib.sha256(file.read(_END_BYTES))
            file.seek(max(0, size - _END_BYTES))
            ends.update(file.read())
        found.append([path.name, size, ends.hexdigest()])
    return digest(found)


def deciding(settings: Settings | None) -> Any:
    """The settings that decide a result, as plain values, by the marks at their fields: without those that say how a
    stage runs, and of those that name files, the digests of what these hold."""
    return _marked(settings, settings.model_dump(mode="json")) if settings is not None else None


def _marked(value: Any, plain: Any) -> Any:
    """The deciding part of a model, or of a tuple of models, whose plain value is ``plain``; of others, all of it."""
    if isinstance(value, tuple):
        return [_marked(*pair) for pair in zip(value, plain, strict=True)]
    if not isinstance(value, Settings):
        return plain
    fields = {name: field.metadata for name, field in type(value).model_fields.items()}
    return {
        name: _held(plain[name]) if Contents in marks else _marked(getattr(value, name), plain[name])
        for name, marks in fields.items()
        if Execution not in marks
    }


def _held(named: str | list[str] | None) -> Any:
    return [file_digest(name) for name in named] if isinstance(named, list) else file_digest(named)
