"""Stage 2 killed by SIGKILL and started again: the losses and weights of an undisturbed run, with every draw that
there is (dropout, views, augmentation, batches, accumulation)."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.long

SCRIPT = """
import json, sys, time
from pathlib import Path
import numpy as np, torch
from extract.dataset.clip_index import Clip
from extract.store.feature_store import FeatureStore
from train.models.language_model import build_mbart
from train.settings import TransformerSettings, Stage2Settings
from train.models.tokenizer import train_tokenizer
from train.recipes.stage2 import train_stage2

folder, pace = Path(sys.argv[1]), float(sys.argv[2])
torch.set_num_threads(1)
lines = ["es regnet", "es schneit stark", "im norden wird es kalt", "am montag scheint die sonne"]
def split(name):
    clips = [Clip(f"{name}{i}", name, "x", 20, 25.0, lines[i % 4], "de_DE") for i in range(22)]
    store = FeatureStore.create(folder.parent / f"{name}.zarr", {"test": "yes"}, width=6, dtype="float32")
    if not store.views():
        rng = np.random.default_rng(0)
        for view in ("plain", "phase=1"):
            arrays = [(clip.id, rng.random((3 + i % 7, 6), np.float32)) for i, clip in enumerate(clips)]
            store.write_block(view, arrays, views=[view] * len(arrays))
    return FeatureStore.open(store.location), clips
(train_store, train), (dev_store, dev) = split("train"), split("dev")
tokenizer = train_tokenizer(lines, 60, "de_DE")
torch.manual_seed(1)
size = TransformerSettings(layers=1, heads=2, d_model=16, ffn=32, positions=40)
settings = Stage2Settings.model_validate(
    dict(language_model="lm", epochs=4, batch_tokens=50, accumulate=2, warmup_steps=3, learning_rate=1e-3, log_every=3,
         evaluate_every=4, max_length=6, augment=dict(stretch=0.3, noise=0.1, masks=1)))
done = train_stage2(
    train_store, dev_store, train, dev, settings, build_mbart(size, tokenizer, "de_DE"), tokenizer, folder,
    lambda *_: time.sleep(pace), ["plain", "phase=1"])
torch.save(done.model.state_dict(), folder / "result.pt")
(folder / "log.json").write_text(json.dumps(done.log))
"""


def start(folder: Path, pace: float = 0) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SCRIPT, str(folder), str(pace)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[3], start_new_session=True)


def test_killed_at_any_step_and_resumed_is_undisturbed(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert start(whole).wait() == 0
    # Killed after the second checkpoint, and again after the fourth, each time somewhere within the steps that follow.
    for checkpoint in (8, 16):
        killed = start(parts, 0.15)
        deadline = time.monotonic() + 120
        while not (parts / f"checkpoint-{checkpoint}/trainer_state.json").exists():
            assert time.monotonic() < deadline
            assert killed.poll() is None
            time.sleep(0.02)
        time.sleep(0.3)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        (parts / "checkpoint-99").mkdir()  # as of one that was killed while it wrote a later one
        (parts / "checkpoint-99/model.safetensors").write_bytes(b"half")
    assert not (parts / "result.pt").exists()
    assert start(parts).wait() == 0
    logs = [json.loads((folder / "log.json").read_text()) for folder in (whole, parts)]
    for name in ("loss", "grad_norm", "learning_rate", "eval_loss", "eval_bleu4"):
        found = [[(entry["step"], entry[name]) for entry in log if name in entry] for log in logs]
        assert [step for step, _ in found[0]] == [step for step, _ in found[1]]
        assert [value for _, value in found[0]] == pytest.approx([value for _, value in found[1]], abs=1e-6)
        assert len(found[0]) >= 5
    weights, resumed = (torch.load(folder / "result.pt", weights_only=True) for folder in (whole, parts))
    for name, value in weights.items():
        torch.testing.assert_close(resumed[name], value, atol=1e-6, rtol=1e-5)
