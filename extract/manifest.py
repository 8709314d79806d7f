"""``data_manifest.yaml``: which datasets there are, where they lie, and how their text is to be treated."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError

from extract.errors import InputError, suggestion
from extract.settings import DataSettings, Settings


class DatasetEntry(Settings):
    """One dataset of the manifest."""

    adapter: str
    root: str
    """May hold ``${VARIABLE}`` and ``~``."""
    language: str
    """mBART language code of the text, e.g. ``de_DE``."""
    level: Literal["word", "char"]
    """What published scores of this dataset count."""
    fps: Annotated[float, Field(gt=0)]
    splits: dict[str, int | None]
    """Expected clips per split; None where the corpus may have any size."""
    licence: str
    source: str
    """Where to ask for access."""


class Dataset(Settings):
    """A dataset that a config names. Where it lies matters to the stages that read pixels only."""

    name: str
    entry: DatasetEntry
    location: str
    """Its root as written; may hold ``${VARIABLE}`` and ``~``."""

    @property
    def root(self) -> Path:
        """The folder.

        Raises:
            InputError: unset variable, or no folder there.
        """
        expanded = os.path.expanduser(os.path.expandvars(self.location))  # noqa: PTH111  (pathlib knows no variables)
        unset = re.findall(r"\$\{?(\w+)", expanded)
        if unset:
            raise InputError(f"root of {self.name}", expected=f"the environment variable {unset[0]}", found="unset",
                             remedy=f"`export {unset[0]}=/path/to/it`, or set data.root in the config.")  # fmt: skip
        if not Path(expanded).is_dir():
            remedy = f"Set data.root in the config. Access to the dataset: {self.entry.source}"
            found = f"{expanded}, which does not exist"
            raise InputError(f"root of {self.name}", expected="a folder", found=found, remedy=remedy)
        return Path(expanded)


def load_manifest(path: Path | None = None) -> dict[str, DatasetEntry]:
    """All entries of a manifest; without ``path``, of the one that comes with the package.

    Raises:
        InputError: the file is missing, not YAML, or an entry has an unknown or missing field.
    """
    path = path or _shipped()
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {name: DatasetEntry.model_validate(fields) for name, fields in raw["datasets"].items()}
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise InputError(path, expected="a manifest with a mapping `datasets`", found=f"{error}",
                         remedy="See data_manifest.yaml of the project.") from error  # fmt: skip
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path}, {'.'.join(map(str, first['loc']))}", expected="a valid entry", found=first["msg"],
                         remedy="See data_manifest.yaml of the project.") from error  # fmt: skip


def locate(data: DataSettings, manifest: Path | None = None) -> Dataset:
    """Find the dataset that a config names.

    Raises:
        InputError: no such dataset; suggests the nearest.
    """
    entries = load_manifest(manifest)
    if data.dataset not in entries:
        raise InputError("data.dataset", expected="a dataset of the manifest", found=repr(data.dataset),
                         remedy=suggestion(data.dataset, entries))  # fmt: skip
    entry = entries[data.dataset]
    return Dataset(name=data.dataset, entry=entry, location=data.root or entry.root)


def _shipped() -> Path:
    installed = Path(__file__).with_name("data_manifest.yaml")
    return installed if installed.is_file() else Path(__file__).parents[1] / "data_manifest.yaml"
