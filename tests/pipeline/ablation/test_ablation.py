"""Ablations: their rows as experiments, runs that share stages, and claims that are tested."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eval.predictions.prediction_file import Prediction, read_predictions, write_predictions
from extract.dataset.clip_index import Clip, ClipIndex
from extract.errors import InputError, SltError
from extract.fingerprint import digest
from pipeline.ablation.arm import Arm, arms, identity, planned, seeded
from pipeline.ablation.outcome import Outcome, measure, outcome_sheet, read_outcome, write_outcome
from pipeline.ablation.tables import TABLES, Row, Table, table
from pipeline.commands.cli import app
from pipeline.corpus.layout import DATASET_FOLDER, TEXT_FILE
from pipeline.experiment.borrowing import borrow
from pipeline.experiment.config import SHIPPED, changed, load_config, write_config
from pipeline.experiment.freshness import Record, Records
from pipeline.experiment.model_cards import write_cards
from pipeline.experiment.run import Run

REFUSED = dict.fromkeys(("5", "freeze"), "--set train.stage2.augment=null") | {
    "6": "phase must be below frames.keep_every"
}
"""Tables whose rows do not take what our own recipes have: augmented features where stage 2 learns from pixels, views
of all phases where every frame is kept."""
JOINT = "train.joint={learning_rate: 5.0e-4, batch_size: 8, max_length: 24}"


def places(corpus: Path) -> list[str]:
    return [f"data.root={corpus / DATASET_FOLDER}", f"train.lm.text={corpus / TEXT_FILE}"]


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("config", sorted(path.stem for path in SHIPPED.glob("*.yaml")))
def test_every_row_is_an_experiment(config: str, name: str, tmp_path: Path) -> None:
    experiment = load_config(config)
    if config.endswith("_best") and name in REFUSED:
        with pytest.raises(SltError, match=REFUSED[name]):
            arms(table(name, experiment), experiment, range(2), tmp_path, None, None)
        return
    ablation = table(name, experiment)
    listed = arms(ablation, experiment, range(2), tmp_path, None, None)
    assert len({arm.run.folder for arm in listed if arm.row.measured != "stage1"}) == sum(
        arm.row.measured != "stage1" for arm in listed
    )
    for arm in listed:
        assert (arm.run.experiment.train.joint is None) == (arm.row.measured != "joint")
        assert arm.run.experiment.train.stage1.seed == experiment.train.stage1.seed + arm.seed
        assert {"stage1": "translate", "stage2": "translate", "joint": "joint_test"}[arm.row.measured] == arm.stages[
            -1
        ].name
        known = {stage.name for stage in arm.stages}
        assert all(set(stage.before) <= known for stage in arm.stages)
    for better, worse in ablation.claims:
        assert {ablation.row(better).name, ablation.row(worse).name} == {better, worse}


def test_the_rows_of_the_paper() -> None:
    experiment = load_config("phoenix14t")

    def rows(name: str) -> dict[str, float | None]:
        return {row.name: row.paper for row in table(name, experiment).rows}

    assert list(rows("7")) == ["1, 4, 256, 1024", "2, 4, 512, 2048", "3, 8, 512, 2048", "4, 8, 1024, 4096"]
    assert list(rows("fig4")) == ["25 epochs", "50 epochs", "75 epochs", "100 epochs"]
    assert rows("6") == {"100 %": 22.96, "50 %": 23.04, "25 %": 23.09, "12.5 %": 20.02}
    assert list(rows("lm").values()) == [23.09, 19.71, 16.19, 7.39]
    frozen = table("5", experiment).row("stage 2 only").changes["train.joint"]
    stage2 = experiment.train.stage2
    assert (frozen["epochs"], frozen["learning_rate"], frozen["freeze_backbone"]) == (
        stage2.epochs, stage2.learning_rate, True,
    )  # fmt: skip


def test_what_is_silent_stays_so() -> None:
    """The manifest decides what a config does not say; a changed config says no more than it did."""
    experiment = load_config("phoenix14t")
    assert changed(experiment, {"frames.keep_every": 2}).score.model_fields_set == experiment.score.model_fields_set
    assert seeded(experiment, 0) == experiment


def test_unknown_tables_are_refused() -> None:
    with pytest.raises(InputError, match="--table"):
        table("9", load_config("tiny"))
    with pytest.raises(InputError, match=r"begins with pixels"):
        table("4", load_config("tiny", ["data.features=somewhere"]))


@pytest.mark.long
def test_fewer_clips_are_a_part_of_more(finished_demo: Path) -> None:
    def learnt(number: int | None) -> list[Clip]:
        return Run(load_config("tiny", [f"train.clips={number or 'null'}"]), finished_demo).learnt()

    few, more = learnt(5), learnt(20)
    assert (len(few), len(more)) == (5, 20)
    assert [clip for clip in more if clip in few] == few
    assert learnt(None) == learnt(10**6) == list(ClipIndex(finished_demo / "index.parquet", "train"))


@pytest.mark.long
def test_a_card_tells_of_how_many_clips_was_learnt(finished_demo: Path, tmp_path: Path) -> None:
    shutil.copy(finished_demo / "index.parquet", tmp_path)
    shutil.copytree(finished_demo / "stage2", tmp_path / "stage2")
    every = len(ClipIndex(tmp_path / "index.parquet", "train"))
    for number, told in ((5, 5), (10**6, every), (None, None)):
        run = Run(load_config("tiny", [f"train.clips={number or 'null'}"]), tmp_path)
        write_cards(run, tmp_path / "stage2")
        card = (tmp_path / "stage2" / "README.md").read_text(encoding="utf-8")
        assert re.findall(r"learnt from: (.*)", card) == ([f"{told} of the train clips"] if told else [])


def test_without_its_section_the_joint_baseline_has_the_options_of_stage_1() -> None:
    experiment = load_config("phoenix14t")
    (arm, _) = arms(table("4", experiment), experiment, [0], Path("arms"), None, None)
    joint, train = arm.run.experiment.train.joint, experiment.train
    assert joint is not None
    assert joint.warp == train.stage1.warp is not None
    assert (joint.batch_size, joint.label_smoothing) == (train.stage1.batch_size, train.stage1.label_smoothing)
    assert (joint.learning_rate, joint.optimizer) == (train.stage2.learning_rate, train.stage2.optimizer)
    assert (joint.steps, joint.epochs, joint.budget) == (None, None, None)


@pytest.mark.parametrize("value", ["batch_tokens=500", "augment={noise: 0.1}", "lora={rank: 4}"])
def test_what_stage_2_from_pixels_cannot_have_is_refused(value: str) -> None:
    experiment = load_config("tiny", [f"train.stage2.{value}"])
    with pytest.raises(InputError, match=f"--set train.stage2.{value.partition('=')[0]}=null"):
        table("5", experiment)


def test_texts_tell_arms_apart_and_places_do_not(tmp_path: Path) -> None:
    texts = [tmp_path / name for name in ("a.txt", "b.txt", "c.txt")]
    for path, text in zip(texts, ("eins", "zwei", "eins"), strict=True):
        path.write_text(text)
    first, second, third = (
        identity(load_config("tiny", [f"train.lm.text={path}", f"data.root={path.name}"])) for path in texts
    )
    assert first == third != second
    absent, none = (identity(load_config("tiny", [f"train.lm.text={text}"])) for text in ("nowhere.txt", "null"))
    assert absent != none


def test_borrowing(tmp_path: Path) -> None:
    lender, other = Records(tmp_path / "arms/a"), Records(tmp_path / "arms/b")
    (lender.folder / "lm").mkdir(parents=True)
    (lender.folder / "lm/model.safetensors").write_text("weights")
    (lender.folder / "logs").mkdir()
    (lender.folder / "logs/lm.json").write_text("[]")
    lender.write("lm", Record({"seed": 0}, "id", ["lm"], figures={"seconds": 3.0}))
    write_config(load_config("tiny", ["train.lm.seed=0"]), lender.config("lm"))
    assert borrow(other, "lm", {"seed": 1}, tmp_path / "arms") is None
    assert borrow(other, "lm", {"seed": 0}, tmp_path / "arms") == lender.folder
    assert other.read("lm") == lender.read("lm")
    assert other.config("lm").read_text() == lender.config("lm").read_text()
    assert (other.folder / "lm/model.safetensors").samefile(lender.folder / "lm/model.safetensors")
    assert not (other.folder / "logs/lm.json").samefile(lender.folder / "logs/lm.json")  # it may be written anew
    assert borrow(other, "lm", {"seed": 0}, tmp_path / "nowhere") is None
    shutil.rmtree(lender.folder / "lm")  # whose result is gone lends nothing
    third = Records(tmp_path / "elsewhere/c")
    assert borrow(third, "lm", {"seed": 0}, tmp_path / "arms") == other.folder
    assert (third.folder / "lm/model.safetensors").read_text() == "weights"


@pytest.fixture(scope="module")
def ablated(finished_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Table 5 of the tiny demo, whose finished run is there to share."""
    out = tmp_path_factory.mktemp("ablation")
    given = [word for value in [*places(finished_demo / "corpus"), JOINT] for word in ("--set", value)]
    words = ["ablate", "tiny", "--table", "5", "--seeds", "1", "--out", str(out), "--json", *given]
    everything = ["stage1", "extract", "stage2", "translate"]
    assert planned_rows(words) == [
        ("stage 2 only", ["index", "tokenizer", "lm", "joint", "joint_test"]), ("stage 1 only", everything),
        ("both stages", []),
    ]  # fmt: skip
    demo = arms_of(out, finished_demo) / "demo"
    shutil.copytree(finished_demo, demo, ignore=shutil.ignore_patterns("corpus"))
    assert planned_rows(words) == [
        ("stage 2 only", ["joint", "joint_test"]), ("stage 1 only", []), ("both stages", []),
    ]  # fmt: skip
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0
    assert json.loads(done.stdout)["table5"]["rows"]["both stages"]["paper"] == 23.09
    return out


