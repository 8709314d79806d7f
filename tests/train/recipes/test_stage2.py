"""Training for real, in small: learning rates, resuming, what a step and a look at dev are made of."""

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from extract.dataset.clip_index import Clip
from extract.errors import InputError
from extract.store.feature_store import Features, FeatureStore
from train.data.feature_dataset import FeatureDataset, collate_features
from train.data.targets import encode_targets
from train.loop.callbacks import DivergenceError, Report
from train.loop.dev_evaluation import watch
from train.loop.device import precisions, training_device
from train.loop.trainer import RateGroupTrainer, fit
from train.models.language_model import build_mbart
from train.models.tokenizer import train_tokenizer
from train.models.translator import SignTranslator
from train.provenance import write_provenance
from train.recipes.denoise import pretrain
from train.recipes.stage1 import train_stage1
from train.recipes.stage2 import train_stage2
from train.settings import (
    AdapterSettings,
    DenoisingSettings,
    Stage1Settings,
    Stage2Settings,
    TrainingSettings,
    TransformerSettings,
)

LINES = ["es regnet", "es schneit stark", "im norden wird es kalt", "am montag scheint die sonne"]
SIZE = TransformerSettings(layers=1, heads=2, d_model=16, ffn=32, positions=40)


def store(path: Path, clips: list[Clip], **provenance: str) -> FeatureStore:
    made = FeatureStore.create(path, {"test": "yes", **provenance}, width=6, dtype="float32")
    rng = np.random.default_rng(0)
    made.write_block("block", [(clip.id, rng.random((5, 6), np.float32)) for clip in clips])
    return FeatureStore.open(path)


def clips(split: str) -> list[Clip]:
    return [Clip(f"{split}{i}", split, "x", 20, 25.0, LINES[i % 4], "de_DE") for i in range(12)]


def parts(tmp_path: Path) -> tuple[FeatureStore, FeatureStore, SignTranslator]:
    tokenizer = train_tokenizer(LINES, 60, "de_DE")
    torch.manual_seed(0)
    model = SignTranslator.compose(build_mbart(SIZE, tokenizer, "de_DE"), AdapterSettings(), 6)
    return store(tmp_path / "train.zarr", clips("train")), store(tmp_path / "dev.zarr", clips("dev")), model


def examples(features: FeatureStore, of: list[Clip]) -> FeatureDataset:
    targets = encode_targets(train_tokenizer(LINES, 60, "de_DE"), [clip.text for clip in of])
    return FeatureDataset([features.load([clip.id for clip in of])], targets)


def test_two_learning_rates_and_no_decay_of_norms(tmp_path: Path) -> None:
    train, _, model = parts(tmp_path)
    settings = TrainingSettings(steps=1, learning_rate=1e-5, weight_decay=0.1, schedule="constant")
    seen: list[torch.optim.Optimizer] = []
    create = RateGroupTrainer.create_optimizer

    class Watching(RateGroupTrainer):
        def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
            seen.append(create(self, model))
            return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("train.loop.trainer.RateGroupTrainer", Watching)
        fit(model, settings, examples(train, clips("train")), collate_features, tmp_path / "work",
            rates={"adapter.": 1e-3})  # fmt: skip
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = {(g["lr"], g["weight_decay"]): [names[id(p)] for p in g["params"]] for g in seen[0].param_groups}
    assert groups.keys() == {(1e-3, 0.1), (1e-3, 0.0), (1e-5, 0.1), (1e-5, 0.0)}
    assert sorted(groups[1e-3, 0.1]) == ["adapter.hidden.weight", "adapter.output.weight"]
    assert "adapter.norm.weight" in groups[1e-3, 0.0]
    assert all("norm" in name or name.endswith("bias") for name in groups[1e-5, 0.0])
    assert sum(map(len, groups.values())) == len(names)


