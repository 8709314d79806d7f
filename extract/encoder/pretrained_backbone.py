"""Backbones with their published weights: none of them drawn at random, none computed otherwise than it was trained."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from extract.encoder.encoder_config import Pooling
from extract.errors import InputError
from extract.pretrained import load_pretrained


def pretrained_backbone(name: str) -> tuple[PreTrainedModel, Pooling]:
    """A backbone by name or folder, the vision tower of a model of images and text, and how its output is pooled.

    Many checkpoints of vision transformers have no weights of the pooler, which transformers would draw at random:
    their feature is the first token, which they were trained to sum a frame up in, or without one the mean of all.

    Raises:
        InputError: it is not there, no vision model, or lacks weights.
    """
    loaded: tuple[PreTrainedModel, Pooling] = load_pretrained(
        _load, name, "encoder.backbone", "a vision backbone of transformers"
    )
    return loaded


def _load(name: str | Path, **options: Any) -> tuple[PreTrainedModel, Pooling]:
    """
    Raises:
        ValueError: no vision model, or weights that it needs are not in its files.
    """
    config = AutoConfig.from_pretrained(name, **options)
    kind = MODEL_MAPPING.get(type(getattr(config, "vision_config", config)), None)
    if kind is None:
        raise ValueError(f"model_type {config.model_type}")
    model, report = kind.from_pretrained(name, output_loading_info=True, **options)
    missing, pooling = sorted(report["missing_keys"]), "pooler"
    if missing and all(key.startswith("pooler.") for key in missing) and _has_a_choice(kind):
        model, report = kind.from_pretrained(name, output_loading_info=True, add_pooling_layer=False, **options)
        missing = sorted(report["missing_keys"])
        pooling = "cls" if hasattr(model.embeddings, "cls_token") else "mean"
    if missing:
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise ValueError(f"no weights of {missing[0]}{more}, which would be drawn at random")
    return model, pooling  # type: ignore[return-value]  # one of the three


def _has_a_choice(kind: type[PreTrainedModel]) -> bool:
    return "add_pooling_layer" in inspect.signature(kind.__init__).parameters


def backbone_width(config: PretrainedConfig) -> int:
    """Of the feature of a frame.

    Raises:
        InputError: the configuration does not tell, so it is no backbone of single images.
    """
    sizes = getattr(config, "hidden_sizes", None)
    width = sizes[-1] if sizes else getattr(config, "hidden_size", None) or getattr(config, "hidden_dim", None)
    if not isinstance(width, int):
        raise InputError("encoder.backbone", expected="an image model whose configuration tells its width",
                         found=f"model_type {config.model_type}",
                         remedy="Of a model of images and text give name or folder, or its vision part.")  # fmt: skip
    return width


@torch.no_grad()
def require_features(encoder: Any, side: int) -> None:
    """Try the backbone on a frame.

    Args:
        encoder: a ``VisualEncoder``.
        side: of the frame, in pixels.

    Raises:
        InputError: it does not take such a frame, gives another feature than one of its width, or another one each
            time.
    """
    kind, where = encoder.backbone.config.model_type, "encoder.backbone"
    learning = encoder.training
    with torch.random.fork_rng(devices=[]):  # what is drawn after this does not depend on it
        torch.manual_seed(0)
        frame = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8)
        encoder.eval()
        try:
            found: list[Tensor] = [encoder.pooled(frame) for _ in range(2)]
        except (ValueError, RuntimeError, TypeError, IndexError, AttributeError) as error:
            said = next(iter(str(error).splitlines()), type(error).__name__)[:200]
            raise InputError(
                where, expected=f"an image model that takes a frame of {side} x {side}, frames.crop",
                found=f"{kind}: {said}", remedy="Set frames.crop to the size that it takes, or name another model.",
            ) from error  # fmt: skip
        finally:
            encoder.train(learning)
    if found[0].shape != (1, encoder.backbone_width):
        raise InputError(where, expected=f"a feature of width {encoder.backbone_width} of each frame",
                         found=f"{kind}: {tuple(found[0].shape)}", remedy="Name an image model.")  # fmt: skip
    if not torch.equal(*found):
        raise InputError(where, expected="the same feature of a frame each time",
                         found=f"{kind}, which draws at random",
                         remedy="Name another model: ViT in place of ViT-MAE, say.")  # fmt: skip