def arms_of(out: Path, finished: Path) -> Path:
    """Where arms lie that read the frames of a finished demo."""
    return out / "arms" / digest(str(finished / "corpus" / DATASET_FOLDER))[:8]


def planned_rows(words: list[str]) -> list[tuple[str, list[str]]]:
    done = CliRunner().invoke(app, [*words, "--dry-run"], catch_exceptions=False)
    return [(line["row"], line["runs"]) for line in json.loads(done.stdout)]


@pytest.mark.long
def test_runs_share_what_is_the_same(ablated: Path, finished_demo: Path) -> None:
    arms = arms_of(ablated, finished_demo)
    made = {
        path.parent.parent: sorted(stage.stem for stage in path.parent.glob("*.json"))
        for path in arms.glob("seed0-*/state/index.json")
    }
    assert sorted(made.values()) == [
        ["extract", "index", "lm", "stage1", "stage2", "tokenizer", "translate"],
        ["index", "joint", "joint_test", "lm", "tokenizer"],
    ]
    for folder in made:
        assert (folder / "config.yaml").is_file()
        assert (folder / "lm/model.safetensors").samefile(arms / "demo/lm/model.safetensors")


@pytest.mark.long
def test_what_it_leaves(ablated: Path) -> None:
    outcome = Outcome.model_validate_json((ablated / "table5.json").read_bytes())
    assert (ablated / "table5.png").stat().st_size > 5000
    assert list(outcome.rows) == ["stage 2 only", "stage 1 only", "both stages"]
    both, alone = outcome.rows["both stages"].seeds[0], outcome.rows["stage 2 only"].seeds[0]
    assert list(both.cost) == ["stage1", "extract", "stage2"]
    assert both.cost["extract"]["clip_passes"] == 72
    assert alone.cost == {"joint": alone.cost["joint"]}
    assert alone.cost["joint"]["clip_passes"] == 8 * 16  # as stage 2: its steps and its batch
    assert outcome.rows["both stages"].deviation is None
    texts = [cell.text for row in outcome_sheet(outcome).rows for cell in row]
    assert {"stage 2 only", "5.62", "17.69", "23.09"} <= set(texts)


