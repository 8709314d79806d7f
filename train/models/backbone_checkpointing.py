"""The backbone by pieces of the frames of a batch, with the same gradients: memory for time.

The backward pass needs all of a backbone's intermediate values, for every frame. By pieces, a few of them are kept and
the rest is computed again.

With BatchNorm's batch statistics a frame's features depend on all frames of the batch, so pieces cannot simply be
computed one after the other. Here each convolution runs over the pieces twice, once for the mean and the variance over
all of them, once to normalise with these; both are differentiable, so gradients flow through the statistics as they do
in BatchNorm. Where a network has no batch statistics (BatchNorm in ``eval()``, LayerNorm), each piece goes through the
whole backbone by itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import ResNetModel

from extract.encoder.visual_encoder import VisualEncoder
from extract.errors import InputError

Values = list[Tensor]
"""One tensor per piece."""
_STEM_FRAMES = 16


class PiecewiseBackbone:
    """Computes ``VisualEncoder.frame_features`` in pieces.

    Args:
        encoder: whose backbone is computed.
        frames: of a piece, at most.

    Raises:
        InputError: the backbone has BatchNorm and is no ResNet, and BatchNorm is to use batch statistics.
    """

    def __init__(self, encoder: VisualEncoder, frames: int) -> None:
        self.encoder, self.frames = encoder, frames
        if _batch_norms(encoder.backbone) and not encoder.running_statistics:
            require_resnet(encoder.backbone, "frame_batch")

    def at_once(self, frames: int) -> float:
        """Share of all values that the backward pass has at once: those of a piece, or, with the statistics of all
        pieces, which need one layer of all after the other, about those of a stage of the piece."""
        piece = min(1.0, self.frames / frames)
        return piece / 4 if any(norm.training for norm in _batch_norms(self.encoder.backbone)) else piece

    def __call__(self, frames: Tensor) -> Tensor:
        """(F, 3, H, W) uint8 RGB to (F, backbone width)."""
        pieces = list(torch.split(frames, self.frames))
        if len(pieces) == 1:
            return self.encoder.pooled(frames)
        if any(norm.training for norm in _batch_norms(self.encoder.backbone)):
            return torch.cat(self._with_batch_statistics(pieces))
        return torch.cat([_again(self.encoder.pooled, piece) for piece in pieces])

    def _with_batch_statistics(self, pieces: Values) -> Values:
        backbone = self.encoder.backbone
        hidden = _stem(self.encoder, pieces)
        for layer in residual_layers(backbone):
            hidden = _residual(layer, hidden)
        return [_again(lambda values: backbone.pooler(values).flatten(1), piece) for piece in hidden]


class LayerwiseBackbone:
    """Computes ``VisualEncoder.frame_features`` keeping the input of each residual layer only, for all frames at once.

    The stem, whose values are by far the largest, goes by pieces.

    Raises:
        InputError: the backbone is no ResNet.
    """

    def __init__(self, encoder: VisualEncoder) -> None:
        self.encoder = encoder
        require_resnet(encoder.backbone, "gradient_checkpointing")

    def at_once(self, frames: int) -> float:
        """Share of all values that the backward pass has at once: those of a layer."""
        return 1 / len(list(residual_layers(self.encoder.backbone)))

    def __call__(self, frames: Tensor) -> Tensor:
        """(F, 3, H, W) uint8 RGB to (F, backbone width)."""
        backbone = self.encoder.backbone
        pieces = list(torch.split(frames, _STEM_FRAMES))
        if backbone.embedder.embedder.normalization.training:
            stem = _stem(self.encoder, pieces)
        else:
            stem = [_again(lambda piece: backbone.embedder(self.encoder.normalised(piece)), piece) for piece in pieces]
        hidden = torch.cat(stem)
        for layer in residual_layers(backbone):
            hidden = _again(layer, hidden, statistics=layer)
        pooled: Tensor = backbone.pooler(hidden).flatten(1)
        return pooled


def _stem(encoder: VisualEncoder, pieces: Values) -> Values:
    """The first convolution of a ResNet and its pooling, with the statistics of all pieces."""
    stem = encoder.backbone.embedder
    return _normalised(
        stem.embedder.convolution, stem.embedder.normalization, pieces,
        before=encoder.normalised, after=nn.Sequential(stem.embedder.activation, stem.pooler),
    )  # fmt: skip


def require_resnet(backbone: nn.Module, setting: str) -> None:
    """
    Raises:
        InputError: it is another network.
    """
    if not isinstance(backbone, ResNetModel):
        raise InputError(f"train.stage1.{setting}", expected="a backbone of model_type resnet, whose layers are known",
                         found=type(backbone).__name__, remedy="Take a smaller batch_size and accumulate, or set "
                         "batch_norm: running and frame_batch.")  # fmt: skip


def residual_layers(backbone: Any) -> Iterator[nn.Module]:
    """Of a ``ResNetModel``, in their order."""
    for stage in backbone.encoder.stages:
        yield from stage.layers


def _residual(layer: Any, pieces: Values) -> Values:
    """A residual layer of transformers' ResNet (basic or bottleneck) over all pieces."""
    *first, last = layer.layer
    branch = pieces
    for part in first:
        branch = _normalised(part.convolution, part.normalization, branch, after=part.activation)
    beside = pieces
    if not isinstance(layer.shortcut, nn.Identity):
        beside = _normalised(layer.shortcut.convolution, layer.shortcut.normalization, pieces)
    return _normalised(last.convolution, last.normalization, branch, after=layer.activation, added=beside)