@pytest.mark.parametrize("bound", [0.01, 0.0], ids=["clipped", "unclipped"])
def test_a_step_of_sgd_is_as_long_as_its_clipped_gradient(tmp_path: Path, bound: float) -> None:
    train, _, model = parts(tmp_path)
    data = examples(train, clips("train"))
    model.language_model.config.dropout = 0.0
    for module in model.modules():
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    before = copy.deepcopy(model).train()
    before(**collate_features([data[place] for place in range(12)])).loss.backward()
    weights = {name: weight for name, weight in before.named_parameters() if weight.grad is not None}
    length = torch.cat([weight.grad.flatten() for weight in weights.values()]).norm().item()
    assert length > 0.1
    settings = TrainingSettings(steps=1, batch_size=12, optimizer="sgd", momentum=0, learning_rate=0.1,
                                schedule="constant", max_grad_norm=bound)  # fmt: skip
    fit(model, settings, data, collate_features, tmp_path / "work")
    after = dict(model.named_parameters())
    moved = torch.cat([(after[name].cpu() - weight).flatten() for name, weight in weights.items()]).norm().item()
    assert moved == pytest.approx(0.1 * (bound or length), rel=1e-3)


def test_sgd_has_momentum(tmp_path: Path) -> None:
    train, _, model = parts(tmp_path)
    settings = TrainingSettings(steps=3, learning_rate=1e-2, optimizer="sgd", schedule="constant")
    before = model.adapter.hidden.weight.detach().clone()
    log = fit(model, settings, examples(train, clips("train")), collate_features, tmp_path / "work")
    assert not torch.equal(model.adapter.hidden.weight.cpu(), before)
    assert log[-1]["step"] == 3


class InterruptionError(Exception):
    """Stands for whatever ends a run."""


def denoise(work: Path, stop_at: int | None = None, told: list[int] | None = None) -> dict[str, torch.Tensor]:
    """Ten steps of denoising, two and a half epochs, a checkpoint at every second."""
    tokenizer = train_tokenizer(LINES, 60, "de_DE")
    torch.manual_seed(0)
    model = build_mbart(SIZE, tokenizer, "de_DE")
    settings = DenoisingSettings(steps=10, epochs=None, batch_size=4, checkpoint_every=2, schedule="constant")

    def report(step: int, *_: object) -> None:
        if told is not None:
            told.append(step)
        if step == stop_at:
            raise InterruptionError

    pretrain(model, tokenizer, [LINES * 4], settings, work, report)
    return {name: value.cpu() for name, value in model.state_dict().items()}


@pytest.mark.long
@pytest.mark.parametrize("stop_at", [3, 7, 9])
def test_a_run_that_ends_within_an_epoch_resumes_with_the_same_draws(tmp_path: Path, stop_at: int) -> None:
    whole = denoise(tmp_path / "whole")
    with pytest.raises(InterruptionError):
        denoise(tmp_path / "parts", stop_at)
    told: list[int] = []
    resumed = denoise(tmp_path / "parts", told=told)
    assert told == list(range(stop_at, 11))
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, atol=0, rtol=0)


def test_a_finished_run_is_loaded_and_takes_no_step_more(tmp_path: Path) -> None:
    whole = denoise(tmp_path / "work")
    told: list[int] = []
    again = denoise(tmp_path / "work", told=told)
    assert told == []
    for name, value in whole.items():
        assert torch.equal(again[name], value), name


def test_divergence_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    train, _, model = parts(tmp_path)
    settings = TrainingSettings(steps=60, learning_rate=1e30, schedule="constant", max_grad_norm=0)
    with pytest.raises(DivergenceError, match="Use a smaller learning_rate"):
        fit(model, settings, examples(train, clips("train")), collate_features, tmp_path / "work")


