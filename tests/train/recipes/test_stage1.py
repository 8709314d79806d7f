"""Stage 1 beyond a plain run: further losses, word dropout, sampling rates, resume, and clips that cannot be read."""

import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from eval.translation.encode_clips import encode_clips
from eval.translation.translate_features import translate_clips
from extract.dataset.clip_index import Clip, ClipIndex
from extract.dataset.manifest import Dataset
from extract.decoding.read_clip import read_clip
from extract.encoder.extractor import Extractor, load_encoder
from extract.errors import ClipError
from extract.settings import EncoderSettings, ExtractSettings, FrameSettings
from extract.store.feature_store import FeatureStore
from train.data.targets import encode_targets, pad_labels
from train.loop.trainer import Report
from train.models.contrastive_loss import ContrastiveLoss
from train.models.language_model import build_mbart
from train.models.tokenizer import train_tokenizer
from train.models.translator import SignTranslator
from train.models.translator_config import SignTranslatorConfig
from train.recipes.stage1 import LearnsFromPixels, train_stage1, with_states
from train.recipes.stage2 import train_stage2
from train.settings import AdapterSettings, Stage1Settings, Stage2Settings, TransformerSettings

BACKBONE = {"model_type": "resnet", "layer_type": "basic", "embedding_size": 8, "hidden_sizes": [8, 8, 16, 16],
            "depths": [1, 1, 1, 1]}  # fmt: skip
ENCODER = EncoderSettings(backbone=BACKBONE, width=8)
SIZE = TransformerSettings(layers=1, heads=2, d_model=16, ffn=32, positions=200)
LINES = ["es regnet im norden", "am montag schneit es", "es regnet im norden"]


def learn(
    root: Path, clips: list[Clip], frames: FrameSettings, work: Path, pause: float = 0, **settings: object
) -> SignTranslator:
    """Stage 1 in its smallest size."""
    tokenizer = train_tokenizer([clip.text for clip in clips], 200, "de_DE")
    torch.manual_seed(0)

    @contextmanager
    def bars(name: str, unit: str) -> Iterator[Report]:
        yield lambda *_: time.sleep(pause)

    chosen = Stage1Settings.model_validate({"steps": 1, "epochs": None, "batch_size": 3, **settings})
    model, _ = train_stage1(
        root, clips, clips[:2], ENCODER, frames, chosen, tokenizer, work,
        language_model=build_mbart(SIZE, tokenizer, "de_DE"), bars=bars,
    )  # fmt: skip
    return model


def some(index: ClipIndex, split: str, number: int) -> list[Clip]:
    return ClipIndex(index.path, split).clips()[:number]


class TestContrastiveLoss:
    def test_it_is_infonce_both_ways_and_equal_sentences_are_no_negatives(self) -> None:
        tokenizer = train_tokenizer(LINES, 60, "de_DE")
        torch.manual_seed(0)
        language_model = build_mbart(SIZE, tokenizer, "de_DE").eval()
        loss = ContrastiveLoss(16)
        states, lengths = torch.randn(3, 5, 16), [5, 2, 3]
        targets = encode_targets(tokenizer, LINES)
        found = loss(language_model, states, lengths, pad_labels(targets), tokenizer.pad_token_id)
        video = F.normalize(loss.video(torch.stack([s[:n].mean(0) for s, n in zip(states, lengths, strict=True)])))
        words = [language_model.get_encoder()(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0)
                 for ids in targets]  # fmt: skip
        logits = video @ F.normalize(loss.text(torch.stack(words))).T / 0.07
        wanted = torch.tensor([[0.5, 0, 0.5], [0, 1, 0], [0.5, 0, 0.5]])  # the first and the last say the same
        both = [-(wanted * way.log_softmax(1)).sum(1).mean() for way in (logits, logits.T)]
        torch.testing.assert_close(found, sum(both) / 2, atol=1e-4, rtol=1e-4)  # type: ignore[arg-type]

    def test_it_is_low_where_clips_lie_on_their_sentences(self) -> None:
        tokenizer = train_tokenizer(LINES, 60, "de_DE")
        language_model = build_mbart(SIZE, tokenizer, "de_DE").eval()
        loss = ContrastiveLoss(16)
        labels = pad_labels(encode_targets(tokenizer, LINES[:2]))
        with torch.no_grad():
            loss.video.weight.copy_(torch.eye(16))
            loss.text.weight.copy_(torch.eye(16))
            loss.scale.fill_(math.log(1e6))  # held at 100
            states = language_model.get_encoder()(input_ids=labels.clamp(min=1), attention_mask=(labels >= 0).long())
            given = language_model, states.last_hidden_state, (labels >= 0).sum(1).tolist(), labels, 1
            right = loss(*given)
            wrong = loss(given[0], given[1].flip(0), given[2][::-1], *given[3:])
        assert right < 0.01 < wrong


