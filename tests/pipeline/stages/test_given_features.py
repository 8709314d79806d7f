"""An experiment whose features were made elsewhere: exported, imported, and used without a video, in real processes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from extract.store.feature_store import FeatureStore
from pipeline.corpus.layout import DATASET_FOLDER, TEXT_FILE

pytestmark = pytest.mark.long

DROPOUT = "train.lm.model.dropout=0"  # so that several processes can be compared with one
SLT = [sys.executable, "-c", "from pipeline.commands.cli import main; main()"]


def slt(*words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*SLT, *map(str, words)], capture_output=True, text=True, check=False, timeout=280,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished tiny demo; beside it `features`, exported and imported again, and `corpus` without videos."""
    folder = tmp_path_factory.mktemp("given")
    slt("demo", "--preset", "tiny", "--out", folder / "demo", "--set", DROPOUT)
    for split in ("train", "dev", "test"):
        (store,) = folder.glob(f"demo/features/*/{split}.zarr")
        slt("features", "export", store, folder / f"{split}.h5")
        slt("features", "import", folder / f"{split}.h5", folder / f"features/{split}.zarr", "--name", "demo")
    shutil.copytree(
        folder / "demo/corpus", folder / "corpus", ignore=lambda _, names: [n for n in names if ".png" in n]
    )
    return folder


