"""The joint baseline: its learning rates, its budgets, and its translations from pixels."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.models.mbart.modeling_mbart import MBartLearnedPositionalEmbedding, MBartScaledWordEmbedding

from eval.translation.encode_clips import encode_clips
from eval.translation.translate_features import translate_clips
from extract.dataset.clip_index import Clip, ClipIndex
from extract.dataset.manifest import Dataset
from extract.decoding.read_clip import read_clip
from extract.encoder.visual_encoder import VisualEncoder
from extract.errors import InputError
from extract.settings import FrameSettings
from extract.store.feature_store import Features
from tests.train.recipes.test_stage1 import ENCODER, some
from tests.train.recipes.test_stage2 import SIZE
from train.loop.budget import all_passes, clip_passes, seconds_of, steps_for_clips, steps_for_seconds
from train.loop.trainer import RateGroupTrainer, Report
from train.models.language_model import build_mbart
from train.models.tokenizer import train_tokenizer
from train.models.translator import SignTranslator, load_sign_translator
from train.recipes.joint import train_joint
from train.settings import AdapterSettings, JointSettings, TrainingSettings

FRAMES = FrameSettings(resize=36, crop=32)


def learn(
    root: Path,
    clips: list[Clip],
    work: Path,
    spent: float | None = None,
    begin: VisualEncoder | None = None,
    **settings: object,
) -> tuple[SignTranslator, list[dict[str, float]]]:
    tokenizer = train_tokenizer([clip.text for clip in clips], 200, "de_DE")
    torch.manual_seed(0)

    @contextmanager
    def bars(name: str, unit: str) -> Iterator[Report]:
        yield lambda *_: None

    chosen = JointSettings.model_validate({"batch_size": 3, "max_length": 8, **settings})
    return train_joint(
        root, clips, clips[:2], ENCODER, FRAMES, chosen, tokenizer, work,
        language_model=build_mbart(SIZE, tokenizer, "de_DE"), spent=spent, bars=bars, begin=begin,
    )  # fmt: skip


@pytest.mark.long
def test_three_learning_rates_no_decay_of_norms_and_all_parts_learn(
    tiny_dataset: Dataset, tiny_index: ClipIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[torch.optim.Optimizer] = []
    create = RateGroupTrainer.create_optimizer

    def watched(self: RateGroupTrainer, model: nn.Module | None = None) -> torch.optim.Optimizer:
        made.append(create(self, model))
        return made[-1]

    monkeypatch.setattr(RateGroupTrainer, "create_optimizer", watched)
    model, _ = learn(tiny_dataset.root, some(tiny_index, "train", 3), tmp_path / "work", steps=1, weight_decay=0.1,
                     learning_rate=1e-5, adapter_learning_rate=1e-3, encoder_learning_rate=1e-2)  # fmt: skip
    names = {id(weight): name for name, weight in model.named_parameters()}
    rates = {names[id(weight)]: group["initial_lr"] for group in made[0].param_groups for weight in group["params"]}
    assert rates.keys() == set(names.values())
    for name, rate in rates.items():
        assert rate == {"encoder": 1e-2, "adapter": 1e-3, "language_model": 1e-5}[name.split(".")[0]], name
    decayed = {id(weight) for group in made[0].param_groups if group["weight_decay"] for weight in group["params"]}
    kinds = {type(part) for part in model.modules() if any(id(w) in decayed for w in part.parameters(recurse=False))}
    assert kinds == {nn.Conv1d, nn.Conv2d, nn.Linear, MBartScaledWordEmbedding, MBartLearnedPositionalEmbedding}
    assert not any(names[weight].endswith("bias") for weight in decayed)
    assert all(made[0].state[weight]["exp_avg_sq"].max() > 0 for name, weight in model.named_parameters()
               if "embed_positions" not in name and "norm" not in name)  # fmt: skip


def test_a_frozen_backbone_stays_as_stage_1_left_it(
    tiny_dataset: Dataset, tiny_index: ClipIndex, tmp_path: Path
) -> None:
    torch.manual_seed(7)
    begin = VisualEncoder.from_settings(ENCODER, FRAMES)
    model, _ = learn(tiny_dataset.root, some(tiny_index, "train", 3), tmp_path / "work", begin=begin,
                     steps=2, start="stage1", freeze_backbone=True)  # fmt: skip
    assert model.encoder is not None
    before = begin.state_dict()
    model.cpu()
    changed = {name for name, value in model.encoder.state_dict().items() if not torch.equal(value, before[name])}
    assert "temporal.convs.0.weight" in changed
    assert not [name for name in changed if name.startswith("backbone.")]


def test_the_budget_in_clips_is_what_the_factorised_run_saw(
    tiny_dataset: Dataset, tiny_index: ClipIndex, tmp_path: Path
) -> None:
    clips = some(tiny_index, "train", 6)
    _, log = learn(tiny_dataset.root, clips, tmp_path / "a", spent=13, budget="clips")
    assert all_passes(log) == 12
    _, log = learn(tiny_dataset.root, clips, tmp_path / "b", spent=None, budget="clips", amount=12, accumulate=2,
                   warmup={"steps": 1, "batch_size": 6})  # fmt: skip
    assert all_passes(log) == 12  # the warm-up's clips count
    with pytest.raises(InputError, match=r"the clips of stage 1 and stage 2, found no record.*train\.joint\.amount"):
        learn(tiny_dataset.root, clips, tmp_path / "c", spent=None)


def test_the_budget_in_seconds_is_turned_into_steps_once(tmp_path: Path) -> None:
    def trial(tick: Report) -> None:
        for step in range(8):
            time.sleep(0.2 if step < 3 else 0.02)  # the first steps are slower
            tick(step, 8, {})

    steps = steps_for_seconds(2.0, trial, tmp_path / "work/budget.json")
    assert 60 <= steps <= 100
    assert steps_for_seconds(99.0, lambda tick: pytest.fail("timed again"), tmp_path / "work/budget.json") == steps


def test_counting_a_log() -> None:
    log = [{"epoch": 1.5, "step": 3}, {"epoch": 2.25, "step": 5, "train_runtime": 9.0}, {"step": 5, "seconds": 3.0}]
    whole = [*log, {"clip_passes": 23.0}, {"epoch": 1.0, "step": 2}, {"step": 3, "seconds": 2.5}, {"clip_passes": 40.0}]
    settings = TrainingSettings(steps=6, batch_size=4, accumulate=2)
    assert clip_passes(log, settings, 10) == 22
    assert clip_passes(log[:1], settings, 10) == 48
    assert clip_passes(log[:1], TrainingSettings(epochs=1.5), 10) == 15
    assert all_passes(whole) == 63
    assert seconds_of(whole) == 5.5
    assert steps_for_clips(35, 16) == 2
    assert steps_for_clips(-1, 16) == 1


def test_translating_from_pixels(tiny_dataset: Dataset, tiny_index: ClipIndex, tmp_path: Path) -> None:
    """Each clip as the whole model would say it; a clip that cannot be read is an empty hypothesis."""
    clips = some(tiny_index, "train", 4)
    model, _ = learn(tiny_dataset.root, clips, tmp_path / "work", steps=1)
    tokenizer = train_tokenizer([clip.text for clip in clips], 200, "de_DE")
    model.save_pretrained(tmp_path / "joint")
    loaded = load_sign_translator(tmp_path / "joint")
    absent = Clip("absent", "test", "nowhere", 9, 25.0, "text", "de_DE")
    features, failed = encode_clips(loaded, tiny_dataset.root, [clips[0], absent, *clips[1:]])
    assert list(failed) == ["absent"]
    said = translate_clips(loaded, tokenizer, features, [absent, *clips], beams=2, max_length=6)
    assert [row.id for row in said] == ["absent", *(clip.id for clip in clips)]
    assert (said[0].hypothesis, said[0].score) == ("", None)
    for clip, row in zip(clips, said[1:], strict=True):
        frames = torch.from_numpy(read_clip(tiny_dataset.root, clip, FRAMES)).to(model.device)
        ids = model.generate(frames=frames, lengths=torch.tensor([len(frames)]), num_beams=2, max_new_tokens=6)
        assert row.hypothesis == tokenizer.decode(ids[0], skip_special_tokens=True).strip()
    long = Features(["long"], np.zeros((41, 8), np.float32), np.array([0, 41]))
    clip = Clip("long", "test", "x", 41, 25.0, "text", "de_DE")
    assert translate_clips(loaded, tokenizer, long, [clip], beams=2, max_length=6)[0].hypothesis == ""


def test_a_translator_with_other_weights_is_refused(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["es regnet"], 60, "de_DE")
    model = SignTranslator.compose(build_mbart(SIZE, tokenizer, "de_DE"), AdapterSettings(), 6)
    model.save_pretrained(tmp_path / "t")
    weights = load_file(tmp_path / "t/model.safetensors")
    del weights["adapter.output.bias"]
    save_file(weights, tmp_path / "t/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 that do not fit, e\.g\. adapter\.output\.bias"):
        load_sign_translator(tmp_path / "t")
    with pytest.raises(InputError, match="expected a translator directory"):
        load_sign_translator(tmp_path / "nothing")
    os.truncate(tmp_path / "t/model.safetensors", 3000)  # a copy that was cut off
    with pytest.raises(InputError, match="expected a translator directory"):
        load_sign_translator(tmp_path / "t")
