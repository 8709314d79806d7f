"""Stage 2, stage 1, the joint baseline and beam search on a GPU, in the product's own loops with their defaults."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.on_gpu.clocks import CUDA, DEVICE, fitted, median, settings_of
from benchmarks.stage2.shapes import LARGE, TRIMMED, corpus_lengths, dataset, language_model, translator
from extract.dataset.clip_index import Clip
from extract.encoder.visual_encoder import VisualEncoder
from extract.settings import EncoderSettings, FrameSettings
from train.data.clip_dataset import ClipDataset, collate_clips
from train.data.feature_dataset import collate_features
from train.loop.dev_evaluation import bleu4_of_words
from train.loop.search_batches import clips_at_once
from train.models.translator import SignTranslator
from train.settings import AdapterSettings, JointSettings, Stage1Settings, TrainingSettings

CLIPS, DEV, BATCH, EPOCHS, LOOK = 7096, 519, 16, 40, 1000
"""PHOENIX14T's, the paper's batch and epochs, and steps between looks at dev."""
LIGHT_T = {"d_model": 512, "ffn": 2048, "heads": 8}


class Numbers:
    """In place of a tokenizer: models with random weights write nothing that can be read."""

    pad_token_id = 1

    def batch_decode(self, rows: Sequence[Any], **_: Any) -> list[str]:
        return [" ".join(str(int(piece)) for piece in row) for row in rows]

    def save_pretrained(self, *_: Any, **__: Any) -> None: ...


@dataclasses.dataclass
class Learner:
    """What the sections share.

    Args:
        root: of the clips' frames.
        quick: steps of the shorter runs; the one that is extrapolated has five times as many.
        size: of the language model.
        sampled: frames of a clip that are kept.
    """

    folder: Path
    root: Path
    clips: list[Clip]
    frames: FrameSettings
    backbone: dict[str, Any]
    quick: int
    layers: int
    translated: int
    sampled: int
    size: dict[str, int] = dataclasses.field(default_factory=lambda: dict(LARGE))

    def __post_init__(self) -> None:
        self.fresh = translator(self.layers, TRIMMED, **self.size)

    def stage2(self) -> dict[str, Any]:
        """Milliseconds of a step on cached features at the paper's batch; seconds of 40 epochs with looks at dev every
        1,000 steps, extrapolated from a run with one look."""
        found: dict[str, Any] = {}
        every, few = (CLIPS, DEV) if CUDA else (60, 4)
        data, dev = dataset(corpus_lengths(every)), dataset(corpus_lengths(few))
        steps = 5 * self.quick + 20 if CUDA else self.quick
        chosen = settings_of(TrainingSettings, steps, BATCH if CUDA else 4, "bf16" if CUDA else "fp32",
                             learning_rate=1e-5, evaluate_every=steps)  # fmt: skip
        clock = fitted(copy.deepcopy(self.fresh), chosen, data, collate_features, self.folder, dev=dev,
                       tokenizer=Numbers(), max_length=25, judge=lambda said: bleu4_of_words(said, said))  # fmt: skip
        name = f"{chosen.precision}_{chosen.batch_size}"
        found[f"{name}_step_ms"] = 1000 * clock.step
        whole = EPOCHS * -(-CLIPS // BATCH)
        look = clock.saved - clock.ended
        found["look_at_dev_and_checkpoint_s"] = look
        found["translate_fit_40_epochs_s"] = (
            clock.middle - clock.began + (whole - clock.half) * clock.step + (whole // LOOK) * look
        )
        found["extrapolated_from_steps"] = steps
        return found

    def stage2_large(self) -> dict[str, float]:
        """The same at a batch of 128."""
        return self._steps("bf16" if CUDA else "fp32", 128 if CUDA else 8)

    def stage2_fp32(self) -> dict[str, float]:
        """The same in float32."""
        return self._steps("fp32", BATCH) | self._steps("fp32", 128 if CUDA else 8)

    def _steps(self, precision: str, batch: int) -> dict[str, float]:
        chosen = settings_of(TrainingSettings, 3 * self.quick, batch, precision, learning_rate=1e-5)
        data = dataset(corpus_lengths(CLIPS if CUDA else 60))
        clock = fitted(copy.deepcopy(self.fresh), chosen, data, collate_features, self.folder)
        return {f"{precision}_{batch}_step_ms": 1000 * clock.step}

    def end_to_end(self) -> dict[str, float]:
        """Milliseconds of a step of joint training from pixels, same language model, with sampled and with all frames:
        what caching saves a step of."""
        batch, precision = (BATCH, "bf16") if CUDA else (4, "fp32")
        rates = {"adapter.": 1e-3, "encoder.": 1e-3}
        found = {}
        for name, every, steps in (("sampled", self.frames.keep_every, self.quick), ("all", 1, self.quick // 2)):
            model = SignTranslator.compose(
                copy.deepcopy(self.fresh.language_model), AdapterSettings(), 512, self.encoder()
            )
            chosen = settings_of(JointSettings, steps, batch, precision)
            pixels = self.pixels(self.frames.model_copy(update={"keep_every": every}))
            clock = fitted(model, chosen, pixels, collate_clips, self.folder, rates=rates)
            found[f"{name}_{precision}_{batch}_step_ms"] = 1000 * clock.step
        return found

    def stage1(self) -> dict[str, float]:
        """Frames a second of stage 1's own loop at the paper's batch of 8; and of forward and backward on frames that
        lie on the device."""
        batch, precision = (8, "bf16") if CUDA else (2, "fp32")
        chosen = settings_of(Stage1Settings, self.quick, batch, precision, epochs=None)
        clock = fitted(self.light(), chosen, self.pixels(self.frames), collate_clips, self.folder)
        model = self.light().to(DEVICE).train()
        side = self.frames.crop
        frames = torch.randint(0, 256, (batch * self.sampled, 3, side, side), dtype=torch.uint8, device=DEVICE)
        labels = torch.randint(10, 2900, (batch, 20), device=DEVICE)

        def step() -> None:
            with torch.autocast(DEVICE, torch.bfloat16, enabled=precision == "bf16"):
                loss = model(labels=labels, lengths=[self.sampled] * batch, frames=frames).loss
            loss.backward()

        seen = batch * self.sampled
        return {"frames_per_second": seen / clock.step, "bound_frames_per_second": seen / median(step)}

    def replay(self) -> dict[str, float]:
        """Milliseconds of a bf16 step of one shape that is recorded by hand, clipping and AdamW within."""
        if not CUDA:
            raise RuntimeError("CUDA graphs need a GPU")
        found = {}
        for batch in (BATCH, 128):
            model = copy.deepcopy(self.fresh).to(DEVICE).train()
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True, capturable=True)
            features = torch.randn(batch, self.sampled, 512, device=DEVICE)
            labels = torch.randint(10, 2900, (batch, 20), device=DEVICE)
            found[f"bf16_{batch}_step_ms"] = 1000 * _replayed(model, optimizer, features, labels)
        return found

    def generate(self) -> dict[str, float]:
        """Seconds of beam 5 over the test split's clips, 25 pieces each, as many at once as the product takes."""
        found = {}
        for precision in ("fp32", "bf16") if CUDA else ("fp32",):
            model = copy.deepcopy(self.fresh).to(DEVICE).eval()
            model = model.to(torch.bfloat16) if precision == "bf16" else model
            batch = min(clips_at_once(model, self.sampled, 5, 128), self.translated)
            features = torch.randn(batch * self.sampled, 512, device=DEVICE)
            search = {"num_beams": 5, "min_new_tokens": 25, "max_new_tokens": 25, "do_sample": False}
            one = median(model.generate, [self.sampled] * batch, features, times=3, **search)
            found |= {f"{precision}_seconds": one * self.translated / batch, f"{precision}_clips_at_once": batch}
        return found

    def encoder(self) -> VisualEncoder:
        return VisualEncoder.from_settings(EncoderSettings(backbone=self.backbone), self.frames)

    def light(self) -> SignTranslator:
        """Stage 1's model: encoder and Light-T."""
        light_t = language_model(3 if CUDA else 1, TRIMMED, **(LIGHT_T if CUDA else self.size))
        return SignTranslator.compose(light_t, AdapterSettings(), 512, self.encoder())

    def pixels(self, frames: FrameSettings) -> ClipDataset:
        rng = np.random.default_rng(0)
        targets = [rng.integers(10, 2900, 20).tolist() for _ in self.clips]
        return ClipDataset(self.root, self.clips, targets, frames, random=True)


def _replayed(model: Any, optimizer: Any, features: torch.Tensor, labels: torch.Tensor) -> float:
    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            words = model.adapter(features)
            logits = model.language_model(inputs_embeds=words, decoder_input_ids=labels, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1).float(), labels.flatten(), label_smoothing=0.2
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(4):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return median(graph.replay, times=20)
