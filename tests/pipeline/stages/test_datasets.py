"""Every layout through the whole pipeline, by its shipped config in small, in real processes; and bad input."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from extract.dataset.clip_index import ClipIndex
from extract.dataset.index_remarks import read_remarks
from pipeline.corpus.layout import PRESETS, write_corpus
from pipeline.corpus.released import LACKING, LAYOUTS
from pipeline.experiment.config import SHIPPED, load_config
from pipeline.experiment.run import Run

pytestmark = pytest.mark.long

SLT = [sys.executable, "-c", "from pipeline.commands.cli import main; main()"]


def slt(*words: str | Path, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*SLT, *map(str, words)], capture_output=True, text=True, check=False, timeout=280,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **environment},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


def leaves(value: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, child in value.items():
            yield from leaves(child, f"{prefix}.{key}" if prefix else key)
    else:
        yield f"{prefix}={json.dumps(value)}"


def tiny() -> list[str]:
    """Overrides that make a recipe as small as the config ``tiny``; what that one does not set stays as it is."""
    raw = yaml.safe_load((SHIPPED / "tiny.yaml").read_text())
    small = {name: raw[name] for name in ("frames", "encoder", "extract", "train")}
    small["encoder"] = {"width": small["encoder"]["width"]}
    small["extract"]["workers"] = 1  # starting a second process takes longer than all the rest
    small["train"]["stage1"]["workers"] = 0
    overrides = [*leaves(small), f"encoder.backbone={json.dumps(raw['encoder']['backbone'])}"]
    return [word for override in overrides for word in ("--set", override)]


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Layout to dataset root, of the smallest corpus; not to be changed by a test."""
    folder = tmp_path_factory.mktemp("corpora")
    return {
        layout: write_corpus(folder / layout, "tiny", workers=2, layout=layout) for layout in ("csl_daily", "how2sign")
    }


def places(layout: str, root: Path) -> list[str]:
    text = root.parent / LAYOUTS[layout].text_file
    rows = ["--set", "frames.crop_rows=[6, 52]"] if layout == "csl_daily" else []
    return ["--set", f"data.root={root}", "--set", f"train.lm.text={text}", *rows]


