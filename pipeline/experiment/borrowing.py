"""Taking a stage's result from another experiment that has done the same work, instead of doing it again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from extract.atomic_write import replacing, write_atomic
from pipeline.experiment.freshness import Record, Records


def borrow(records: Records, stage: str, inputs: Any, lenders: Path) -> Path | None:
    """Make a stage done with the result of the first experiment whose inputs are the same.

    Files are linked where the disk can, so that they take no room twice; every writer here replaces files and changes
    none, so neither experiment can spoil the other's. Logs are copied, and the config that it was made with.

    Args:
        records: of the experiment that needs the result.
        inputs: all that decides it.
        lenders: folder of experiments.

    Returns:
        The lender; None when there is none.
    """
    found = lent(stage, inputs, lenders)
    if found is None:
        return None
    folder, record = found
    records.forget(stage)
    for name in record.outputs:
        if "://" not in name and not Path(name).is_absolute():
            _share(folder / name, records.folder / name)
    for log in (folder / "logs").glob(f"{stage}.*"):
        (records.folder / "logs").mkdir(exist_ok=True)
        shutil.copy2(log, records.folder / "logs" / log.name)
    if (made_with := Records(folder).config(stage)).is_file():
        write_atomic(records.config(stage), made_with.read_bytes())
    records.write(stage, record)
    return folder


def lent(stage: str, inputs: Any, lenders: Path) -> tuple[Path, Record] | None:
    """The first experiment below ``lenders`` that has a stage with these inputs, and its record."""
    for folder in sorted(path.parent for path in lenders.glob("*/state")):
        records = Records(folder)
        record = records.read(stage)
        if record is not None and records.state(stage, inputs)[0] == "done":
            return folder, record
    return None


def _share(source: Path, target: Path) -> None:
    with replacing(target) as new:
        if source.is_dir():
            shutil.copytree(source, new, copy_function=_link)
        else:
            _link(source, new)


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)
