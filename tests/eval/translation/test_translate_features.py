"""Translating a split from cached features, and the two sanity rows."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import MBartTokenizer

from eval.predictions.prediction_file import read_predictions
from eval.translation.gather_shares import gather
from eval.translation.translate_features import text_prior, translate_split
from extract.dataset.clip_index import Clip, write_index
from extract.errors import InputError
from extract.store.feature_store import FeatureStore
from train.data.feature_dataset import FeatureDataset, collate_features
from train.data.targets import encode_targets
from train.models.language_model import build_mbart
from train.models.tokenizer import train_tokenizer
from train.models.translator import SignTranslator
from train.settings import AdapterSettings, TransformerSettings

LINES = ["es regnet im norden", "am montag schneit es", "in der nacht wird es kalt"]
OPTIONS = {"beams": 5, "max_length": 8}


@pytest.fixture(scope="module")
def tokenizer() -> MBartTokenizer:
    return train_tokenizer(LINES, 60, "de_DE")


CLIPS = [Clip(f"c{i:02d}", "test", "x", 4 * i, 25.0, LINES[i % 3], "de_DE") for i in range(40)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Features that tell the sentence; the last two clips have none."""
    path = tmp_path_factory.mktemp("store") / "test.zarr"
    made = FeatureStore.create(path, {"test": "yes"}, width=4, dtype="float32")
    rng = np.random.default_rng(0)
    means = np.eye(3, 4, dtype=np.float32) * 3
    made.write_block(
        "b",
        [(clip.id, (means[i % 3] + rng.normal(0, 0.1, (2 + i % 5, 4))).astype(np.float32))
         for i, clip in enumerate(CLIPS[:-2])],
    )  # fmt: skip
    return FeatureStore.open(path)


@pytest.fixture(scope="module")
def translator(tokenizer: MBartTokenizer, store: FeatureStore) -> SignTranslator:
    """Taught the three sentences."""
    torch.manual_seed(3)
    size = TransformerSettings(layers=1, heads=2, d_model=32, ffn=64, dropout=0.0)
    model = SignTranslator.compose(build_mbart(size, tokenizer, "de_DE"), AdapterSettings(), 4)
    known = CLIPS[:-2]
    data = FeatureDataset([store.load([c.id for c in known])], encode_targets(tokenizer, [c.text for c in known]))
    batch = collate_features([data[i] for i in range(len(data))])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    return model.eval()


def test_every_clip_has_a_row_and_an_absent_one_an_empty_hypothesis(
    translator: SignTranslator, tokenizer: MBartTokenizer, store: FeatureStore
) -> None:
    rows = translate_split(translator, tokenizer, store, CLIPS, **OPTIONS)
    assert [row.id for row in rows] == [clip.id for clip in CLIPS]
    assert [row.reference for row in rows] == [clip.text for clip in CLIPS]
    assert [row.hypothesis for row in rows[-2:]] == ["", ""]
    assert all(row.score is not None and row.score < 0 for row in rows[:-2])
    assert [row.hypothesis for row in rows[:-2]] == [row.reference for row in rows[:-2]]


def test_translation_does_not_depend_on_the_other_clips(
    translator: SignTranslator, tokenizer: MBartTokenizer, store: FeatureStore
) -> None:
    together = {row.id: row.hypothesis for row in translate_split(translator, tokenizer, store, CLIPS, **OPTIONS)}
    for clip in CLIPS[:6]:
        (alone,) = translate_split(translator, tokenizer, store, [clip], **OPTIONS)
        assert alone.hypothesis == together[clip.id]