def test_stage_2_learns_and_keeps_the_best_of_dev(tmp_path: Path) -> None:
    train, dev, _ = parts(tmp_path)
    tokenizer = train_tokenizer(LINES, 60, "de_DE")
    torch.manual_seed(0)
    settings = Stage2Settings(
        steps=6, epochs=None, evaluate_every=3, max_length=8, learning_rate=3e-3, batch_size=4, language_model="lm"
    )
    done = train_stage2(
        train, dev, clips("train"), clips("dev"), settings, build_mbart(SIZE, tokenizer, "de_DE"), tokenizer,
        tmp_path / "work",
    )  # fmt: skip
    assert [entry["step"] for entry in done.log if "eval_bleu4" in entry] == [3, 6]
    assert not done.model.training
    losses = [entry["eval_loss"] for entry in done.log if "eval_loss" in entry]
    assert losses[1] < losses[0]


def test_collation_packs_features_and_puts_labels_first() -> None:
    features = Features(["a", "b"], np.arange(10, dtype=np.float16).reshape(5, 2), np.array([0, 2, 5]))
    data = FeatureDataset([features], [[7], [8, 9]])
    batch = collate_features([data[1], data[0]])
    assert next(iter(batch)) == "labels"
    assert batch["lengths"].tolist() == [3, 2]
    assert batch["features"].tolist() == [[4, 5], [6, 7], [8, 9], [0, 1], [2, 3]]
    assert batch["features"].dtype == torch.float32


@pytest.mark.long
def test_stage_1_with_every_option(tiny_dataset: object, tiny_index: object, tmp_path: Path) -> None:
    """Warm-up, second loss and selection on dev, on real frames; the encoder that comes out has moved."""
    from extract.dataset.clip_index import ClipIndex
    from extract.settings import EncoderSettings, FrameSettings

    root, index = tiny_dataset.root, tiny_index.path  # type: ignore[attr-defined]
    train, dev = ClipIndex(index, "train").clips()[:12], ClipIndex(index, "dev").clips()[:4]
    tokenizer = train_tokenizer([clip.text for clip in train], 200, "de_DE")
    settings = Stage1Settings.model_validate(
        {"steps": 2, "epochs": None, "batch_size": 4, "evaluate_every": 2, "max_length": 8, "bag_of_words": 0.1,
         "contrastive": 0.1, "word_dropout": 0.2, "warp": {}, "gradient_checkpointing": True, "dominance": True,
         "warmup": {"steps": 2, "batch_size": 4}}
    )  # fmt: skip
    backbone = {"model_type": "resnet", "layer_type": "basic", "embedding_size": 8, "hidden_sizes": [8, 8, 16, 16],
                "depths": [1, 1, 1, 1]}  # fmt: skip
    phases: list[str] = []

    @contextmanager
    def bars(name: str, unit: str) -> Iterator[Report]:
        phases.append(name)
        yield lambda *_: None

    def run(work: str) -> tuple[SignTranslator, list[dict[str, float]]]:
        torch.manual_seed(0)
        light_t = build_mbart(SIZE, tokenizer, "de_DE")
        return train_stage1(
            root, train, dev, EncoderSettings(backbone=backbone, width=8), FrameSettings(resize=36, crop=32), settings,
            tokenizer, tmp_path / work, language_model=light_t, bars=bars,
        )  # fmt: skip

    model, log = run("a")
    assert phases == ["encoder warm-up", "visual initialing"]
    assert type(model) is SignTranslator
    assert not any("spotter" in name or "contrast" in name for name in model.state_dict())
    assert list((tmp_path / "a/generation").glob("dominance-*.parquet"))
    assert any("eval_bleu4" in entry for entry in log)
    again, _ = run("b")
    near = {"rtol": 1e-4, "atol": 1e-4} if model.device.type == "cuda" else {}  # whose sums have no order of their own
    for name, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, **near)


