"""Training for real, in small: learning rates, resuming, what a step and a look at dev are made of."""

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedTokenizerFast

from eval.metrics.bleu import corpus_bleu4
from extract.dataset.clip_index import Clip
from extract.errors import InputError
from extract.own_device import own_device
from extract.store.feature_store import Features, FeatureStore
from pipeline.experiment.scored_files import settings_of
from train.data.feature_dataset import FeatureDataset, collate_features
from train.data.targets import encode_targets
from train.loop.callbacks import DivergenceError, PlateauCallback, Report, WatchCallback, looks_since_best
from train.loop.dev_evaluation import bleu4_of_words, watch
from train.loop.device import precisions
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
    assert batch["lengths"] == [3, 2]
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
            dev=examples(dev, clips("dev")), judge=lambda said: 0.0, tokenizer=tokenizer,
            report=lambda step, *_: told.append(step),
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
    said: list[list[str]] = []

    def judge(translations: Sequence[str]) -> float:
        said.append(list(translations))
        return 50.0

    found = [
        watch(model, data, collate_features, tokenizer, 5, judge, clips=clips_at_once) for clips_at_once in (5, 12)
    ]
    assert said[0] == said[1]
    assert len(said[0]) == 12
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    with torch.no_grad():
        assert found[0]["loss"] == pytest.approx(
            float(model(**collate_features([data[place] for place in range(12)])).loss), abs=1e-5
        )


class Perfect(nn.Module):
    """Translates as the labels say, and has a loss besides."""

    def forward(self, labels: torch.Tensor, **_: object) -> SimpleNamespace:
        return SimpleNamespace(loss=labels.float().mean() * 0 + 1)

    def generate(self, labels: torch.Tensor, **_: object) -> torch.Tensor:
        return labels.clamp(min=1)


SENTENCES = {
    "phoenix14t": ("de_DE", ["im süden bis elf grad", "am montag scheint die sonne ."]),
    "how2sign": ("en_XX", ["Hi! I'm here, isn't it nice?", "And that's (all) for today."]),
    "csl_daily": ("zh_CN", ["他今年四岁。", "今天，星期几？"]),
}


@pytest.mark.parametrize("dataset", SENTENCES)
@pytest.mark.parametrize("real", [False, True])
def test_a_perfect_translator_scores_100_on_dev(
    dataset: str, real: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """In words or characters, in the dataset's convention: also where mBART's tokenizer writes ``?`` for ``？``."""
    language, lines = SENTENCES[dataset]
    of = [Clip(f"dev{n}", "dev", "x", 20, 25.0, line, language) for n, line in enumerate(lines)]
    tokenizer = (
        PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(json.dumps(request.getfixturevalue("xlmr_tokenizer"))),
            pad_token="<pad>", eos_token="</s>", bos_token="<s>",
        )
        if real
        else train_tokenizer(lines, 200, language)
    )  # fmt: skip
    data = FeatureDataset([store(tmp_path / "dev.zarr", of).load([clip.id for clip in of])],
                          encode_targets(tokenizer, lines))  # fmt: skip
    settings, _ = settings_of(dataset, None, [])
    found = watch(Perfect(), data, collate_features, tokenizer, 5, lambda said: corpus_bleu4(said, lines, settings))
    assert found["bleu4"] == 100
    assert found["choice"] == pytest.approx(100 - 1e-6 * found["loss"], abs=1e-9)
    assert found["text_alone"] < 50
    if dataset == "csl_daily":
        assert bleu4_of_words(lines, lines) == 0  # each sentence would be one word


def test_of_checkpoints_with_one_bleu_the_one_with_the_smaller_loss_is_kept(tmp_path: Path) -> None:
    """Where nothing is right yet, the first look would be the best one for ever."""
    train, dev, model = parts(tmp_path)
    settings = TrainingSettings(steps=12, evaluate_every=3, learning_rate=1e-2, batch_size=6, schedule="constant")
    log = fit(
        model, settings, examples(train, clips("train")), collate_features, tmp_path / "work", max_length=4,
        dev=examples(dev, clips("dev")), judge=lambda said: 0.0, tokenizer=train_tokenizer(LINES, 60, "de_DE"),
    )  # fmt: skip
    looks = {entry["step"]: entry["eval_loss"] for entry in log if "eval_bleu4" in entry}
    best = min(looks, key=lambda step: looks[step])
    assert best > 3
    state = json.loads((tmp_path / "work" / "checkpoint-12" / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"].endswith(f"checkpoint-{best}")
    assert looks_since_best(log) == [*looks][::-1].index(best)


def test_looks_that_only_tell_change_nothing_and_say_when_nothing_is_seen(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(LINES, 60, "de_DE")
    right = [clip.text for clip in clips("dev")]

    def run(work: str, bleu4: float) -> tuple[list[dict[str, float]], list[str], list[torch.Tensor]]:
        train, dev, model = parts(tmp_path / work)
        model.language_model.config.dropout = 0.3
        said: list[str] = []
        watching = [WatchCallback(2), PlateauCallback(said.append, ["warmup", "warm_start"])] if bleu4 else []
        calls: list[int] = []

        def judge(_: Sequence[str]) -> float:
            calls.append(1)
            return bleu4 if len(calls) % 4 == 1 else 3.0  # each look: the right clips, then three shuffles

        log = fit(
            model, TrainingSettings(epochs=5, learning_rate=1e-2, batch_size=6), examples(train, clips("train")),
            collate_features, tmp_path / work / "work", max_length=4, dev=examples(dev, clips("dev")), judge=judge,
            tokenizer=tokenizer, callbacks=watching,
        )  # fmt: skip
        assert len(right) == 12
        return log, said, [weight.detach().cpu() for weight in model.parameters()]

    log, said, weights = run("blind", 3.5)
    looks = [entry for entry in log if "eval_bleu4" in entry]
    assert [(entry["step"], entry["eval_bleu4"], entry["eval_text_alone"]) for entry in looks] == [
        (2, 3.5, 3.0), (4, 3.5, 3.0), (8, 3.5, 3.0),
    ]  # fmt: skip
    assert said[0] == (
        "step 2: still on the plateau: dev BLEU-4 3.50 is that of the text alone (3.00); "
        "what leaves it: warmup, warm_start"
    )
    assert len(said) == 3
    seeing = run("seeing", 9.0)
    assert seeing[1] == []
    without = run("without", 0)
    assert not [entry for entry in without[0] if "eval_bleu4" in entry]
    for others in (seeing[2], without[2]):
        assert all(torch.equal(one, other) for one, other in zip(weights, others, strict=True))


def test_precision_and_trackers_that_are_not_there_are_refused(tmp_path: Path) -> None:
    train, _, model = parts(tmp_path)
    device = own_device()
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
    device = own_device().type
    with pytest.raises(InputError, match=rf"memory of {device}.*: expected about .* 0.01 MB.*gradient_checkpointing"):
        fit(model, settings, examples(train, clips("train")), collate_features, tmp_path / "no", say=said.append)
    assert not (tmp_path / "no").exists()


def test_a_device_that_runs_out_of_memory_says_what_to_do(tmp_path: Path) -> None:
    train, _, model = parts(tmp_path)

    def full(_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of")

    device = own_device().type
    with pytest.raises(InputError, match=rf"memory of {device}.*: .* CUDA out of .* 2.00 GiB\. Use a smaller"):
        fit(model, TrainingSettings(steps=1), examples(train, clips("train")), full, tmp_path / "work")
