"""Dataset adapters: each reads one released layout and yields the clips of a split.

An adapter is a class with the members of ``Adapter``, registered under the entry point group ``fla_slt.adapters``.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from extract.dataset.clip_index import Clip
from extract.dataset.index_remarks import Remark
from extract.dataset.manifest import Dataset
from extract.errors import InputError, suggestion
from extract.settings import Settings


class Adapter(Protocol):
    """Reads one dataset's annotations; never opens a frame."""

    Options: type[Settings]
    """What ``options`` of the manifest and of a config may hold, each with a default."""

    remarks: list[Remark]
    """What was left out, of the splits that were read."""

    def __init__(self, root: Path, language: str, fps: float, options: Any = None) -> None: ...

    def annotation_files(self, split: str) -> list[Path]:
        """Files that decide which clips a split has."""

    def clips(self, split: str) -> Iterator[Clip]:
        """The clips of a split in the order of the annotations, ``n_frames`` still 0.

        Raises:
            InputError: the annotations are missing or not as released.
        """


def load_adapter(name: str) -> type[Adapter]:
    """The adapter class registered under ``name``.

    Raises:
        InputError: no such adapter; suggests the nearest.
    """
    registered = {entry.name: entry for entry in entry_points(group="fla_slt.adapters")}
    if name not in registered:
        raise InputError(
            "adapter", expected="a registered adapter", found=repr(name), remedy=suggestion(name, registered)
        )
    adapter: type[Adapter] = registered[name].load()
    return adapter


def dataset_adapter(dataset: Dataset) -> Adapter:
    """The adapter of a dataset, at its root.

    Raises:
        InputError: no such adapter or root, or options that the adapter does not have.
    """
    entry = dataset.entry
    adapter = load_adapter(entry.adapter)
    try:
        options = adapter.Options.model_validate(entry.options)
    except ValidationError as error:
        first = error.errors()[0]
        name, known = ".".join(map(str, first["loc"])) or "options", ", ".join(adapter.Options.model_fields)
        raise InputError(f"options of {dataset.name}, {name}", expected=f"options of the adapter {entry.adapter}",
                         found=first["msg"].removeprefix("Value error, "),
                         remedy=f"It has: {known or 'none'}.") from error  # fmt: skip
    return adapter(dataset.root, entry.language, entry.fps, options)