def test_word_dropout_hides_pieces_from_the_decoder_in_training_only() -> None:
    tokenizer = train_tokenizer(LINES, 60, "de_DE")
    language_model = build_mbart(SIZE, tokenizer, "de_DE")
    config = SignTranslatorConfig(language_model=language_model.config.to_dict(), feature_width=6)
    model = LearnsFromPixels(config, language_model)
    model.word_dropout, model.mask = 0.3, tokenizer.mask_token_id
    labels = pad_labels(encode_targets(tokenizer, LINES * 100))
    plain = SignTranslator.compose(language_model, AdapterSettings(), 6).decoder_inputs(labels)
    assert torch.equal(model.eval().decoder_inputs(labels), plain)
    torch.manual_seed(0)
    dropped = model.train().decoder_inputs(labels)
    hidden = dropped != plain
    assert (dropped[hidden] == tokenizer.mask_token_id).all()
    assert not hidden[:, 0].any()
    assert not (hidden & (labels < 0)).any()
    assert hidden[:, 1:][labels[:, 1:] >= 0].float().mean().item() == pytest.approx(0.3, abs=0.05)


@pytest.mark.long
@pytest.mark.parametrize("every", [1, 2, 4, 8])
def test_sampling_rates_from_stage_1_to_translations(
    tiny_dataset: Dataset, tiny_index: ClipIndex, tmp_path: Path, every: int
) -> None:
    """100, 50, 25 and 12.5 % of the frames (table 6), through encoder, store, stage 2 and beam search."""
    frames = FrameSettings(resize=36, crop=32, keep_every=every)
    train, test = some(tiny_index, "train", 4), some(tiny_index, "test", 3)
    model = learn(tiny_dataset.root, train, frames, tmp_path / "work", frame_batch=16)
    with_states(model).save_pretrained(tmp_path / "encoder")
    extractor = Extractor(load_encoder(tmp_path / "encoder"), ExtractSettings(backend="torch", dtype="float32"))
    stores = {}
    for split, clips in {"train": train, "test": test}.items():
        store = FeatureStore.create(tmp_path / f"{split}.zarr", {"every": str(every)}, width=8, dtype="float32")
        seen = [read_clip(tiny_dataset.root, clip, frames) for clip in clips]
        assert [len(one) for one in seen] == [-(-clip.n_frames // every) for clip in clips]
        batches = [torch.cat([extractor.frame_features(part.numpy()) for part in torch.from_numpy(one).split(16)])
                   for one in seen]  # fmt: skip
        store.write_block("b", [(clip.id, extractor.cached(one)) for clip, one in zip(clips, batches, strict=True)])
        stores[split] = FeatureStore.open(store.location)
    direct, failed = encode_clips(model, tiny_dataset.root, test)
    assert not failed
    np.testing.assert_allclose(direct.array, stores["test"].load([clip.id for clip in test]).array, atol=1e-4)
    tokenizer = train_tokenizer([clip.text for clip in train], 200, "de_DE")
    settings = Stage2Settings(steps=1, epochs=None, batch_size=4, language_model="lm")
    second = train_stage2(
        stores["train"], stores["train"], train, train, settings, build_mbart(SIZE, tokenizer, "de_DE"), tokenizer,
        tmp_path / "stage2",
    )  # fmt: skip
    said = translate_clips(second.model, tokenizer, direct, test, beams=2, max_length=6)
    assert [row.id for row in said] == [clip.id for clip in test]
    assert all(row.score is not None for row in said)


def test_a_clip_that_a_worker_cannot_read_is_told_as_such(
    corpus_copy: Path, tiny_index: ClipIndex, tmp_path: Path
) -> None:
    clips = some(tiny_index, "train", 4)
    damaged = sorted((corpus_copy / clips[2].source).iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:-20])
    for workers in (0, 1):
        with pytest.raises(ClipError, match=f"{damaged.name}: truncated") as caught:
            learn(corpus_copy, clips, FrameSettings(resize=36, crop=32, keep_every=1), tmp_path / f"work{workers}",
                  workers=workers, steps=2)  # fmt: skip
        assert "Traceback" not in str(caught.value)
        assert caught.value.kind == "decode"


def test_loader_processes_decide_nothing(tiny_dataset: Dataset, tiny_index: ClipIndex, tmp_path: Path) -> None:
    """Over epochs: processes that stay from one to the next see which it is, and take no number from the model."""
    clips, frames = some(tiny_index, "train", 5), FrameSettings(resize=36, crop=32, keep_every=4)
    alone, helped = (
        learn(tiny_dataset.root, clips, frames, tmp_path / f"{workers}", workers=workers, steps=6, batch_size=3,
              warp={}, word_dropout=0.2).state_dict()
        for workers in (0, 1)
    )  # fmt: skip
    for name, value in alone.items():
        torch.testing.assert_close(helped[name], value, atol=0, rtol=0, msg=name)


@pytest.mark.slow
def test_a_killed_stage_1_ends_with_the_same_weights(
    tiny_dataset: Dataset, tiny_index: ClipIndex, tmp_path: Path
) -> None:
    """SIGKILL within the second epoch, with every option that draws: the resumed run draws what the whole one does."""
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        import torch
        from extract.dataset.clip_index import ClipIndex
        from extract.settings import FrameSettings
        from tests.train.recipes.test_stage1 import learn, some

        torch.set_num_threads(1)
        root, index, work, pause = *map(Path, sys.argv[1:4]), float(sys.argv[4])
        model = learn(
            root, some(ClipIndex(index), "train", 9), FrameSettings(resize=36, crop=32), work, pause, steps=8,
            checkpoint_every=4, warp={}, contrastive=0.1, word_dropout=0.2, bag_of_words=0.1, frame_batch=16,
            optimizer="adamw", learning_rate=1e-3, workers=1,
        )
        torch.save(model.state_dict(), work.with_suffix(".pt"))
        """
    )
    root = Path(__file__).parents[3]

    def start(work: str, pause: float) -> subprocess.Popen[bytes]:
        words = [str(tiny_dataset.root), str(tiny_index.path), str(tmp_path / work), str(pause)]
        return subprocess.Popen([sys.executable, "-c", script, *words], cwd=root, start_new_session=True)

    killed = start("parts", 0.7)
    assert start("whole", 0).wait() == 0
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("parts/generation/checkpoint-4/trainer_state.json")):
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "parts.pt").exists()
    assert start("parts", 0).wait() == 0
    whole, resumed = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("whole", "parts"))
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, atol=1e-6, rtol=1e-5, msg=name)


def test_gradient_checkpointing_leaves_the_encoder_as_it_would_be(
    tiny_dataset: Dataset, tiny_index: ClipIndex, tmp_path: Path
) -> None:
    """Weights and BatchNorm's running statistics, through the loop, which checkpoints by itself what it can."""
    clips, frames = some(tiny_index, "train", 6), FrameSettings(resize=36, crop=32, keep_every=4)
    plain, again = (
        learn(tiny_dataset.root, clips, frames, tmp_path / str(on), steps=3, gradient_checkpointing=on).state_dict()
        for on in (False, True)
    )
    for name, value in plain.items():
        torch.testing.assert_close(again[name], value, atol=1e-4, rtol=1e-4, msg=name)
    assert any("running_mean" in name for name in plain)
