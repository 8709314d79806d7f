"""How many clips are translated at once."""

from __future__ import annotations

from typing import Any

from train.loop.device import free_memory

BATCH = 32
"""Where memory is not asked: on a CPU more are not quicker."""
MOST = 256
"""On a GPU: beyond that the matrices are large enough."""
SHARE = 0.5
"""Of a GPU's free memory, that a batch may take by the estimate."""
COPIES = 3
"""Of keys and values: themselves, longer by a piece, and in the order of the beams that go on."""
OF_LOGITS = 4
"""float32 tensors of the logits' size that a step of the search has."""
OF_STATES = 20
"""Tensors of the hidden states' size that a layer of the encoder has at once."""


def clips_at_once(model: Any, steps: int, beams: int, pieces: int) -> int:
    """Clips of a batch.

    Args:
        model: a ``SignTranslator``, on its device.
        steps: of the longest clip.
        pieces: of a translation, at most.
    """
    device = model.device
    free = free_memory(device) if device.type == "cuda" else None
    if free is None:
        return BATCH
    config = model.language_model.config
    layers = getattr(config, "decoder_layers", None) or config.num_decoder_layers
    width = config.d_model * model.dtype.itemsize
    cached = 2 * layers * width * (steps + pieces) * beams * COPIES
    logits = beams * config.vocab_size * 4 * OF_LOGITS
    per_clip = int(cached + logits + steps * width * OF_STATES)
    return max(1, min(MOST, int(SHARE * free) // per_clip))
