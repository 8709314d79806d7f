"""Weights of torchvision's and timm's ResNets: the features are those of their own forward pass, written out here."""

import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from extract.encoder.visual_encoder import VisualEncoder
from extract.errors import InputError
from extract.settings import EncoderSettings, FrameSettings

FRAMES = FrameSettings(resize=64, crop=64)
BASIC = {"model_type": "resnet", "layer_type": "basic", "embedding_size": 8, "hidden_sizes": [8, 12, 16, 20],
         "depths": [2, 1, 2, 1]}  # fmt: skip
BOTTLENECK = {**BASIC, "layer_type": "bottleneck", "hidden_sizes": [16, 24, 32, 40]}


def torchvision_weights(backbone: dict[str, Any]) -> dict[str, Tensor]:
    """Random weights under the names of ``torchvision.models.resnet``, which timm's ResNets share."""
    torch.manual_seed(0)
    made: dict[str, Tensor] = {}

    def convolution(name: str, to: int, channels: int, side: int) -> None:
        made[f"{name}.weight"] = torch.randn(to, channels, side, side) / (channels * side * side) ** 0.5

    def norm(name: str, width: int) -> None:
        made.update({f"{name}.{what}": torch.randn(width) for what in ("bias", "running_mean")})
        made.update({f"{name}.{what}": torch.rand(width) + 0.5 for what in ("weight", "running_var")})
        made[f"{name}.num_batches_tracked"] = torch.tensor(7)

    convolution("conv1", backbone["embedding_size"], 3, 7)
    norm("bn1", backbone["embedding_size"])
    channels = backbone["embedding_size"]
    for stage, (width, depth) in enumerate(zip(backbone["hidden_sizes"], backbone["depths"], strict=True), start=1):
        for block in range(depth):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            if backbone["layer_type"] == "basic":
                shapes = [(width, channels, 3), (width, width, 3)]
            else:
                shapes = [(width // 4, channels, 1), (width // 4, width // 4, 3), (width, width // 4, 1)]
            for number, (to, of, side) in enumerate(shapes, start=1):
                convolution(f"{name}.conv{number}", to, of, side)
                norm(f"{name}.bn{number}", to)
            if channels != width or stride != 1:
                convolution(f"{name}.downsample.0", width, channels, 1)
                norm(f"{name}.downsample.1", width)
            channels = width
    made |= {"fc.weight": torch.randn(10, channels), "fc.bias": torch.randn(10)}
    return made


def torchvision_features(weights: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """The forward pass of ``torchvision.models.ResNet`` up to its head; of bottlenecks, the 3 x 3 has the stride."""

    def normed(name: str, x: Tensor) -> Tensor:
        w = {what: weights[f"{name}.{what}"] for what in ("running_mean", "running_var", "weight", "bias")}
        return F.batch_norm(x, w["running_mean"], w["running_var"], w["weight"], w["bias"])

    x = F.relu(normed("bn1", F.conv2d(pixels, weights["conv1.weight"], stride=2, padding=3)))
    x = F.max_pool2d(x, 3, 2, 1)
    blocks = sorted({match[0] for name in weights if (match := re.match(r"layer\d\.\d", name))})
    for block in blocks:
        stride = 2 if block.endswith(".0") and block[5] != "1" else 1
        numbers = [n for n in (1, 2, 3) if f"{block}.conv{n}.weight" in weights]
        strided = 2 if len(numbers) == 3 else 1
        y = x
        for n in numbers:
            w = weights[f"{block}.conv{n}.weight"]
            y = normed(f"{block}.bn{n}", F.conv2d(y, w, stride=stride if n == strided else 1, padding=w.shape[2] // 2))
            y = F.relu(y) if n != numbers[-1] else y
        if f"{block}.downsample.0.weight" in weights:
            x = normed(f"{block}.downsample.1", F.conv2d(x, weights[f"{block}.downsample.0.weight"], stride=stride))
        x = F.relu(x + y)
    return x.mean((2, 3))


def encoder(backbone: dict[str, Any], path: Path) -> VisualEncoder:
    settings = EncoderSettings(backbone=backbone, backbone_weights=str(path), width=8)
    return VisualEncoder.from_settings(settings, FRAMES).eval()


@torch.no_grad()
@pytest.mark.parametrize("backbone", [BASIC, BOTTLENECK], ids=["basic", "bottleneck"])
@pytest.mark.parametrize("form", ["safetensors", "pth", "checkpoint"])
def test_features_are_those_of_the_network_that_the_file_is_of(
    tmp_path: Path, backbone: dict[str, Any], form: str
) -> None:
    weights = torchvision_weights(backbone)
    path = tmp_path / f"weights.{'safetensors' if form == 'safetensors' else 'pth'}"
    if form == "safetensors":
        save_file(weights, path)
    elif form == "pth":
        torch.save({name: value for name, value in weights.items() if "num_batches" not in name}, path)
    else:
        torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in weights.items()}}, path)
    made = encoder(backbone, path)
    frames = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    expected = torchvision_features(weights, (frames - made.mean) / made.std)
    torch.testing.assert_close(made.frame_features(frames), expected, atol=1e-4, rtol=1e-4)


def test_every_weight_of_resnet_18_finds_its_place(tmp_path: Path) -> None:
    """With the sizes of the real one: 122 names, as in torchvision's and timm's files."""
    whole = EncoderSettings(backbone={"model_type": "resnet", "layer_type": "basic", "embedding_size": 64,
                                      "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2]})  # fmt: skip
    weights = torchvision_weights(whole.backbone)  # type: ignore[arg-type]
    assert len(weights) == 122
    save_file(weights, tmp_path / "resnet18.safetensors")
    made = encoder(whole.backbone, tmp_path / "resnet18.safetensors")  # type: ignore[arg-type]
    assert sum(weight.numel() for weight in made.backbone.parameters()) == 11_176_512
    last = made.backbone.encoder.stages[3].layers[1].layer[1].convolution.weight
    assert torch.equal(last, weights["layer4.1.conv2.weight"])


@torch.no_grad()
def test_transformers_own_names_with_and_without_a_classifier(tmp_path: Path) -> None:
    torch.manual_seed(1)
    settings = EncoderSettings(backbone=BASIC, width=8)
    first = VisualEncoder.from_settings(settings, FRAMES).eval()
    own = first.backbone.state_dict()
    save_file(own, tmp_path / "bare.safetensors")
    save_file(
        {f"resnet.{name}": value for name, value in own.items()} | {"classifier.1.bias": torch.zeros(3)},
        tmp_path / "classifier.safetensors",
    )
    frames = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    for name in ("bare", "classifier"):
        again = encoder(BASIC, tmp_path / f"{name}.safetensors")
        assert torch.equal(again.frame_features(frames), first.frame_features(frames))


class Planted:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("planted"),)


def test_other_files_are_refused_and_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"

    def refused(match: str, backbone: dict[str, Any] = BASIC) -> None:
        with pytest.raises(InputError, match=match):
            encoder(backbone, path)

    refused("No such file")
    weights = torchvision_weights(BASIC)
    torch.save(weights, path)
    refused(r"25 that are absent, first encoder\.stages\.0\.layers\.0\.layer\.2", BOTTLENECK | {"depths": [1, 1, 1, 1]})
    refused(r"of another shape, first embedder\.embedder\.convolution\.weight \(8, 3, 7, 7\)",
            BASIC | {"embedding_size": 16})  # fmt: skip
    deep = {name.replace("conv1.weight", "conv1.0.weight") if name == "conv1.weight" else name: value
            for name, value in weights.items()}  # fmt: skip
    torch.save(deep, path)  # the deep stem of timm's resnet18d
    refused(
        r"1 that are absent, first embedder\.embedder\.convolution.* 1 that it does not have, first conv1\.0\.weight"
    )
    torch.save({"a": 1}, path)
    refused("expected a mapping of names to tensors")
    path.write_bytes(pickle.dumps({"w": Planted()}, protocol=2))
    refused("expected a file of weights")
    assert not Path("planted").exists()
    path.write_bytes(b"")
    refused("expected a file of weights")
