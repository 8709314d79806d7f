"""Steps in few shapes, and replayed ones, take the steps that a plain loop takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import MT5Config, MT5ForConditionalGeneration

import train.loop.group_trainer as group_trainer
from extract.own_device import own_device
from extract.store.feature_store import Features
from train.data.feature_dataset import FeatureDataset, collate_features
from train.loop.device import precisions
from train.loop.replayed_steps import CallsAgain, CudaGraphs, Found, ReplayedSteps
from train.loop.trainer import fit
from train.models.language_model import build_mbart
from train.models.tokenizer import train_tokenizer
from train.models.translator import SignTranslator
from train.settings import AdapterSettings, LoraSettings, TrainingSettings, TransformerSettings

LINES = ["es regnet", "es schneit stark", "im norden wird es kalt", "am montag scheint die sonne"]
FEW = {"batch_shapes": "padded"}
AGAIN = {"batch_shapes": "replayed", "resident": True}


class InterruptionError(Exception):
    """Stands for whatever ends a run."""


def examples() -> FeatureDataset:
    """Two views of 45 clips, so that the last batch of an epoch is another one."""
    rng = np.random.default_rng(0)
    ids = [f"c{place}" for place in range(45)]
    offsets = np.cumsum([0, *rng.integers(2, 30, len(ids))])
    views = [Features(ids, rng.standard_normal((offsets[-1], 6)).astype(np.float16), offsets) for _ in range(2)]
    return FeatureDataset(views, [rng.integers(5, 40, rng.integers(3, 20)).tolist() for _ in ids], seed=1)


def translator(dropout: float = 0.0) -> SignTranslator:
    tokenizer = train_tokenizer(LINES, 60, "de_DE")
    torch.manual_seed(0)
    size = TransformerSettings(layers=1, heads=2, d_model=16, ffn=32, positions=40, dropout=dropout)
    return SignTranslator.compose(build_mbart(size, tokenizer, "de_DE"), AdapterSettings(), 6)


def learn(
    work: Path, model: SignTranslator, said: list[str] | None = None, stop_at: int | None = None, **settings: Any
) -> list[dict[str, float]]:
    """Fifty steps whose gradients are clipped and whose rate changes, with an entry of the log for each."""

    def report(step: int, *_: object) -> None:
        if step == stop_at:
            raise InterruptionError

    usual = {"steps": 50, "batch_size": 8, "learning_rate": 3e-3, "log_every": 1, "checkpoint_every": 20,
             "warmup_steps": 5, "max_grad_norm": 0.5, "weight_decay": 0.01}  # fmt: skip
    chosen = TrainingSettings.model_validate(usual | settings)
    tell: Callable[[str], None] | None = None if said is None else said.append
    return fit(model, chosen, examples(), collate_features, work, rates={"adapter.": 1e-2}, report=report, say=tell)


def figures(log: list[dict[str, float]], name: str) -> list[float]:
    return [entry[name] for entry in log if name in entry]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[ReplayedSteps]:
    """Those that the loops of a test make."""
    found: list[ReplayedSteps] = []

    class Watched(ReplayedSteps):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            found.append(self)

    monkeypatch.setattr(group_trainer, "ReplayedSteps", Watched)
    return found


def test_few_shapes_and_replays_give_the_losses_of_the_plain_loop(tmp_path: Path, made: list[ReplayedSteps]) -> None:
    plain = learn(tmp_path / "plain", translator(), batch_shapes="packed")
    for name, settings in {"padded": FEW, "resident": FEW | {"resident": True}, "replayed": AGAIN}.items():
        log = learn(tmp_path / name, translator(), **settings)
        assert figures(log, "loss") == pytest.approx(figures(plain, "loss"), abs=1e-5), name
        assert figures(log, "grad_norm") == pytest.approx(figures(plain, "grad_norm"), rel=1e-3), name
        assert figures(log, "learning_rate") == figures(plain, "learning_rate"), name
    assert max(figures(plain, "grad_norm")) > 0.5  # clipping has something to do
    assert len(set(figures(plain, "learning_rate"))) > 40
    (steps,) = made
    assert steps.replays
    assert steps.replayed > 30
    assert len(steps.recorded) < 10


def test_a_model_with_relative_positions_is_replayed(tmp_path: Path, made: list[ReplayedSteps]) -> None:
    """mT5, which takes other masks than mBART."""
    logs = []
    for settings in ({"batch_shapes": "packed"}, AGAIN):
        torch.manual_seed(0)
        config = MT5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=60, dropout_rate=0.0,
                           decoder_start_token_id=0)  # fmt: skip
        model = SignTranslator.compose(MT5ForConditionalGeneration(config), AdapterSettings(), 6)
        logs.append(learn(tmp_path / str(settings["batch_shapes"]), model, steps=20, **settings))
    assert figures(logs[1], "loss") == pytest.approx(figures(logs[0], "loss"), abs=1e-5)
    assert made[0].replayed > 5


@pytest.mark.skipif("bf16" not in precisions(own_device()), reason="needs a device with bf16")
def test_half_precision_is_replayed(tmp_path: Path, made: list[ReplayedSteps]) -> None:
    half = {"precision": "bf16", "steps": 20}
    logs = [learn(tmp_path / settings["batch_shapes"], translator(), **settings, **half) for settings in (FEW, AGAIN)]
    assert figures(logs[1], "loss") == pytest.approx(figures(logs[0], "loss"), rel=2e-2)
    assert made[0].replayed > 5


def test_a_replayed_run_resumes_to_the_letter(tmp_path: Path, made: list[ReplayedSteps]) -> None:
    whole, first, again = translator(0.1), translator(0.1), translator(0.1)
    expected = learn(tmp_path / "whole", whole, **AGAIN)
    with pytest.raises(InterruptionError):
        learn(tmp_path / "parts", first, stop_at=33, **AGAIN)
    found = learn(tmp_path / "parts", again, **AGAIN)
    assert figures(found, "loss") == figures(expected, "loss")
    near = {"rtol": 1e-4, "atol": 1e-4} if whole.device.type == "cuda" else {"rtol": 0, "atol": 0}
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, **near)
    assert all(steps.replayed for steps in made)


@pytest.mark.parametrize(
    ("settings", "why"),
    [({"accumulate": 2}, "accumulate"), ({"dominance": True}, "dominance"),
     ({"gradient_checkpointing": True}, "gradient_checkpointing")],
)  # fmt: skip
def test_what_cannot_be_recorded_says_so(
    tmp_path: Path, made: list[ReplayedSteps], settings: dict[str, Any], why: str
) -> None:
    said: list[str] = []
    log = learn(tmp_path, translator(), said, steps=6, **AGAIN, **settings)
    assert [line for line in said if f"steps are not replayed: not with {why}" in line]
    assert len(figures(log, "loss")) == 6
    assert not made


def test_layers_that_are_left_out_at_random_are_not_recorded(tmp_path: Path, made: list[ReplayedSteps]) -> None:
    said: list[str] = []
    model = translator()
    model.language_model.config.encoder_layerdrop = 0.1
    learn(tmp_path, model, said, steps=2, **AGAIN)
    assert "steps are not replayed: not with layers that are left out at random" in said
    assert not made


def test_low_rank_updates_are_replayed(tmp_path: Path, made: list[ReplayedSteps]) -> None:
    pytest.importorskip("peft")
    from train.models.lora import add_lora

    logs = []
    for settings in (FEW, AGAIN):
        model = translator()
        torch.manual_seed(1)
        add_lora(model.language_model, LoraSettings(dropout=0.0))
        logs.append(learn(tmp_path / settings["batch_shapes"], model, steps=20, **settings))
    assert figures(logs[1], "loss") == pytest.approx(figures(logs[0], "loss"), abs=1e-5)
    assert made[0].replayed > 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_graphs_take_the_steps_that_they_recorded(tmp_path: Path, made: list[ReplayedSteps]) -> None:
    logs = [learn(tmp_path / settings["batch_shapes"], translator(), **settings) for settings in (FEW, AGAIN)]
    assert figures(logs[1], "loss") == pytest.approx(figures(logs[0], "loss"), abs=1e-5)
    assert isinstance(made[0].recorder, CudaGraphs)
    assert made[0].replays
    assert made[0].replayed > 30


class Forgets(CallsAgain):
    """A recorder whose replays are of other values than they should be."""

    def record(self, step: Callable[[], Found]) -> Callable[[], Found]:
        return lambda: tuple(2 * value for value in step())  # type: ignore[return-value]


class Refuses(CallsAgain):
    def record(self, step: Callable[[], Found]) -> Callable[[], Found]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")


def steps_of(recorder: CallsAgain, said: list[str]) -> tuple[nn.Module, ReplayedSteps]:
    """A small network with dropout, so that an undone step must give its random numbers back."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1)).to(own_device())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)

    def step(batch: dict[str, Tensor]) -> Found:
        loss = model(batch["features"]).square().mean()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach(), norm

    return model, ReplayedSteps(step, optimizer, recorder, say=said.append)


