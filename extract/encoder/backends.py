"""What computes the backbone: torch, or on a CPU ncnn or onnxruntime, which are quicker.

A backend must give torch's features to within rounding, so it is no part of the fingerprint; a commit records it.
"""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from extract.encoder.ncnn_backend import NcnnBackend
from extract.encoder.visual_encoder import VisualEncoder
from extract.errors import InputError

QUICK = ("ncnn", "onnxruntime")
"""Backends for CPUs, the quickest first."""
_NEEDED = {"ncnn": ("ncnn",), "onnxruntime": ("onnx", "onnxscript", "onnxruntime")}
TOLERANCE = 1e-5
"""How far a backend's features may be from torch's, relative to the largest of them."""


class Backend(Protocol):
    """Frame features of a batch."""

    name: str

    def __call__(self, batch: NDArray[np.uint8]) -> Tensor:
        """(F, 3, H, W) uint8 RGB, F from 1 to the batch size, to (F, backbone width) float32."""


def choose_backend(encoder: VisualEncoder, wanted: str, batch_frames: int, compute: str = "float32") -> Backend:
    """The wanted backend, or the quickest that is installed and agrees with torch.

    Args:
        encoder: on its device, in evaluation mode.
        wanted: ``torch``, one of ``QUICK``, or ``auto``.
        batch_frames: most frames of a batch that it will be given.
        compute: ``float32``, or the dtype of autocast, which torch alone has.

    Raises:
        InputError: a quick backend is wanted and not installed, cannot run this backbone, or differs from torch.
    """
    plain = TorchBackend(encoder, batch_frames, compute)
    if wanted == "torch" or (wanted == "auto" and (encoder.device.type != "cpu" or compute != "float32")):
        return plain
    if encoder.device.type != "cpu" or compute != "float32":
        raise InputError("extract.backend", expected=f"float32 on a CPU for {wanted}",
                         found=f"{compute} on {encoder.device.type}", remedy="Set extract.backend=auto.")  # fmt: skip
    known = QUICK if encoder.backbone.config.model_type == "resnet" else QUICK[1:]
    for name in known if wanted == "auto" else (wanted,):
        absent = [package for package in _NEEDED[name] if importlib.util.find_spec(package) is None]
        if not absent:
            quick = _checked(name, encoder, plain, batch_frames)
            if not isinstance(quick, str):
                return quick
            if wanted == "auto":
                logging.getLogger(__name__).warning("%s is not used for this backbone: %s", name, quick)
            else:
                raise InputError("extract.backend", expected=f"{name} to agree with torch to {TOLERANCE:g}",
                                 found=quick, remedy="Set extract.backend=torch.")  # fmt: skip
        elif wanted != "auto":
            raise InputError("extract.backend", expected=name, found=f"no package {absent[0]}",
                             remedy="Install the extra `fast`, or set extract.backend=torch.")  # fmt: skip
    return plain


def _checked(name: str, encoder: VisualEncoder, plain: Backend, batch_frames: int) -> Backend | str:
    """The backend, or why it is of no use for this encoder."""
    side = encoder.config.frame_settings.crop
    probe = np.random.default_rng(0).integers(0, 256, (batch_frames, 3, side, side), dtype=np.uint8)
    try:
        quick: Backend = NcnnBackend(folded(encoder)) if name == "ncnn" else OnnxBackend(encoder)
        expected, found = plain(probe), quick(probe)
    except Exception as error:  # an exporter can fail in any way on a backbone that it does not know
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    far = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-9))
    return quick if far <= TOLERANCE else f"features that differ from torch's by {far:.1e}"


class TorchBackend:
    """The encoder itself, channels last, each BatchNorm folded into the convolution before it.

    Every batch is filled up to one size with black frames: matrix libraries choose other algorithms for other
    shapes, and a clip's features would depend on where in a block it stands.
    """

    name = "torch"

    def __init__(self, encoder: VisualEncoder, batch_frames: int, compute: str = "float32") -> None:
        self.encoder = folded(encoder).to(memory_format=torch.channels_last)
        self.batch_frames, self.compute = batch_frames, getattr(torch, compute)

    def __call__(self, batch: NDArray[np.uint8]) -> Tensor:
        frames = batch
        if len(batch) < self.batch_frames:
            padding = np.zeros((self.batch_frames - len(batch), *batch.shape[1:]), np.uint8)
            frames = np.concatenate([batch, padding])
        return self.whole(torch.from_numpy(frames).to(self.encoder.device))[: len(batch)]

    @torch.inference_mode()
    def whole(self, pixels: Tensor) -> Tensor:
        """A whole batch that lies on the encoder's device, whatever fills it up: (batch, backbone width) float32."""
        with torch.autocast(pixels.device.type, self.compute, enabled=self.compute != torch.float32):
            features: Tensor = self.encoder.frame_features(pixels)
        return features.float()


class OnnxBackend:
    """The backbone exported to ONNX, run by onnxruntime on one thread: bit for bit the same at any batch size."""

    def __init__(self, encoder: VisualEncoder) -> None:
        import onnxruntime

        self.name = f"onnxruntime {importlib.metadata.version('onnxruntime')}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # the workers fill the cores already
        options.log_severity_level = 3
        with tempfile.TemporaryDirectory(prefix="slt-onnx-") as folder:
            path = Path(folder, "backbone.onnx")
            _export(encoder, path)
            self.session: Any = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def __call__(self, batch: NDArray[np.uint8]) -> Tensor:
        (features,) = self.session.run(None, {"frames": batch})
        return torch.from_numpy(features)


class _FrameFeatures(nn.Module):
    def __init__(self, encoder: VisualEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, frames: Tensor) -> Tensor:
        return self.encoder.frame_features(frames)


def _export(encoder: VisualEncoder, path: Path) -> None:
    side = encoder.config.frame_settings.crop
    example = torch.zeros((2, 3, side, side), dtype=torch.uint8)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it tells which operators of torchvision it could not register
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _FrameFeatures(folded(encoder)).eval(), (example,), path, input_names=["frames"],
                output_names=["features"], dynamic_shapes={"frames": {0: torch.export.Dim("frames", min=1)}},
                dynamo=True, verbose=False, external_data=False,
            )  # fmt: skip
    finally:
        logger.setLevel(level)


def folded(encoder: VisualEncoder) -> VisualEncoder:
    """A copy whose backbone computes the same with fewer steps: a convolution takes in the BatchNorm after it."""
    encoder = copy.deepcopy(encoder)
    for module in list(encoder.backbone.modules()):
        convolution, norm = getattr(module, "convolution", None), getattr(module, "normalization", None)
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            module.convolution = fuse_conv_bn_eval(convolution, norm)
            module.normalization = nn.Identity()
    return encoder
