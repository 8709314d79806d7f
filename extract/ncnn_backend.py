"""ResNets in ncnn, whose Winograd convolutions need fewer multiplications; each frame by itself, on one thread."""

from __future__ import annotations

import importlib.metadata
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from extract.encoder import VisualEncoder

_MAGIC = "7767517"
"""First line of a network in ncnn's text form: the version of that form."""


class NcnnBackend:
    """A backbone of ``transformers``' type ``resnet``, basic or bottleneck; bit for bit the same at any batch size.

    Args:
        folded: each BatchNorm folded into the convolution before it (``extract.backends.folded``).

    Raises:
        ValueError: another backbone, or another activation than ReLU.
    """

    def __init__(self, folded: VisualEncoder) -> None:
        import ncnn

        self.name = f"ncnn {importlib.metadata.version('ncnn')}"
        self.to_mat = ncnn.Mat
        frames = folded.config.frame_settings
        self.mean = [255 * value for value in frames.mean]
        self.factor = [1 / (255 * value) for value in frames.std]
        self.net = ncnn.Net()
        options = self.net.opt
        options.num_threads = 1  # the workers fill the cores already
        # In float32 throughout. Of Winograd's tiles only those of 2 x 2 and 4 x 4, whose rounding is ReLU noise; the
        # largest one is no quicker here and its transform has the largest factors.
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        options.use_bf16_storage = options.use_winograd63_convolution = False
        network, weights = _describe(folded.backbone)
        with tempfile.TemporaryDirectory(prefix="slt-ncnn-") as folder:
            paths = Path(folder, "backbone.param"), Path(folder, "backbone.bin")
            paths[0].write_text(network)
            paths[1].write_bytes(weights)
            if self.net.load_param(str(paths[0])) or self.net.load_model(str(paths[1])):
                raise ValueError("ncnn cannot load the network")

    def __call__(self, batch: NDArray[np.uint8]) -> Tensor:
        pixels = np.empty(batch.shape[1:], np.float32)  # one for all: large arrays are slow to come by
        features = []
        for frame in batch:
            np.copyto(pixels, frame)
            features.append(self._features(pixels))
        return torch.from_numpy(np.stack(features))

    def _features(self, frame: NDArray[np.float32]) -> NDArray[np.float32]:
        pixels = self.to_mat(frame).clone()  # a copy that ncnn owns, with its channels aligned
        pixels.substract_mean_normalize(self.mean, self.factor)
        extractor = self.net.create_extractor()
        extractor.input("frames", pixels)
        failed, features = extractor.extract("features")
        if failed:
            raise RuntimeError(f"ncnn gave error {failed}: out of memory?")
        return np.array(features, dtype=np.float32).reshape(-1)


def _describe(backbone: Any) -> tuple[str, bytes]:
    """The network in ncnn's text form, a layer a line, and its weights one after the other."""
    config = backbone.config
    if config.model_type != "resnet" or config.hidden_act != "relu":
        raise ValueError(f"a resnet with relu is needed, found {config.model_type}")
    network = _Network()
    network.layer("Input", [], "frames")
    stem = network.convolution(backbone.embedder.embedder.convolution, "frames", relu=True)
    found = network.layer("Pooling", [stem], "pooled", "0=0 1=3 2=2 3=1 5=1")  # maximum of 3 x 3, stride 2
    for stage in backbone.encoder.stages:
        for block in stage.layers:
            found = network.residual(block, found)
    network.layer("Pooling", [found], "features", "0=1 4=1")  # mean over all places
    return network.text(), network.weights.getvalue()


class _Network:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.blobs = 0
        self.weights = io.BytesIO()

    def layer(self, kind: str, inputs: list[str], output: str | list[str], settings: str = "") -> str:
        """Add a layer; returns the name of its (first) output."""
        outputs = [output] if isinstance(output, str) else output
        self.blobs += len(outputs)
        words = [kind, f"layer{len(self.lines)}", str(len(inputs)), str(len(outputs)), *inputs, *outputs, settings]
        self.lines.append(" ".join(words))
        return outputs[0]

    def convolution(self, module: nn.Conv2d, source: str, relu: bool) -> str:
        weight, bias = module.weight, module.bias
        if bias is None or module.groups != 1 or module.dilation != (1, 1):
            raise ValueError("only plain convolutions with a folded BatchNorm are known")
        self.weights.write(np.uint32(0).tobytes())  # what follows is float32
        self.weights.write(weight.detach().contiguous().numpy().astype("<f4").tobytes())
        self.weights.write(bias.detach().numpy().astype("<f4").tobytes())
        settings = {0: module.out_channels, 1: module.kernel_size[0], 3: module.stride[0], 4: module.padding[0],
                    5: 1, 6: weight.numel(), 9: int(relu)}  # fmt: skip
        said = " ".join(f"{key}={value}" for key, value in settings.items())
        return self.layer("Convolution", [source], f"blob{self.blobs}", said)

    def residual(self, block: Any, source: str) -> str:
        through, around = f"blob{self.blobs}", f"blob{self.blobs + 1}"
        self.layer("Split", [source], [through, around])
        layers = list(block.layer)
        for position, layer in enumerate(layers):
            through = self.convolution(layer.convolution, through, relu=position < len(layers) - 1)
        if not isinstance(block.shortcut, nn.Identity):
            around = self.convolution(block.shortcut.convolution, around, relu=False)
        total = self.layer("BinaryOp", [through, around], f"blob{self.blobs}", "0=0")
        return self.layer("ReLU", [total], f"blob{self.blobs}")

    def text(self) -> str:
        return "\n".join([_MAGIC, f"{len(self.lines)} {self.blobs}", *self.lines, ""])