def test_a_batch_that_does_not_fit_is_halved(
    translator: SignTranslator, tokenizer: MBartTokenizer, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With memory for five clips, and then for none."""
    expected = translate_split(translator, tokenizer, store, CLIPS, **OPTIONS)
    tried: list[int] = []
    search, room = type(translator).generate, 5

    def generate(self: SignTranslator, lengths: list[int], **given: object) -> object:
        tried.append(len(lengths))
        if len(lengths) > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return search(self, lengths, **given)

    monkeypatch.setattr(SignTranslator, "generate", generate)
    found = translate_split(translator, tokenizer, store, CLIPS, at_once=24, **OPTIONS)
    assert [row.hypothesis for row in found] == [row.hypothesis for row in expected]
    assert [row.score for row in found[:-2]] == pytest.approx([row.score for row in expected[:-2]], abs=1e-5)
    assert tried[:4] == [24, 12, 6, 3]
    assert max(tried[3:]) == 3
    room = 0
    with pytest.raises(InputError, match="room for the search over one clip, found CUDA out of memory"):
        translate_split(translator, tokenizer, store, CLIPS, **OPTIONS)


def test_weights_in_half_precision_translate_alike(
    translator: SignTranslator, tokenizer: MBartTokenizer, store: FeatureStore
) -> None:
    half = copy.deepcopy(translator).to(torch.bfloat16)
    found = translate_split(half, tokenizer, store, CLIPS, **OPTIONS)
    plain = translate_split(translator, tokenizer, store, CLIPS, **OPTIONS)
    assert [row.hypothesis for row in found] == [row.hypothesis for row in plain]
    assert [row.score for row in found] != [row.score for row in plain]


def test_features_of_another_fingerprint_are_refused(
    translator: SignTranslator, tokenizer: MBartTokenizer, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translator.config, "features", {"test": "no"})
    with pytest.raises(InputError, match="expected features of test no, found test yes"):
        translate_split(translator, tokenizer, store, CLIPS, **OPTIONS)
    monkeypatch.setattr(translator.config, "features", store.provenance)
    assert translate_split(translator, tokenizer, store, CLIPS[:1], **OPTIONS)


def test_text_prior_is_one_sentence(translator: SignTranslator, tokenizer: MBartTokenizer, store: FeatureStore) -> None:
    rows = text_prior(translator, tokenizer, store, CLIPS, **OPTIONS)
    assert len(rows) == len(CLIPS)
    assert len({row.hypothesis for row in rows}) == 1
    assert rows[0].hypothesis


def test_greedy_has_no_score(translator: SignTranslator, tokenizer: MBartTokenizer, store: FeatureStore) -> None:
    rows = translate_split(translator, tokenizer, store, CLIPS[:3], beams=1, max_length=4)
    assert [row.score for row in rows] == [None] * 3


def test_a_clip_longer_than_the_positions_is_an_empty_hypothesis(
    translator: SignTranslator, tokenizer: MBartTokenizer, tmp_path: Path
) -> None:
    positions = translator.language_model.config.max_position_embeddings
    store = FeatureStore.create(tmp_path / "long.zarr", {"test": "yes"}, width=4, dtype="float32")
    lengths = (positions, positions + 1)
    store.write_block("b", [(clip.id, np.ones((n, 4), np.float32)) for clip, n in zip(CLIPS, lengths, strict=False)])
    fits, exceeds = translate_split(translator, tokenizer, store, CLIPS[:2], **OPTIONS)
    assert fits.hypothesis
    assert (exceeds.hypothesis, exceeds.score) == ("", None)


def test_text_prior_of_a_split_without_features(
    translator: SignTranslator, tokenizer: MBartTokenizer, tmp_path: Path
) -> None:
    store = FeatureStore.create(tmp_path / "empty.zarr", {"test": "yes"}, width=4, dtype="float32")
    rows = text_prior(translator, tokenizer, store, CLIPS[:2], **OPTIONS)
    assert len(rows) == 2


def test_progress_reaches_the_end(
    translator: SignTranslator, tokenizer: MBartTokenizer, store: FeatureStore, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    translate_split(translator, tokenizer, store, CLIPS, on_clip=lambda *now: told.append(now), **OPTIONS)
    assert told == [(32, 38), (38, 38)]


SHARED = """
import os, sys
from pathlib import Path
from eval.predictions.prediction_file import write_predictions
from eval.translation.translate_features import translate_split
from extract.dataset.clip_index import ClipIndex
from extract.store.feature_store import FeatureStore
from train.models.tokenizer import load_tokenizer
from train.models.translator import SignTranslator

folder = Path(sys.argv[1])
model, tokenizer = SignTranslator.from_pretrained(folder / "model").eval(), load_tokenizer(folder / "model", "de_DE")
clips, store = ClipIndex(folder / "index.parquet", "test").clips(), FeatureStore.open(sys.argv[2])
rows = translate_split(model, tokenizer, store, clips, beams=5, max_length=8)
write_predictions(folder / f"{os.environ['RANK']}.jsonl", rows)
"""


@pytest.mark.long
def test_two_processes_translate_what_one_does(
    translator: SignTranslator, tokenizer: MBartTokenizer, store: FeatureStore, tmp_path: Path
) -> None:
    """Neither is a clip that a sampler would have padded with counted twice, nor is one dropped."""
    translator.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    clips = CLIPS[:37]  # the shares are not of one size
    write_index(tmp_path / "index.parquet", clips)
    (tmp_path / "shared.py").write_text(SHARED)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [*torchrun, tmp_path / "shared.py", tmp_path, store.location], check=True, capture_output=True, timeout=240,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1",
             "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    alone = translate_split(translator, tokenizer, store, clips, **OPTIONS)
    for rank in range(2):
        together = read_predictions(tmp_path / f"{rank}.jsonl")
        assert [(each.id, each.hypothesis) for each in together] == [(each.id, each.hypothesis) for each in alone]


def test_shares_that_do_not_make_the_split_are_refused() -> None:
    assert gather({"b": 2, "a": 1}, ["a", "b"]) == {"a": 1, "b": 2}
    with pytest.raises(InputError, match="clip 'b': expected the clips of the split, found one too few"):
        gather({"a": 1}, ["a", "b"])
