"""Training in half precision, in each that this machine's device has: bf16 on newer CPUs, also fp16 on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from extract.dataset.clip_index import ClipIndex
from extract.dataset.manifest import Dataset
from extract.own_device import own_device
from extract.settings import EncoderSettings, FrameSettings
from tests.train.recipes.test_stage2 import LINES, clips, examples
from tests.train.recipes.test_stage2 import parts as features_and_model
from train.data.feature_dataset import collate_features
from train.loop.device import precisions
from train.loop.dominance_probe import parts
from train.loop.trainer import Report, fit
from train.models.language_model import build_mbart
from train.models.tokenizer import train_tokenizer
from train.models.translator import SignTranslator
from train.recipes.stage1 import train_stage1
from train.settings import Stage1Settings, TrainingSettings, TransformerSettings

HALVES = [precision for precision in precisions(own_device()) if precision != "fp32"]
BACKBONE = {"model_type": "resnet", "layer_type": "basic", "embedding_size": 8, "hidden_sizes": [8, 8, 16, 16],
            "depths": [1, 1, 1, 1]}  # fmt: skip


@contextmanager
def unseen(name: str, unit: str) -> Iterator[Report]:
    yield lambda *_: None


def learn(dataset: Dataset, index: ClipIndex, precision: str, work: Path) -> tuple[SignTranslator, list[float]]:
    """Stage 1 with every loss, frames in micro-batches; the model and its losses on dev."""
    train, dev = (ClipIndex(index.path, split).clips()[:8] for split in ("train", "dev"))
    tokenizer = train_tokenizer([clip.text for clip in train], 200, "de_DE")
    torch.manual_seed(0)
    light_t = build_mbart(TransformerSettings(layers=1, heads=2, d_model=32, ffn=64), tokenizer, "de_DE")
    settings = Stage1Settings.model_validate(
        {"optimizer": "adamw", "learning_rate": 1e-3, "steps": 12, "epochs": None, "batch_size": 4, "evaluate_every": 6,
         "max_length": 8, "bag_of_words": 0.1, "contrastive": 0.1, "frame_batch": 16, "warp": None,
         "precision": precision, "dominance": True}
    )  # fmt: skip
    model, log = train_stage1(
        dataset.root, train, dev, EncoderSettings(backbone=BACKBONE, width=32), FrameSettings(resize=36, crop=32),
        settings, tokenizer, work, language_model=light_t, bars=unseen,
    )  # fmt: skip
    return model, [entry["eval_loss"] for entry in log if "eval_loss" in entry]


def first_gradients(work: Path) -> dict[str, float]:
    rows = pq.read_table(parts(work / "generation")[0]).to_pylist()
    first = min(row["step"] for row in rows)
    return {row["group"]: row["gradient_norm"] for row in rows if row["step"] == first}


@pytest.mark.long
@pytest.mark.parametrize("precision", HALVES)
def test_stage_1_learns_as_in_full_precision(
    tiny_dataset: Dataset, tiny_index: ClipIndex, tmp_path: Path, precision: str
) -> None:
    _, plain = learn(tiny_dataset, tiny_index, "fp32", tmp_path / "fp32")
    model, half = learn(tiny_dataset, tiny_index, precision, tmp_path / precision)
    assert half != plain
    assert half == pytest.approx(plain, rel=0.03)
    assert half[-1] < half[0]
    for name, weight in model.named_parameters():
        assert weight.dtype == torch.float32, name
        assert torch.isfinite(weight).all(), name
    # fp16's are told without the factor that keeps them from vanishing, which at first is too large for some
    expected, found = first_gradients(tmp_path / "fp32"), first_gradients(tmp_path / precision)
    told = {group: norm for group, norm in found.items() if norm != float("inf")}
    assert found.keys() == expected.keys()
    assert len(told) > len(found) / 2
    assert told == pytest.approx({group: expected[group] for group in told}, rel=0.15)


@pytest.mark.parametrize("precision", HALVES)
def test_stage_2_looks_at_dev_with_features_of_half_precision(tmp_path: Path, precision: str) -> None:
    """As they are stored by default; its autocast does not take all that a loader does with them."""
    train, _, model = features_and_model(tmp_path)
    data = examples(train, clips("train"))
    data.steps = [[steps.half() for steps in views] for views in data.steps]
    settings = TrainingSettings(steps=2, evaluate_every=1, precision=precision)  # type: ignore[arg-type]
    log = fit(
        model, settings, data, collate_features, tmp_path / "work", dev=data, max_length=4, judge=lambda said: 0.0,
        tokenizer=train_tokenizer(LINES, 60, "de_DE"),
    )  # fmt: skip
    assert sum("eval_loss" in entry for entry in log) == 2