@pytest.mark.long
def test_claims_must_hold_with_every_seed(ablated: Path, finished_demo: Path) -> None:
    experiment = load_config("tiny", places(finished_demo / "corpus"))
    asked = Table("5", "two", (Row("good", paper=20.0), Row("bad", measured="stage1", paper=10.0)), (("good", "bad"),))
    references = read_predictions(finished_demo / "predictions/stage2.jsonl")
    listed = []
    for seed in (0, 1):
        folder = ablated / f"said{seed}"
        shutil.copytree(finished_demo, folder, ignore=shutil.ignore_patterns("corpus", "features"))
        for row in asked.rows:
            arm = Arm(row, seed, Run(experiment, folder))
            right = [Prediction(of.id, of.reference, of.reference) for of in references]
            wrong = [Prediction(of.id, "wort " * 4, of.reference) for of in references]
            write_predictions(arm.predictions, right if row.name == "good" else wrong)
            listed.append(arm)
    claim = measure(asked, listed, "slt ablate").claims[0]
    assert claim.holds
    assert claim.p_value == max(claim.p_values.values()) < 0.05
    assert (claim.paper, claim.difference) == (10.0, pytest.approx(100.0))
    write_predictions(listed[2].predictions, read_predictions(listed[3].predictions))  # as bad as the other, once
    outcome = measure(asked, listed, "slt ablate")
    assert not outcome.claims[0].holds
    assert outcome.claims[0].difference == pytest.approx(50.0)
    assert outcome.rows["good"].deviation is not None
    assert outcome.rows["good"].deviation["bleu4"] == pytest.approx(100 / 2**0.5)
    assert any("does not hold" in note for note in outcome_sheet(outcome).notes)
    swapped = Table(asked.name, asked.title, asked.rows, (("bad", "good"),))
    write_predictions(listed[2].predictions, read_predictions(listed[0].predictions))
    assert any("the opposite holds" in note for note in outcome_sheet(measure(swapped, listed, "slt")).notes)


