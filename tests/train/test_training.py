"""Training for real, in small: learning rates, resume after a kill, and stage 2 without OpenCV."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from extract.errors import InputError
from extract.index import Clip
from extract.store import Features, FeatureStore
from train.denoise import pretrain
from train.features import FeatureDataset, collate_features
from train.labels import encode_targets
from train.language_model import build_mbart
from train.provenance import write_provenance
from train.settings import (
    AdapterSettings,
    DenoisingSettings,
    TrainingSettings,
    TransformerSettings,
    TranslateSettings,
    VisualSettings,
)
from train.tokenizer import train_tokenizer
from train.trainer import DivergenceError, RateGroupTrainer, Report, fit
from train.translate import train_translate
from train.translator import SignTranslator
from train.visual import train_visual

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
        patch.setattr("train.trainer.RateGroupTrainer", Watching)
        fit(model, settings, examples(train, clips("train")), collate_features, tmp_path / "work",
            rates={"adapter.": 1e-3})  # fmt: skip
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = {(g["lr"], g["weight_decay"]): [names[id(p)] for p in g["params"]] for g in seen[0].param_groups}
    assert groups.keys() == {(1e-3, 0.1), (1e-3, 0.0), (1e-5, 0.1), (1e-5, 0.0)}
    assert sorted(groups[1e-3, 0.1]) == ["adapter.hidden.weight", "adapter.output.weight"]
    assert all("norm" in name or name.endswith("bias") for name in groups[1e-5, 0.0])
    assert sum(map(len, groups.values())) == len(names)


def test_sgd_has_momentum(tmp_path: Path) -> None:
    train, _, model = parts(tmp_path)
    settings = TrainingSettings(steps=3, learning_rate=1e-2, optimizer="sgd", schedule="constant")
    before = model.adapter.hidden.weight.detach().clone()
    log = fit(model, settings, examples(train, clips("train")), collate_features, tmp_path / "work")
    assert not torch.equal(model.adapter.hidden.weight, before)
    assert log[-1]["step"] == 3


def test_an_interrupted_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    """SIGKILL after the first checkpoint; the resumed run ends where an undisturbed one does."""
    script = tmp_path / "training.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, time
            from pathlib import Path
            import torch
            from extract.store import FeatureStore
            from tests.train.test_training import clips, collate_features, examples, parts
            from train.settings import TrainingSettings
            from train.trainer import fit

            folder, work, slow = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "slow"
            torch.set_num_threads(1)
            train, _, model = parts(folder)
            settings = TrainingSettings(steps=12, learning_rate=1e-3, batch_size=5, checkpoint_every=2, warmup_steps=2)
            report = (lambda *_: time.sleep(0.4)) if slow else None
            fit(model, settings, examples(train, clips("train")), collate_features, work, report=report)
            torch.save(model.state_dict(), work.with_suffix(".pt"))
            """
        )
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    def start(work: str, pace: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(script), str(tmp_path / f"{work}_data"), str(tmp_path / work), pace]
        return subprocess.Popen(command, env=environment, start_new_session=True)

    assert start("whole", "fast").wait() == 0
    killed = start("parts", "slow")
    deadline = time.monotonic() + 120
    while not list((tmp_path / "parts").glob("checkpoint-*/trainer_state.json")):
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "parts.pt").exists()
    assert start("parts", "fast").wait() == 0
    whole, resumed = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("whole", "parts"))
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, atol=1e-6, rtol=1e-5)


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

    pretrain(model, tokenizer, LINES * 4, settings, work, report)
    return dict(model.state_dict())


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
    settings = TranslateSettings(
        steps=6, epochs=None, evaluate_every=3, max_length=8, learning_rate=3e-3, batch_size=4, language_model="lm"
    )
    model, log = train_translate(
        train, dev, clips("train"), clips("dev"), settings, build_mbart(SIZE, tokenizer, "de_DE"), tokenizer,
        tmp_path / "work",
    )  # fmt: skip
    assert [entry["step"] for entry in log if "eval_bleu4" in entry] == [3, 6]
    assert not model.training
    losses = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    assert losses[1] < losses[0]


