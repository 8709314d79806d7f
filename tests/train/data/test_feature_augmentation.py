"""Augmentation of cached features: what each option does, and that it is drawn by seed, epoch and clip alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from extract.store.feature_store import Features
from train.data.feature_augmentation import augment, stretched
from train.data.feature_dataset import FeatureDataset
from train.settings import AugmentSettings


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_off_by_default() -> None:
    steps = torch.randn(9, 4, dtype=torch.float16)
    assert torch.equal(augment(steps, AugmentSettings(), rng()), steps.float())


@given(st.integers(1, 60), st.floats(0.3, 3))
def test_stretching_keeps_a_line_a_line(length: int, factor: float) -> None:
    steps = torch.arange(length, dtype=torch.float32)[:, None] / length
    out = stretched(steps, factor)
    assert len(out) == max(1, round(length * factor))
    assert (out.diff(dim=0) >= -1e-6).all()
    assert steps.min() - 1e-6 <= out.min()
    assert out.max() <= steps.max() + 1e-6
    assert out.mean().item() == pytest.approx(steps.mean().item(), abs=0.5 / len(out) + 1e-3)


def test_stretching_stops_at_the_models_positions() -> None:
    settings, steps = AugmentSettings(stretch=0.5), torch.ones(50, 2)
    drawn = {len(augment(steps, settings, np.random.default_rng(seed), longest=60)) for seed in range(99)}
    assert max(drawn) == 60
    assert min(drawn) in range(33, 37)
    assert len(drawn) > 15


def test_masks_are_spans_of_zeros() -> None:
    settings = AugmentSettings(masks=2, mask_share=0.25)
    steps = torch.ones(40, 3)
    counts = []
    for seed in range(200):
        out = augment(steps, settings, np.random.default_rng(seed))
        zero = (out == 0).all(dim=1)
        assert (out[~zero] == 1).all()
        edges = torch.cat([torch.zeros(1, dtype=torch.bool), zero]).int().diff().clamp(min=0).sum()
        assert edges <= 2
        counts.append(int(zero.sum()))
    assert max(counts) <= 20
    assert np.mean(counts) == pytest.approx(2 * 5 * 0.93, rel=0.1)  # spans overlap now and then
    assert torch.equal(steps, torch.ones(40, 3))


def test_noise_is_in_units_of_the_features() -> None:
    steps = 7 * torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    added = augment(steps, AugmentSettings(noise=0.1), rng()) - steps
    assert added.std().item() == pytest.approx(0.7, rel=0.05)
    assert abs(added.mean().item()) < 0.05


def test_drawn_by_seed_epoch_and_clip_alone() -> None:
    features = Features(["a", "b"], np.random.default_rng(0).random((20, 3), np.float32), np.array([0, 8, 20]))
    settings = AugmentSettings(stretch=0.3, noise=0.1, masks=1)

    def dataset(seed: int) -> FeatureDataset:
        return FeatureDataset([features], [[7], [8]], seed, settings, longest=14)

    one, other = dataset(1), dataset(1)
    _ = one[1], one[1]  # asking for a clip draws nothing from the others' numbers
    assert torch.equal(one[0]["features"], other[0]["features"])
    other.set_epoch(1)
    assert one[0]["features"].tolist() != other[0]["features"].tolist()
    assert one[0]["features"].tolist() != dataset(2)[0]["features"].tolist()
    assert one.lengths == [(10, 1), (14, 1)]
    for epoch in range(40):
        one.set_epoch(epoch)
        assert all(len(one[i]["features"]) <= one.lengths[i][0] for i in range(2))
