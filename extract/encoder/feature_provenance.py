"""The provenance of features: all that decides the values that an encoder gives for a clip."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from extract.decoding.decoder_versions import decoder_versions
from extract.encoder.visual_encoder import VisualEncoder
from extract.fingerprint import SCHEMA, canonical_json
from extract.settings import Level

VIEW = "plain: first of each group, centre crop; others by name in the commits"

# Fields of a backbone's configuration that name or label things and never change a feature.
_LABELS = frozenset(
    [
        "id2label",
        "label2id",
        "problem_type",
        "architectures",
        "transformers_version",
        "_name_or_path",
        "dtype",
    ]
)


def weights_digest(state_dict: Mapping[str, Tensor]) -> str:
    """SHA-256 over each tensor's key, dtype, shape and little-endian bytes, in the order of the sorted keys.

    Every tensor counts, BatchNorm's running statistics too; its device and its strides do not.
    """
    total = hashlib.sha256()
    for key in sorted(state_dict):
        tensor = state_dict[key].detach().cpu().contiguous()
        total.update(canonical_json([key, str(tensor.dtype), list(tensor.shape)]))
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def feature_provenance(
    encoder: VisualEncoder,
    dtype: str,
    level: Level = "sign",
    compute: str = "float32",
    pack: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All that decides the features of a view of a clip, as plain JSON values.

    Args:
        encoder: with the weights in the dtype that they compute in.
        level: what of it is cached.
        compute: what the backbone computes in; another dtype than float32 is autocast.
        dtype: of the stored features, ``float16`` or ``float32``.
        pack: as ``jpeg_pack``; None: the frames' own pixels, from a lossless pack or not.
    """
    config = encoder.config
    frames = config.frame_settings
    backbone = {key: value for key, value in config.backbone.items() if key not in _LABELS}
    states = {key: value for key, value in config.states.items() if key not in _LABELS} if config.states else None
    provenance = {
        "schema": SCHEMA,
        "weights": weights_digest(encoder.state_dict()),
        "encoder": {"backbone": backbone, "temporal": config.temporal, "width": config.width, "states": states},
        "features": level,
        # The decoder stands below, with its version. What is off leaves older fingerprints as they are.
        "frames": frames.model_dump(
            mode="json", exclude={"decoder"} | ({"crop_rows"} if not frames.crop_rows else set())
        ),
        "view": VIEW,
        "decoder": decoder_versions(frames.decoder),
        "compute": compute,
        "dtype": dtype,
    }
    if config.pooling != "pooler":
        provenance["pooling"] = config.pooling
    if pack is not None:
        provenance["pack"] = dict(pack)
    plain: dict[str, Any] = json.loads(canonical_json(provenance))
    return plain
