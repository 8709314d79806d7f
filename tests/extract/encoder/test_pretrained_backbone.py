"""Published backbones: nothing drawn at random, frames as they were trained with, errors of one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    DeiTConfig,
    DeiTForImageClassification,
    EfficientNetConfig,
    EfficientNetModel,
    PretrainedConfig,
    PreTrainedModel,
    SiglipConfig,
    SiglipModel,
    VideoMAEConfig,
    VideoMAEModel,
    ViTConfig,
    ViTForImageClassification,
    ViTMAEConfig,
    ViTMAEModel,
    ViTModel,
)

from extract.encoder.extractor import load_encoder
from extract.encoder.published_frames import with_published
from extract.encoder.visual_encoder import VisualEncoder
from extract.errors import InputError
from extract.settings import EncoderSettings, FrameSettings

SMALL: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
                         "image_size": 32, "patch_size": 16}  # fmt: skip
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 50,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}  # fmt: skip
FRAMES = FrameSettings(resize=36, crop=32)


def saved(folder: Path, kind: type[PreTrainedModel], config: PretrainedConfig) -> EncoderSettings:
    torch.manual_seed(0)
    kind(config).save_pretrained(folder)
    return EncoderSettings(backbone=str(folder), width=12)


def frame_features(encoder: VisualEncoder) -> torch.Tensor:
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return encoder.eval().frame_features(pixels)


@pytest.mark.parametrize(
    ("kind", "config"),
    [(ViTForImageClassification, ViTConfig(**SMALL)), (DeiTForImageClassification, DeiTConfig(**SMALL))],
)
def test_a_checkpoint_without_a_pooler_gives_its_first_token(
    kind: type[PreTrainedModel], config: PretrainedConfig, tmp_path: Path
) -> None:
    settings = saved(tmp_path / "b", kind, config)
    one, two = (VisualEncoder.from_settings(settings, FRAMES) for _ in range(2))
    found = frame_features(one)
    assert torch.equal(found, frame_features(two))
    assert not [name for name in one.state_dict() if "pooler" in name]
    with torch.no_grad():
        pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
        tokens = one.backbone(pixel_values=one.normalised(pixels)).last_hidden_state
    assert torch.equal(found, tokens[:, 0])
    one.save_pretrained(tmp_path / "encoder")
    assert torch.equal(frame_features(load_encoder(tmp_path / "encoder")), found)


def test_a_pooler_with_weights_is_used(tmp_path: Path) -> None:
    encoder = VisualEncoder.from_settings(saved(tmp_path, ViTModel, ViTConfig(**SMALL)), FRAMES)
    assert encoder.config.pooling == "pooler"
    assert [name for name in encoder.state_dict() if "pooler" in name]
    assert frame_features(encoder).shape == (3, 16)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (CLIPModel, CLIPConfig(vision_config=SMALL, text_config=TEXT)),
        (SiglipModel, SiglipConfig(vision_config=SMALL, text_config=TEXT)),
    ],
)
def test_of_a_model_of_images_and_text_the_vision_tower_is_taken(
    kind: type[PreTrainedModel], config: PretrainedConfig, tmp_path: Path
) -> None:
    encoder = VisualEncoder.from_settings(saved(tmp_path / "b", kind, config), FRAMES)
    whole = kind.from_pretrained(tmp_path / "b").vision_model.state_dict()
    own = {name.removeprefix("vision_model."): value for name, value in encoder.backbone.state_dict().items()}
    assert own.keys() == whole.keys()
    assert all(torch.equal(own[name], value) for name, value in whole.items())
    encoder.save_pretrained(tmp_path / "encoder")
    torch.testing.assert_close(frame_features(load_encoder(tmp_path / "encoder")), frame_features(encoder))


def test_efficientnet_tells_its_width_by_another_name(tmp_path: Path) -> None:
    config = EfficientNetConfig(
        image_size=32,
        hidden_dim=1280,
        width_coefficient=1.0,
        depth_coefficient=0.1,
        num_block_repeats=[1] * 7,
        hidden_act="relu",
    )
    encoder = VisualEncoder.from_settings(saved(tmp_path, EfficientNetModel, config), FRAMES)
    assert frame_features(encoder).shape == (3, encoder.backbone_width) == (3, 1280)


def test_what_would_be_wrong_in_silence_is_refused_in_a_line(tmp_path: Path) -> None:
    def refused(settings: EncoderSettings, frames: FrameSettings = FRAMES) -> str:
        with pytest.raises(InputError) as caught:
            VisualEncoder.from_settings(settings, frames)
        assert len(str(caught.value).splitlines()) == 1
        return str(caught.value)

    assert "vit_mae, which draws at random" in refused(saved(tmp_path / "mae", ViTMAEModel, ViTMAEConfig(**SMALL)))
    assert "image model" in refused(saved(tmp_path / "video", VideoMAEModel, VideoMAEConfig(**SMALL, num_frames=4)))
    vit = saved(tmp_path / "vit", ViTModel, ViTConfig(**SMALL))
    assert "frames.crop to the size" in refused(vit, FrameSettings(resize=64, crop=48))
    model = ViTModel.from_pretrained(vit.backbone)
    cut = {name: value for name, value in model.state_dict().items() if name != "layernorm.bias"}
    model.save_pretrained(tmp_path / "cut", state_dict=cut)
    assert "no weights of layernorm.bias" in refused(EncoderSettings(backbone=str(tmp_path / "cut")))
    assert "tells its width" in refused(EncoderSettings(backbone={"model_type": "clip"}))


CLIPS = {"image_mean": [0.481, 0.458, 0.408], "image_std": [0.269, 0.261, 0.276], "size": {"shortest_edge": 40},
         "crop_size": {"height": 32, "width": 32}, "do_center_crop": True, "resample": 3}  # fmt: skip


@pytest.mark.parametrize(
    ("held", "fields"),
    [
        (CLIPS, {"mean": (0.481, 0.458, 0.408), "std": (0.269, 0.261, 0.276), "resize": 40, "crop": 32,
                 "interpolation": "cubic"}),
        ({"image_processor": {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 32, "width": 32},
                              "resample": 2}},
         {"mean": (0.5,) * 3, "std": (0.5,) * 3, "resize": 32, "crop": 32, "interpolation": "linear"}),
        ({"image_mean": [0.0] * 3, "image_std": [1.0] * 3, "rescale_factor": 1 / 127.5, "size": 224, "crop_pct": 0.875},
         {"mean": (0.0,) * 3, "std": (0.5,) * 3, "resize": 256, "crop": 224, "interpolation": "area"}),
    ],
)  # fmt: skip
def test_frames_are_by_default_what_the_backbone_was_trained_with(
    held: dict[str, Any], fields: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(held))
    encoder = EncoderSettings(backbone=str(tmp_path))
    found = with_published(encoder, FrameSettings())
    for name, value in fields.items():
        assert getattr(found, name) == (pytest.approx(value) if name in ("mean", "std") else value)
    # Size and filter are a choice, and stay where they are given; the normalisation is none.
    own = with_published(encoder, FrameSettings(resize=36, crop=30, interpolation="linear"))
    assert (own.resize, own.crop, own.interpolation, own.mean) == (36, 30, "linear", found.mean)
    assert with_published(encoder, own) == own
    with pytest.raises(InputError, match=r"frames.mean: expected .* trained with, found \[0.3, 0.3, 0.3\]"):
        with_published(encoder, FrameSettings(mean=(0.3, 0.3, 0.3)))


def test_an_encoder_with_anothers_normalisation_is_refused(tmp_path: Path) -> None:
    settings = saved(tmp_path, CLIPModel, CLIPConfig(vision_config=SMALL, text_config=TEXT))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(CLIPS))
    with pytest.raises(InputError, match=r"frames.mean: expected .*0.481"):
        VisualEncoder.from_settings(settings, FRAMES)
    VisualEncoder.from_settings(settings, with_published(settings, FRAMES.model_validate({"resize": 36, "crop": 32})))
