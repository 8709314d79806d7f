"""The face for notebooks: what docs/python.md and the model cards show runs, and is as lazy as they say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import fla_slt as slt
from extract.settings import FrameSettings

pytestmark = pytest.mark.long

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def python(code: str, cwd: Path) -> str:
    """What it prints, in a process of its own that sees the repository."""
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", code],
        capture_output=True, text=True, cwd=cwd, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def frames_of(run: slt.FinishedRun, clip: slt.Clip) -> np.ndarray:
    """(T, H, W, 3) uint8 RGB, as OpenCV reads them."""
    folder = run.dataset.root / clip.source
    return np.stack([cv2.imread(str(path))[..., ::-1] for path in sorted(folder.glob("*.png"))])


@pytest.fixture
def place(finished_demo: Path, tmp_path: Path) -> Path:
    """A folder with runs/demo and new_clip.mp4 in it, as the page has them."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/demo").symlink_to(finished_demo)
    run = slt.open(finished_demo)
    frames = frames_of(run, run.clips("test")[1])
    writer = cv2.VideoWriter(str(tmp_path / "new_clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, frames.shape[2:0:-1])
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    return tmp_path


def test_the_page_runs_as_it_stands(place: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    printed = python("\n".join(blocks), place)
    assert "<feature store" in printed
    assert "12 True (" in printed
    assert "|tok:none|" in printed


def test_cards_go_from_video_to_text(place: Path) -> None:
    for name in ("encoder", "stage1", "stage2"):
        card = (place / "runs/demo" / name / "README.md").read_text(encoding="utf-8")
        (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
        folders = f"FOLDER, ENCODER = 'runs/demo/{name}', 'runs/demo/encoder'\n"
        told = "\nprint(features.shape)" if name == "encoder" else ""
        assert python(folders + code.replace("clip.mp4", "new_clip.mp4") + told, place).strip()


def test_the_import_is_quick_and_loads_no_framework(tmp_path: Path) -> None:
    """Seconds of the processor, the least of three: what other processes take does not count."""
    code = (
        "import sys, time; import fla_slt; print(time.process_time(), "
        "*{'torch', 'transformers', 'cv2', 'zarr', 'pyarrow', 'matplotlib'} & set(sys.modules))"
    )
    runs = [python(code, tmp_path).split() for _ in range(3)]
    assert [loaded for _, *loaded in runs] == [[], [], []]
    assert min(float(seconds) for seconds, *_ in runs) < 0.3


def test_every_name_is_that_of_its_package() -> None:
    for name in slt.__all__:
        assert getattr(slt, name) is not None
    assert slt.open.__module__ == "pipeline.experiment.finished"
    assert set(slt.__all__) <= set(dir(slt))
    source = Path(slt.__file__).read_text(encoding="utf-8")
    typed = set(re.findall(r"^    from .* import \w+ as (\w+)", source, re.MULTILINE)) | {
        "load_translator",
        "__version__",
    }
    assert typed == set(slt.__all__)
    with pytest.raises(AttributeError, match=r"fla_slt.*'opne'"):
        slt.opne  # noqa: B018


@pytest.mark.parametrize("order", ["import fla_slt\n{}", "{}\nimport fla_slt"])
@pytest.mark.parametrize(
    "loads", ["from transformers import AutoConfig, AutoModel", "import transformers.models.mbart"]
)
def test_transformers_knows_both_kinds(finished_demo: Path, order: str, loads: str) -> None:
    code = order.format(loads) + (
        "\nfrom transformers import AutoConfig, AutoModel\n"
        "for name in ('encoder', 'stage2'):\n"
        "    print(type(AutoConfig.from_pretrained(name)).__name__, type(AutoModel.from_pretrained(name)).__name__)"
    )
    expected = ["VisualEncoderConfig", "VisualEncoder", "SignTranslatorConfig", "SignTranslator"]
    assert python(code, finished_demo).split() == expected


def test_a_clip_is_the_same_in_every_form(finished_demo: Path) -> None:
    run = slt.open(finished_demo)
    clip, store = run.clips("test")[0], run.features("test")
    folder, translate = run.dataset.root / clip.source, run.translator()
    cached = translate(store[clip.id])
    assert cached.pieces
    row = next(row for row in run.predictions() if row.id == clip.id)
    assert (cached.text, cached.score) == (row.hypothesis, pytest.approx(row.score, abs=1e-5))
    for form in (folder, str(folder), frames_of(run, clip)):
        assert translate(form).text == cached.text
        features = run.encoder()(form)
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, store[clip.id], atol=1e-3)
    large = np.kron(frames_of(run, clip), np.ones((1, 3, 3, 1), np.uint8))  # any size: prepared, not taken as it is
    np.testing.assert_allclose(run.encoder()(large), store[clip.id], atol=2e-2)


def test_what_does_not_fit_is_refused_in_a_line(finished_demo: Path, tmp_path: Path) -> None:
    run = slt.open(finished_demo)
    store, translate, encode = run.features("test"), run.translator(), run.encoder()
    row = store[next(iter(store))]
    frames = frames_of(run, run.clips("test")[0])
    for wrong, message in (
        (row[:, :5], rf"expected \(steps, {store.width}\) float, found \({len(row)}, 5\)"),
        (row.astype(np.int32), "found .* int32"),
        (row[:0], "expected 1 to 512 steps, found 0"),
        (frames.astype(np.float32), "uint8 array of RGB, found ndarray .* float32"),
        (frames.transpose(0, 3, 1, 2), r"uint8 array of RGB, found ndarray \(\d+, 3, "),
        (tmp_path / "none.mp4", "none.mp4: expected a video file.*found nothing there"),
    ):
        with pytest.raises(slt.InputError, match=message) as caught:
            translate(wrong)
        assert "\n" not in str(caught.value)
    with pytest.raises(slt.InputError, match=r"expected a tensor \(F, 3, 32, 32\) uint8, prepared, found Tensor"):
        encode(torch.zeros(3, 3, 50, 50, dtype=torch.uint8), [3])
    with pytest.raises(slt.InputError, match=r"expected \(steps, 32\), .*found \(4, 9\)"):
        translate.model.generate(features=torch.zeros(4, 9), lengths=torch.tensor([4]))
    with pytest.raises(slt.InputError, match="evaluation mode"):
        encode.train()(frames)
    with pytest.raises(slt.InputError, match="expected the folder of an experiment"):
        slt.open(tmp_path)
    slt.VisualEncoder.from_settings(run.experiment.encoder, FrameSettings(resize=32, crop=32)).save_pretrained(
        tmp_path / "encoder"
    )
    with pytest.raises(slt.InputError, match=r"expected weights .*as of the features that it learnt"):
        slt.load_translator(finished_demo / "stage2", encoder=tmp_path / "encoder")
    alone = slt.ClipTranslator(translate.model, translate.tokenizer)
    with pytest.raises(slt.InputError, match="expected an encoder, to see videos"):
        alone(frames)


def test_a_translator_of_imported_features_takes_those_alone(finished_demo: Path, tmp_path: Path) -> None:
    for name in ("stage2", "encoder"):
        shutil.copytree(finished_demo / name, tmp_path / name)
    config = json.loads((tmp_path / "stage2/config.json").read_text())
    config["features"] = {"schema": "1", "origin": "imported", "name": "i3d", "format": "npy", "dtype": "float16"}
    (tmp_path / "stage2/config.json").write_text(json.dumps(config))
    store = slt.open(finished_demo).features("test")
    row = store[next(iter(store))]
    translate = slt.load_translator(tmp_path / "stage2")
    assert translate(row).text == slt.load_translator(finished_demo / "stage2")(row).text
    assert translate(torch.from_numpy(row).bfloat16()).pieces
    with pytest.raises(slt.InputError, match="expected an encoder, to see videos"):
        translate(np.zeros((4, 40, 40, 3), np.uint8))
    with pytest.raises(slt.InputError, match="expected none: it learnt from features of i3d"):
        slt.load_translator(tmp_path / "stage2", encoder=tmp_path / "encoder")


def test_what_things_are_stands_in_their_repr(finished_demo: Path) -> None:
    run = slt.open(finished_demo)
    assert re.fullmatch(r"<run tiny in .*: extract, index, .*translate done>", repr(run))
    assert re.fullmatch(r"<feature store .*/test.zarr: 12 clips, width 32, float16, fingerprint \w{12}>",
                        repr(run.features("test")))  # fmt: skip
    assert "takes videos or features of width 32" in repr(run.translator())
    assert repr(run.predictions()) == "<12 predictions, scored by word>"


def test_a_perfect_chinese_translator_scores_100_by_characters() -> None:
    rows = [slt.Prediction(str(number), text, text) for number, text in enumerate(["今天下雨。", "明天有大风和小雨。"])]
    settings = slt.ScoreSettings(level="char")
    assert slt.score(slt.Predictions(rows, settings)).bleu4 == pytest.approx(100)
    assert "level:char" in str(slt.score(slt.Predictions(rows, settings)))
    assert slt.score(rows).bleu4 == 0  # each sentence is one word
