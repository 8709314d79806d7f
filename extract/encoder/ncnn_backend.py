"""ResNets in ncnn, whose Winograd convolutions need fewer multiplications; on one thread.

The last stages have small maps and large weights, more than a core's caches hold (for ResNet-18 at 224 pixels, some
140 MB as Winograd needs them), and one frame at a time would wait for memory. There, a few frames stand one below the
other in one tall map, with empty rows between them that are the convolutions' padding.
"""

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

from extract.encoder.visual_encoder import VisualEncoder

_MAGIC = "7767517"
"""First line of a network in ncnn's text form: the version of that form."""
_STACKED_STAGES = 2
"""The last stages, that see several frames at once: of ResNet-18's four, one took 5 % longer and three took 14 %."""
_STACK = 8
"""Frames in a stack: 4 took 7 % longer, 12 within 3 % as long, and do not divide a batch of 32."""
_TILE = 4
"""Rows of a Winograd tile. A frame begins at a tile's first row wherever it stands in the stack, and so has the same
features to the last bit."""


class NcnnBackend:
    """A backbone of ``transformers``' type ``resnet``, basic or bottleneck; bit for bit the same at any batch size.

    Args:
        folded: each BatchNorm folded into the convolution before it (``extract.encoder.backends.folded``).

    Raises:
        ValueError: another backbone, or another activation than ReLU.
    """

    def __init__(self, folded: VisualEncoder) -> None:
        import ncnn

        self.name = f"ncnn {importlib.metadata.version('ncnn')}"
        self.to_mat = ncnn.Mat
        frames, backbone = folded.config.frame_settings, folded.backbone
        if backbone.config.model_type != "resnet" or backbone.config.hidden_act != "relu":
            raise ValueError(f"a resnet with relu is needed, found {backbone.config.model_type}")
        self.mean = [255 * value for value in frames.mean]
        self.factor = [1 / (255 * value) for value in frames.std]
        stages = list(backbone.encoder.stages)
        self.front = _loaded(_front(backbone, stages[:-_STACKED_STAGES]))
        blank = self._maps(np.zeros((3, frames.crop, frames.crop), np.float32))
        back = _Stack(stages[-_STACKED_STAGES:], blank.shape[1])
        self.back, self.period = _loaded(back), back.period
        self.masks = {name: np.tile(mask, (1, _STACK, 1)) for name, mask in back.masks.items()}

    def __call__(self, batch: NDArray[np.uint8]) -> Tensor:
        pixels = np.empty(batch.shape[1:], np.float32)  # one for all: large arrays are slow to come by
        features = []
        for start in range(0, len(batch), _STACK):
            maps = []
            for frame in batch[start : start + _STACK]:
                np.copyto(pixels, frame)
                maps.append(self._maps(pixels))
            features.append(self._features(maps))
        return torch.from_numpy(np.concatenate(features))

    def _features(self, maps: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """What the last stages make of some frames' maps: (C, H, W) each, to (frames, backbone width)."""
        channels, rows, columns = maps[0].shape
        tall = np.zeros((channels, len(maps) * self.period, columns), np.float32)
        for place, one in enumerate(maps):
            tall[:, place * self.period :][:, :rows] = one
        share = len(maps) / _STACK
        masks = {name: self._mat(mask[:, : round(share * mask.shape[1])]) for name, mask in self.masks.items()}
        found = _run(self.back, given=self._mat(tall), **masks)[..., 0].T
        if len(maps) > 1 and not np.isfinite(found).all():  # what is not a number would not stay in its own rows
            return np.concatenate([self._features([one]) for one in maps])
        return found

    def _maps(self, frame: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the first stages make of a frame of grey values: (3, H, W) to (C, H', W')."""
        pixels = self._mat(frame)
        pixels.substract_mean_normalize(self.mean, self.factor)
        return _run(self.front, given=pixels)

    def _mat(self, array: NDArray[np.float32]) -> Any:
        return self.to_mat(array).clone()  # a copy that ncnn owns, with its channels aligned


def _loaded(network: _Network) -> Any:
    import ncnn

    net = ncnn.Net()
    options = net.opt
    options.num_threads = 1  # the workers fill the cores already
    # In float32 throughout. Of Winograd's tiles only those of 2 x 2 and 4 x 4, whose rounding is ReLU noise; the
    # largest one is no quicker here and its transform has the largest factors.
    options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
    options.use_bf16_storage = options.use_winograd63_convolution = False
    with tempfile.TemporaryDirectory(prefix="slt-ncnn-") as folder:
        paths = Path(folder, "backbone.param"), Path(folder, "backbone.bin")
        paths[0].write_text(network.text())
        paths[1].write_bytes(network.weights.getvalue())
        if net.load_param(str(paths[0])) or net.load_model(str(paths[1])):
            raise ValueError("ncnn cannot load the network")
    return net


def _run(net: Any, **inputs: Any) -> NDArray[np.float32]:
    extractor = net.create_extractor()
    for name, mat in inputs.items():
        extractor.input(name, mat)
    failed, found = extractor.extract("found")
    if failed:
        raise RuntimeError(f"ncnn gave error {failed}: out of memory?")
    return np.array(found, dtype=np.float32)


def _front(backbone: Any, stages: list[Any]) -> _Network:
    """The stem and the first stages, for one frame."""
    network = _Network()
    network.layer("Input", [], "given")
    stem = network.convolution(backbone.embedder.embedder.convolution, "given", relu=True)
    found = network.layer("Pooling", [stem], "pooled", "0=0 1=3 2=2 3=1 5=1")  # maximum of 3 x 3, stride 2
    for stage in stages:
        for block in stage.layers:
            found = network.residual(block, found)
    network.layer("Split", [found], ["found", "unused"])  # no more than a name
    return network


class _Network:
    """A network in ncnn's text form, a layer a line, and its weights one after the other."""

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


class _Stack(_Network):
    """The last stages and the mean over all places, for frames that stand one below the other.

    Args:
        rows: of the maps that come in, which are square.
    """

    def __init__(self, stages: list[Any], rows: int) -> None:
        super().__init__()
        convolutions = [[layer.convolution for layer in block.layer] for stage in stages for block in stage.layers]
        last, strides = rows, 1  # after each convolution
        for convolution in (convolution for block in convolutions for convolution in block):
            last, strides = _after(convolution, last), strides * convolution.stride[0]
        self.period = strides * (last // _TILE + 1) * _TILE
        """Rows from one frame's first to the next one's, where they come in."""
        self.masks: dict[str, NDArray[np.float32]] = {}
        """What it takes besides, for one frame: (1, rows, columns)."""
        self.place = {"given": (rows, self.period)}
        """By blob, the rows of a frame and of the period."""
        found = self.layer("Input", [], "given")
        for stage in stages:
            for block in stage.layers:
                found = self.residual(block, found)
        rows, period = self.place[found]
        self.layer("Pooling", [found], "found", f"0=1 1={rows} 11={rows} 2=1 12={period} 5=1")  # mean, frame by frame

    def layer(self, kind: str, inputs: list[str], output: str | list[str], settings: str = "") -> str:
        name = super().layer(kind, inputs, output, settings)
        if inputs:
            self.place |= dict.fromkeys([output] if isinstance(output, str) else output, self.place[inputs[0]])
        return name

    def convolution(self, module: nn.Conv2d, source: str, relu: bool) -> str:
        rows, period = self.place[source]
        if module.kernel_size[0] > 1:
            source = self._emptied(source)
        output = super().convolution(module, source, relu)
        self.place[output] = _after(module, rows), period // module.stride[0]
        return output

    def _emptied(self, source: str) -> str:
        """Zeros between the frames again, where the last convolution left values: after a ReLU, a minimum with zero."""
        rows, period = self.place[source]
        mask = self.layer("Input", [], f"mask{len(self.masks)}")
        self.masks[mask] = np.zeros((1, period, rows), np.float32)
        self.masks[mask][:, :rows] = np.inf
        return self.layer("BinaryOp", [source, mask], f"blob{self.blobs}", "0=5")


def _after(module: nn.Conv2d, rows: int) -> int:
    return (rows + 2 * int(module.padding[0]) - module.kernel_size[0]) // module.stride[0] + 1
