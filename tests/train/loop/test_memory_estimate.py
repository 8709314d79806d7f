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
import numpy as np, torch
from torch.profiler import ProfilerActivity, profile
from transformers import MBartConfig, MBartForConditionalGeneration, TrainerCallback
from extract.store.feature_store import Features
from train.data.feature_dataset import FeatureDataset, collate_features
from train.models.lora import add_lora
from train.loop.memory_estimate import estimate
from train.settings import AdapterSettings, LoraSettings, TrainingSettings
from train.loop.trainer import fit
from train.models.translator import SignTranslator

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
    with tempfile.TemporaryDirectory() as folder:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            fit(model, settings, data, collate_features, Path(folder) / "work")
        seen.export_chrome_trace(folder + "/trace.json")
        events = json.loads(Path(folder, "trace.json").read_text())["traceEvents"]
    allocated = [event["args"] for event in events if event.get("name") == "[memory]"]
    start = allocated[0]["Total Allocated"] - allocated[0]["Bytes"]
    peak = max(one["Total Allocated"] for one in allocated) - start
    print(json.dumps([name, memory.tensors - memory.weights, peak]))

process()
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
    assert len(found) == 6
    off = {name: round(estimated / peak, 2) for name, (estimated, peak) in found.items()}
    assert all(1 - TOLERANCE <= ratio <= 1 + TOLERANCE for ratio in off.values()), off
