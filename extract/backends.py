"""What computes the backbone: torch, or onnxruntime, which is about a third quicker on a CPU.

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

from extract.encoder import VisualEncoder
from extract.errors import InputError

TOLERANCE = 1e-5
"""How far a backend's features may be from torch's, relative to the largest of them."""


class Backend(Protocol):
    """Frame features of batches of one size."""

    name: str

    def __call__(self, batch: NDArray[np.uint8]) -> Tensor:
        """(F, 3, H, W) uint8 RGB to (F, backbone width) float32."""


def choose_backend(encoder: VisualEncoder, wanted: str, batch_frames: int) -> Backend:
    """The wanted backend, or the quickest that is installed and agrees with torch.

    Args:
        encoder: on its device, in evaluation mode.
        wanted: ``torch``, ``onnxruntime`` or ``auto``.
        batch_frames: frames of every batch that it will be given.

    Raises:
        InputError: ``onnxruntime`` is wanted and not installed, cannot run this backbone, or differs from torch.
    """
    plain = TorchBackend(encoder)
    if wanted == "torch" or encoder.device.type != "cpu":
        return plain
    absent = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if absent:
        if wanted == "auto":
            return plain
        raise InputError("extract.backend", expected="onnxruntime", found=f"no package {absent[0]}",
                         remedy="Install the extra `fast`, or set extract.backend=torch.")  # fmt: skip
    side = encoder.config.frame_settings.crop
    rng = np.random.default_rng(0)
    probe = rng.integers(0, 256, (batch_frames, 3, side, side), dtype=np.uint8)
    try:
        quick = OnnxBackend(encoder, batch_frames)
        expected, found = plain(probe), quick(probe)
        far = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-9))
        problem = f"features that differ from torch's by {far:.1e}" if not far <= TOLERANCE else None
    except Exception as error:  # an exporter can fail in any way on a backbone that it does not know
        problem = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if problem is None:
        return quick
    if wanted == "auto":
        logging.getLogger(__name__).warning("onnxruntime is not used for this backbone: %s", problem)
        return plain
    raise InputError("extract.backend", expected=f"onnxruntime to agree with torch to {TOLERANCE:g}", found=problem,
                     remedy="Set extract.backend=torch.")  # fmt: skip


class TorchBackend:
    """The encoder itself, channels last, each BatchNorm folded into the convolution before it."""

    name = "torch"

    def __init__(self, encoder: VisualEncoder) -> None:
        self.encoder = folded(encoder).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, batch: NDArray[np.uint8]) -> Tensor:
        return self.encoder.frame_features(torch.from_numpy(batch).to(self.encoder.device))


class OnnxBackend:
    """The backbone exported to ONNX for one batch size, run by onnxruntime on one thread."""

    def __init__(self, encoder: VisualEncoder, batch_frames: int) -> None:
        import onnxruntime

        self.name = f"onnxruntime {importlib.metadata.version('onnxruntime')}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # the workers fill the cores already
        options.log_severity_level = 3
        with tempfile.TemporaryDirectory(prefix="slt-onnx-") as folder:
            path = Path(folder, "backbone.onnx")
            _export(encoder, batch_frames, path)
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


def _export(encoder: VisualEncoder, batch_frames: int, path: Path) -> None:
    side = encoder.config.frame_settings.crop
    example = torch.zeros((batch_frames, 3, side, side), dtype=torch.uint8)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it tells which operators of torchvision it could not register
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _FrameFeatures(folded(encoder)).eval(), (example,), path, input_names=["frames"],
                output_names=["features"], dynamo=True, verbose=False, external_data=False,
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
