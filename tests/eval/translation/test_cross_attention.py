"""Cross-attention of given words is what the search itself looked at."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import MBartTokenizer

from eval.translation.cross_attention import Attention, cross_attention
from extract.errors import InputError
from extract.store.feature_store import FeatureStore
from train.models.language_model import build_mbart
from train.models.tokenizer import train_tokenizer
from train.models.translator import SignTranslator
from train.settings import AdapterSettings, TransformerSettings

LINES = ["es regnet im norden", "am montag schneit es", "in der nacht wird es kalt"]


@pytest.fixture(scope="module")
def tokenizer() -> MBartTokenizer:
    return train_tokenizer(LINES, 60, "de_DE")


@pytest.fixture(scope="module")
def model(tokenizer: MBartTokenizer) -> SignTranslator:
    """Two layers of two heads, with queries and keys large enough for looks that are far from even."""
    torch.manual_seed(0)
    size = TransformerSettings(layers=2, heads=2, d_model=32, ffn=64, dropout=0.0)
    made = SignTranslator.compose(build_mbart(size, tokenizer, "de_DE"), AdapterSettings(), 4)
    for name, weight in made.named_parameters():
        if "encoder_attn" in name and weight.dim() == 2:
            weight.data.mul_(20)
    return made.eval()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    made = FeatureStore.create(tmp_path_factory.mktemp("store") / "test.zarr", {"test": "yes"}, 4, "float32")
    rng = np.random.default_rng(0)
    clips = [(name, rng.normal(size=(n, 4)).astype(np.float32)) for name, n in (("a", 7), ("b", 12), ("long", 1200))]
    made.write_block("b", clips)
    return FeatureStore.open(made.location)


def test_the_look_is_that_of_the_search(model: SignTranslator, tokenizer: MBartTokenizer, store: FeatureStore) -> None:
    """A search that can only find one sentence, with its attentions step by step, against one pass over it."""
    targets = tokenizer(text_target=LINES[2])["input_ids"]
    model.language_model.set_attn_implementation("eager")
    said = model.generate(
        features=torch.from_numpy(store["b"]), lengths=torch.tensor([12]), num_beams=1, do_sample=False,
        max_new_tokens=len(targets), prefix_allowed_tokens_fn=lambda _, ids: [targets[len(ids) - 1]],
        output_attentions=True, return_dict_in_generate=True,
    )  # fmt: skip
    assert tokenizer.decode(said.sequences[0], skip_special_tokens=True) == LINES[2]
    looked = [torch.stack(step).mean(dim=(0, 2))[0, -1].numpy() for step in said.cross_attentions]
    found = cross_attention(model, tokenizer, store, {"b": LINES[2]})["b"]
    np.testing.assert_allclose(found.weights, looked[: len(found.pieces)], atol=1e-5)
    assert found.weights.max() > 2 / 12  # an even look would make the comparison empty


def test_weights_and_pieces(model: SignTranslator, tokenizer: MBartTokenizer, store: FeatureStore) -> None:
    found = cross_attention(model, tokenizer, store, {"a": LINES[0], "b": LINES[2], "long": LINES[0], "none": "es"})
    assert set(found) == {"a", "b"}  # one is too long for the model, one has no features
    for id, text, steps in (("a", LINES[0], 7), ("b", LINES[2], 12)):
        attention = found[id]
        assert "".join(attention.pieces).replace("▁", " ").strip() == text
        assert attention.weights.shape == (len(attention.pieces), steps)
        np.testing.assert_allclose(attention.weights.sum(axis=1), 1, atol=1e-5)
    assert cross_attention(model, tokenizer, store, {"a": " "}) == {}


def test_features_of_another_kind_are_refused(
    model: SignTranslator, tokenizer: MBartTokenizer, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.config, "features", {"test": "no"})
    with pytest.raises(InputError, match="test no"):
        cross_attention(model, tokenizer, store, {"a": LINES[0]})


def test_an_even_look_is_pale_and_a_clear_one_is_not() -> None:
    weights = np.full((2, 10), 0.1, np.float32)
    weights[1] = [0.01] * 4 + [0.91] + [0.01] * 5
    attention = Attention(("▁es", "regnet"), weights)
    picture = np.asarray(Image.open(io.BytesIO(attention.png)))
    assert picture.shape == (2, 10, 2)
    assert (picture[0, :, 1] == 85).all()  # a third
    assert picture[1, 4, 1] == 255
    assert picture[1, 0, 1] == round(255 * 0.01 / 0.91)
    assert attention.summary.endswith("es 5% (0.10), regnet 45% (0.91)")
