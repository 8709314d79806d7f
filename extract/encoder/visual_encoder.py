"""The visual encoder: a frame-wise backbone and a temporal module that turns frames into sign-wise features."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from extract.encoder.backbone_weights import load_backbone
from extract.encoder.encoder_config import Pooling, VisualEncoderConfig
from extract.encoder.hidden_states import StateEncoder
from extract.encoder.pretrained_backbone import backbone_width, pretrained_backbone, require_features
from extract.encoder.published_frames import require_published
from extract.errors import InputError
from extract.own_device import moved
from extract.settings import EncoderSettings, FrameSettings

BATCH_FRAMES = 64
"""Frames of a single clip that the backbone computes at a time."""


class TemporalModule(nn.Module):
    """Conv1d + BatchNorm1d + ReLU (+ max pooling over time) per layer, over clips of different lengths.

    Clips are padded with zeros for the convolution alone, which is what "same" padding does at the end of a
    single clip; BatchNorm sees valid steps only. So a clip's features do not depend on its neighbours.
    """

    def __init__(self, channels: int, width: int, layers: list[dict[str, int]]) -> None:
        super().__init__()
        self.pools = [layer["pool"] for layer in layers]
        self.convs = nn.ModuleList()
        self.norms = nn.ModuleList()
        for layer in layers:
            self.convs.append(nn.Conv1d(channels, width, layer["kernel"], padding=layer["kernel"] // 2, bias=False))
            self.norms.append(nn.BatchNorm1d(width))
            channels = width

    def output_length(self, length: int) -> int:
        """Steps that remain of ``length`` frames; the last, incomplete pooling window is kept."""
        for pool in self.pools:
            length = -(-length // pool)
        return length

    def forward(self, frames: Tensor, lengths: list[int]) -> tuple[Tensor, list[int]]:
        """
        Args:
            frames: (sum of lengths, channels), the clips one after the other.
            lengths: frames per clip, each at least 1.

        Returns:
            (sum of output lengths, width) features, and the output lengths.
        """
        for conv, norm, pool in zip(self.convs, self.norms, self.pools, strict=True):
            padded = nn.utils.rnn.pad_sequence(list(torch.split(frames, lengths)), batch_first=True)  # (B, T, C)
            hidden = conv(padded.transpose(1, 2)).transpose(1, 2)  # (B, T, width)
            # (sum, width): no padding in BatchNorm
            frames = torch.relu(_normed(norm, hidden[_valid(lengths, hidden.device)]))
            if pool > 1:
                # After ReLU nothing is negative, so zero padding never wins the maximum.
                padded = nn.utils.rnn.pad_sequence(list(torch.split(frames, lengths)), batch_first=True)
                pooled = nn.functional.max_pool1d(padded.transpose(1, 2), pool, pool, ceil_mode=True).transpose(1, 2)
                lengths = [-(-length // pool) for length in lengths]
                frames = pooled[_valid(lengths, pooled.device)]
        return frames, lengths


def _normed(norm: Any, values: Tensor) -> Tensor:
    """BatchNorm; of a batch of one step alone, which has no variance, with the running statistics."""
    if len(values) > 1 or not norm.training:
        normed: Tensor = norm(values)
        return normed
    return nn.functional.batch_norm(
        values, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps
    )


def _valid(lengths: list[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Clip and step of each valid step of a padded batch. Counted here: a mask would be, by waiting for the device."""
    clips = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    steps = torch.cat([torch.arange(length) for length in lengths])
    return moved(clips, device), moved(steps, device)