def test_provenance_hashes_every_file(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    write_provenance(tmp_path, stage="lm", inputs={"a": 1})
    record = json.loads((tmp_path / "provenance.json").read_text())
    assert record["files"].keys() == {"model.safetensors"}
    assert record["inputs"] == {"a": 1}
    assert torch.__version__.partition("+")[0] == record["versions"]["torch"].partition("+")[0]


def test_stage_2_draws_one_view_per_epoch() -> None:
    def view(value: float, ids: list[str]) -> Features:
        return Features(ids, np.full((2 * len(ids), 3), value, np.float16), np.arange(0, 2 * len(ids) + 1, 2))

    ids = [f"c{i}" for i in range(20)]
    data = FeatureDataset([view(0, ids), view(1, ids), view(2, ids[:-1])], [[7]] * 20, seed=3)

    def drawn(epoch: int) -> list[int]:
        data.set_epoch(epoch)
        return [int(data[item]["features"][0, 0]) for item in range(20)]

    assert {value for epoch in range(5) for value in drawn(epoch)} == {0, 1, 2}
    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert {drawn(epoch)[-1] for epoch in range(12)} == {0, 1}  # the last clip lacks one


def test_stage_2_reads_the_views_of_the_store(tmp_path: Path) -> None:
    train_store, dev_store, model = parts(tmp_path)
    extra = [(clip.id, np.zeros((5, 6), np.float32)) for clip in clips("train")]
    train_store.write_block("more", extra, views=["phase=1"] * len(extra))
    settings = Stage2Settings(epochs=None, steps=2, batch_size=4, evaluate_every=2, max_length=8)
    tokenizer = train_tokenizer(LINES, 60, "de_DE")
    learnt = []
    for views in (("plain",), ("plain", "phase=1")):
        language_model = build_mbart(SIZE, tokenizer, "de_DE")
        language_model.load_state_dict(model.language_model.state_dict())
        done = train_stage2(
            FeatureStore.open(tmp_path / "train.zarr"), dev_store, clips("train"), clips("dev"), settings,
            language_model, tokenizer, tmp_path / f"work{len(views)}", views=views,
        )  # fmt: skip
        learnt.append(done.model.adapter.output.weight.detach().clone())
    assert not torch.equal(learnt[0], learnt[1])


def test_a_step_does_not_depend_on_how_its_clips_are_batched(tmp_path: Path) -> None:
    """One batch of twelve clips, or three of four accumulated: the same mean over target pieces, the same weights."""
    train, _, _ = parts(tmp_path)
    found = []
    for size, accumulate in ((12, 1), (4, 3)):
        torch.manual_seed(0)
        still = SIZE.model_copy(update={"dropout": 0.0})
        language_model = build_mbart(still, train_tokenizer(LINES, 60, "de_DE"), "de_DE")
        model = SignTranslator.compose(language_model, AdapterSettings(), 6)
        settings = TrainingSettings(steps=2, batch_size=size, accumulate=accumulate, learning_rate=1e-3, log_every=1)
        log = fit(model, settings, examples(train, clips("train")), collate_features, tmp_path / f"work{size}")
        found.append([entry["loss"] for entry in log if "loss" in entry])
        found.append([float(weight.detach().double().sum()) for weight in model.parameters()])
    assert found[0] == pytest.approx(found[2], abs=1e-6)
    assert found[1] == pytest.approx(found[3], abs=1e-4)


def test_gradient_checkpointing_changes_no_gradient(tmp_path: Path) -> None:
    train, _, _ = parts(tmp_path)
    losses = []
    for checkpointing in (False, True):
        _, _, model = parts(tmp_path / str(checkpointing))
        settings = TrainingSettings(steps=3, learning_rate=1e-2, log_every=1, gradient_checkpointing=checkpointing)
        log = fit(model, settings, examples(train, clips("train")), collate_features, tmp_path / f"w{checkpointing}")
        assert model.is_activation_checkpointing == checkpointing
        losses.append([entry["loss"] for entry in log if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_patience_ends_training_and_a_second_start_knows_it(tmp_path: Path) -> None:
    """With a learning rate that changes nothing, dev BLEU-4 is never better than at the first look."""
    train, dev, _ = parts(tmp_path)
    settings = TrainingSettings(
        steps=40, evaluate_every=2, patience=2, learning_rate=1e-12, batch_size=6, schedule="constant"
    )
    tokenizer = train_tokenizer(LINES, 60, "de_DE")

    def run(told: list[int]) -> list[dict[str, float]]:
        _, _, model = parts(tmp_path / f"again{len(list(tmp_path.iterdir()))}")
        return fit(
            model, settings, examples(train, clips("train")), collate_features, tmp_path / "work", max_length=4,
            dev=examples(dev, clips("dev")), tokenizer=tokenizer, report=lambda step, *_: told.append(step),
        )  # fmt: skip

    told: list[int] = []
    log = run(told)
    assert told == [1, 2, 3, 4, 5, 6]
    assert [entry["step"] for entry in log if "eval_bleu4" in entry] == [2, 4, 6]
    told.clear()
    assert [entry for entry in run(told) if "eval_bleu4" in entry] == [entry for entry in log if "eval_bleu4" in entry]
    assert told == []


def test_dev_is_scored_whole_in_any_order(tmp_path: Path) -> None:
    """Loss and BLEU-4 of all clips, batched by length, as one batch of all of them gives."""
    _, dev, model = parts(tmp_path)
    tokenizer, data = train_tokenizer(LINES, 60, "de_DE"), examples(dev, clips("dev"))
    found = [watch(model, data, collate_features, tokenizer, 5, clips=clips_at_once) for clips_at_once in (5, 12)]
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    with torch.no_grad():
        assert found[0]["loss"] == pytest.approx(
            float(model(**collate_features([data[place] for place in range(12)])).loss), abs=1e-5
        )


def test_precision_and_trackers_that_are_not_there_are_refused(tmp_path: Path) -> None:
    train, _, model = parts(tmp_path)
    device = training_device()
    lacking = {"fp32", "bf16", "fp16"} - set(precisions(device))
    assert device.type != "cpu" or "fp16" in lacking
    for wrong in [{"precision": precision} for precision in lacking] + [{"report_to": ("nothing",)}]:
        settings = TrainingSettings.model_validate({"steps": 1, **wrong})
        with pytest.raises(InputError, match=r"precision = .* computes in: fp32|report_to: .* found 'nothing'"):
            fit(model, settings, examples(train, clips("train")), collate_features, tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_before_the_first_step_it_says_what_it_will_do_and_refuses_what_cannot_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, _, model = parts(tmp_path)
    for parameter in model.language_model.parameters():
        parameter.requires_grad_(False)
    settings = TrainingSettings(epochs=3, batch_size=5, accumulate=2)
    said: list[str] = []
    fit(model, settings, examples(train, clips("train")), collate_features, tmp_path / "work", say=said.append)
    trained = sum(parameter.numel() for parameter in model.adapter.parameters())
    assert said[0].startswith(f"{trained / 1e6:.2f} M parameters trained")
    # Three batches (5, 5 and 2 clips) are two steps.
    assert said[1] == ("6 steps (3.0 epochs) of 6.0 examples: batches of up to 5 x 2 accumulated x 1 process")
    assert "of memory at most: weights" in said[2]
    monkeypatch.setattr("train.loop.run_plan.free_memory", lambda device: 10_000)
    device = training_device().type
    with pytest.raises(InputError, match=rf"memory of {device}.*: expected about .* 0.01 MB.*gradient_checkpointing"):
        fit(model, settings, examples(train, clips("train")), collate_features, tmp_path / "no", say=said.append)
    assert not (tmp_path / "no").exists()


def test_a_device_that_runs_out_of_memory_says_what_to_do(tmp_path: Path) -> None:
    train, _, model = parts(tmp_path)

    def full(_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of")

    device = training_device().type
    with pytest.raises(InputError, match=rf"memory of {device}.*: .* CUDA out of .* 2.00 GiB\. Use a smaller"):
        fit(model, TrainingSettings(steps=1), examples(train, clips("train")), full, tmp_path / "work")
