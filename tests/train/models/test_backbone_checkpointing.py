"""Frames by pieces: features, gradients and running statistics of the whole, in a fraction of the memory."""

import copy
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from extract.encoder.visual_encoder import VisualEncoder
from extract.errors import InputError
from extract.settings import EncoderSettings, FrameSettings
from train.models.backbone_checkpointing import LayerwiseBackbone, PiecewiseBackbone

FRAMES = FrameSettings(resize=40, crop=40)
RESNETS: dict[str, dict[str, Any]] = {
    kind: {"model_type": "resnet", "layer_type": kind, "embedding_size": 8, "hidden_sizes": [16, 24, 24, 32],
           "depths": [2, 1, 2, 1]}
    for kind in ("basic", "bottleneck")
}  # fmt: skip
LENGTHS = [5, 1, 7]


def encoder(backbone: dict[str, Any]) -> VisualEncoder:
    torch.manual_seed(0)
    made = VisualEncoder.from_settings(EncoderSettings(backbone=backbone, width=12), FRAMES)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "normalization" in name:
                weight.add_(0.3 * torch.randn_like(weight))
    return made.double().train()  # so that what differs is not rounding


def learnt(model: VisualEncoder, running: bool = False) -> tuple[torch.Tensor, VisualEncoder]:
    """Features of two batches of frames, the second with a gradient."""
    model.running_statistics = running
    model.train()
    for seed in (1, 2):
        frames = torch.randint(
            0, 256, (13, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
        )
        features, _ = model(frames, LENGTHS)
        weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(3))
        model.zero_grad()
        (features * weights).sum().backward()
    return features.detach(), model


def assert_same(found: tuple[torch.Tensor, VisualEncoder], expected: tuple[torch.Tensor, VisualEncoder]) -> None:
    close = {"atol": 1e-9, "rtol": 1e-9}
    torch.testing.assert_close(found[0], expected[0], **close)
    for (name, mine), theirs in zip(found[1].named_parameters(), expected[1].parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None), name
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, theirs.grad, **close, msg=name)
    for (name, value), expect in zip(found[1].named_buffers(), expected[1].buffers(), strict=True):
        torch.testing.assert_close(value, expect, **close, msg=name)


@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
@pytest.mark.parametrize("running", [False, True], ids=["batch", "running"])
@pytest.mark.parametrize("size", [1, 4, 13])
def test_pieces_are_exact(kind: str, running: bool, size: int) -> None:
    plain = encoder(RESNETS[kind])
    pieces = copy.deepcopy(plain)
    pieces.running_statistics = running
    pieces.frame_pass = PiecewiseBackbone(pieces, size)
    assert_same(learnt(pieces, running), learnt(plain, running))


@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
def test_layer_by_layer_is_exact_and_counts_each_batch_once(kind: str) -> None:
    plain = encoder(RESNETS[kind])
    layers = copy.deepcopy(plain)
    layers.frame_pass = LayerwiseBackbone(layers)
    expected, found = learnt(plain), learnt(layers)
    assert_same(found, expected)
    assert int(found[1].backbone.embedder.embedder.normalization.num_batches_tracked) == 2


def test_naive_pieces_would_not_be() -> None:
    """What the statistics over all pieces are there for."""
    plain = encoder(RESNETS["basic"])
    frames = torch.randint(0, 256, (8, 3, 40, 40), dtype=torch.uint8)
    whole = plain.pooled(frames)
    naive = torch.cat([plain.pooled(piece) for piece in frames.split(2)])
    assert (naive - whole).abs().max() > 0.05 * whole.abs().max()


def test_running_statistics_stay_as_they_are_and_weights_learn() -> None:
    model = encoder(RESNETS["basic"])
    before = copy.deepcopy(model)
    learnt(model, running=True)
    for (name, value), old in zip(model.backbone.named_buffers(), before.backbone.buffers(), strict=True):
        assert torch.equal(value, old), name
    assert all(weight.grad is not None for weight in model.backbone.parameters())
    assert not torch.equal(model.temporal.norms[0].running_mean, before.temporal.norms[0].running_mean)


