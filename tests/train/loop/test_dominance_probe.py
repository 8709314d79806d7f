"""The dominance probe: the norms of every group, before clipping, once per step whatever interrupts the run."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from transformers import MT5Config, MT5ForConditionalGeneration, TrainerControl, TrainerState, TrainingArguments

from extract.encoder.visual_encoder import VisualEncoder
from extract.settings import EncoderSettings, FrameSettings
from tests.train.recipes.test_stage2 import InterruptionError, clips, examples, parts
from train.data.feature_dataset import collate_features
from train.loop.dominance_probe import SCHEMA, DominanceProbe, collect, groups_of
from train.loop.dominance_probe import parts as parts_of
from train.loop.trainer import fit
from train.models.translator import SignTranslator
from train.settings import AdapterSettings, TrainingSettings

BACKBONE = {"model_type": "resnet", "layer_type": "basic", "embedding_size": 8, "hidden_sizes": [8, 8, 16, 16],
            "depths": [1, 1, 1, 1]}  # fmt: skip
Rows = list[dict[str, Any]]


def learn(folder: Path, model: SignTranslator, data: Any, stop_at: int | None = None, **settings: Any) -> None:
    def report(step: int, *_: object) -> None:
        if step == stop_at:
            raise InterruptionError

    usual: dict[str, Any] = {"steps": 13, "checkpoint_every": 5, "batch_size": 4, "optimizer": "sgd", "momentum": 0,
                             "learning_rate": 0.05, "schedule": "constant", "dominance": True}  # fmt: skip
    chosen = TrainingSettings.model_validate(usual | settings)
    fit(model, chosen, data, collate_features, folder, report=report)


def rows_of(folder: Path) -> Rows:
    collect(parts_of(folder), folder / "all.parquet")
    table = pq.read_table(folder / "all.parquet")
    assert table.schema == SCHEMA
    return table.to_pylist()


def norm(values: Sequence[torch.Tensor]) -> float:
    return torch.cat([value.flatten() for value in values]).double().norm().item()


@pytest.mark.parametrize("clip_to", [0.01, 0.0], ids=["clipped", "unclipped"])
def test_norms_are_those_before_clipping(tmp_path: Path, clip_to: float) -> None:
    train, _, model = parts(tmp_path)
    model.language_model.config.dropout = 0.0
    for module in model.modules():
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0
    data = examples(train, clips("train"))
    before = copy.deepcopy(model)
    learn(tmp_path / "work", model, data, steps=1, batch_size=12, max_grad_norm=clip_to)
    before.train()(**collate_features([data[i] for i in range(12)])).loss.backward()
    weights = dict(before.named_parameters())
    after = {name: weight.cpu() for name, weight in model.named_parameters()}
    groups = groups_of(weights)
    rows = {row["group"]: row for row in rows_of(tmp_path / "work")}
    assert rows.keys() == groups.keys() >= {"adapter", "lm.last", "lm.encoder", "lm.decoder", "lm.embeddings"}
    whole = norm([weight.grad for weight in weights.values() if weight.grad is not None])
    assert whole > 1  # clipping has something to do
    for group, names in groups.items():
        gradients = [weights[name].grad for name in names if weights[name].grad is not None]
        assert rows[group]["gradient_norm"] == pytest.approx(norm(gradients), rel=1e-3)
        assert rows[group]["parameter_norm"] == pytest.approx(norm([weights[name] for name in names]), rel=1e-4)
        changed = norm([after[name] - weights[name] for name in names])
        assert rows[group]["update_ratio"] == pytest.approx(changed / norm([weights[n] for n in names]), rel=1e-2)


def test_gradients_are_told_without_the_factor_of_the_loss(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, probe = torch.nn.Linear(3, 2), DominanceProbe(tmp_path)
    probe.scale = lambda: 8.0
    arguments, state, control = TrainingArguments(output_dir=str(tmp_path)), TrainerState(), TrainerControl()
    probe.on_train_begin(arguments, state, control, model=model)
    (8 * model(torch.ones(1, 3)).square().sum()).backward()
    probe.before_clipping(state.global_step)
    probe.on_step_end(arguments, state, control)
    probe.on_train_end(arguments, state, control)
    (row,) = rows_of(tmp_path)
    whole = norm([weight.grad for weight in model.parameters() if weight.grad is not None])
    assert row["gradient_norm"] == pytest.approx(whole / 8)


@pytest.mark.long
@pytest.mark.parametrize("stop_at", [3, 5, 12])
def test_an_interrupted_run_has_every_step_once(tmp_path: Path, stop_at: int) -> None:
    train, _, model = parts(tmp_path)
    data, again = examples(train, clips("train")), copy.deepcopy(model)
    restarted = copy.deepcopy(model)
    learn(tmp_path / "whole", model, data)
    with pytest.raises(InterruptionError):
        learn(tmp_path / "parts", again, data, stop_at)
    learn(tmp_path / "parts", restarted, data)
    whole, resumed = rows_of(tmp_path / "whole"), rows_of(tmp_path / "parts")
    assert [row["step"] for row in whole if row["group"] == "adapter"] == list(range(1, 14))
    looks = [row["step"] for row in whole if row["group"] == "adapter" and row["update_ratio"] is not None]
    assert looks == [1, 11]
    assert [(row["step"], row["group"]) for row in resumed] == [(row["step"], row["group"]) for row in whole]
    for mine, theirs in zip(resumed, whole, strict=True):
        assert mine["gradient_norm"] == pytest.approx(theirs["gradient_norm"], rel=1e-4)
        assert (mine["update_ratio"] or 0) == pytest.approx(theirs["update_ratio"] or 0, rel=1e-4)


def test_every_parameter_has_its_group(tmp_path: Path) -> None:
    """Of stage 1 and of a joint model around mT5, whose layers have other names."""
    _, _, stage2 = parts(tmp_path)
    encoder = VisualEncoder.from_settings(EncoderSettings(backbone=BACKBONE, width=6), FrameSettings())
    small = MT5Config(d_model=16, d_kv=8, d_ff=16, num_layers=2, num_heads=2, vocab_size=40, decoder_start_token_id=0)
    mt5 = MT5ForConditionalGeneration(small)
    last = {
        "lm.last": {"mbart": "language_model.model.decoder.layers.0.", "mt5": "language_model.decoder.block.1."},
        "encoder.last": dict.fromkeys(("mbart", "mt5"), "encoder.temporal."),
    }
    for language_model in (stage2.language_model, mt5):
        model = SignTranslator.compose(language_model, AdapterSettings(), 6, encoder)
        names = [name for name, _ in model.named_parameters()]
        groups = groups_of(names)
        for group, starts in last.items():
            wanted = starts[language_model.config.model_type]
            assert groups.pop(group) == [name for name in names if name.startswith(wanted)]
        assert groups.keys() == {
            *(f"backbone.stage{i}" for i in (1, 2, 3, 4)), "backbone.stem", "temporal", "adapter", "lm.embeddings",
            "lm.encoder", "lm.decoder",
        }  # fmt: skip
        assert sorted(name for members in groups.values() for name in members) == sorted(names)