class VisualEncoder(PreTrainedModel):
    """Frames (uint8) to sign-wise features, as in section 3.2 of the paper.

    Saved by ``save_pretrained`` as ``config.json`` and ``model.safetensors``.
    """

    config_class = VisualEncoderConfig
    base_model_prefix = "encoder"
    main_input_name = "frames"
    # Left out unless they are what is cached. transformers has no public name for keys that may be there.
    _keys_to_ignore_on_load_unexpected = [r"^states\."]  # noqa: RUF012  (it reads plain class attributes)

    def __init__(self, config: VisualEncoderConfig) -> None:
        super().__init__(config)
        fields = dict(config.backbone)
        described = AutoConfig.for_model(fields.pop("model_type"), **fields)
        without = {} if config.pooling == "pooler" else {"add_pooling_layer": False}
        self.backbone = AutoModel.from_config(described, trust_remote_code=False, **without)
        self.backbone_width = backbone_width(self.backbone.config)
        self.temporal = TemporalModule(self.backbone_width, config.width, config.temporal)
        self.states = StateEncoder(config.states) if config.states else None
        frames = config.frame_settings
        self.running_statistics = False
        """In training, the backbone's BatchNorm uses its running statistics as they are."""
        self.frame_pass: Callable[[Tensor], Tensor] | None = None
        """How ``frame_features`` goes through the backbone, where not with all frames at once: see
        ``train.models.backbone_checkpointing``."""
        self.register_buffer("mean", torch.tensor(frames.mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(frames.std).view(1, 3, 1, 1) * 255, persistent=False)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        # PyTorch's own defaults, in place: the backbone initialises itself. transformers has no public name for this.
        if isinstance(module, VisualEncoder):
            frames = self.config.frame_settings
            module.mean.copy_(torch.tensor(frames.mean).view(1, 3, 1, 1) * 255)
            module.std.copy_(torch.tensor(frames.std).view(1, 3, 1, 1) * 255)

    @classmethod
    def from_settings(cls, encoder: EncoderSettings, frames: FrameSettings) -> VisualEncoder:
        """A new encoder; the backbone has its pre-trained weights when it is given by name, folder or file.

        Raises:
            InputError: the backbone is neither on disk nor in the Hugging Face cache, not a known model type, lacks
                weights or draws at random, does not take the frames or wants them normalised otherwise; or the file is
                of another one.
        """
        pretrained: PreTrainedModel | None = None
        pooling: Pooling = "pooler"
        if isinstance(encoder.backbone, str):
            pretrained, pooling = pretrained_backbone(encoder.backbone)
            require_published(encoder.backbone, frames)
            backbone = pretrained.config.to_diff_dict() | {"model_type": pretrained.config.model_type}
        else:
            backbone = dict(encoder.backbone)
            if "model_type" not in backbone:
                raise InputError("encoder.backbone", expected="a model_type, e.g. resnet", found=str(sorted(backbone)),
                                 remedy="Add `model_type: resnet`, or give a model's name.")  # fmt: skip
            try:
                AutoConfig.for_model(backbone["model_type"])
            except ValueError as error:
                raise InputError(
                    "encoder.backbone.model_type", expected="a vision model type of transformers",
                    found=repr(backbone["model_type"]), remedy="For example `resnet`.",
                ) from error  # fmt: skip
        model = cls(
            VisualEncoderConfig(
                backbone=backbone,
                temporal=[layer.model_dump() for layer in encoder.temporal],
                width=encoder.width,
                frames=frames.model_dump(mode="json"),
                pooling=pooling,
            )
        )
        if pretrained is not None:
            model.backbone.load_state_dict(pretrained.state_dict())
        if encoder.backbone_weights is not None:
            load_backbone(model.backbone, Path(encoder.backbone_weights))
        require_features(model, frames.crop)
        return model

    def output_length(self, frames: int) -> int:
        """Sign-wise features of a clip of which ``frames`` sampled frames are seen."""
        return self.temporal.output_length(frames)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if mode and self.running_statistics:
            for part in self.backbone.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.eval()
        return self

    def frame_features(self, frames: Tensor) -> Tensor:
        """(F, 3, H, W) uint8 RGB to (F, backbone width) float: every frame by itself, globally pooled."""
        return self.pooled(frames) if self.frame_pass is None else self.frame_pass(frames)

    def normalised(self, frames: Tensor) -> Tensor:
        """(F, 3, H, W) uint8 RGB to what the backbone is given."""
        pixels: Tensor = (frames.to(self.mean.dtype) - self.mean) / self.std
        return pixels.contiguous(memory_format=torch.channels_last)

    def pooled(self, frames: Tensor) -> Tensor:
        """``frame_features``, all frames at once."""
        output = self.backbone(pixel_values=self.normalised(frames))
        if self.config.pooling == "cls":
            first: Tensor = output.last_hidden_state[:, 0]
            return first
        pooled: Tensor | None = getattr(output, "pooler_output", None)
        if pooled is None:
            pooled = output.last_hidden_state.mean(dim=1)  # a vision transformer without a pooler: mean of tokens
        return pooled.flatten(1)

    @overload
    def forward(self, frames: Tensor, lengths: list[int]) -> tuple[Tensor, list[int]]: ...
    @overload
    def forward(self, frames: str | os.PathLike[str] | NDArray[np.uint8] | Tensor) -> NDArray[np.float32]: ...
    def forward(self, frames: Any, lengths: list[int] | None = None) -> Any:
        """
        Args:
            frames: with ``lengths``, the sampled frames of several clips one after the other as the encoder was trained
                on them, (sum of lengths, 3, crop, crop) uint8 RGB; without, one clip as ``encode`` takes it.
            lengths: sampled frames per clip.

        Returns:
            (sum of output lengths, width) sign-wise features, and their lengths; without ``lengths``, the clip's.

        Raises:
            InputError: frames of another size or type.
        """
        if lengths is None:
            return self.encode(frames)
        side = self.config.frame_settings.crop
        if not isinstance(frames, Tensor) or frames.dtype != torch.uint8 or frames.shape[1:] != (3, side, side):
            found = f"{type(frames).__name__} {tuple(frames.shape)} {frames.dtype}"
            raise InputError("frames", expected=f"a tensor (F, 3, {side}, {side}) uint8, prepared", found=found,
                             remedy="Leave `lengths` away: a clip of any size is prepared then.")  # fmt: skip
        return self.temporal(self.frame_features(frames), lengths)

    def prepare(self, clip: str | os.PathLike[str] | NDArray[np.uint8] | Tensor) -> NDArray[np.uint8]:
        """A clip as the encoder was trained to see it, (sampled frames, 3, crop, crop) uint8 RGB; see ``prepare`` of
        ``extract.decoding.one_clip`` for what a clip may be, and for errors."""
        # Here, so that training on cached features loads no decoder.
        from extract.decoding.one_clip import prepare

        return prepare(clip.cpu().numpy() if isinstance(clip, Tensor) else clip, self.config.frame_settings)

    def encode(self, clip: str | os.PathLike[str] | NDArray[np.uint8] | Tensor) -> NDArray[np.float32]:
        """(steps, width) sign-wise features of one clip, a video file, a folder of frames or a (T, H, W, 3) uint8 array
        of RGB, which is sampled, resized and cropped by the encoder's own settings. Errors as ``prepare``."""
        return self.encode_prepared(self.prepare(clip))

    @torch.inference_mode()
    def encode_prepared(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As ``encode``, of (sampled frames, 3, crop, crop) uint8 RGB.

        Raises:
            InputError: the encoder is in training mode, where the features would depend on the batch.
        """
        if self.training:
            raise InputError("encoder", expected="evaluation mode", found="training mode", remedy="Call eval() first.")
        parts = torch.split(torch.from_numpy(frames), BATCH_FRAMES)
        by_frame = torch.cat([self.frame_features(part.to(self.device)) for part in parts])
        features: NDArray[np.float32] = self.temporal(by_frame, [len(by_frame)])[0].float().cpu().numpy()
        return features


AutoModel.register(VisualEncoderConfig, VisualEncoder)