def test_stage_2_refuses_what_it_cannot_use(tmp_path: Path) -> None:
    train, dev, _ = parts(tmp_path)
    tokenizer = train_tokenizer(LINES, 60, "de_DE")
    model = build_mbart(SIZE, tokenizer, "de_DE")
    settings = TranslateSettings(steps=1, epochs=None, language_model="lm")

    def run(train: FeatureStore, dev: FeatureStore, of: list[Clip]) -> None:
        train_translate(train, dev, of, clips("dev"), settings, model, tokenizer, tmp_path / "work")

    with pytest.raises(InputError, match="made-by other"):
        run(train, store(tmp_path / "other.zarr", clips("dev"), **{"made-by": "other"}), clips("train"))
    with pytest.raises(InputError, match="features of 12 clips, found none of them"):
        run(train, dev, clips("elsewhere"))
    long = FeatureStore.create(tmp_path / "long.zarr", {"test": "yes"}, width=6, dtype="float32")
    long.write_block("b", [("train0", np.zeros((41, 6), np.float32))])
    with pytest.raises(InputError, match=r"'train0': expected at most 40 .* found 41"):
        run(FeatureStore.open(tmp_path / "long.zarr"), dev, clips("train"))
    broken = FeatureStore.create(tmp_path / "nan.zarr", {"test": "yes"}, width=6, dtype="float32")
    broken.write_block("b", [("train0", np.full((4, 6), np.nan, np.float32))])
    with pytest.raises(InputError, match="finite features"):
        run(FeatureStore.open(tmp_path / "nan.zarr"), dev, clips("train"))


def test_stage_2_and_scoring_never_import_opencv() -> None:
    modules = "train.translate, train.language_model, eval.translate, eval.scores"
    code = f"import sys; sys.modules['cv2'] = None; import {modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_collation_packs_features_and_puts_labels_first() -> None:
    features = Features(["a", "b"], np.arange(10, dtype=np.float16).reshape(5, 2), np.array([0, 2, 5]))
    data = FeatureDataset([features], [[7], [8, 9]])
    batch = collate_features([data[1], data[0]])
    assert next(iter(batch)) == "labels"
    assert batch["lengths"].tolist() == [3, 2]
    assert batch["features"].tolist() == [[4, 5], [6, 7], [8, 9], [0, 1], [2, 3]]
    assert batch["features"].dtype == torch.float32


def test_stage_1_with_every_option(tiny_dataset: object, tiny_index: object, tmp_path: Path) -> None:
    """Warm-up, second loss and selection on dev, on real frames; the encoder that comes out has moved."""
    from extract.index import ClipIndex
    from extract.settings import EncoderSettings, FrameSettings

    root, index = tiny_dataset.root, tiny_index.path  # type: ignore[attr-defined]
    train, dev = ClipIndex(index, "train").clips()[:12], ClipIndex(index, "dev").clips()[:4]
    tokenizer = train_tokenizer([clip.text for clip in train], 200, "de_DE")
    settings = VisualSettings.model_validate(
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
        return train_visual(
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
    for name, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value)


def test_provenance_hashes_every_file(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    write_provenance(tmp_path, stage="lm", inputs={"a": 1})
    record = json.loads((tmp_path / "provenance.json").read_text())
    assert record["files"].keys() == {"model.safetensors"}
    assert record["inputs"] == {"a": 1}
    assert record["versions"]["torch"] == torch.__version__


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
    settings = TranslateSettings(epochs=None, steps=2, batch_size=4, evaluate_every=2, max_length=8)
    tokenizer = train_tokenizer(LINES, 60, "de_DE")
    learnt = []
    for views in (("plain",), ("plain", "phase=1")):
        language_model = build_mbart(SIZE, tokenizer, "de_DE")
        language_model.load_state_dict(model.language_model.state_dict())
        trained, _ = train_translate(
            FeatureStore.open(tmp_path / "train.zarr"), dev_store, clips("train"), clips("dev"), settings,
            language_model, tokenizer, tmp_path / f"work{len(views)}", views=views,
        )  # fmt: skip
        learnt.append(trained.adapter.output.weight.detach().clone())
    assert not torch.equal(learnt[0], learnt[1])
