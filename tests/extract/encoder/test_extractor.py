"""What is cached at each level, and that a quick backend computes what the plain one does."""

import copy
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from extract.encoder import backends
from extract.encoder.backends import OnnxBackend, TorchBackend, choose_backend, folded
from extract.encoder.extractor import Extractor, cached_width, load_encoder
from extract.encoder.feature_provenance import feature_provenance
from extract.encoder.ncnn_backend import NcnnBackend
from extract.encoder.visual_encoder import VisualEncoder
from extract.errors import InputError
from extract.fingerprint import differences
from extract.settings import EncoderSettings, ExtractSettings, FrameSettings, TemporalLayer

BACKBONE = {"model_type": "resnet", "layer_type": "basic", "embedding_size": 8, "hidden_sizes": [8, 8, 16, 24],
            "depths": [1, 1, 2, 1]}  # fmt: skip
BOTTLENECK = BACKBONE | {"layer_type": "bottleneck"}
TRANSFORMER = {"model_type": "vit", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
               "intermediate_size": 32, "image_size": 28, "patch_size": 7}  # fmt: skip
FRAMES = FrameSettings(resize=32, crop=28)


def encoder(backbone: dict[str, object], settings: FrameSettings = FRAMES) -> VisualEncoder:
    torch.manual_seed(0)
    made = VisualEncoder.from_settings(EncoderSettings(backbone=backbone, width=12), settings)
    for module in made.modules():  # as after training: not the identity
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias)
    return made.eval().requires_grad_(False)


def frames(count: int, seed: int = 0, side: int = 28) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, side, side), dtype=np.uint8)


@pytest.mark.parametrize("backbone", [BACKBONE, BOTTLENECK, TRANSFORMER])
def test_backends_agree(backbone: dict[str, object]) -> None:
    plain = encoder(backbone)
    batch = frames(8)
    with torch.inference_mode():
        expected = plain.frame_features(torch.from_numpy(batch))
    made = [TorchBackend(plain, 16), OnnxBackend(plain)]
    if backbone["model_type"] == "resnet":
        made.append(NcnnBackend(folded(plain)))
    for backend in made:
        found = backend(batch)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["torch", "onnxruntime", "ncnn"])
