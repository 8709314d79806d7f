"""``data_manifest.yaml``: which datasets there are, where they lie, and how their text is to be treated.

Roots are nobody else's business: ``data_manifest.local.yaml`` or ``SLT_DATA_<NAME>`` set them without a change to the
manifest. From the last word to the first: ``data.root`` of a config, ``SLT_DATA_<NAME>``, the local file beside the
config, the one in the current folder, the manifest.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from extract.dataset.text_convention import TextConvention
from extract.errors import InputError, suggestion
from extract.settings import DataSettings, Settings

LOCAL_NAME = "data_manifest.local.yaml"
_REMEDY = "See data_manifest.yaml of the project."


class MetricDefaults(Settings):
    """What published scores of a dataset use, where a config does not say otherwise (``score`` of a config)."""

    tokenizer: Literal["none", "13a", "zh", "char"] | None = None
    """sacreBLEU's tokenizer."""
    smoothing: Literal["none", "exp"] | None = None
    """What an n-gram order without a match does to BLEU."""
    unicode: Literal["keep", "NFC", "NFKC"] | None = None
    """Unicode normal form of both sides."""


class DatasetEntry(Settings):
    """One dataset of the manifest."""

    adapter: str = Field(description="reads its layout: phoenix14t, csl_daily, how2sign, folder, or one of your own")
    root: str = Field(description="its folder; may hold ${VARIABLE} and ~")
    language: str = Field(description="mBART code of the text, e.g. de_DE")
    level: Literal["word", "char"] = Field(description="what published scores of this dataset count")
    fps: Annotated[float, Field(gt=0)] = Field(description="of frame folders; videos state their own")
    splits: dict[Literal["train", "dev", "test"], Annotated[int, Field(ge=1)] | None] = Field(
        description="expected clips per split; null where there may be any number", min_length=1
    )
    licence: str
    source: str = Field(description="where to ask for access")
    text: TextConvention = Field(TextConvention(), description="what happens to a sentence on its way into the index")
    metrics: MetricDefaults = MetricDefaults()
    options: dict[str, Any] = Field(
        {}, description="of the adapter: where things lie below the root, names of columns; see docs/datasets.md"
    )
    lacking: dict[Literal["train", "dev", "test"], Annotated[int, Field(ge=0)]] = Field(
        {},
        description="texts per split whose clip the release itself lacks: up to so many missing clips are listed and "
        "counted, but are no failure of this machine's copy",
    )
    past_end: Literal["refuse", "clamp"] = Field(
        "refuse",
        description="what happens to a clip that ends past the end of its recording: it cannot be used, or ends there",
    )


class Manifest(Settings):
    """The whole file."""

    datasets: dict[str, DatasetEntry]


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

    def about(self) -> dict[str, Any]:
        """What decides the index besides the files, as plain values."""
        entry = self.entry.model_dump(mode="json")
        names = ("adapter", "language", "level", "fps", "text", "options", "past_end")
        return {"name": self.name, **{name: entry[name] for name in names}}


def load_manifest(path: Path | None = None, local: Iterable[Path] = ()) -> dict[str, DatasetEntry]:
    """All entries of a manifest; without ``path``, of the one that comes with the package.

    Args:
        local: files whose fields take the place of the manifest's; they may add whole datasets too. The later ones
            win. A relative root in them is relative to the file.

    Raises:
        InputError: a file is missing, not YAML, or an entry has an unknown, missing or wrong field.
    """
    path = path or _shipped()
    merged, origin = dict(_read(path)), path
    for extra in local:
        for name, fields in _read(extra).items():
            own = dict(fields)
            if isinstance(root := own.get("root"), str) and root[:1] not in ("/", "~", "$"):
                own["root"] = str(extra.parent / root)
            merged[name] = {**merged.get(name, {}), **own}
            origin = extra
    try:
        return Manifest.model_validate({"datasets": merged}).datasets
    except ValidationError as error:
        raise _wrong(origin, error) from error


