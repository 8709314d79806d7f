"""Packs of JPEG by nvImageCodec: its CPU backend here; on a GPU it was not run."""

import importlib.metadata
import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from extract.dataset.clip_index import Clip
from extract.decoding.clip_decoder import ClipDecoder
from extract.decoding.decoder_versions import jpeg_pack
from extract.encoder.extractor import load_encoder
from extract.encoder.feature_provenance import feature_provenance
from extract.encoder.visual_encoder import VisualEncoder
from extract.errors import ClipError, InputError
from extract.fingerprint import differences
from extract.jobs.blocks import Block
from extract.jobs.extract_worker import extract_block
from extract.jobs.pack_job import pack_block
from extract.packs.frame_pack import FramePack, pack_provenance
from extract.packs.jpeg_frames import JpegFrames
from extract.packs.packed_frames import PackedFrames
from extract.settings import EncoderSettings, ExtractSettings, FrameSettings, PackSettings, View
from extract.store.feature_store import FeatureStore

FRAMES = FrameSettings(keep_every=2, resize=64, crop=56)
PACK = PackSettings(enabled=True, quality=90)
VIEWS = (View(), View(phase=1, crop=(0.0, 1.0)))
TINY = {"model_type": "resnet", "layer_type": "basic", "embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1]}
TOLERANCE = 2
"""Levels of 255 that a pixel may be off OpenCV's."""
needed = pytest.mark.skipif(importlib.util.find_spec("nvidia") is None, reason="needs the extra gpu")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Clip]]:
    folder, made = tmp_path_factory.mktemp("root"), []
    for number in range(5):
        (folder / f"clip{number}").mkdir()
        for frame in range(2 + 3 * number):
            rng = np.random.default_rng([number, frame])
            soft = cv2.resize(rng.integers(0, 256, (8, 8, 3), np.uint8), (80, 72), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(folder / f"clip{number}/{frame:04d}.png"), soft)
        made.append(Clip(f"c{number}", "train", f"clip{number}", 2 + 3 * number, 25.0, "", "de_DE"))
    (folder / "clip2/0001.png").write_bytes(b"no image")
    return folder, made


@pytest.fixture(scope="module")
def packed(clips: tuple[Path, list[Clip]]) -> PackedFrames:
    folder, made = clips
    pack = FramePack.create(folder / "packs" / "train", pack_provenance(FRAMES, PACK))
    pack_block(Block.of(made), str(folder), str(pack.folder), FRAMES, PACK)
    return PackedFrames(folder / "packs", PACK)


@needed
def test_pixels_are_opencvs_to_two_levels(packed: PackedFrames, clips: tuple[Path, list[Clip]]) -> None:
    plain, other = ClipDecoder(packed, FRAMES, VIEWS), JpegFrames(packed, FRAMES, VIEWS, torch.device("cpu"))
    for clip in clips[1]:
        expected, found = plain(clip).found, other(clip).found
        if isinstance(expected, ClipError):
            assert str(found) == str(expected)
            continue
        for view, wanted in zip(found, expected, strict=True):
            assert (view.shape, view.dtype) == (wanted.shape, torch.uint8)
            assert np.abs(view.numpy().astype(int) - wanted).max() <= TOLERANCE


@needed
def test_it_is_a_decoder_of_its_own_in_the_fingerprint(
    packed: PackedFrames, clips: tuple[Path, list[Clip]], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    VisualEncoder.from_settings(EncoderSettings(backbone=TINY, width=16), FRAMES).save_pretrained(tmp_path / "e")
    encoder, stores = load_encoder(tmp_path / "e"), []
    for decoder in ("opencv", "nvimgcodec"):
        settings = ExtractSettings(dtype="float32", batch_frames=4, jpeg_decoder=decoder, views=VIEWS)
        provenance = feature_provenance(encoder, "float32", pack=jpeg_pack(90, decoder))
        store = FeatureStore.create(tmp_path / f"{decoder}.zarr", provenance, 16, "float32")
        arguments = (packed, str(tmp_path / "e"), store.location, store.fingerprint, settings)
        record = extract_block(Block.of(clips[1], VIEWS), *arguments)
        assert (record.clips, record.failed) == (4, {"c2": "decode"})
        stores.append(FeatureStore.open(store.location))
    assert differences(stores[0].provenance, stores[1].provenance) == ["pack.decoder"]
    one, two = (store.load(["c0", "c1", "c3", "c4"]).array for store in stores)
    np.testing.assert_allclose(one, two, atol=0.05 * np.abs(one).max())


def test_what_it_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert jpeg_pack(None, "opencv") is None
    assert jpeg_pack(90, "opencv") == {"codec": "jpeg", "quality": 90}
    with pytest.raises(InputError, match=r"expected a pack of JPEG, found other frames"):
        jpeg_pack(None, "nvimgcodec")
    monkeypatch.setattr("importlib.metadata.version", absent)
    with pytest.raises(InputError, match=r"found none installed\. Install the extra `gpu`"):
        jpeg_pack(90, "nvimgcodec")


def absent(name: str) -> str:
    raise importlib.metadata.PackageNotFoundError(name)
