"""Files of a backbone's weights, under the names of transformers, torchvision or timm."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from extract.errors import InputError

_WRAPPERS = ("state_dict", "model")
"""Keys under which training scripts keep the weights in a checkpoint."""
_PREFIXES = ("module.", "resnet.")
"""Of DataParallel, and of transformers' classifier around the backbone."""
_HEADS = ("fc.", "classifier.")
_RESNET = (
    (re.compile(r"conv1\.weight"), "embedder.embedder.convolution.weight"),
    (re.compile(r"bn1\.(\w+)"), r"embedder.embedder.normalization.\1"),
    (re.compile(r"layer(\d)\.(\d+)\.conv(\d)\.weight"), r"encoder.stages.{0}.layers.{1}.layer.{2}.convolution.weight"),
    (re.compile(r"layer(\d)\.(\d+)\.bn(\d)\.(\w+)"), r"encoder.stages.{0}.layers.{1}.layer.{2}.normalization.{3}"),
    (
        re.compile(r"layer(\d)\.(\d+)\.downsample\.0\.weight"),
        r"encoder.stages.{0}.layers.{1}.shortcut.convolution.weight",
    ),
    (
        re.compile(r"layer(\d)\.(\d+)\.downsample\.1\.(\w+)"),
        r"encoder.stages.{0}.layers.{1}.shortcut.normalization.{2}",
    ),
)
"""torchvision's names, which timm's ResNets share, to transformers'. Stages and convolutions count from 1 there."""


def load_backbone(backbone: PreTrainedModel, path: Path) -> None:
    """Fill a backbone with the weights of a file; a classifier's head in it is left out.

    Args:
        backbone: any of transformers' for a file with its own names; a ResNet for torchvision's and timm's.
        path: ``.safetensors``, or ``.pth``, ``.pt`` or ``.bin`` that torch loads with ``weights_only``.

    Raises:
        InputError: no such file, not one of weights, or weights of another network: the first names that it lacks,
            that are too many, or that have another shape are told.
    """
    found = _own_names(_read(path))
    wanted = backbone.state_dict()
    found = {
        **{name: value for name, value in wanted.items() if name.endswith("num_batches_tracked")},  # old files lack it
        **found,
    }
    lacking = sorted(wanted.keys() - found.keys())
    surplus = sorted(found.keys() - wanted.keys())
    other = sorted(name for name in wanted.keys() & found.keys() if wanted[name].shape != found[name].shape)
    if lacking or surplus or other:
        told = [
            *([f"{len(lacking)} that are absent, first {lacking[0]}"] if lacking else []),
            *([f"{len(surplus)} that it does not have, first {surplus[0]}"] if surplus else []),
            *([f"{len(other)} of another shape, first {other[0]} {tuple(found[other[0]].shape)}"] if other else []),
        ]
        raise InputError(path, expected=f"the weights of encoder.backbone ({backbone.config.model_type})",
                         found="; ".join(told),
                         remedy="Give the backbone that the file is of: layer_type, depths, hidden_sizes.")  # fmt: skip
    backbone.load_state_dict(found)


def _read(path: Path) -> dict[str, Tensor]:
    remedy = "Give encoder.backbone_weights a .safetensors file, or a .pth file that holds tensors only."
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(path, expected="a file of weights", found=error.strerror or str(error),
                         remedy="Check encoder.backbone_weights.") from error  # fmt: skip
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = next(iter(str(error).splitlines()), "")[:200] or "an empty file"
        raise InputError(path, expected="a file of weights", found=reason, remedy=remedy) from error
    for name in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(name), Mapping):
            loaded = loaded[name]
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise InputError(path, expected="a mapping of names to tensors", found=type(loaded).__name__, remedy=remedy)
    return {str(name): value for name, value in loaded.items()}


def _own_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under transformers' names; names that no rule knows are kept, to be told."""
    bare = {_without_prefixes(name): value for name, value in weights.items()}
    return {_own_name(name): value for name, value in bare.items() if not name.startswith(_HEADS)}


def _own_name(name: str) -> str:
    for pattern, target in _RESNET:
        if match := pattern.fullmatch(name):
            if not target.startswith("encoder"):
                return match.expand(target)
            stage, *rest = match.groups()
            if "layer.{2}" in target:  # the convolution's number counts from 1 too
                rest[1] = str(int(rest[1]) - 1)
            return target.format(int(stage) - 1, *rest)
    return name


def _without_prefixes(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name