def words(folder: Path, features: Path | None = None) -> list[str | Path]:
    corpus = folder / "corpus"
    return [
        "tiny", "--out", folder / "out", "--set", f"data.features={features or folder / 'features'}",
        "--set", f"data.root={corpus / DATASET_FOLDER}", "--set", f"train.lm.text={corpus / TEXT_FILE}",
        "--set", DROPOUT,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(finished: Path) -> Path:
    done = slt("run", *words(finished), "--json")
    assert list(json.loads(done.stdout)) == ["stage2", "shuffled", "text_prior", "constant"]
    return finished


def snapshot(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def states(folder: Path, *more: str, features: Path | None = None) -> dict[str, str]:
    rows = json.loads(slt("status", *words(folder, features), *more, "--json").stdout)
    return {row["stage"]: row["state"] for row in rows}


def test_stage_2_learns_what_it_learnt_there(trained: Path) -> None:
    """The same features, bit for bit, give the same weights and the same translations."""

    def hypotheses(out: str) -> list[tuple[str, str]]:
        lines = (trained / out / "predictions/stage2.jsonl").read_text().splitlines()
        return [(row["id"], row["hypothesis"]) for row in map(json.loads, lines)]

    assert hypotheses("out") == hypotheses("demo")
    weights = [(trained / out / "stage2/model.safetensors").read_bytes() for out in ("out", "demo")]
    assert weights[0] == weights[1]
    scores = [json.loads((trained / out / "scores.json").read_text()) for out in ("out", "demo")]
    assert scores[0] == {row: score for row, score in scores[1].items() if row != "stage1"}
    assert not (trained / "out/predictions/stage1.jsonl").exists()


def test_the_fingerprint_travels(trained: Path) -> None:
    fingerprint = FeatureStore.open(trained / "features/train.zarr").fingerprint
    assert json.loads((trained / "out/stage2/provenance.json").read_text())["features"] == fingerprint
    assert fingerprint in (trained / "out/report.html").read_text()


def test_only_what_needs_no_video_is_a_stage(trained: Path) -> None:
    assert states(trained) == dict.fromkeys(
        ["index", "tokenizer", "lm", "stage2", "translate", "score", "report"], "done"
    )
    for stage in (["train", "stage1"], ["extract"]):
        refused = slt(*stage, *words(trained), code=2)
        assert "found data.features = " in refused.stderr
        assert len(refused.stderr.splitlines()) == 1


def test_the_stores_are_only_read(finished: Path, tmp_path: Path) -> None:
    features = Path(shutil.copytree(finished / "features", tmp_path / "features"))
    for path in [features, *features.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = snapshot(features)
    shutil.copytree(finished / "corpus", tmp_path / "corpus")
    slt("run", *words(tmp_path))
    assert snapshot(features) == before
    assert {path.stat().st_mode & 0o222 for path in features.rglob("*")} == {0}
    for path in [features, *features.rglob("*")]:
        path.chmod(0o755)


def test_other_features_make_stage_2_stale(trained: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(trained / "features", tmp_path / "features"))
    assert set(states(trained, features=other).values()) == {"done"}  # where they lie does not matter
    store = FeatureStore.open(other / "dev.zarr")
    store.write_block("more", [("another clip", np.ones((3, store.width), store.dtype))])
    assert states(trained, features=other) == {
        "index": "done", "tokenizer": "done", "lm": "done", "stage2": "stale", "translate": "stale",
        "score": "stale", "report": "stale",
    }  # fmt: skip


def test_what_changes_in_test_trains_nothing_again(trained: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(trained / "features", tmp_path / "features"))
    store = FeatureStore.open(other / "test.zarr")
    store.write_block("more", [("another clip", np.ones((3, store.width), store.dtype))])
    stale = {stage for stage, state in states(trained, features=other).items() if state == "stale"}
    assert stale == {"translate", "score", "report"}


def test_views_that_the_config_names(trained: Path, tmp_path: Path) -> None:
    views = ["--set", "extract.views=[{}, {phase: 1}]"]
    refused = slt("run", *words(trained), *views, "--from", "stage2", code=2).stderr
    assert "expected features of the view 'phase=1', of extract.views, found plain" in refused
    shutil.copytree(trained / "features", tmp_path / "features")
    shutil.copytree(trained / "corpus", tmp_path / "corpus")
    into = tmp_path / "features/train.zarr"
    slt("features", "import", trained / "train.h5", into, "--name", "demo", "--view", "phase=1")
    slt("run", *words(tmp_path), *views)
    assert set(states(tmp_path, *views).values()) == {"done"}
    assert states(tmp_path)["stage2"] == "stale"


def test_features_that_do_not_belong_together(trained: Path, tmp_path: Path) -> None:
    features = Path(shutil.copytree(trained / "features", tmp_path / "features"))
    shutil.rmtree(features / "test.zarr")
    new = ["run", *words(trained, features), "--from", "stage2"]
    assert "must hold train.zarr, dev.zarr, test.zarr" in slt(*new, code=2).stderr
    slt("features", "import", trained / "test.h5", features / "test.zarr", "--name", "another")
    refused = slt(*new, code=2).stderr
    assert "expected features of name demo, found name another" in refused
    assert "Traceback" not in refused


def fine_tuned(trained: Path, name: str, command: list[str], *sets: str) -> tuple[Path, str]:
    """Stage 2 again, beside the finished experiment, by another command and with other settings."""
    shutil.copytree(trained / "out", trained / name)
    chosen = words(trained)
    chosen[2] = trained / name
    overrides = [word for one in sets for word in ("--set", one)]
    done = subprocess.run(
        [*command, "train", "stage2", *map(str, chosen), *overrides], capture_output=True, text=True, check=False,
        timeout=280, cwd=Path(__file__).parents[3],
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return trained / name, done.stderr


def test_two_processes_take_the_steps_of_one(trained: Path) -> None:
    """torchrun with batches of 8 in each of two processes: the losses, dev scores and weights of batches of 16."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "pipeline"]
    out, said = fine_tuned(trained, "two", launcher, "train.stage2.batch_size=8")
    assert said.count("2 processes") == 1  # one of them speaks
    logs = [json.loads((folder / "logs/stage2.json").read_text()) for folder in (trained / "out", out)]
    for name in ("loss", "eval_loss", "eval_bleu4"):
        alone, together = ([entry[name] for entry in log if name in entry] for log in logs)
        assert len(alone) == 2
        assert together == pytest.approx(alone, abs=1e-5)
    weights = [load_file(folder / "stage2/model.safetensors") for folder in (trained / "out", out)]
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name], value, atol=2e-5, err_msg=name)
    assert not list((out / "work").iterdir())


def test_several_processes_are_for_stages_that_can_be_shared(trained: Path) -> None:
    environment = {**os.environ, "WORLD_SIZE": "2", "RANK": "0"}
    for command in (["run"], ["score"]):
        done = subprocess.run([*SLT, *command, *map(str, words(trained))], capture_output=True, text=True, check=False,
                              env=environment)  # fmt: skip
        assert done.returncode == 2
        assert "a command of one stage that can be shared" in done.stderr


def test_stage_2_never_touches_pixels(trained: Path) -> None:
    """With OpenCV and PyAV unimportable, and all that can be set: token budget, accumulation, augmentation, LoRA."""
    pytest.importorskip("peft")
    code = "import sys; sys.modules.update(cv2=None, av=None); from pipeline.commands.cli import main; main()"
    out, said = fine_tuned(
        trained, "blind", [sys.executable, "-c", code], "train.stage2.batch_tokens=120",
        "train.stage2.accumulate=2", "train.stage2.gradient_checkpointing=true",
        "train.stage2.augment={stretch: 0.2, noise: 0.1, masks: 2}", "train.stage2.lora={keep: true}",
        "train.stage2.patience=1", "train.stage2.report_to=[]",
    )  # fmt: skip
    assert "frozen, on cpu" in said
    assert "of memory at most" in said
    assert (out / "stage2/lora/adapter_model.safetensors").is_file()
    scores = json.loads(slt("translate", *words(trained)[:2], out, *words(trained)[3:], "--json").stdout)
    assert scores["failed"] == 0


def test_trackers_get_the_log(trained: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra `track` is not installed")
    out, _ = fine_tuned(trained, "tracked", SLT, "train.stage2.steps=4", "train.stage2.report_to=[tensorboard]")
    (events,) = (out / "logs/tensorboard").rglob("events.out.tfevents.*")
    written = events.read_bytes()
    assert [name for name in (b"train/loss", b"train/learning_rate", b"eval/bleu4") if name not in written] == []
