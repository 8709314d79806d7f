"""What an encoder was trained with: that decides, and a config that says something else is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.errors import InputError
from extract.settings import FrameSettings
from pipeline.experiment.freshness import deciding

if TYPE_CHECKING:
    from pipeline.experiment.run import Run


def trained_frames(folder: Path) -> FrameSettings | None:
    """How an encoder, or a translator with one, was trained to see frames; None where there is none."""
    config = _read(folder / "config.json")
    held = (config.get("encoder") or config).get("frames")  # a translator's config holds its encoder's
    return FrameSettings.model_validate(held) if held is not None else None


def require_as_trained(run: Run, stage: str = "stage1", name: str = "encoder") -> None:
    """Refuse a config whose ``frames`` or ``encoder`` are not those that an encoder was trained with.

    Args:
        stage: that trained it.
        name: of the directory below the experiment's folder; where it holds none yet, nothing is refused.

    Raises:
        InputError: names the fields that differ.
    """
    folder = run.folder / name
    frames = trained_frames(folder)
    if frames is None:
        return
    trained = _read(folder / "provenance.json").get("inputs", {}).get("encoder", {})
    encoder = deciding(run.experiment.encoder)
    if encoder["backbone_weights"] == "absent":  # only training reads them
        del encoder["backbone_weights"]
    expected = dict(_fields("frames", deciding(frames)))
    expected |= _fields("encoder", {field: value for field, value in trained.items() if field in encoder})
    found = dict(_fields("frames", deciding(run.experiment.frames)))
    found |= _fields("encoder", {field: value for field, value in encoder.items() if field in trained})
    if differ := sorted(field for field in expected | found if expected.get(field, ...) != found.get(field, ...)):
        raise InputError(
            ", ".join(differ),
            expected=f"{_told(expected, differ)}, as the encoder in {folder} was trained with",
            found=_told(found, differ),
            remedy=f"Train {stage} again with it (`slt run --from {stage}`), or set it back.",
        )


def _fields(section: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Dotted names and values; a list is one value."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _fields(f"{section}.{name}", value)
        else:
            yield f"{section}.{name}", value


def _told(values: Mapping[str, Any], names: list[str]) -> str:
    return ", ".join(json.dumps(values[name]) if name in values else "none" for name in names)


def _read(path: Path) -> dict[str, Any]:
    """Of a JSON file; nothing where it is absent, or damaged: who loads the weights says so."""
    try:
        held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return held
