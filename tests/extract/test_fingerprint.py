"""What changes a fingerprint, and what must not."""

import doctest
import hashlib
import json
import struct
import subprocess
import sys
import textwrap

import av
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import extract.fingerprint as module
from extract.decoding.decoder_versions import decoder_versions
from extract.encoder.feature_provenance import feature_provenance, weights_digest
from extract.encoder.visual_encoder import VisualEncoder
from extract.fingerprint import (
    canonical_json,
    describe,
    differences,
    digest,
    fingerprint,
)
from extract.settings import EncoderSettings, FrameSettings, TemporalLayer

TINY = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=8,
)


def tiny_encoder(frames: FrameSettings | None = None, **changes: object) -> VisualEncoder:
    torch.manual_seed(0)
    settings = EncoderSettings.model_validate({"backbone": TINY, "width": 16} | changes)
    return VisualEncoder.from_settings(settings, frames or FrameSettings(resize=32, crop=28))


def test_examples_in_docstrings():
    assert doctest.testmod(module).failed == 0


def test_known_values():
    # Written out, so that no later version calls the same features by another name.
    assert canonical_json({"b": [1, 2.5], "a": {"ü": None}}) == b'{"a":{"\\u00fc":null},"b":[1,2.5]}'
    assert digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    weights = {"b": torch.zeros(2, dtype=torch.int64), "a": torch.tensor(1.5)}
    hashed = b'["a","torch.float32",[]]' + struct.pack("<f", 1.5) + b'["b","torch.int64",[2]]' + bytes(16)
    assert weights_digest(weights) == hashlib.sha256(hashed).hexdigest()


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": float("-inf")}])
def test_numbers_that_json_lacks_are_refused(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(value)


@given(json_values)
def test_canonical_json_does_not_depend_on_the_order_of_keys(value):
    def reversed_keys(value):
        if isinstance(value, dict):
            return {key: reversed_keys(value[key]) for key in reversed(value)}
        return [reversed_keys(child) for child in value] if isinstance(value, list) else value

    assert canonical_json(value) == canonical_json(reversed_keys(value))
    assert differences(value, reversed_keys(value)) == []


def test_integer_keys_agree_with_their_saved_copy():
    assert digest({2: "b", 10: "a"}) == digest({"10": "a", "2": "b"})


def test_every_part_of_a_tensor_counts():
    weights = {"a": torch.arange(6.0).reshape(2, 3)}
    names = {
        weights_digest(weights),
        weights_digest({"b": weights["a"]}),
        weights_digest({"a": weights["a"].reshape(3, 2)}),
        weights_digest({"a": weights["a"].to(torch.float64)}),
        weights_digest({"a": weights["a"].to(torch.bfloat16)}),
        weights_digest({"a": weights["a"] + torch.eye(2, 3) * 1e-6}),
    }
    assert len(names) == 6
    strided = torch.arange(6.0).reshape(2, 3).t().contiguous().t()
    assert weights_digest({"a": strided}) == weights_digest(weights)


def test_an_encoder_keeps_its_fingerprint_when_it_is_saved(tmp_path):
    # Labels with integer keys, as pre-trained image classifiers have them, come back as strings.
    encoder = tiny_encoder(backbone=TINY | {"id2label": {i: f"class {i}" for i in range(12)}})
    encoder.save_pretrained(tmp_path)
    again = VisualEncoder.from_pretrained(tmp_path)
    before, after = (feature_provenance(model, "float16") for model in (encoder, again))
    assert differences(before, after) == []
    assert fingerprint(before) == fingerprint(after)
    assert "id2label" not in before["encoder"]["backbone"]


@pytest.mark.parametrize(
    ("changed", "dtype", "named"),
    [
        ({"frames": FrameSettings(resize=36, crop=28)}, "float16", {"frames.resize"}),
        ({"frames": FrameSettings(resize=32, crop=28, keep_every=2)}, "float16", {"frames.keep_every"}),
        ({"frames": FrameSettings(resize=32, crop=28, std=(0.2, 0.224, 0.225))}, "float16", {"frames.std.0"}),
        (
            {"frames": FrameSettings(resize=32, crop=28, interpolation="cubic")},
            "float16",
            {"frames.interpolation"},
        ),
        ({"frames": FrameSettings(resize=32, crop=28, decoder="pyav")}, "float16", {"decoder"}),
        ({}, "float32", {"dtype"}),
        ({"width": 8}, "float16", {"encoder.width", "weights"}),
        ({"temporal": (TemporalLayer(pool=2),)}, "float16", {"encoder.temporal.0.pool"}),
    ],
)
def test_what_decides_features_is_named(changed, dtype, named):
    base = feature_provenance(tiny_encoder(), "float16")
    other = feature_provenance(tiny_encoder(**changed), dtype)
    assert fingerprint(base) != fingerprint(other)
    assert set(differences(base, other)) == named


def test_an_encoder_that_was_saved_without_a_decoder_keeps_its_fingerprint(tmp_path):
    encoder = tiny_encoder()
    encoder.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["frames"].pop("decoder") == "opencv"
    (tmp_path / "config.json").write_text(json.dumps(config))
    again = VisualEncoder.from_pretrained(tmp_path)
    assert again.config.frame_settings.decoder == "opencv"
    assert feature_provenance(again, "float16") == feature_provenance(encoder, "float16")


def test_the_decoder_is_named_with_the_versions_that_decide_pixels():
    opencv, pyav = decoder_versions("opencv"), decoder_versions("pyav")
    assert opencv == f"opencv {cv2.__version__}"
    for part in (f"pyav {av.__version__}", "libavcodec 6", "libswscale ", opencv):
        assert part in pyav


@pytest.mark.long
def test_without_pyav_videos_and_folders_are_read_by_opencv():
    code = """
        import sys
        sys.modules["av"] = None
        from extract.decoding.decoder_versions import decoder_versions
        from extract.errors import InputError
        import extract.decoding.read_clip, extract.jobs.extract_worker, extract.jobs.index_job
        print(decoder_versions("opencv"))
        try:
            decoder_versions("pyav")
        except InputError as error:
            print(error)
    """
    found = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    version, refusal = found.stdout.splitlines()
    assert version == decoder_versions("opencv")
    assert refusal == (
        "frames.decoder pyav: expected the package av, found none installed. "
        "Install the extra `video`, or set frames.decoder to opencv."
    )


def test_one_changed_weight_is_another_fingerprint():
    encoder = tiny_encoder()
    before = feature_provenance(encoder, "float16")
    with torch.no_grad():
        encoder.temporal.norms[0].running_mean[3] += np.float32(1e-7)
    after = feature_provenance(encoder, "float16")
    assert differences(before, after) == ["weights"]
    assert describe(after, ["weights"]) == f"weights {after['weights'][:12]}"


def test_absent_and_empty_fields_differ():
    assert differences({"a": {}, "b": 1}, {"b": 1}) == ["a"]
    assert differences({"a": [2]}, {"a": []}) == ["a", "a.0"]
    assert describe({}, ["a.b"]) == "a.b absent"


def test_readers_of_features_load_neither_torch_nor_opencv():
    code = "import sys, extract.store, extract.jobs.blocks; print([m for m in ('torch', 'cv2') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
