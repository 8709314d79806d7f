"""What an encoder was trained with decides: a config that says something else is refused before anything is written."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from extract.errors import InputError
from extract.store.feature_store import FeatureStore
from pipeline.corpus.layout import DATASET_FOLDER, TEXT_FILE
from pipeline.experiment.config import load_config
from pipeline.experiment.freshness import Record, Records
from pipeline.experiment.progress_bars import Bars
from pipeline.experiment.run import Run
from pipeline.report_page.frame_strips import read_strips
from pipeline.stages.stage_list import stages

pytestmark = pytest.mark.long


@pytest.fixture
def copy(finished_demo: Path, tmp_path: Path) -> Path:
    out = Path(shutil.copytree(finished_demo, tmp_path / "out"))
    shutil.copytree(out / "stage1", out / "joint")  # as the joint baseline's: a translator with an encoder
    Records(out).write("joint", Record({}, "joint", ["joint"]))
    return out


def execute(out: Path, *overrides: str, only: str | None = None, start: str | None = None, force: bool = True) -> None:
    corpus = out / "corpus"
    places = [f"data.root={corpus / DATASET_FOLDER}", f"train.lm.text={corpus / TEXT_FILE}"]
    run = Run(load_config("tiny", [*places, *overrides]), out)
    run.execute(stages(run.experiment), Bars(quiet=True), start, only, force)


def snapshot(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.rglob("*")}


JOINT = "train.joint={steps: 2, start: stage1}"


@pytest.mark.parametrize(
    ("how", "overrides", "says"),
    [
        ({"only": "extract"}, ["frames.keep_every=2"], r"^frames\.keep_every: expected 4, as the encoder in .*/out/"
         r"encoder was trained with, found 2\. Train stage1 again with it \(`slt run --from stage1`\), or set it back"),
        ({"only": "extract", "force": False}, ["frames.keep_every=2"], r"^frames\.keep_every: expected 4"),
        ({"only": "extract"}, ["frames.crop_rows=[0, 20]"], r"^frames\.crop_rows: expected null, .* found \[0, 20\]"),
        ({"only": "extract"}, ["frames.decoder=pyav"], r'^frames\.decoder: expected "opencv"'),
        ({"only": "extract"}, ["encoder.width=16", "frames.crop=28"], r"^encoder\.width, frames\.crop: expected 32, 32,"
         r" .* found 16, 28\."),
        ({"only": "extract"}, ["encoder.backbone.depths=[1, 1, 1, 2]"], r"^encoder\.backbone\.depths: expected"),
        ({"only": "extract"}, ["encoder.temporal=[{pool: 2}]"], r"^encoder\.temporal: expected"),
        ({"start": "extract"}, ["frames.resize=40"], r"^frames\.resize: expected 36"),
        ({"only": "report"}, ["frames.resize=40"], r"^frames\.resize: expected 36"),
        ({"only": "joint"}, [JOINT, "frames.resize=40"], r"^frames\.resize: expected 36"),
        ({"only": "joint_test"}, [JOINT, "frames.resize=40"], r"^frames\.resize: expected 36, as the encoder in .*/out/"
         r"joint was trained with, found 40\. Train joint again"),
    ],
)  # fmt: skip
def test_another_config_is_refused(copy: Path, how: dict[str, object], overrides: list[str], says: str) -> None:
    before = snapshot(copy)
    with pytest.raises(InputError, match=says):
        execute(copy, *overrides, **how)  # type: ignore[arg-type]
    assert snapshot(copy) == before


def test_what_only_training_reads_need_not_be_there(copy: Path) -> None:
    path = copy / "encoder/provenance.json"
    record = json.loads(path.read_text())
    record["inputs"]["encoder"]["backbone_weights"] = "0" * 64
    path.write_text(json.dumps(record))
    records = Records(copy)
    left = records.read("stage1")
    assert left is not None
    records.write("stage1", dataclasses.replace(left, files={}))  # as if stage 1 had written it so
    execute(copy, "encoder.backbone_weights=/nowhere/resnet.pth", only="extract")
    (copy / "other.pth").write_text("other weights")
    with pytest.raises(InputError, match=r"^encoder\.backbone_weights: expected"):
        execute(copy, f"encoder.backbone_weights={copy / 'other.pth'}", only="extract")


def test_a_whole_run_trains_the_encoder_first(copy: Path) -> None:
    changed = ["frames.keep_every=2", "train.stage1.warmup=null", "train.stage1.warm_start=null"]
    execute(copy, *changed, force=False)
    assert json.loads((copy / "encoder/config.json").read_text())["frames"]["keep_every"] == 2
    stores = [FeatureStore.open(path) for path in copy.glob("features/*/test.zarr")]
    steps = {store.provenance["frames"]["keep_every"]: sum(store.lengths().values()) for store in stores}
    assert steps.keys() == {2, 4}
    assert 1.5 < steps[2] / steps[4] < 2.5
    execute(copy, *changed, only="extract")


def test_strips_show_what_the_encoder_saw(copy: Path) -> None:
    corpus = copy / "corpus" / DATASET_FOLDER
    run, other = (Run(load_config("tiny", [f"data.root={corpus}", *more]), copy) for more in ([], ["frames.crop=20"]))
    clip, settings = run.clips("test")[0], run.experiment.report
    ((_, strip),), ((_, same),) = (read_strips(each, [clip], settings) for each in (run, other))
    assert strip == same
    assert cv2.imdecode(np.frombuffer(same.image, np.uint8), cv2.IMREAD_COLOR).shape[0] == 32
