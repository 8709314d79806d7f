"""What an optimiser step is made of: cached, end to end, the encoder alone, and the rate of multiplying matrices."""

from __future__ import annotations

import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.stage2.contenders import Gate, resident, serve
from benchmarks.stage2.shapes import CLIPS, LARGE, PIECES, SAMPLED, TRIMMED, dataset, translator, visual_encoder
from train.data.feature_dataset import collate_features
from train.loop.memory_estimate import estimate
from train.settings import TrainingSettings

ENDLESS = 10**6


def cached(pipe: Connection, layers: int, vocabulary: int, clips: int, size: dict[str, int]) -> None:
    """Stage 2's own training loop."""
    from train.loop.trainer import fit

    warm_up()
    base = resident("VmRSS")
    model = translator(layers, vocabulary, **size)
    data = dataset([(SAMPLED, PIECES)] * clips * 4)
    settings = TrainingSettings(
        steps=ENDLESS, checkpoint_every=ENDLESS, log_every=ENDLESS, batch_size=clips, learning_rate=1e-5
    )
    memory = estimate(
        model, settings, lambda n: collate_features([data.example_of(SAMPLED, PIECES)] * n), clips, alike=True
    )
    with FlopCounterMode(display=False) as counter:
        model(**collate_features([data[0]])).loss.backward()
    model.zero_grad()
    pipe.send(
        {
            "flop": counter.get_total_flops(),
            "estimate": memory.peak,
            "shared": memory.weights + memory.gradients + memory.optimiser,  # with an end-to-end step
            "parameters": model.num_parameters(),
        }
    )
    with tempfile.TemporaryDirectory() as work:
        fit(model, settings, data, collate_features, Path(work) / "w", callbacks=[Gate(pipe, base)])


def warm_up() -> None:
    """Libraries and their buffers, so that what is measured afterwards is the model's."""
    model = translator(1, TRIMMED, d_model=64, ffn=64, heads=2)
    model(**collate_features([dataset([(SAMPLED, PIECES)])[0]])).loss.backward()


def encoder(pipe: Connection, frames: int, train: bool) -> None:
    """ResNet-18 and temporal module over one clip's frames: forward and backward, or forward only."""
    torch.manual_seed(0)
    model = visual_encoder().train(train)
    clip = torch.randint(0, 256, (frames, 3, 224, 224), dtype=torch.uint8)
    kept = 0

    def forward() -> Tensor:
        return model(clip, [frames])[0]

    def step() -> None:
        if train:
            forward().square().mean().backward()
        else:
            with torch.no_grad():
                forward()

    if train:
        seen: dict[int, int] = {}

        own = {one.untyped_storage().data_ptr() for one in model.parameters()}

        def pack(tensor: Tensor) -> Tensor:
            if tensor.untyped_storage().data_ptr() not in own:
                seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = forward()
        kept = sum(seen.values())
        del out
    with FlopCounterMode(display=False) as counter:
        step()
    serve(pipe, step, flop=counter.get_total_flops(), kept=kept)


def end_to_end(pipe: Connection, layers: int, clips: int) -> None:
    """Encoder and language model in one step, all of its clips at once."""
    warm_up()
    base = resident("VmRSS")
    model = translator(layers, TRIMMED, visual_encoder(), **LARGE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    frames = torch.randint(0, 256, (clips * SAMPLED, 3, 224, 224), dtype=torch.uint8)
    labels = torch.randint(10, 2900, (clips, PIECES))

    def step() -> None:
        model.train()
        model(labels=labels, lengths=torch.tensor([SAMPLED] * clips), frames=frames).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    serve(pipe, step, base)


def matrices(pipe: Connection) -> None:
    """The rate of multiplying matrices: the language model's largest, with the rows of 16 clips, and squares."""
    shapes = [(CLIPS * SAMPLED, 1024, 4096), (2048, 2048, 2048)]
    pairs = [(torch.randn(m, k), torch.randn(k, n)) for m, k, n in shapes]
    rates = [0.0, 0.0]

    def step() -> None:
        for place, ((left, right), (m, k, n)) in enumerate(zip(pairs, shapes, strict=True)):
            began = time.perf_counter()
            for _ in range(8):
                left @ right
            rates[place] = 8 * 2 * m * k * n / (time.perf_counter() - began)

    pipe.send({})
    while pipe.recv() == "step":
        step()
        pipe.send({"seconds": 1 / max(rates), "peak": 0})
