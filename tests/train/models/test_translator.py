"""The one model class: packing, loss, generation, saving; and bag-of-words supervision."""

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import MBartTokenizer, PreTrainedModel

from extract.encoder.encoder_config import VisualEncoderConfig
from extract.encoder.hidden_states import SignAdapter
from extract.encoder.visual_encoder import VisualEncoder
from extract.errors import InputError
from extract.settings import EncoderSettings, FrameSettings
from train.data.targets import encode_targets, pad_labels
from train.models.bag_of_words import WordSpotter
from train.models.language_model import build_mbart, load_language_model, set_language
from train.models.tokenizer import train_tokenizer
from train.models.translator import SignTranslator, load_sign_translator
from train.recipes.stage1 import with_states
from train.settings import AdapterSettings, TransformerSettings

LINES = ["es regnet im norden", "am montag schneit es", "in der nacht wird es kalt"]
BACKBONE = {
    "model_type": "resnet", "layer_type": "basic", "embedding_size": 8, "hidden_sizes": [8, 8, 16, 16],
    "depths": [1, 1, 1, 1],
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> MBartTokenizer:
    return train_tokenizer(LINES, 60, "de_DE")


@pytest.fixture(scope="module")
def language_model(tokenizer: MBartTokenizer) -> PreTrainedModel:
    torch.manual_seed(0)
    size = TransformerSettings(layers=2, heads=2, d_model=16, ffn=32, dropout=0.0)
    return build_mbart(size, tokenizer, "de_DE").eval()


@pytest.fixture
def translator(language_model: PreTrainedModel) -> SignTranslator:
    torch.manual_seed(1)
    return SignTranslator.compose(language_model, AdapterSettings(), 12).eval()


def batch(tokenizer: MBartTokenizer, lengths: list[int]) -> dict[str, torch.Tensor]:
    features = torch.randn(sum(lengths), 12, generator=torch.Generator().manual_seed(2))
    labels = pad_labels(encode_targets(tokenizer, LINES[: len(lengths)]))
    return {"labels": labels, "lengths": torch.tensor(lengths), "features": features}


@torch.no_grad()
def test_logits_do_not_depend_on_neighbours(translator: SignTranslator, tokenizer: MBartTokenizer) -> None:
    inputs = batch(tokenizer, [2, 7, 4])
    together = translator(**inputs).logits
    for row, part in enumerate(inputs["features"].split([2, 7, 4])):
        alone = translator(labels=inputs["labels"][row : row + 1], lengths=torch.tensor([len(part)]), features=part)
        torch.testing.assert_close(together[row : row + 1], alone.logits, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_loss_is_the_label_smoothed_cross_entropy_over_pieces(
    translator: SignTranslator, tokenizer: MBartTokenizer
) -> None:
    inputs = batch(tokenizer, [3, 5])
    translator.label_smoothing = 0.2
    output = translator(**inputs)
    logs = output.logits.log_softmax(-1)
    losses = [
        0.8 * -logs[row, column, piece] + 0.2 * -logs[row, column].mean()
        for row, column in zip(*(inputs["labels"] >= 0).nonzero(as_tuple=True), strict=True)
        for piece in [inputs["labels"][row, column]]
    ]
    torch.testing.assert_close(output.loss, torch.stack(losses).mean())


@pytest.mark.parametrize(("norm", "within"), [(True, 1.01), (False, 1.4)])
@pytest.mark.parametrize("size", [0.02, 0.3])
def test_adapter_starts_as_large_as_the_word_embeddings(
    language_model: PreTrainedModel, size: float, norm: bool, within: float
) -> None:
    """Whatever the size of the table; without the norm for features of mean square one."""
    language_model = copy.deepcopy(language_model)
    table = language_model.get_input_embeddings()
    nn.init.normal_(table.weight, std=size)
    wide = SignTranslator.compose(language_model, AdapterSettings(hidden=256, norm=norm), 128)
    assert wide.adapter.scale == math.sqrt(16)
    with torch.no_grad():
        out = wide.adapter(torch.randn(500, 128))
        words = table(torch.arange(table.num_embeddings))
    assert 1 / within < out.std() / words.std() < within


@pytest.mark.parametrize(("norm", "least", "most"), [(True, 0.95, 1.05), (False, 4, math.inf)])
def test_the_first_step_leaves_the_adapter_as_large_as_words(norm: bool, least: float, most: float) -> None:
    """At mBART-large's width, where an output scaled by 32 has weights smaller than a step of AdamW."""
    torch.manual_seed(0)
    adapter = SignAdapter(512, 1024, 1024, "relu", 32.0, norm)
    adapter.start_like(torch.randn(100, 1024) * 0.02)
    features, wanted = torch.randn(64, 512), torch.randn(64, 1024)
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=1e-3)
    before = adapter(features)
    (before * wanted).mean().backward()
    optimizer.step()
    assert least < adapter(features).std() / before.std() < most


@torch.no_grad()
def test_a_translator_of_before_the_norm_has_none(
    language_model: PreTrainedModel, tokenizer: MBartTokenizer, tmp_path: Path
) -> None:
    translator = SignTranslator.compose(language_model, AdapterSettings(norm=False), 12).eval()
    translator.save_pretrained(tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    del described["adapter_norm"]
    (tmp_path / "config.json").write_text(json.dumps(described))
    inputs = batch(tokenizer, [3, 5])
    assert torch.equal(load_sign_translator(tmp_path).cpu()(**inputs).logits, translator(**inputs).logits)


@torch.no_grad()
def test_generation_starts_with_the_language_and_ignores_neighbours(
    translator: SignTranslator, tokenizer: MBartTokenizer
) -> None:
    inputs = batch(tokenizer, [2, 6, 4])
    options = {"num_beams": 5, "max_new_tokens": 8, "do_sample": False}
    together = translator.generate(lengths=inputs["lengths"], features=inputs["features"], **options)
    assert (together[:, 0] == tokenizer.convert_tokens_to_ids("de_DE")).all()
    for row, part in enumerate(inputs["features"].split([2, 6, 4])):
        alone = translator.generate(lengths=torch.tensor([len(part)]), features=part, **options)
        texts = tokenizer.batch_decode([together[row], alone[0]], skip_special_tokens=True)
        assert texts[0] == texts[1]


@torch.no_grad()
def test_saved_and_loaded_translates_the_same(
    translator: SignTranslator, tokenizer: MBartTokenizer, tmp_path: Path
) -> None:
    translator.save_pretrained(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    again = SignTranslator.from_pretrained(tmp_path).eval()
    inputs = batch(tokenizer, [3, 5])
    assert torch.equal(again(**inputs).logits, translator(**inputs).logits)
    options = {"lengths": inputs["lengths"], "features": inputs["features"], "num_beams": 3, "max_new_tokens": 6}
    assert torch.equal(again.generate(**options), translator.generate(**options))


@torch.no_grad()
def test_with_an_encoder_it_reads_frames_and_features_alike(
    language_model: PreTrainedModel, tokenizer: MBartTokenizer, tmp_path: Path
) -> None:
    settings = EncoderSettings(backbone=BACKBONE, width=12)
    encoder = VisualEncoder.from_settings(settings, FrameSettings(resize=36, crop=32))
    model = SignTranslator.compose(language_model, AdapterSettings(), 12, encoder).eval()
    frames = torch.randint(0, 256, (7, 3, 32, 32), dtype=torch.uint8)
    lengths = torch.tensor([3, 4])
    labels = pad_labels(encode_targets(tokenizer, LINES[:2]))
    seen = model(labels=labels, lengths=lengths, frames=frames)
    cached = model(labels=labels, lengths=lengths, features=encoder(frames, [3, 4])[0])
    assert torch.equal(seen.logits, cached.logits)
    model.save_pretrained(tmp_path)
    again = SignTranslator.from_pretrained(tmp_path).eval()
    assert torch.equal(again(labels=labels, lengths=lengths, frames=frames).logits, seen.logits)


def test_language_model_and_tokenizer_that_do_not_fit_are_refused(
    language_model: PreTrainedModel, tmp_path: Path
) -> None:
    language_model.save_pretrained(tmp_path)
    train_tokenizer([*LINES, "größere wörter über wolken"], 200, "de_DE").save_pretrained(tmp_path)
    with pytest.raises(InputError, match="a tokenizer of at most"):
        load_language_model(tmp_path, "de_DE")


def test_a_language_that_the_tokenizer_does_not_have_is_refused(
    language_model: PreTrainedModel, tokenizer: MBartTokenizer, tmp_path: Path
) -> None:
    language_model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    for wrong in ("de", "de_de"):
        with pytest.raises(InputError, match=f"found '{wrong}'"):
            set_language(language_model, tokenizer, wrong)


def test_half_precision_on_disk_trains_in_full_precision(
    language_model: PreTrainedModel, tokenizer: MBartTokenizer, tmp_path: Path
) -> None:
    copy.deepcopy(language_model).half().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded, _ = load_language_model(tmp_path, "de_DE")
    assert loaded.dtype == torch.float32


class TestWordSpotter:
    def test_loss_counts_each_piece_at_its_best_step(self) -> None:
        spotter = WordSpotter(2, [7, 5], vocabulary=10)
        with torch.no_grad():
            spotter.head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
            spotter.head.bias.zero_()
        features = torch.tensor([[3.0, -1.0], [-2.0, 0.5], [1.0, -4.0]])
        labels = torch.tensor([[7, 2, -100], [5, 7, 2]])  # 2 is no piece of the spotter's
        loss = spotter(features, [2, 1], labels)
        bce = nn.functional.binary_cross_entropy_with_logits
        first = bce(torch.tensor([3.0, 0.5]), torch.tensor([1.0, 0.0]), reduction="sum")
        second = bce(torch.tensor([1.0, -4.0]), torch.tensor([1.0, 1.0]), reduction="sum")
        torch.testing.assert_close(loss, (first + second) / 2)

    def test_only_the_best_step_gets_a_gradient(self) -> None:
        torch.manual_seed(0)
        spotter = WordSpotter(4, [3], vocabulary=5)
        features = torch.randn(6, 4, requires_grad=True)
        spotter(features, [6], torch.tensor([[3]])).backward()
        assert features.grad is not None
        assert int((features.grad.abs().sum(1) > 0).sum()) == 1


@pytest.mark.parametrize("norm", [True, False])
def test_stage_1_goes_on_from_each_level(
    language_model: PreTrainedModel, tokenizer: MBartTokenizer, norm: bool
) -> None:
    """Frame-wise features, sign-wise ones and hidden states of the same frames give the same sentences."""
    torch.manual_seed(0)
    encoder = VisualEncoder.from_settings(
        EncoderSettings(backbone=BACKBONE, width=12), FrameSettings(resize=32, crop=28)
    )
    stage1 = SignTranslator.compose(copy.deepcopy(language_model), AdapterSettings(norm=norm), 12, encoder).eval()
    frozen = with_states(stage1)
    if not norm:  # an encoder of before there was one does not say
        described = frozen.config.to_dict()
        del described["states"]["norm"]
        weights, frozen = frozen.state_dict(), VisualEncoder(VisualEncoderConfig.from_dict(described)).eval()
        frozen.load_state_dict(weights)
    frames = torch.randint(0, 256, (7, 3, 28, 28), dtype=torch.uint8)
    lengths = torch.tensor([3, 4])
    expected = stage1.generate(frames=frames, lengths=lengths, num_beams=2, max_new_tokens=6)
    with torch.no_grad():
        by_frame = frozen.frame_features(frames)
        sign = [frozen.temporal(part, [len(part)])[0] for part in by_frame.split([3, 4])]
        levels = {"frame": by_frame, "sign": torch.cat(sign), "states": torch.cat([frozen.states(s) for s in sign])}
    for level, features in levels.items():
        stage1.reads = level
        found = stage1.generate(features=features, lengths=lengths, num_beams=2, max_new_tokens=6)
        assert found.tolist() == expected.tolist(), level