def test_a_frames_features_do_not_depend_on_its_batch(name: str) -> None:
    backend = choose_backend(encoder(BACKBONE), name, 6)
    batch = frames(6)
    together = backend(batch)
    assert torch.equal(together, backend(np.ascontiguousarray(batch[::-1])).flip(0))
    assert torch.equal(together, torch.cat([backend(batch[:1]), backend(batch[1:4]), backend(batch[4:])]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_features_of_the_cpu_whatever_the_batch() -> None:
    torch.manual_seed(0)
    plain = encoder(BACKBONE)
    backend = Extractor(copy.deepcopy(plain), ExtractSettings(batch_frames=6)).backend
    batch = frames(6)
    together = backend(batch).cpu()
    torch.testing.assert_close(together, plain.frame_features(torch.from_numpy(batch)), atol=1e-4, rtol=1e-4)
    assert torch.equal(together, torch.cat([backend(batch[:1]), backend(batch[1:4]), backend(batch[4:])]).cpu())


@pytest.mark.parametrize("backbone", [BACKBONE, BOTTLENECK, BACKBONE | {"hidden_sizes": [8], "depths": [2]}])
@pytest.mark.parametrize("side", [96, 101, 128])
def test_ncnn_frames_of_one_stack_do_not_touch(backbone: dict[str, object], side: int) -> None:
    """Maps of 3 rows, which leave one empty row between frames, and of 4, which leave four."""
    plain = encoder(backbone, FrameSettings(resize=side, crop=side))
    backend, batch = NcnnBackend(folded(plain)), frames(11, side=side)
    found = backend(batch)
    torch.testing.assert_close(found, TorchBackend(plain, 11)(batch), atol=1e-5, rtol=1e-5)
    for order in ([3], [10, 0, 5], list(range(10, -1, -1))):
        assert torch.equal(backend(batch[order]), found[order])


def test_ncnn_an_infinite_frame_does_not_spoil_its_neighbours() -> None:
    plain = encoder(BACKBONE)
    plain.backbone.embedder.embedder.convolution.weight[0] = 1e38  # overflows where all is bright
    batch = np.zeros((6, 3, 28, 28), np.uint8)
    backend = NcnnBackend(folded(plain))
    expected = backend(batch)
    batch[[1, 4]] = 255
    found = backend(batch)
    assert expected.isfinite().all()
    assert not found[[1, 4]].isfinite().all()
    assert torch.equal(found[[0, 2, 3, 5]], expected[[0, 2, 3, 5]])


def test_folding_leaves_the_encoder_as_it_was() -> None:
    plain = encoder(BACKBONE)
    before = {key: value.clone() for key, value in plain.state_dict().items()}
    assert len(folded(plain).state_dict()) < len(before)
    assert all(torch.equal(value, before[key]) for key, value in plain.state_dict().items())


def test_auto_takes_the_quickest_that_knows_the_backbone_and_says_so_in_the_commit() -> None:
    settings = ExtractSettings(batch_frames=4)
    assert Extractor(encoder(BACKBONE), settings).versions()["backend"].startswith("ncnn 1")
    assert Extractor(encoder(TRANSFORMER), settings).versions()["backend"].startswith("onnxruntime 1")
    plain = settings.model_copy(update={"backend": "torch"})
    assert Extractor(encoder(BACKBONE), plain).versions()["backend"] == "torch"


def test_a_backend_that_is_not_exact_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backends, "TOLERANCE", 1e-12)
    with caplog.at_level(logging.WARNING):
        assert choose_backend(encoder(BACKBONE), "auto", 4).name == "torch"
    assert "features that differ from torch's by" in caplog.text
    for name in backends.QUICK:
        with pytest.raises(InputError, match=f"expected {name} to agree with torch to 1e-12"):
            choose_backend(encoder(BACKBONE), name, 4)


@pytest.mark.parametrize(
    ("backbone", "said"),
    [(TRANSFORMER, "a resnet with relu is needed, found vit"), (BACKBONE | {"hidden_act": "gelu"}, "with relu")],
)
def test_ncnn_refuses_what_it_does_not_know(backbone: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        choose_backend(encoder(backbone), "ncnn", 4)


def test_without_the_extra_auto_is_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    find, absent = backends.importlib.util.find_spec, {"ncnn"}
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: find(name) if name not in absent else None)
    assert choose_backend(encoder(BACKBONE), "auto", 4).name.startswith("onnxruntime")
    absent.add("onnx")
    assert choose_backend(encoder(BACKBONE), "auto", 4).name == "torch"
    with pytest.raises(InputError, match=r"no package onnx\. Install the extra `fast`"):
        choose_backend(encoder(BACKBONE), "onnxruntime", 4)


def test_levels(tmp_path: Path) -> None:
    made = encoder(BACKBONE)
    made.save_pretrained(tmp_path)
    batch = frames(4)
    for level, width in (("frame", 24), ("sign", 12)):
        extractor = Extractor(load_encoder(tmp_path, level), ExtractSettings(features=level, dtype="float32"))
        assert extractor.width == cached_width(made, level) == width
        features = made.frame_features(torch.from_numpy(batch))
        cached = extractor.cached(features.to(extractor.encoder.device))
        assert cached.shape == (4, width)
        expected = features if level == "frame" else made(torch.from_numpy(batch), [4])[0]
        np.testing.assert_allclose(cached, expected.numpy(), atol=1e-5)
    frame, sign = (feature_provenance(made, "float16", level) for level in ("frame", "sign"))
    assert differences(frame, sign) == ["features"]
    with pytest.raises(InputError, match="expected an encoder with Light-T's states"):
        load_encoder(tmp_path, "states")


def test_half_precision_is_declared_and_close(tmp_path: Path) -> None:
    made = encoder(BACKBONE)
    plain, half = (choose_backend(made, "auto", 4, compute) for compute in ("float32", "bfloat16"))
    assert half.name == "torch"
    batch = frames(4)
    expected, found = plain(batch), half(batch)
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)
    assert float((found - expected).abs().max() / expected.abs().max()) < 0.05
    changed = [feature_provenance(made, "float16", compute=compute) for compute in ("float32", "bfloat16")]
    assert differences(*changed) == ["compute"]
    with pytest.raises(InputError, match="expected float32 on a CPU for onnxruntime, found bfloat16 on cpu"):
        choose_backend(made, "onnxruntime", 4, "bfloat16")


@pytest.mark.parametrize("layers", [[TemporalLayer()], [TemporalLayer(pool=2), TemporalLayer(kernel=3, pool=2)]])
def test_many_clips_together_are_what_each_is_alone(layers: list[TemporalLayer]) -> None:
    """As a GPU takes them, on which it was not run."""
    torch.manual_seed(0)
    made = VisualEncoder.from_settings(EncoderSettings(backbone=BACKBONE, width=12, temporal=layers), FRAMES).eval()
    lengths = [1 + number * 7 % 40 for number in range(150)]
    hidden = torch.randn(sum(lengths), 24)
    for level in ("frame", "sign"):
        extractor = Extractor(made, ExtractSettings(features=level, dtype="float32", backend="torch"))
        together, steps = extractor.together(hidden, lengths)
        alone = extractor.block(hidden, lengths)()
        assert steps == [len(clip) for clip in alone]
        largest = max(float(np.abs(clip).max()) for clip in alone)
        for found, clip in zip(torch.split(together, steps), alone, strict=True):
            assert np.abs(found.numpy() - clip).max() <= 1e-6 * largest
