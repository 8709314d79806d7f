"""Language models from elsewhere in the pipeline: trimmed once for both stages, adapted, with random weights."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from transformers import MBartConfig, MBartForConditionalGeneration
from typer.testing import CliRunner

from extract.dataset.clip_index import SPLITS, ClipIndex
from extract.dataset.manifest import Dataset
from extract.errors import InputError
from extract.store.feature_store import FeatureStore
from pipeline.commands.cli import app
from pipeline.experiment.config import load_config
from pipeline.experiment.progress_bars import Bars
from pipeline.experiment.run import Run
from pipeline.stages.stage_list import stages
from train.data.targets import encode_targets
from train.models.language_model import load_language_model
from train.models.tokenizer import load_tokenizer, train_tokenizer
from train.models.translator import SignTranslator

OTHER = ["ein ganz anderer text über fußball", "he spoke of something else entirely"]


@pytest.fixture(scope="module")
def pretrained(tiny_index: ClipIndex, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model that knows more words than the corpus has; stands for mBART-large-cc25."""
    folder = tmp_path_factory.mktemp("language-model") / "mbart"
    tokenizer = train_tokenizer([clip.text for clip in tiny_index] + OTHER, 600, "de_DE")
    config = MBartConfig(
        vocab_size=len(tokenizer), d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=80,
        scale_embedding=True,
    )  # fmt: skip
    torch.manual_seed(5)
    MBartForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def features(tiny_index: ClipIndex, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("features"), np.random.default_rng(0)
    for split in SPLITS:
        store = FeatureStore.create(folder / f"{split}.zarr", {"made": "here"}, width=32, dtype="float32")
        store.write_block("b", [(c.id, rng.random((6, 32), np.float32)) for c in ClipIndex(tiny_index.path, split)])
    return folder


def run_of(dataset: Dataset, out: Path, model: Path, *more: str) -> Run:
    named = [f"data.root={dataset.root}", "train.lm=null", f"train.stage2.language_model={model}"]
    return Run(load_config("tiny", [*named, "train.stage2.steps=4", "train.stage1.warmup=null", *more]), out)


def execute(run: Run, *names: str) -> None:
    listed = stages(run.experiment)
    for name in names or [stage.name for stage in listed]:
        run.execute(listed, Bars(quiet=True), only=name)


def states(run: Run) -> dict[str, str]:
    return {stage.name: state for stage, state, _ in run.states(stages(run.experiment))}


@pytest.fixture(scope="module")
def finished(
    tiny_dataset: Dataset, pretrained: Path, features: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """An experiment on given features; and the override that gives them."""
    out, given = tmp_path_factory.mktemp("finished") / "out", f"data.features={features}"
    execute(run_of(tiny_dataset, out, pretrained, given), "index", "trim", "stage2", "translate")
    return out, given


def test_stage_2_is_trimmed_to_the_train_split(
    finished: tuple[Path, str], pretrained: Path, tiny_index: ClipIndex
) -> None:
    out, _ = finished
    whole, trimmed = load_tokenizer(pretrained, "de_DE"), load_tokenizer(out / "tokenizer", "de_DE")
    train = [clip.text for clip in ClipIndex(tiny_index.path, "train")]
    used = {id for ids in encode_targets(trimmed, train) for id in ids}
    assert len(trimmed) < len(whole) - 15
    assert len(set(range(len(trimmed))) - used - set(trimmed.all_special_ids)) < 80  # single letters
    assert trimmed.get_vocab() == load_tokenizer(out / "stage2", "de_DE").get_vocab()
    model = SignTranslator.from_pretrained(out / "stage2")
    assert model.language_model.config.vocab_size == len(trimmed)
    assert model.language_model.config.decoder_start_token_id == trimmed.convert_tokens_to_ids("de_DE")
    facts = json.loads((out / "tokenizer/provenance.json").read_text())
    assert facts["pieces"] == {"before": len(whole), "after": len(trimmed)}
    assert facts["parameters"]["before"] - facts["parameters"]["after"] == 32 * (len(whole) - len(trimmed))
    assert facts["parameters"]["after"] == model.language_model.num_parameters()


def test_both_stages_have_one_tokenizer(tiny_dataset: Dataset, pretrained: Path, tmp_path: Path) -> None:
    """Stage 1's Light-T reads the trimmed one; weights of the language model are none of its business."""
    run = run_of(tiny_dataset, tmp_path, pretrained, "train.stage1.steps=2", "train.stage1.warm_start.steps=2")
    with pytest.raises(InputError, match="the result of trim, found none"):
        execute(run, "index", "stage1")
    execute(run, "trim", "stage1")
    vocabularies = [load_tokenizer(tmp_path / name, "de_DE").get_vocab() for name in ("stage1", "tokenizer")]
    assert vocabularies[0] == vocabularies[1]
    light_t = SignTranslator.from_pretrained(tmp_path / "stage1").language_model
    assert light_t.config.vocab_size == len(vocabularies[0])
    for more, visual in (
        ("train.stage2.pretrained=false", "done"),
        ("train.stage2.learning_rate=1e-4", "done"),
        ("train.stage2.trim=false", "stale"),
    ):
        assert states(run_of(tiny_dataset, tmp_path, pretrained, "train.stage1.steps=2",
                             "train.stage1.warm_start.steps=2", more))["stage1"] == visual, more  # fmt: skip


def test_random_weights_change_stage_2_alone(
    finished: tuple[Path, str], tiny_dataset: Dataset, pretrained: Path, tmp_path: Path
) -> None:
    out, given = finished
    run = run_of(tiny_dataset, Path(shutil.copytree(out, tmp_path / "out")), pretrained, given,
                 "train.stage2.pretrained=false")  # fmt: skip
    assert states(run)["trim"] == "done"
    assert states(run)["stage2"] == "stale"
    execute(run, "stage2")
    tables = [
        SignTranslator.from_pretrained(folder / "stage2").language_model.get_input_embeddings().weight
        for folder in (out, run.folder)
    ]
    assert tables[0].shape == tables[1].shape
    assert (tables[0] - tables[1]).abs().mean() > 0.01


def test_an_extra_text_keeps_its_pieces(tiny_dataset: Dataset, pretrained: Path, tmp_path: Path) -> None:
    text = tmp_path / "more.txt"
    text.write_text(OTHER[0] + "\n", encoding="utf-8")
    given = "data.features=unused"
    run = run_of(tiny_dataset, tmp_path / "out", pretrained, given, f"train.stage2.trim_text=[{text}]")
    execute(run, "index", "trim")
    trimmed, whole = load_tokenizer(tmp_path / "out/tokenizer"), load_tokenizer(pretrained)
    assert trimmed.tokenize(OTHER[0]) == whole.tokenize(OTHER[0])
    assert trimmed.tokenize(OTHER[1]) != whole.tokenize(OTHER[1])
    assert dict(states_of(run))["trim"] == "done"
    text.write_text(OTHER[1] + "\n", encoding="utf-8")
    assert dict(states_of(run))["trim"] == "stale"
    text.unlink()
    with pytest.raises(InputError, match=r"more\.txt: expected a text file"):
        execute(run, "trim")
    assert (tmp_path / "out/tokenizer/tokenizer.json").is_file()


def states_of(run: Run) -> list[tuple[str, str]]:
    """Of the stages up to trimming."""
    return [(stage.name, state) for stage, state, _ in run.states(stages(run.experiment)[:2])]


def test_a_pretrained_model_is_adapted_and_then_fine_tuned(
    finished: tuple[Path, str], tiny_dataset: Dataset, pretrained: Path, tmp_path: Path
) -> None:
    """`train lm` with `start_from`: trimmed first, the same pieces in the end, weights that went on."""
    out, given = finished
    copy = Path(shutil.copytree(out, tmp_path / "out"))
    experiment = load_config("tiny", [
        f"data.root={tiny_dataset.root}", given, f"train.lm.start_from={pretrained}", "train.stage2.steps=4",
        "train.lm.steps=3", "train.lm.sentences=4",
    ])  # fmt: skip
    run = Run(experiment, copy)
    assert [stage.name for stage in stages(experiment)][:4] == ["index", "trim", "lm", "stage2"]
    assert states(run)["trim"] == "done"
    execute(run, "lm", "stage2")
    model, tokenizer = load_language_model(copy / "lm", "de_DE")
    whole, _ = load_language_model(pretrained, "de_DE")
    assert tokenizer.get_vocab() == load_tokenizer(out / "tokenizer").get_vocab()
    kept = json.loads((out / "tokenizer/kept.json").read_text())["kept"]
    moved = (model.get_input_embeddings().weight - whole.get_input_embeddings().weight[torch.tensor(kept)]).abs()
    assert 0 < moved.max() < 0.05  # a few steps from where it was
    assert load_tokenizer(copy / "stage2").get_vocab() == tokenizer.get_vocab()


def test_the_command_trims_any_model(pretrained: Path, tmp_path: Path) -> None:
    def slt(*words: str | Path) -> Result:
        return CliRunner().invoke(app, [str(word) for word in words])

    text, out = tmp_path / "text.txt", tmp_path / "small"
    text.write_text("im norden regnet es\n", encoding="utf-8")
    done = slt("trim", pretrained, out, "--text", text, "--language", "de_DE", "--json")
    facts = json.loads(done.stdout)
    model, tokenizer = load_language_model(out, "de_DE")
    assert facts["pieces"]["after"] == len(tokenizer) == model.config.vocab_size < facts["pieces"]["before"]
    assert facts["parameters"]["after"] == model.num_parameters()
    generated = model.generate(**tokenizer(["im norden regnet es"], return_tensors="pt"), max_new_tokens=3)
    assert generated[0, 0] == tokenizer.convert_tokens_to_ids("de_DE")
    assert str(tmp_path) not in (out / "provenance.json").read_text()
    for words, says in (
        (("trim", pretrained, out, "--text", text), "a folder that does not exist, found something there"),
        (("trim", pretrained, tmp_path / "x", "--text", tmp_path / "nowhere.txt"), "nowhere.txt: expected a text file"),
        (("trim", tmp_path / "nowhere", tmp_path / "x", "--text", text), "MODEL = .*found no such folder"),
        (("trim", pretrained, tmp_path / "x", "--text", text, "--language", "de"), "code that the tokenizer has"),
        (("train", "trim", "tiny", "--out", tmp_path / "x"), "Its vocabulary is used as it is"),
    ):
        error = slt(*words).exception
        assert isinstance(error, InputError)
        assert re.search(says, str(error))
        assert not (tmp_path / "x").exists()