@pytest.mark.long
def test_results_are_not_written_over(ablated: Path) -> None:
    outcome = read_outcome(ablated / "table5.json")
    assert outcome is not None
    path = ablated / "kept.json"
    more = {name: row.model_copy(update={"seeds": {0: row.seeds[0], 1: row.seeds[0]}})
            for name, row in outcome.rows.items()}  # fmt: skip
    assert write_outcome(path, outcome.model_copy(update={"rows": more, "seeds": [0, 1]}))
    assert not write_outcome(path, outcome)
    assert read_outcome(path).seeds == [0, 1]  # type: ignore[union-attr]


@pytest.mark.long
def test_results_of_another_config_are_refused(ablated: Path, finished_demo: Path) -> None:
    values = [*places(finished_demo / "corpus"), JOINT, "train.stage2.learning_rate=1e-5"]
    given = [word for value in values for word in ("--set", value)]
    refused = CliRunner().invoke(app, ["ablate", "tiny", "--table", "5", "--seeds", "1", "--out", str(ablated), *given])
    assert isinstance(refused.exception, InputError)
    assert "results of this config" in str(refused.exception)


@pytest.mark.long
def test_the_plan_knows_what_is_done(ablated: Path, finished_demo: Path) -> None:
    experiment = load_config("tiny", [*places(finished_demo / "corpus"), JOINT])
    listed = arms(table("5", experiment), experiment, [0], ablated / "arms", None, None)
    assert [runs for _, runs, _ in planned(listed)] == [[], [], []]
