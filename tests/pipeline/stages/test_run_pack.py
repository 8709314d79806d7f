"""An experiment that reads packs: the same features as without, and no dataset's root after packing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from extract.packs.frame_pack import FramePack
from extract.store.feature_store import FeatureStore
from pipeline.corpus.layout import DATASET_FOLDER, TEXT_FILE
from pipeline.experiment.config import ConfigError, load_config

pytestmark = pytest.mark.long

SLT = [sys.executable, "-c", "from pipeline.commands.cli import main; main()"]
PACKED = ["--set", "pack.enabled=true"]


def slt(*words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*SLT, *map(str, words)], capture_output=True, text=True, check=False, timeout=280,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


def words(out: Path, corpus: Path) -> list[str | Path]:
    root, text = corpus / DATASET_FOLDER, corpus / TEXT_FILE
    return ["tiny", "--out", out, "--set", f"data.root={root}", "--set", f"train.lm.text={text}"]


def states(*given: str | Path) -> dict[str, str]:
    return {row["stage"]: row["state"] for row in json.loads(slt("status", *given, "--json").stdout)}


@pytest.fixture(scope="module")
def plain(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished experiment without packs."""
    out = tmp_path_factory.mktemp("plain") / "out"
    slt("run", *words(out, tiny_corpus))
    return out


def stores(out: Path) -> dict[str, FeatureStore]:
    (folder,) = (out / "features").iterdir()
    return {path.stem: FeatureStore.open(path) for path in folder.iterdir()}


@pytest.mark.slow
def test_features_are_those_without_packs_and_the_root_is_not_needed(
    plain: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    corpus, out = Path(shutil.copytree(tiny_corpus, tmp_path / "corpus")), tmp_path / "out"
    given = [*words(out, corpus), *PACKED]
    assert list(states(*given)) == [
        "index", "tokenizer", "lm", "pack", "stage1", "extract", "stage2", "translate", "score", "report",
    ]  # fmt: skip
    slt("index", *given)
    assert json.loads(slt("pack", *given, "--dry-run", "--json").stdout)[0]["state"] == "missing"
    assert not (out / "packs").exists()
    told = json.loads(slt("pack", *given, "--json").stdout)
    assert (told["stage"], told["failed"]) == ("pack", 0)
    assert told["result"] == {"train": None, "dev": None, "test": None}
    assert told["figures"]["train"]["extracted"] > 0
    assert "up to date" in slt("pack", *given).stderr
    assert "whole" in slt("pack", *given, "--verify").stdout

    (corpus / DATASET_FOLDER).rename(tmp_path / "far away")
    slt("run", *given)
    found, expected = stores(out), stores(plain)
    assert found.keys() == expected.keys() == {"train", "dev", "test"}
    for split, store in found.items():
        assert store.fingerprint == expected[split].fingerprint
        assert store.digests() == expected[split].digests()
    assert (out / "report.html").read_text().count("data:image/png") >= (plain / "report.html").read_text().count(
        "data:image/png"
    )


@pytest.mark.slow
def test_packing_makes_nothing_stale_unless_pixels_change(plain: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    given = words(Path(shutil.copytree(plain, tmp_path / "out")), tiny_corpus)
    assert states(*given, *PACKED)["stage1"] == "stale"  # it would read a pack that is not there yet
    slt("pack", *given, *PACKED)
    assert set(states(*given, *PACKED).values()) == {"done"}
    lossy = [*PACKED, "--set", "pack.quality=95"]
    slt("pack", *given, *lossy)
    assert states(*given, *lossy)["stage1"] == "stale"
    assert len(list((tmp_path / "out" / "packs").iterdir())) == 2  # one never overwrites the other
    assert states(*given)["stage1"] == "done"


@pytest.mark.slow
def test_damage_is_told_and_repaired(plain: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    given = [*words(Path(shutil.copytree(plain, tmp_path / "out")), tiny_corpus), *PACKED]
    slt("pack", *given)
    (folder,) = (tmp_path / "out" / "packs").iterdir()
    commit = FramePack.open(folder / "dev").commits()[0]
    block = folder / "dev" / commit.file
    block.write_bytes(block.read_bytes()[:-100])
    told = slt("pack", *given, "--verify", "--json", code=2)
    assert str(block) in json.loads(told.stdout)["problems"][0]
    refused = slt("extract", *given, "--force", "--set", "extract.dtype=float32", code=2)
    assert "expected what was written" in refused.stderr
    assert "Traceback" not in refused.stderr
    (folder / "dev" / "commits" / f"{commit.block}.json").unlink()
    slt("pack", *given, "--force")
    assert json.loads(slt("pack", *given, "--verify", "--json").stdout) == {"problems": []}


def test_without_the_setting_there_is_no_such_stage(plain: Path, tiny_corpus: Path) -> None:
    given = words(plain, tiny_corpus)
    assert "pack" not in states(*given)
    assert "expected pack.enabled = true, found false" in slt("pack", *given, code=2).stderr


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["pack.folder=s3://bucket/packs"], "not from a URL"),
        (["pack.quality=101"], "less than or equal to 100"),
        (["extract.views=[{}, {scale: 1.1}]"], "a pack holds frames of frames.resize"),
        (["pack.frames=sampled", "extract.views=[{}, {phase: 1}]"], "its frames are not packed"),
    ],
)
def test_settings_that_packs_cannot_meet(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config("tiny", ["pack.enabled=true", *overrides])