def _normalised(
    convolution: nn.Module,
    norm: nn.BatchNorm2d,
    pieces: Values,
    *,
    before: Callable[[Tensor], Tensor] = lambda values: values,
    after: Callable[[Tensor], Tensor] = lambda values: values,
    added: Sequence[Tensor] | None = None,
) -> Values:
    """``after(norm(convolution(before(piece))) + added)`` with the statistics of all pieces."""

    def moments(piece: Tensor) -> tuple[Tensor, Tensor]:
        values = _precise(convolution(before(piece)))
        mean = values.mean((0, 2, 3))
        return mean, (values - mean[:, None, None]).square().mean((0, 2, 3))

    def finished(piece: Tensor, mean: Tensor, variance: Tensor, beside: Tensor | None) -> Tensor:
        values = convolution(before(piece))
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        scaled = (_precise(values) - mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]
        scaled = scaled.to(values.dtype)
        return after(scaled if beside is None else scaled + beside)

    measured = [_again(moments, piece) for piece in pieces]
    counts = torch.tensor([len(piece) for piece in pieces], device=pieces[0].device, dtype=measured[0][0].dtype)
    shares = (counts / counts.sum())[:, None]
    means, variances = (torch.stack(values) for values in zip(*measured, strict=True))
    mean = (shares * means).sum(0)
    variance = (shares * (variances + (means - mean).square())).sum(0)
    results = [
        _again(finished, piece, mean, variance, None if added is None else added[i]) for i, piece in enumerate(pieces)
    ]
    _track(norm, mean.detach(), variance.detach(), values=_pixels(convolution, before, pieces))
    return results


def _precise(values: Tensor) -> Tensor:
    """In float32 at least: BatchNorm's statistics are never taken in half precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _pixels(convolution: Any, before: Callable[[Tensor], Tensor], pieces: Values) -> int:
    """Values per channel over which the statistics are taken."""
    height, width = (
        (side + 2 * pad - kernel) // stride + 1
        for side, pad, kernel, stride in zip(
            pieces[0].shape[2:], convolution.padding, convolution.kernel_size, convolution.stride, strict=True
        )
    )
    return sum(len(piece) for piece in pieces) * int(height * width)


@torch.no_grad()
def _track(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, values: int) -> None:
    """Move the running statistics as BatchNorm does, once for the whole batch."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked += 1
    weight = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, weight)
    norm.running_var.lerp_(variance * values / max(values - 1, 1), weight)


def _again(work: Callable[..., Any], *inputs: Any, statistics: nn.Module | None = None) -> Any:
    """``work(*inputs)``, of which only the inputs are kept for the backward pass.

    Args:
        statistics: holds BatchNorms that must not count the second pass as another batch.
    """
    if not torch.is_grad_enabled():
        return work(*inputs)
    contexts: Callable[[], tuple[AbstractContextManager[None], AbstractContextManager[None]]]
    contexts = (lambda: (nullcontext(), nullcontext())) if statistics is None else functools.partial(_once, statistics)
    # No dropout in these networks, so there is no state of random numbers to restore.
    return checkpoint(work, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


def _once(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _untracked(module)


@contextmanager
def _untracked(module: nn.Module) -> Iterator[None]:
    """Within, BatchNorms in training move their running statistics by nothing."""
    tracking = [norm for norm in _batch_norms(module) if norm.track_running_stats and norm.training]
    momenta = [norm.momentum for norm in tracking]
    for norm in tracking:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(tracking, momenta, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked -= 1


def _batch_norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
