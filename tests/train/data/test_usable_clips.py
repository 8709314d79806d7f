"""Which clips stage 2 learns from: each that is left out is counted with its reason, and what is damaged is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from transformers import MBartTokenizer, PreTrainedModel

from extract.dataset.clip_index import Clip
from extract.errors import InputError
from extract.store.feature_store import FeatureStore
from extract.store.json_records import Failure
from train.data.usable_clips import load_examples, usable
from train.models.language_model import build_mbart
from train.models.tokenizer import train_tokenizer
from train.recipes.stage2 import train_stage2
from train.settings import Stage2Settings, TransformerSettings

LINES = ["es regnet", "es schneit stark", "im norden wird es kalt", "am montag scheint die sonne"]
POSITIONS = 12


def clip(id: str, text: str = LINES[0]) -> Clip:
    return Clip(id, "train", "x", 20, 25.0, text, "de_DE")


@pytest.fixture(scope="module")
def tokenizer() -> MBartTokenizer:
    return train_tokenizer(LINES, 60, "de_DE")


@pytest.fixture(scope="module")
def language_model(tokenizer: MBartTokenizer) -> PreTrainedModel:
    size = TransformerSettings(layers=1, heads=2, d_model=16, ffn=32, positions=POSITIONS)
    return build_mbart(size, tokenizer, "de_DE")


Make = Callable[..., FeatureStore]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def of(name: str, lengths: dict[str, int], value: float = 0.5, **provenance: str) -> FeatureStore:
        store = FeatureStore.create(tmp_path / name, {"test": "yes", **provenance}, width=3, dtype="float16")
        failures = {"broken": Failure("decode", "broken/0001.png: not a PNG")}
        arrays = [(id, np.full((length, 3), value, np.float16)) for id, length in lengths.items()]
        store.write_block("b", arrays, failures=failures)
        return FeatureStore.open(tmp_path / name)

    return of


def test_each_clip_that_is_left_out_has_a_reason(
    make: Make, tokenizer: MBartTokenizer, language_model: PreTrainedModel
) -> None:
    present = {f"c{i}": 4 for i in range(12)} | {"empty": 4, "foreign": 4, "long": POSITIONS + 1, "wordy": 4}
    clips = [clip(id) for id in present if id.startswith("c")]
    odd = [clip("broken"), clip("absent"), clip("empty", " "), clip("foreign", "雨"), clip("long"),
           clip("wordy", " ".join(LINES[3:] * 3))]  # fmt: skip
    store = make("train.zarr", present)
    found = usable(store, [*odd, *clips], tokenizer, language_model, max_left_out=0.4)
    assert [one.id for one in found.clips] == [one.id for one in clips]
    assert found.left_out == {
        "broken": "no features (decode)",
        "absent": "no features",
        "empty": "no sentence",
        "foreign": "no piece of the sentence is known",
        "long": f"more than the model's {POSITIONS} positions: features",
        "wordy": f"more than the model's {POSITIONS} positions: target pieces",
    }
    assert "1 of 18 clips left out, no features (decode): broken" in found.said()
    assert len(load_examples(store, found)) == 12
    with pytest.raises(InputError, match=r"at least 90% of 18 clips .* found 12; .*no sentence: empty"):
        usable(store, [*odd, *clips], tokenizer, language_model, max_left_out=0.1)


def test_many_are_counted_and_some_named(
    make: Make, tokenizer: MBartTokenizer, language_model: PreTrainedModel
) -> None:
    with pytest.raises(InputError, match="found 0; 9 of 9 clips left out, no features: x0, x1, x2, x3, x4 and 4 more"):
        usable(make("a.zarr", {"c": 4}), [clip(f"x{i}") for i in range(9)], tokenizer, language_model, 1.0)


def test_features_that_are_not_finite_are_refused_by_clip(
    make: Make, tokenizer: MBartTokenizer, language_model: PreTrainedModel
) -> None:
    store = make("a.zarr", {"good": 4, "fine": 2})
    rows = np.ones((5, 3), np.float16)
    rows[4, 2] = np.inf
    store.write_block("worse", [("inf", rows), ("nan", np.full((2, 3), np.nan, np.float16))])
    clips = [clip(id) for id in ("good", "inf", "fine", "nan")]
    store = FeatureStore.open(store.location)
    with pytest.raises(InputError, match="NaN or infinity in 2 clips: inf, nan"):
        load_examples(store, usable(store, clips, tokenizer, language_model))
    assert len(load_examples(store, usable(store, clips[::2], tokenizer, language_model))) == 2


def test_a_store_of_another_encoder_is_refused(
    make: Make, tokenizer: MBartTokenizer, language_model: PreTrainedModel, tmp_path: Path
) -> None:
    ours, other = make("train.zarr", {"c": 4}), make("dev.zarr", {"c": 4}, encoder="other")
    settings = Stage2Settings(steps=1, epochs=None, language_model="lm")
    with pytest.raises(InputError, match=r"expected features of .* found .*encoder other"):
        train_stage2(
            ours, other, [clip("c")], [clip("c")], settings, language_model, tokenizer, tmp_path / "work"
        )  # fmt: skip
    assert not (tmp_path / "work").exists()
