"""What makes results stale, what does not, and what each result keeps of how it was made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from extract.errors import InputError
from extract.settings import Contents, EncoderSettings, Execution, ExtractSettings, Settings, TemporalLayer, View
from pipeline.corpus.layout import DATASET_FOLDER, TEXT_FILE
from pipeline.experiment.config import Experiment, load_config
from pipeline.experiment.freshness import BEFORE_0_2, deciding, model_digest
from pipeline.experiment.progress_bars import Bars
from pipeline.experiment.run import Run
from pipeline.stages.stage_list import stages
from train.settings import DenoisingSettings, JointSettings, LanguageModelSettings, Stage2Settings, WarmupSettings

TRAINING = {
    "gradient_checkpointing",
    "checkpoint_every",
    "log_every",
    "report_to",
    "check_memory",
    "workers",
    "batch_shapes",
    "resident",
    "dominance",
}
PACKING = {"block_frames", "workers", "max_failure_rate", "retry_failed"}
JOBS = {*PACKING, "read_seconds", "backend", "scheduler", "cluster", "wait_seconds", "decode_processes", "batch_frames"}


def marked(model: type[BaseModel], mark: type) -> set[str]:
    return {name for name, field in model.model_fields.items() if mark in field.metadata}


def test_each_field_says_by_itself_whether_it_decides() -> None:
    fields = {name: field.annotation for name, field in Experiment.model_fields.items()}
    assert marked(fields["extract"], Execution) == JOBS
    assert marked(fields["pack"], Execution) == PACKING
    assert marked(fields["train"], Execution) == {"threads"}
    for section in ("data", "frames", "encoder", "score", "report"):
        assert marked(fields[section], Execution) == set(), section
    for model in (LanguageModelSettings, DenoisingSettings, WarmupSettings):
        assert marked(model, Execution) == TRAINING, model
    assert marked(Stage2Settings, Execution) == {*TRAINING, "translate_clips", "translate_precision"}
    for model in (JointSettings, type(load_config("tiny").train.stage1)):
        assert marked(model, Execution) == {*TRAINING, "frame_batch", "watch_every"}, model
    files = {EncoderSettings: {"backbone_weights"}, LanguageModelSettings: {"text"}, DenoisingSettings: {"text"},
             Stage2Settings: {"trim_text"}}  # fmt: skip
    assert {model: marked(model, Contents) for model in files} == files


def test_fields_are_walked_and_plain_values_kept_whole() -> None:
    named = {"model_type": "x", "text": "a", "workers": 2}
    assert deciding(EncoderSettings(backbone=named))["backbone"] == named
    views = ExtractSettings(views=(View(), View(phase=1)))
    assert [view["phase"] for view in deciding(views)["views"]] == [0, 1]
    assert deciding(EncoderSettings(temporal=(TemporalLayer(pool=2),)))["temporal"] == [{"kernel": 5, "pool": 2}]

    class Worker(Settings):
        name: str = "a"
        workers: int = 1

    class Several(Settings):
        parts: tuple[Worker, ...] = (Worker(),)

    assert deciding(Several()) == {"parts": [{"name": "a", "workers": 1}]}
    assert deciding(None) is None
    experiment = load_config("demo")
    assert deciding(experiment) == json.loads(json.dumps(deciding(experiment)))
    assert deciding(experiment)["train"]["stage1"].keys().isdisjoint({"workers", "dominance", "frame_batch"})


def test_of_a_file_the_contents_decide(tmp_path: Path) -> None:
    for name, text in (("a", "eins"), ("b", "eins"), ("c", "zwei")):
        (tmp_path / name).write_text(text)

    def of(*names: str) -> object:
        return deciding(Stage2Settings(trim_text=tuple(str(tmp_path / name) for name in names)))

    assert of("a", "c") == of("b", "c") != of("c", "a")
    assert deciding(DenoisingSettings(text=str(tmp_path / "none")))["text"] == "absent"
    assert deciding(DenoisingSettings())["text"] is None


def test_a_models_card_decides_nothing(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "sentencepiece.bpe.model", "vocab.txt"):
        (tmp_path / name).write_text(name)
    before = model_digest(str(tmp_path))
    (tmp_path / ".git").mkdir()
    for name in ("README.md", ".gitattributes", "figure.png", ".git/config.json"):
        (tmp_path / name).write_text("a card")
    assert model_digest(str(tmp_path)) == before
    for name in ("config.json", "model.safetensors", "sentencepiece.bpe.model", "vocab.txt", "merges.txt"):
        (tmp_path / name).write_text("another")
        assert model_digest(str(tmp_path)) != before, name
        before = model_digest(str(tmp_path))


@pytest.fixture
def copy(finished_demo: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_demo, tmp_path / "out"))


def run_of(out: Path, *overrides: str) -> Run:
    corpus = out / "corpus"
    places = [f"data.root={corpus / DATASET_FOLDER}", f"train.lm.text={corpus / TEXT_FILE}"]
    return Run(load_config("tiny", [*places, *overrides]), out)


def execute(run: Run, **how: object) -> None:
    run.execute(stages(run.experiment), Bars(quiet=True), **how)  # type: ignore[arg-type]


def states(run: Run) -> dict[str, str]:
    """Stage to why it is not done, of those that are not."""
    return {stage.name: why for stage, state, why in run.states(stages(run.experiment)) if state != "done"}


def annotations(out: Path, split: str) -> Path:
    return out / "corpus" / DATASET_FOLDER / f"annotations/manual/PHOENIX-2014-T.{split}.corpus.csv"


def last_word(path: Path, word: str) -> None:
    path.write_text(path.read_text().rstrip() + f" {word}\n")


TEST_SIDE = {
    "index": "changed: annotations:test", "extract": "reads index:test", "translate": "reads index:test, extract:test",
    "score": "reads index:test, translate", "report": "reads index:test, extract:test, translate, score",
}  # fmt: skip


@pytest.mark.long
def test_the_test_split_makes_nothing_train_again(copy: Path) -> None:
    assert states(run_of(copy)) == {}
    last_word(annotations(copy, "test"), "regen")
    assert states(run_of(copy)) == TEST_SIDE
    kept = [*copy.glob("state/stage[12].json"), copy / "state/lm.json", copy / "state/tokenizer.json",
            *copy.glob("features/*/*.zarr/commits/*.json"), copy / "stage2/model.safetensors"]  # fmt: skip
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in kept}
    assert len(before) == 8
    translated = (copy / "predictions/stage2.jsonl").read_text()
    execute(run_of(copy))
    assert states(run_of(copy)) == {}
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in kept} == before
    assert (copy / "predictions/stage2.jsonl").read_text() != translated  # the references stand in it

    table = annotations(copy, "test")
    name, video, *rest = table.read_text().splitlines()[-1].split("|")
    (folder,) = (copy / "corpus" / DATASET_FOLDER).glob("features/*/test")
    shutil.copytree(folder / name, folder / "another")
    table.write_text(table.read_text() + "|".join(["another", video.replace(name, "another"), *rest]) + "\n")
    assert states(run_of(copy)) == TEST_SIDE
    execute(run_of(copy))
    assert states(run_of(copy)) == {}
    figures = json.loads((copy / "state/extract.json").read_text())["figures"]
    assert {split: (of["extracted"], of["clips"]) for split, of in figures.items()} == {
        "train": (0, 48), "dev": (0, 12), "test": (1, 13),
    }  # fmt: skip
    assert {row["n"] for row in json.loads((copy / "scores.json").read_text()).values()} == {13}
    for path in (path for path in kept if "test.zarr" not in str(path)):
        assert (path.stat().st_mtime_ns, path.read_bytes()) == before[path], path


@pytest.mark.long
def test_the_train_split_makes_all_that_learns_stale(copy: Path) -> None:
    last_word(annotations(copy, "train"), "regen")
    assert list(states(run_of(copy))) == [
        "index", "tokenizer", "lm", "stage1", "extract", "stage2", "translate", "score", "report"
    ]  # fmt: skip
    execute(run_of(copy), only="index")
    assert states(run_of(copy))["tokenizer"] == "changed: index:train"


@pytest.mark.long
def test_what_an_earlier_version_made_is_stale(copy: Path) -> None:
    for path in (copy / "state").glob("*.json"):
        record = json.loads(path.read_text())
        del record["schema"]
        if path.stem == "index":
            record["result"] = "0" * 64
        path.write_text(json.dumps(record))
    (copy / "state/stage1.json").rename(copy / "state/visual.json")
    (copy / "state/stage2.json").rename(copy / "state/finetune.json")
    assert set(states(run_of(copy)).values()) == {BEFORE_0_2}
    assert len(states(run_of(copy))) == 9
    before = json.loads((copy / "scores.json").read_text())
    execute(run_of(copy), only="score")  # takes the others as they are
    assert json.loads((copy / "scores.json").read_text()) == before
    with pytest.raises(InputError, match="expected the result of stage1, found none"):
        execute(run_of(copy), only="extract")


def files(out: Path) -> Iterator[tuple[Path, int]]:
    return ((path, path.stat().st_mtime_ns) for path in out.rglob("*") if path.is_file())


@pytest.mark.long
def test_each_result_keeps_the_config_that_it_was_made_with(copy: Path) -> None:
    whole = (copy / "config.yaml").read_text()
    names = {stage.name for stage in stages(run_of(copy).experiment)}
    assert {path.stem for path in (copy / "configs").iterdir()} == names
    assert {path.read_text() for path in (copy / "configs").iterdir()} == {whole}
    before = dict(files(copy))
    execute(run_of(copy, "score.bootstrap=10", "train.stage2.learning_rate=1e-4"), only="score")
    changed = {str(path.relative_to(copy)) for path, time in files(copy) if before.get(path) != time}
    assert "configs/score.yaml" in changed
    assert changed.isdisjoint({"config.yaml", *(f"configs/{name}.yaml" for name in names - {"score"})})
    assert load_config(copy / "configs/score.yaml").score.bootstrap == 10
    assert load_config(copy / "configs/stage2.yaml").train.stage2.learning_rate == 5e-4
    assert "learning_rate: 0.0005" in (copy / "stage2/README.md").read_text()  # not of the run that scored it
    assert states(Run(load_config(copy / "configs/score.yaml"), copy)).keys() >= {"stage2", "report"}
    (copy / "config.yaml").unlink()
    execute(run_of(copy, "score.bootstrap=20"), only="score")
    assert load_config(copy / "config.yaml").score.bootstrap == 20  # the first there is


@pytest.mark.long
def test_a_run_that_has_nothing_to_do_says_what_is_there(copy: Path) -> None:
    changed = ["report.seed=3"]
    execute(run_of(copy, *changed), only="report")
    assert load_config(copy / "config.yaml").report.seed == 0
    execute(run_of(copy, *changed))
    assert load_config(copy / "config.yaml").report.seed == 3
