"""Peak memory and time of one training step of ResNet-18 on a clip: ``python benchmarks/frames_by_pieces.py [FRAMES]``.

Each way in a process of its own; memory is what the step needs beyond the process before it.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose extract.py would hide the package

import json
import resource
import subprocess
import time

import torch

from extract.encoder.visual_encoder import VisualEncoder
from extract.settings import EncoderSettings, FrameSettings
from train.models.backbone_checkpointing import LayerwiseBackbone, PiecewiseBackbone

WAYS = ("whole", "layers", "pieces", "running")
RESNET18 = {"model_type": "resnet", "layer_type": "basic", "embedding_size": 64, "hidden_sizes": [64, 128, 256, 512],
            "depths": [2, 2, 2, 2]}  # fmt: skip


def step(way: str, frames: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = VisualEncoder.from_settings(EncoderSettings(backbone=RESNET18), FrameSettings())
    model.running_statistics = way == "running"
    model.train()
    if way == "layers":
        model.frame_pass = LayerwiseBackbone(model)
    elif way != "whole":
        model.frame_pass = PiecewiseBackbone(model, 8)

    def learn(number: int) -> None:
        pixels = torch.randint(0, 256, (number, 3, 224, 224), dtype=torch.uint8)
        model(pixels, [number])[0].sum().backward()

    learn(9)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    learn(frames)
    seconds = time.perf_counter() - started
    mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"way": way, "frames": frames, "mib": round(mib), "seconds": round(seconds, 1)}))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        step(sys.argv[1], int(sys.argv[2]))
    else:
        for way in WAYS:
            subprocess.run([sys.executable, __file__, way, sys.argv[1] if len(sys.argv) > 1 else "119"], check=True)
