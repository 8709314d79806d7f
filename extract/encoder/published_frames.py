"""How a published backbone wants its frames: ``preprocessor_config.json`` beside its weights, as ``frames``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from extract.errors import InputError
from extract.settings import EncoderSettings, FrameSettings

FILES = ("preprocessor_config.json", "processor_config.json")
NORMALISATION = ("mean", "std")
"""Without which a backbone sees something else than it was trained on. Size and resize are a choice."""
CLOSE = 1e-3
FILTERS = {2: "linear", 3: "cubic", 4: "area"}
"""PIL's resampling filters to ours of the same kind."""


def with_published(encoder: EncoderSettings, frames: FrameSettings) -> FrameSettings:
    """The settings, with what the backbone's files say where they are silent. Asks no network.

    Raises:
        InputError: ``mean`` or ``std`` are given and differ from those that the backbone was trained with; or what
            results is no valid setting.
    """
    if not isinstance(encoder.backbone, str):
        return frames
    published = _of(encoder.backbone)
    for name in NORMALISATION:
        given, wanted = getattr(frames, name), published.get(name)
        if (
            wanted
            and name in frames.model_fields_set
            and any(abs(a - b) > CLOSE for a, b in zip(given, wanted, strict=True))
        ):
            _refuse(encoder.backbone, name, given, wanted)
    known = frames.model_dump(exclude_unset=True)
    if {"crop", "resize"} & known.keys():  # one of them does not fit the other of somebody else
        published = {name: value for name, value in published.items() if name not in ("crop", "resize")}
    try:
        return FrameSettings.model_validate({**published, **known})
    except ValueError as error:
        raise InputError(
            f"frames, by {encoder.backbone}/{FILES[0]}", expected="valid settings", found=str(error).splitlines()[-1],
            remedy="Give crop and resize in the config.",
        ) from error  # fmt: skip


def require_published(name: str, frames: FrameSettings) -> None:
    """Refuse frames that are normalised otherwise than the backbone's files say.

    Raises:
        InputError: which value differs.
    """
    for field, wanted in _of(name).items():
        given = getattr(frames, field)
        if field in NORMALISATION and any(abs(a - b) > CLOSE for a, b in zip(given, wanted, strict=True)):
            _refuse(name, field, given, wanted)


def _refuse(backbone: str, name: str, given: object, wanted: object) -> None:
    raise InputError(f"frames.{name}", expected=f"{list(wanted)}, which {backbone} was trained with",  # type: ignore[call-overload]
                     found=f"{list(given)}",  # type: ignore[call-overload]
                     remedy=f"Leave frames.{name} away: {FILES[0]} says it.")  # fmt: skip


def _of(name: str) -> dict[str, Any]:
    for file in FILES:
        path = Path(name, file)
        if not path.is_file():
            path = _cached(name, file) or path
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        held = held.get("image_processor", held) if isinstance(held, dict) else {}
        if isinstance(held, dict) and ("image_mean" in held or "size" in held):
            return _fields(held)
    return {}


def _cached(name: str, file: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, file)
    except HFValidationError:  # a path
        return None
    return Path(found) if isinstance(found, str) else None


def _fields(held: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    mean, std = held.get("image_mean"), held.get("image_std")
    if held.get("do_normalize", True) and mean and std:
        scale = 255 * (held.get("rescale_factor") or 1 / 255)  # of a model that is not given 0..1
        fields |= {"mean": tuple(value / scale for value in mean), "std": tuple(value / scale for value in std)}
    size, crop = _side(held.get("size")), _side(held.get("crop_size"))
    if size and held.get("do_resize", True):
        share = held.get("crop_pct")
        if held.get("do_center_crop") and crop and crop <= size:
            fields |= {"resize": size, "crop": crop}
        else:
            fields |= {"resize": round(size / share) if share and size < 384 else size, "crop": size}
        if held.get("resample") in FILTERS:
            fields["interpolation"] = FILTERS[held["resample"]]
    return fields


def _side(size: Any) -> int | None:
    """Of a square, in any of transformers' ways to write it."""
    if isinstance(size, Mapping):
        sides = set(size.values())
        size = sides.pop() if len(sides) == 1 else None
    return size if isinstance(size, int) and not isinstance(size, bool) else None