def test_csl_daily_from_annotations_to_character_scores(corpora: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = slt("run", "csl_daily", "--out", out, *tiny(), *places("csl_daily", corpora["csl_daily"]), "--json")
    assert list(json.loads(done.stdout)) == ["stage1", "stage2", "shuffled", "text_prior", "constant"]
    scores = json.loads((out / "scores.json").read_text())
    assert "level:char" in scores["stage2"]["signature"]
    assert scores["stage2"]["n"] == PRESETS["tiny"].test
    assert [(remark.kind, remark.id) for remark in read_remarks(out / "index.remarks.jsonl")] == [
        ("known_missing", LACKING)
    ]
    first = ClipIndex(out / "index.parquet").clips()[0]
    assert first.text.endswith("。")
    assert first.n_frames == len(list((corpora["csl_daily"] / first.source).iterdir()))
    assert json.loads((out / "encoder/config.json").read_text())["frames"]["crop_rows"] == [6, 52]
    for shard in ("train", "dev", "test"):
        (store,) = (out / "features").glob(f"*/{shard}.zarr")
        provenance = json.loads((store / "zarr.json").read_text())["attributes"]["provenance"]
        assert provenance["frames"]["crop_rows"] == [6, 52]


@pytest.mark.slow
def test_how2sign_from_recordings_to_cased_scores(corpora: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    # Three texts, one per split, have no clip; the manifest says that the release lacks more.
    words = ["--out", out, *tiny(), *places("how2sign", corpora["how2sign"])]
    shares = ["--set", "extract.max_failure_rate=0.2", "--set", "train.stage2.max_left_out=0.2"]
    slt("run", "how2sign", *words, *shares, "--json")
    scores = json.loads((out / "scores.json").read_text())
    assert "tok:13a" in scores["stage2"]["signature"]
    assert "case:mixed" in scores["stage2"]["signature"]
    assert scores["stage2"]["n"] == PRESETS["tiny"].test + 1
    kinds = [remark.kind for remark in read_remarks(out / "index.remarks.jsonl")]
    assert kinds.count("text_without_clip") == 3
    assert kinds.count("clip_without_text") == 1  # recordings; cut clips are not looked at
    assert kinds.count("time_clamped") > 3
    texts = [clip.text for clip in ClipIndex(out / "index.parquet")]
    assert any(text.startswith('"') for text in texts)
    assert any(text.startswith('They say "') for text in texts)


def test_cut_clips_of_how2sign_hold_the_same_frames(corpora: dict[str, Path], tmp_path: Path) -> None:
    words = ["how2sign", *places("how2sign", corpora["how2sign"])[:2]]
    slt("index", *words, "--out", tmp_path / "whole")
    done = slt("index", *words, "--out", tmp_path / "cut", "--set", "data.options.clips=cut")
    assert "3 clips with missing or damaged frames, 3 of them known to be missing from the release" in done.stderr
    whole, cut = (
        {c.id: c.n_frames for c in ClipIndex(tmp_path / f"{kind}/index.parquet")} for kind in ("whole", "cut")
    )
    assert whole == cut
    assert len(whole) == 75


def test_more_missing_clips_than_the_release_lacks_are_a_failure(corpora: dict[str, Path], tmp_path: Path) -> None:
    """The manifest says two of dev; one is missing there already."""
    root = Path(shutil.copytree(corpora["how2sign"], tmp_path / "root"))
    clips = sorted((root / "val_realigned").iterdir())
    words = ["how2sign", "--out", tmp_path / "out", "--set", f"data.root={root}", "--set", "data.options.clips=cut"]
    clips[0].unlink()
    slt("index", *words)
    told = json.loads(slt("data", "check", *words, "--json", "--clips", "0", code=3).stdout)  # for the counts
    found = {of["split"]: of for of in told["findings"] if of["check"] == "unreadable"}
    assert (found["dev"]["severity"], found["dev"]["count"]) == ("note", 2)
    clips[1].unlink()
    slt("index", *words, "--force", code=3)
    told = json.loads(slt("data", "check", *words, "--json", "--clips", "0", code=3).stdout)
    found = {of["split"]: of["severity"] for of in told["findings"] if of["check"] == "unreadable"}
    assert found == {"train": "note", "dev": "error", "test": "note"}


@pytest.mark.parametrize("name", ["phoenix14t", "csl_daily", "how2sign"])
def test_every_recipe_says_what_it_would_do(
    name: str, corpora: dict[str, Path], tiny_corpus: Path, tmp_path: Path
) -> None:
    root = {**corpora, "phoenix14t": tiny_corpus / "PHOENIX-2014-T"}[name]
    variable = f"SLT_DATA_{name.upper()}"
    done = slt("run", name, "--out", tmp_path / "out", "--dry-run", "--json", **{variable: str(root)})
    assert {row["state"] for row in json.loads(done.stdout)} == {"missing"}
    assert not (tmp_path / "out").exists()


def test_ones_own_folder_by_a_local_manifest(corpora: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "own"
    shutil.copytree(corpora["how2sign"] / "test_realigned", root / "videos")
    videos = sorted(path.name for path in (root / "videos").iterdir())
    rows = [f"{name},videos/{name},Text {n}.,{('train', 'dev', 'test')[n % 3]}" for n, name in enumerate(videos)]
    (root / "clips.csv").write_text("\n".join(["id,path,sentence,split", *rows]) + "\n")
    fields = {
        "adapter": "folder", "root": "own", "language": "en_XX", "level": "word", "fps": 25, "licence": "ours",
        "splits": {"train": None, "dev": None, "test": None}, "source": "here",
        "text": {"case": "lower", "final_dot": "strip"}, "options": {"columns": {"text": "sentence"}},
    }  # fmt: skip
    (tmp_path / "data_manifest.local.yaml").write_text(yaml.safe_dump({"datasets": {"mine": fields}}))
    config = tmp_path / "mine.yaml"
    config.write_text(yaml.safe_dump({"name": "mine", "data": {"dataset": "mine"}}))
    slt("index", config, "--out", tmp_path / "out")
    clips = ClipIndex(tmp_path / "out/index.parquet").clips()
    assert {clip.text for clip in clips} == {f"text {n}" for n in range(len(videos))}
    scoring = Run(load_config(config), tmp_path / "out", beside=tmp_path).scoring
    assert (scoring.level, scoring.lowercase, scoring.final_dot) == ("word", True, "strip")  # on both sides
    fields["text"]["case"] = "keep"  # type: ignore[index]
    (tmp_path / "data_manifest.local.yaml").write_text(yaml.safe_dump({"datasets": {"mine": fields}}))
    rows = json.loads(slt("status", config, "--out", tmp_path / "out", "--json").stdout)
    assert rows[0]["state"] == "stale"


def test_bad_input_is_one_line_with_code_2_and_nothing_written(corpora: dict[str, Path], tmp_path: Path) -> None:
    csl, how2sign = (Path(shutil.copytree(root, tmp_path / name)) for name, root in corpora.items())
    marker = tmp_path / "marker"
    evil = b"cos\nmkdir\n(V" + str(marker).encode() + b"\ntR."
    (csl / "sentence_label/csl2020ct_v2.pkl").write_bytes(evil)
    broken = how2sign / "how2sign_realigned_val.csv"
    broken.write_text(broken.read_text().replace("\t", ";"))
    for name, root, says in (
        ("csl_daily", csl, "expected a pickle of plain values only"),
        ("how2sign", how2sign, "Column VIDEO_ID is absent"),
        ("how2sign", csl, "no such file"),
        ("phoenix14t", how2sign, "no such file"),
        ("folder", how2sign, "clips.csv: expected an annotation file, found no such file"),
    ):
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump({"name": "x", "data": {"dataset": name, "root": str(root)}}))
        done = slt("index", config, "--out", tmp_path / "out", code=2)
        (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert says in error
        assert not (tmp_path / "out/index.parquet").exists()
        assert not marker.exists()
    slt("corpus", tmp_path / "x", "--layout", "csl", code=2)
    assert not (tmp_path / "x").exists()
