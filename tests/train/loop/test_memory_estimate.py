"""The estimate of memory against what a process of its own takes for training: all of it, as the system counts it, and
the tensors that torch's profiler sees."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from train.loop.memory_estimate import TOLERANCE

pytestmark = pytest.mark.long

SCRIPT = """
import json, os, sys, tempfile
from pathlib import Path
import cv2, numpy as np, torch
from torch.profiler import ProfilerActivity, profile
from transformers import MBartConfig, MBartForConditionalGeneration, TrainerCallback
from extract.store.feature_store import Features
from train.data.feature_dataset import FeatureDataset, collate_features
from train.models.lora import add_lora
from train.loop.memory_estimate import estimate
from train.settings import AdapterSettings, LoraSettings, Stage1Settings, TrainingSettings
from train.loop.trainer import _memory, fit
from train.models.translator import SignTranslator
from extract.dataset.clip_index import Clip
from extract.encoder.visual_encoder import VisualEncoder
from extract.settings import EncoderSettings, FrameSettings
from train.data.clip_dataset import ClipDataset, collate_clips
from train.data.length_batches import LengthBatches
from train.recipes.stage1 import _save_memory

torch.set_num_threads(1)
SOURCE, TARGET = 30, 20

def parts(vocabulary=1000, batch=8, width=128, lora=False, **options):
    torch.manual_seed(0)
    size = {f"{part}_{what}": value for part in ("encoder", "decoder")
            for what, value in {"layers": 2, "attention_heads": 4, "ffn_dim": 4 * width}.items()}
    language_model = MBartForConditionalGeneration(
        MBartConfig(vocab_size=vocabulary, d_model=width, max_position_embeddings=64, decoder_start_token_id=2, **size))
    model = SignTranslator.compose(language_model, AdapterSettings(), 64)
    if lora:
        add_lora(language_model, LoraSettings())
    model.label_smoothing = 0.2
    clips = 2 * batch
    array = np.ones((clips * SOURCE, 64), np.float16)
    features = Features([str(i) for i in range(clips)], array, np.arange(0, clips * SOURCE + 1, SOURCE))
    data = FeatureDataset([features], [[5] * TARGET] * clips)
    settings = TrainingSettings(**{"steps": 2, "batch_size": batch, "checkpoint_every": 9999, **options})
    memory = estimate(
        model, settings, lambda n: collate_features([data.example_of(SOURCE, TARGET)] * n), batch, alike=True)
    return model, data, settings, memory

def held(what):
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(what))

def process():
    model, data, settings, _ = parts(steps=1)
    model(**collate_features([data[0]])).loss.backward()  # libraries
    del model
    before = held("VmRSS")
    model, data, settings, memory = parts(vocabulary=3000, width=512, batch=16, steps=3, checkpoint_every=3)
    with tempfile.TemporaryDirectory() as folder:
        peaks = []
        class Watching(TrainerCallback):
            def on_step_end(self, *_, **__):
                peaks.append(held("VmHWM"))
        fit(model, settings, data, collate_features, Path(folder) / "work", callbacks=[Watching()])
    print(json.dumps(["process", memory.peak, peaks[-1] - before]))

def case(name, **given):
    model, data, settings, memory = parts(**given)
    print(json.dumps([name, memory.tensors - memory.weights, peak_of(model, data, settings, collate_features)]))

def peak_of(model, data, settings, collate):
    with tempfile.TemporaryDirectory() as folder:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            fit(model, settings, data, collate, Path(folder) / "work")
        seen.export_chrome_trace(folder + "/trace.json")
        events = json.loads(Path(folder, "trace.json").read_text())["traceEvents"]
    allocated = [event["args"] for event in events if event.get("name") == "[memory]"]
    start = allocated[0]["Total Allocated"] - allocated[0]["Bytes"]
    return max(one["Total Allocated"] for one in allocated) - start

def pixels(name, **options):
    folder = Path(tempfile.mkdtemp())
    frames, rng = FrameSettings(resize=72, crop=64), np.random.default_rng(0)
    clips = [Clip(f"c{n}", "train", f"c{n}", int(rng.integers(20, 60)), 25.0, "", "de_DE") for n in range(12)]
    for clip in clips:
        (folder / clip.id).mkdir()
        for frame in range(clip.n_frames):
            cv2.imwrite(str(folder / clip.id / f"{frame + 1}.png"), rng.integers(0, 256, (72, 72, 3), np.uint8))
    data = ClipDataset(folder, clips, [[5] * 12] * len(clips), frames, random=True)
    torch.manual_seed(0)
    size = {f"{part}_{what}": value for part in ("encoder", "decoder")
            for what, value in {"layers": 1, "attention_heads": 2, "ffn_dim": 128}.items()}
    text = MBartForConditionalGeneration(
        MBartConfig(vocab_size=500, d_model=64, max_position_embeddings=64, decoder_start_token_id=2, **size))
    resnet = {"model_type": "resnet", "layer_type": "basic", "embedding_size": 16, "hidden_sizes": [16, 32, 64, 128],
              "depths": [2, 2, 2, 2]}
    encoder = VisualEncoder.from_settings(EncoderSettings(backbone=resnet, width=64), frames)
    settings = Stage1Settings(**{"steps": 4, "epochs": None, "batch_size": 6, "checkpoint_every": 9999, **options})
    _save_memory(encoder, settings)
    model, said = SignTranslator.compose(text, AdapterSettings(), 64, encoder), []
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    batches = LengthBatches([(0, 0)] * len(clips), 6)
    memory = _memory(model, settings, batches, data, collate_clips, torch.device("cpu"), "packed")
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    print(json.dumps([name, memory.tensors - memory.weights, peak_of(model, data, settings, collate_clips)]))

process()
pixels("from pixels")
pixels("frame_batch", frame_batch=8)
pixels("layer by layer", gradient_checkpointing=True)
case("plain")
case("vocabulary", vocabulary=20000)
case("accumulated", accumulate=2)
case("sgd", optimizer="sgd")
case("checkpointing", batch=24, gradient_checkpointing=True)
case("lora", lora=True)
"""


def test_the_estimate_lies_within_its_tolerance(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=200,
                          cwd=Path(__file__).parents[3], env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})  # fmt: skip
    found = {name: (estimated, peak) for name, estimated, peak in map(json.loads, done.stdout.splitlines())}
    estimated, peak = found.pop("process")
    assert 0.9 <= estimated / peak <= 1.2
    assert len(found) == 9
    off = {name: round(estimated / peak, 2) for name, (estimated, peak) in found.items()}
    assert all(1 - TOLERANCE <= ratio <= 1 + TOLERANCE for ratio in off.values()), off
