"""Batches of frames that are filled while others are computed."""

import numpy as np
import pytest
import torch

from extract.encoder.extractor import Extractor
from extract.encoder.frame_batches import FrameBatches
from extract.encoder.visual_encoder import VisualEncoder
from extract.settings import EncoderSettings, ExtractSettings, FrameSettings

BACKBONE = {
    "model_type": "resnet",
    "layer_type": "basic",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
}


@pytest.mark.parametrize("backend", ["torch", "ncnn"])
@pytest.mark.parametrize("buffers", [1, 3])
def test_clips_of_any_length_in_batches_of_any_size(backend: str, buffers: int) -> None:
    torch.manual_seed(0)
    made = VisualEncoder.from_settings(EncoderSettings(backbone=BACKBONE), FrameSettings(resize=32, crop=28))
    rng = np.random.default_rng(0)
    clips = [rng.integers(0, 256, (length, 3, 28, 28), dtype=np.uint8) for length in (1, 13, 4, 5, 2, 30, 3)]
    extractor = Extractor(made.eval(), ExtractSettings(backend=backend, batch_frames=5))
    batches = FrameBatches(extractor, buffers)
    assert batches.finish() is None
    for clip in clips:
        given = clip.copy()
        batches.add(given)
        given[:] = 0  # its memory holds the next clip
    found = batches.finish()
    frames = np.concatenate(clips)
    expected = torch.cat([extractor.frame_features(frames[at : at + 5]) for at in range(0, len(frames), 5)])
    assert torch.equal(found, expected)