def locate(data: DataSettings, manifest: Path | None = None, beside: Path | None = None) -> Dataset:
    """Find the dataset that a config names.

    Args:
        manifest: another file than the shipped one.
        beside: the config's folder, where a ``data_manifest.local.yaml`` may lie.

    Raises:
        InputError: no such dataset; suggests the nearest.
    """
    folders = dict.fromkeys(folder.resolve() for folder in (Path(), beside or Path()))
    local = [folder / LOCAL_NAME for folder in folders if (folder / LOCAL_NAME).is_file()]
    entries = load_manifest(manifest, local)
    if data.dataset not in entries:
        raise InputError("data.dataset", expected="a dataset of the manifest", found=repr(data.dataset),
                         remedy=suggestion(data.dataset, entries))  # fmt: skip
    entry = entries[data.dataset]
    own = {"options": {**entry.options, **data.options}, "language": data.language or entry.language,
           "fps": data.fps or entry.fps}  # fmt: skip
    variable = root_variable(data.dataset)
    location = data.root or (f"${{{variable}}}" if os.environ.get(variable) else entry.root)
    return Dataset(name=data.dataset, entry=entry.model_copy(update=own), location=location)


def root_variable(dataset: str) -> str:
    """The environment variable that says where a dataset lies.

    >>> root_variable("phoenix14t")
    'SLT_DATA_PHOENIX14T'
    """
    return "SLT_DATA_" + re.sub(r"\W", "_", dataset).upper()


def manifest_schema() -> str:
    """The JSON Schema of the file, for editors: ``python -m extract.dataset.manifest > data_manifest.schema.json``."""
    return json.dumps(Manifest.model_json_schema(), indent=2) + "\n"


def _read(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """The entries of a file as they are written.

    Raises:
        InputError: not there, not YAML, or no mapping of mappings.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(path, expected="a manifest", found=" ".join(str(error).split()), remedy=_REMEDY) from error
    datasets = raw.get("datasets") if isinstance(raw, dict) else None
    if not isinstance(datasets, dict) or set(raw) != {"datasets"}:
        found = ", ".join(map(str, raw)) if isinstance(raw, dict) else type(raw).__name__
        raise InputError(path, expected="a manifest with one mapping `datasets`", found=found, remedy=_REMEDY)
    for name, fields in datasets.items():
        if not isinstance(name, str) or not isinstance(fields, dict):
            raise InputError(f"{path}, datasets.{name}", expected="a mapping of a name to fields",
                             found=type(fields).__name__, remedy=_REMEDY)  # fmt: skip
    return datasets


def _wrong(path: Path, error: ValidationError) -> InputError:
    """The first thing that is wrong, and how many more there are."""
    problems = error.errors()
    first = problems[0]
    where = ".".join(str(part) for part in first["loc"] if part != "[key]")
    expected, found = "a valid entry", first["msg"].removeprefix("Value error, ")
    remedy = _REMEDY
    if first["type"] == "extra_forbidden":
        expected, found = "a known field", repr(first["loc"][-1])
        models: dict[str, type[Settings]] = {"text": TextConvention, "metrics": MetricDefaults}
        model = models.get(str(first["loc"][-2]), DatasetEntry)
        remedy = suggestion(str(first["loc"][-1]), model.model_fields)
    elif first["type"] == "missing":
        expected, found = f"a value of {first['loc'][-1]}", "none"
    more = f" And {len(problems) - 1} more." if len(problems) > 1 else ""
    return InputError(f"{path}, {where}", expected=expected, found=found, remedy=remedy + more)


def _shipped() -> Path:
    installed = Path(__file__).with_name("data_manifest.yaml")
    return installed if installed.is_file() else Path(__file__).parents[2] / "data_manifest.yaml"


if __name__ == "__main__":
    sys.stdout.write(manifest_schema())