def test_other_networks() -> None:
    """Without BatchNorm any backbone goes by pieces; with it, only a ResNet with batch statistics."""
    vit = {"model_type": "vit", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
           "intermediate_size": 16, "image_size": 40, "patch_size": 20,
           "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # fmt: skip
    plain = encoder(vit)
    pieces = copy.deepcopy(plain)
    pieces.frame_pass = PiecewiseBackbone(pieces, 4)
    assert_same(learnt(pieces), learnt(plain))
    regnet = {"model_type": "regnet", "embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1],
              "groups_width": 8}  # fmt: skip
    whole = encoder(regnet)
    with pytest.raises(InputError, match="expected a backbone of model_type resnet"):
        PiecewiseBackbone(whole, 4)
    frozen = copy.deepcopy(whole)
    frozen.running_statistics = True
    frozen.frame_pass = PiecewiseBackbone(frozen, 4)
    assert_same(learnt(frozen, running=True), learnt(whole, running=True))


def test_evaluation_goes_by_pieces_too() -> None:
    model = encoder(RESNETS["basic"]).eval()
    frames = torch.randint(0, 256, (9, 3, 40, 40), dtype=torch.uint8)
    with torch.no_grad():
        whole = model.frame_features(frames)
        model.frame_pass = PiecewiseBackbone(model, 4)
        torch.testing.assert_close(model.frame_features(frames), whole)


def test_half_precision_goes_by_pieces() -> None:
    """Under autocast the features are as far from full precision as without pieces."""
    model = encoder(RESNETS["basic"]).float()
    frames = torch.randint(0, 256, (9, 3, 40, 40), dtype=torch.uint8)
    exact = copy.deepcopy(model).pooled(frames)
    with torch.autocast("cpu", torch.bfloat16):
        half = copy.deepcopy(model).pooled(frames)
        pieces = PiecewiseBackbone(model, 4)(frames)
    assert pieces.dtype == half.dtype == torch.bfloat16
    apart, usual = ((of.float() - exact).abs().max() for of in (pieces, half))
    assert apart < 1.5 * usual
    pieces.float().sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.backbone.parameters())


@pytest.mark.slow
def test_a_clip_of_475_frames_needs_a_fraction_of_the_memory() -> None:
    """Peaks of a process beyond what it had before the clip, the thriftiest way first: each is a bound from above."""
    script = textwrap.dedent(
        """
        import json
        from pathlib import Path
        import torch
        from extract.encoder.visual_encoder import VisualEncoder
        from extract.settings import EncoderSettings, FrameSettings
        from train.models.backbone_checkpointing import LayerwiseBackbone, PiecewiseBackbone

        torch.set_num_threads(1)
        torch.manual_seed(0)
        backbone = {"model_type": "resnet", "layer_type": "basic", "embedding_size": 16,
                    "hidden_sizes": [16, 32, 64, 128], "depths": [2, 2, 2, 2]}
        frames = FrameSettings(resize=64, crop=64)
        model = VisualEncoder.from_settings(EncoderSettings(backbone=backbone, width=16), frames).train()
        ways = {"pieces": PiecewiseBackbone(model, 16), "layers": LayerwiseBackbone(model), "whole": None}

        def peak(frames, way):
            model.frame_pass = way
            model(torch.zeros(frames, 3, 64, 64, dtype=torch.uint8), [frames])[0].sum().backward()
            # Not ru_maxrss, which a process inherits from the one that started it.
            return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024

        before = max(peak(17, way) for way in ways.values())
        print(json.dumps({name: peak(475, way) - before for name, way in ways.items()}))
        """
    )
    root = Path(__file__).parents[3]
    told = subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE, cwd=root).stdout
    mib = json.loads(told)
    # Measured: 0.34 and 0.67, give or take what the allocator keeps.
    assert mib["pieces"] < 0.45 * mib["whole"], mib
    assert mib["layers"] < 0.8 * mib["whole"], mib
