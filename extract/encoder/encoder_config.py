"""What ``config.json`` of a visual encoder directory holds."""

from __future__ import annotations

from typing import Any, Literal

from transformers import AutoConfig, PretrainedConfig

from extract.settings import FrameSettings

Pooling = Literal["pooler", "cls", "mean"]
"""What a backbone's feature of a frame is: the model's own pooling, its first token, or the mean of all tokens."""


class VisualEncoderConfig(PretrainedConfig):
    """Backbone, temporal module and frame settings of a visual encoder.

    ``frames`` travels with the weights: features are only comparable when the pixels were prepared alike.
    ``states`` describes the part of Light-T that goes on from sign-wise features; None where there is none.
    """

    model_type = "fla_slt_visual_encoder"

    def __init__(
        self,
        backbone: dict[str, Any] | None = None,
        temporal: list[dict[str, int]] | None = None,
        width: int = 512,
        frames: dict[str, Any] | None = None,
        states: dict[str, Any] | None = None,
        pooling: Pooling = "pooler",
        **kwargs: Any,
    ) -> None:
        self.backbone = backbone or {"model_type": "resnet", "depths": [2, 2, 2, 2], "layer_type": "basic",
                                     "hidden_sizes": [64, 128, 256, 512]}  # fmt: skip
        self.temporal = temporal if temporal is not None else [{"kernel": 5, "pool": 1}]
        self.width = width
        self.frames = frames or FrameSettings().model_dump(mode="json")
        self.states = states
        self.pooling = pooling
        super().__init__(**kwargs)

    @property
    def frame_settings(self) -> FrameSettings:
        return FrameSettings.model_validate(self.frames)


AutoConfig.register(VisualEncoderConfig.model_type, VisualEncoderConfig)
