"""The paper's shapes: models with random weights, features and sentences of the lengths of PHOENIX14T."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import MBartConfig, MBartForConditionalGeneration

from extract.encoder.visual_encoder import VisualEncoder
from extract.settings import EncoderSettings, FrameSettings
from extract.store.feature_store import Features
from train.data.feature_dataset import FeatureDataset
from train.settings import AdapterSettings
from train.models.translator import SignTranslator

CLIPS, SAMPLED, ALL, PIECES, WIDTH = 16, 29, 116, 20, 512
TRIMMED = 3_000
VOCABULARIES = {"trimmed": TRIMMED, "full": 250_027}
LARGE = {"d_model": 1024, "ffn": 4096, "heads": 16}
SMALL = {"d_model": 512, "ffn": 2048, "heads": 8}
TINY = {"d_model": 256, "ffn": 1024, "heads": 4}
RESNET18 = {"model_type": "resnet", "layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]}


def language_model(layers: int, vocabulary: int, d_model: int, ffn: int, heads: int) -> MBartForConditionalGeneration:
    """mBART's architecture with random weights."""
    size = {"layers": layers, "attention_heads": heads, "ffn_dim": ffn}
    parts = {f"{part}_{name}": value for part in ("encoder", "decoder") for name, value in size.items()}
    config = MBartConfig(
        vocab_size=vocabulary, d_model=d_model, max_position_embeddings=512, scale_embedding=True,
        decoder_start_token_id=2, forced_eos_token_id=None, **parts,
    )  # fmt: skip
    model = MBartForConditionalGeneration(config)
    model.generation_config.max_length = None
    return model


def translator(layers: int, vocabulary: int, encoder: VisualEncoder | None = None, **size: int) -> SignTranslator:
    torch.manual_seed(0)
    model = SignTranslator.compose(language_model(layers, vocabulary, **size), AdapterSettings(), WIDTH, encoder)
    model.label_smoothing = 0.2
    return model


def visual_encoder() -> VisualEncoder:
    return VisualEncoder.from_settings(EncoderSettings(backbone=RESNET18), FrameSettings())


def dataset(lengths: Sequence[tuple[int, int]]) -> FeatureDataset:
    """Noise of these lengths (features, target pieces)."""
    rng = np.random.default_rng(0)
    offsets = np.cumsum([0, *(source for source, _ in lengths)])
    array = rng.standard_normal((int(offsets[-1]), WIDTH), np.float32).astype(np.float16)
    targets = [rng.integers(10, 2900, pieces).tolist() for _, pieces in lengths]
    return FeatureDataset([Features([str(i) for i in range(len(lengths))], array, offsets)], targets)


def corpus_lengths(count: int) -> list[tuple[int, int]]:
    """Features and target pieces about as in PHOENIX14T: 29 and 20 on average, longer sentences take longer."""
    rng = np.random.default_rng(1)
    source = rng.lognormal(3.26, 0.45, count).clip(4, 118).round().astype(int)
    target = (0.69 * source * rng.lognormal(-0.05, 0.3, count)).clip(4, 70).round().astype(int)
    return list(zip(source.tolist(), target.tolist(), strict=True))
