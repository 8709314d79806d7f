"""The visual encoder: shapes, invariance to neighbours and padding, saving."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from extract.encoder.visual_encoder import TemporalModule, VisualEncoder
from extract.errors import InputError
from extract.settings import EncoderSettings, FrameSettings, TemporalLayer

BACKBONE = {
    "model_type": "resnet", "layer_type": "basic", "embedding_size": 8, "hidden_sizes": [8, 8, 16, 16],
    "depths": [1, 1, 1, 1],
}  # fmt: skip
FRAMES = FrameSettings(resize=36, crop=32)


def encoder(*temporal: TemporalLayer) -> VisualEncoder:
    torch.manual_seed(0)
    layers = temporal or (TemporalLayer(),)
    return VisualEncoder.from_settings(EncoderSettings(backbone=BACKBONE, width=12, temporal=layers), FRAMES)


def pixels(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layers", [(TemporalLayer(),), (TemporalLayer(pool=2), TemporalLayer(pool=2))])
@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_features_do_not_depend_on_neighbours(layers: tuple[TemporalLayer, ...], lengths: list[int]) -> None:
    model = encoder(*layers).eval()
    frames = pixels(sum(lengths))
    with torch.no_grad():
        together, steps = model(frames, lengths)
        alone = [model(part, [len(part)])[0] for part in frames.split(lengths)]
    assert steps == [model.output_length(length) for length in lengths]
    assert [len(part) for part in alone] == steps
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


def test_batchnorm_sees_valid_steps_only() -> None:
    """In training, statistics over a batch of unequal clips equal those over their steps alone."""
    torch.manual_seed(0)
    module = TemporalModule(4, 6, [{"kernel": 3, "pool": 1}])
    lengths = [2, 7]
    frames = torch.randn(9, 4)
    module(frames, lengths)
    convolved = [module.convs[0](part.T[None])[0].T for part in frames.split(lengths)]
    expected = torch.cat(convolved).mean(0) * 0.1  # momentum of BatchNorm1d
    torch.testing.assert_close(module.norms[0].running_mean, expected.detach())


def test_eval_does_not_drift() -> None:
    model = encoder().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        model(pixels(6), [2, 4])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_saved_and_loaded_gives_the_same_features(tmp_path: Path) -> None:
    model = encoder().eval()
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    again = VisualEncoder.from_pretrained(tmp_path).eval()
    assert again.config.frame_settings == FRAMES
    with torch.no_grad():
        assert torch.equal(again(pixels(5), [5])[0], model(pixels(5), [5])[0])


def test_backbone_from_a_folder_keeps_its_weights(tmp_path: Path) -> None:
    trained = encoder().backbone
    trained.save_pretrained(tmp_path)
    model = VisualEncoder.from_settings(EncoderSettings(backbone=str(tmp_path), width=12), FRAMES)
    for name, value in trained.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], value), name


def test_another_backbone_of_transformers() -> None:
    vit = {"model_type": "vit", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
           "intermediate_size": 16, "image_size": 32, "patch_size": 16}  # fmt: skip
    model = VisualEncoder.from_settings(EncoderSettings(backbone=vit, width=12), FRAMES).eval()
    with torch.no_grad():
        features, steps = model(pixels(3), [1, 2])
    assert (features.shape, steps) == ((3, 12), [1, 2])


@pytest.mark.parametrize(
    ("backbone", "says"),
    [("nowhere/to-be-found", "hf download nowhere/to-be-found"), ({"depths": [1]}, "model_type"),
     ({"model_type": "resnett"}, "resnett")],
)  # fmt: skip
def test_a_wrong_backbone_says_what_to_do(backbone: object, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=says):
        VisualEncoder.from_settings(EncoderSettings.model_validate({"backbone": backbone}), FRAMES)


def test_paper_shapes() -> None:
    """ResNet-18 at 224 px gives 512 channels; one Conv1d keeps the length; GFSLT-VLP's two poolings quarter it."""
    model = VisualEncoder.from_settings(
        EncoderSettings(backbone={"model_type": "resnet", "layer_type": "basic", "depths": [2, 2, 2, 2],
                                  "hidden_sizes": [64, 128, 256, 512]}), FrameSettings(),
    ).eval()  # fmt: skip
    assert isinstance(model.temporal.convs[0], nn.Conv1d)
    assert sum(parameter.numel() for parameter in model.backbone.parameters()) == 11_176_512
    with torch.no_grad():
        features, _ = model(torch.zeros(2, 3, 224, 224, dtype=torch.uint8), [2])
    assert features.shape == (2, 512)
    assert encoder(TemporalLayer(pool=2), TemporalLayer(pool=2)).output_length(29) == 8


def test_a_batch_of_one_step_trains_with_the_running_statistics() -> None:
    """It has no variance; torch's BatchNorm stops there."""
    model = encoder().train()
    backbone = torch.randn(1, model.backbone_width, requires_grad=True)
    statistics = {name: value.clone() for name, value in model.temporal.named_buffers()}
    features, steps = model.temporal(backbone, [1])
    features.sum().backward()
    assert (features.shape, steps) == ((1, 12), [1])
    assert backbone.grad is not None
    for name, value in model.temporal.named_buffers():
        torch.testing.assert_close(value, statistics[name])
    torch.testing.assert_close(features, model.eval().temporal(backbone, [1])[0])
