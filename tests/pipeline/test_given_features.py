"""An experiment whose features were made elsewhere: exported, imported, and used without a video, in real processes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from extract.store import FeatureStore
from pipeline.corpus.layout import DATASET_FOLDER, TEXT_FILE

SLT = [sys.executable, "-c", "from pipeline.cli import main; main()"]


def slt(*words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*SLT, *map(str, words)], capture_output=True, text=True, check=False, timeout=280,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def finished(finished_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished tiny demo; beside it `features`, exported and imported again, and `corpus` without videos."""
    folder = tmp_path_factory.mktemp("given")
    shutil.copytree(finished_demo, folder / "demo")
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
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(finished: Path) -> Path:
    done = slt("run", *words(finished), "--json")
    assert list(json.loads(done.stdout)) == ["stage2", "shuffled", "text_prior"]
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
    weights = [(trained / out / "translator/model.safetensors").read_bytes() for out in ("out", "demo")]
    assert weights[0] == weights[1]
    scores = [json.loads((trained / out / "scores.json").read_text()) for out in ("out", "demo")]
    assert scores[0] == {row: score for row, score in scores[1].items() if row != "stage1"}
    assert not (trained / "out/predictions/stage1.jsonl").exists()


def test_the_fingerprint_travels(trained: Path) -> None:
    fingerprint = FeatureStore.open(trained / "features/train.zarr").fingerprint
    assert json.loads((trained / "out/translator/provenance.json").read_text())["features"] == fingerprint
    assert fingerprint in (trained / "out/report.html").read_text()


def test_only_what_needs_no_video_is_a_stage(trained: Path) -> None:
    assert states(trained) == dict.fromkeys(["index", "lm", "finetune", "translate", "score", "report"], "done")
    for stage in (["train", "visual"], ["extract"]):
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
        "index": "done", "lm": "done", "finetune": "stale", "translate": "stale", "score": "stale", "report": "stale",
    }  # fmt: skip


def test_views_that_the_config_names(trained: Path, tmp_path: Path) -> None:
    views = ["--set", "extract.views=[{}, {phase: 1}]"]
    refused = slt("run", *words(trained), *views, "--from", "finetune", code=2).stderr
    assert "expected features of the view 'phase=1', of extract.views, found plain" in refused
    shutil.copytree(trained / "features", tmp_path / "features")
    shutil.copytree(trained / "corpus", tmp_path / "corpus")
    into = tmp_path / "features/train.zarr"
    slt("features", "import", trained / "train.h5", into, "--name", "demo", "--view", "phase=1")
    slt("run", *words(tmp_path), *views)
    assert set(states(tmp_path, *views).values()) == {"done"}
    assert states(tmp_path)["finetune"] == "stale"


def test_features_that_do_not_belong_together(trained: Path, tmp_path: Path) -> None:
    features = Path(shutil.copytree(trained / "features", tmp_path / "features"))
    shutil.rmtree(features / "test.zarr")
    new = ["run", *words(trained, features), "--from", "finetune"]
    assert "must hold train.zarr, dev.zarr, test.zarr" in slt(*new, code=2).stderr
    slt("features", "import", trained / "test.h5", features / "test.zarr", "--name", "another")
    refused = slt(*new, code=2).stderr
    assert "expected features of name demo, found name another" in refused
    assert "Traceback" not in refused
