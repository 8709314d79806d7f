"""Views of a clip: deterministic samplings and crops that stand for training's augmentation."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from extract.dataset.clip_index import Clip
from extract.decoding.read_clip import read_clip
from extract.decoding.sampling import sampled
from extract.encoder.extractor import cached_width, load_encoder
from extract.encoder.feature_provenance import feature_provenance
from extract.encoder.visual_encoder import VisualEncoder
from extract.errors import InputError
from extract.jobs.blocks import Block
from extract.jobs.extract_worker import extract_block
from extract.settings import EncoderSettings, ExtractSettings, FrameSettings, View
from extract.store import inventory, upkeep
from extract.store.feature_store import FeatureStore

BACKBONE = {"model_type": "resnet", "layer_type": "basic", "embedding_size": 8, "hidden_sizes": [8, 8, 16, 16],
            "depths": [1, 1, 1, 1]}  # fmt: skip
FRAMES = FrameSettings(resize=32, crop=28)
PHASES = tuple(View(phase=phase) for phase in range(4))


@given(frames=st.integers(1, 300), every=st.integers(1, 9))
def test_the_phases_see_every_frame_and_agree_in_length(frames: int, every: int) -> None:
    phases = [sampled(frames, every, phase=phase) for phase in range(every)]
    assert {frame for phase in phases for frame in phase} == set(range(frames))
    assert {len(phase) for phase in phases} == {-(-frames // every)}
    assert all(phase == sorted(phase) for phase in phases)


@given(st.lists(st.builds(View, phase=st.integers(0, 3), scale=st.sampled_from([1.0, 1.1, 1.2]),
                          crop=st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.5]))),
                min_size=2, max_size=2))  # fmt: skip
def test_two_views_share_a_name_only_when_they_are_the_same(views: list[View]) -> None:
    assert (views[0].name == views[1].name) == (views[0] == views[1])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clip ``a`` of 10 frames; a pixel's red tells its column, its green its row, its blue the frame."""
    root = tmp_path_factory.mktemp("views")
    (root / "a").mkdir()
    rows, columns = np.mgrid[0:32, 0:32]
    for number in range(10):
        image = np.stack([np.full((32, 32), 10 * number), rows, columns], axis=-1).astype(np.uint8)
        cv2.imwrite(str(root / f"a/images{number + 1:04d}.png"), image)
    return root


CLIP = Clip("a", "train", "a", 10, 25.0, "text", "de_DE")


def test_a_view_decides_frames_and_crop(root: Path) -> None:
    plain = read_clip(root, CLIP, FRAMES)
    assert plain[:, 2, 0, 0].tolist() == [0, 40, 80]
    assert plain[0, :2, 0, 0].tolist() == [2, 2]
    late = read_clip(root, CLIP, FRAMES, view=View(phase=3))
    assert late[:, 2, 0, 0].tolist() == [30, 70, 90]
    corner = read_clip(root, CLIP, FRAMES, view=View(crop=(0, 1)))
    assert corner[0, :2, 0, 0].tolist() == [0, 4]
    larger = read_clip(root, CLIP, FRAMES, view=View(scale=2, crop=(0, 0)))
    assert larger.shape == plain.shape
    assert int(larger[0, 0, 0, -1]) < int(plain[0, 0, 0, -1])


@pytest.mark.parametrize(
    ("views", "says"),
    [
        ([{"phase": 1}], "the first view must be the plain one"),
        ([{}, {"phase": 1}, {"phase": 1}], "the same view twice"),
        ([], "at least 1"),
    ],
)
def test_views_that_cannot_be_are_refused(views: list[dict[str, int]], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ExtractSettings.model_validate({"views": views})


def test_views_must_fit_the_frames() -> None:
    for view, says in ((View(phase=4), "below frames.keep_every = 4"), (View(scale=0.8), "below scale 0.88")):
        with pytest.raises(ValueError, match=says):
            ExtractSettings(views=(View(), view)).check_views(FRAMES)
    ExtractSettings(views=(View(), View(scale=0.88))).check_views(FRAMES)


@pytest.fixture(scope="module")
def encoder_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("encoder")
    VisualEncoder.from_settings(EncoderSettings(backbone=BACKBONE, width=12), FRAMES).save_pretrained(folder)
    return folder


def extract(root: Path, encoder_dir: Path, path: Path, clips: list[Clip], settings: ExtractSettings) -> FeatureStore:
    encoder = load_encoder(encoder_dir, settings.features)
    provenance = feature_provenance(encoder, settings.dtype, settings.features)
    store = FeatureStore.create(path, provenance, cached_width(encoder, settings.features), settings.dtype)
    block = Block.of(clips, settings.views)
    extract_block(block, str(root), str(encoder_dir), str(path), store.fingerprint, settings)
    return FeatureStore.open(path)


def test_each_view_is_cached_under_its_name(root: Path, encoder_dir: Path, tmp_path: Path) -> None:
    settings = ExtractSettings(dtype="float32", batch_frames=4, views=(*PHASES, View(scale=1.2)))
    store = extract(root, encoder_dir, tmp_path / "train.zarr", [CLIP], settings)
    assert store.views() == ["plain", "phase=1", "phase=2", "phase=3", "scale=1.2"]
    assert inventory.take(store)[0].views == dict.fromkeys(store.views(), 1)
    encoder = load_encoder(encoder_dir)
    for view in settings.views:
        frames = torch.from_numpy(read_clip(root, CLIP, FRAMES, view=view))
        with torch.inference_mode():
            expected, _ = encoder(frames, [len(frames)])
        np.testing.assert_allclose(store.load(["a"], view.name).array, expected.numpy(), atol=1e-5)
    assert not np.allclose(store.load(["a"], "phase=1").array, store["a"], atol=1e-3)
    assert upkeep.verify(store) == []
    with pytest.raises(InputError, match="expected features of the view 'phase=9'"):
        store.load(["a"], "phase=9")


def test_a_clip_that_fails_in_one_view_has_none(root: Path, encoder_dir: Path, tmp_path: Path) -> None:
    """A frame that only the second phase needs is damaged; stage 2 must not see half of the views."""
    (tmp_path / "b").mkdir()
    for path in (root / "a").iterdir():
        (tmp_path / "b" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "b/images0002.png").write_bytes(b"")
    settings = ExtractSettings(dtype="float32", batch_frames=4, views=PHASES)
    broken = dataclasses.replace(CLIP, id="b", source="b")
    store = extract(tmp_path, encoder_dir, tmp_path / "train.zarr", [broken], settings)
    assert store.views() == []
    assert store.failures()["b"].kind == "decode"
    assert not list((tmp_path / "train.zarr").glob("commits/*"))