@pytest.mark.parametrize(
    ("recorder", "why"), [(CallsAgain(), ""), (Forgets(), "the first gave"), (Refuses(), "stream is capturing")]
)
def test_replay_is_given_up_where_it_is_not_the_step(recorder: CallsAgain, why: str) -> None:
    said: list[str] = []
    losses, models = [], []
    for replays in (True, False):
        model, steps = steps_of(recorder, said)
        steps.replays = replays
        losses.append([])
        models.append(model)
        for number in range(12):
            steps.optimizer.param_groups[0]["lr"] = 1e-2 / (1 + number)
            batch = {"features": torch.full((5 + number % 2, 3), 1.0 + number, device=own_device())}
            losses[-1].append(float(steps(batch)[0]))
        if replays:
            assert steps.replays != bool(why)
            assert bool(steps.replayed > 5) != bool(why)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for mine, theirs in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)
    assert [why in line for line in said] == [True] * bool(why)


def test_graphs_are_kept_as_long_as_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.loop.replayed_steps.GRAPHS", 2)
    _, steps = steps_of(CallsAgain(), [])
    for clips in (1, 1, 1, 1, 2, 2, 1, 3, 3):
        steps({"features": torch.ones(clips, 3, device=own_device())})
    assert [shape[0][1][0] for shape in steps.recorded] == [1, 3]
