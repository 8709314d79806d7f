"""Stage 1, visual initialing: the visual encoder and Light-T learn video-grounded text generation (section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import Seq2SeqLMOutput

from extract.encoder import VisualEncoder, VisualEncoderConfig
from extract.frames import Source
from extract.index import Clip
from extract.settings import EncoderSettings, FrameSettings
from train.clips import ClipDataset, collate_clips
from train.labels import encode_targets, spoken_pieces
from train.settings import VisualSettings
from train.trainer import Report, fit
from train.translator import SignTranslator, SignTranslatorConfig
from train.words import SpottingEncoder, WordSpotter


class VisualInitialing(SignTranslator):
    """Stage 1's model while it learns: the translator, and the bag-of-words loss beside its own."""

    accepts_loss_kwargs = False  # the spotter's loss is a mean over clips, not over pieces
    spotter: WordSpotter
    weight: float

    def forward(
        self,
        labels: Tensor,
        lengths: Tensor,
        features: Tensor | None = None,
        frames: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Seq2SeqLMOutput:
        packed, steps = self.sign_features(frames, features, lengths)
        output = self.decode(packed, steps, labels)
        output.loss = output.loss + self.weight * self.spotter(packed, steps, labels)
        return output


def train_visual(
    source: Source,
    clips: Sequence[Clip],
    dev: Sequence[Clip],
    encoder: EncoderSettings,
    frames: FrameSettings,
    settings: VisualSettings,
    tokenizer: PreTrainedTokenizerBase,
    work: Path,
    *,
    light_t: PreTrainedModel,
    bars: Callable[[str, str], AbstractContextManager[Report]],
) -> tuple[SignTranslator, list[dict[str, float]]]:
    """Train encoder and Light-T.

    Args:
        source: the dataset's root, or packs of its frames.
        clips, dev: readable clips of the two splits.
        tokenizer: of stage 2's language model [P].
        work: for checkpoints; an interrupted run resumes from there.
        light_t: Light-T at its start: random weights [P], or pre-trained by denoising.
        bars: opens a progress bar, given a phase's name and its unit.

    Returns:
        The stage-1 translator, in ``eval()``, with its encoder as ``.encoder``; and the training log.

    Raises:
        InputError: a sentence has no piece, or more than Light-T has positions.
    """
    torch.manual_seed(settings.seed)
    limit = light_t.config.max_position_embeddings
    targets = encode_targets(tokenizer, [clip.text for clip in clips], limit)
    train = ClipDataset(source, clips, targets, frames, random=True, seed=settings.seed)
    model = VisualEncoder.from_settings(encoder, frames)
    log: list[dict[str, float]] = []
    spotter = WordSpotter(model.config.width, spoken_pieces(tokenizer, targets), len(tokenizer))
    if settings.warmup:
        warming = SpottingEncoder(model, spotter)
        with bars("encoder warm-up", "steps") as report:
            log += fit(warming, settings.warmup, train, collate_clips, work / "warmup", report=report)
    # Anew: how many numbers the warm-up drew depends on whether it was resumed.
    torch.manual_seed(settings.seed)
    translator = SignTranslator.compose(light_t, settings.adapter, model.config.width, model)
    learner: SignTranslator = translator
    if settings.bag_of_words:
        learner = _with_spotter(translator, spotter, settings.bag_of_words)
    learner.label_smoothing = settings.label_smoothing
    dev_targets = encode_targets(tokenizer, [clip.text for clip in dev], limit)
    watched = ClipDataset(source, dev, dev_targets, frames, random=False)
    with bars("visual initialing", "steps") as report:
        log += fit(
            learner, settings, train, collate_clips, work / "generation",
            dev=watched, tokenizer=tokenizer, max_length=settings.max_length, report=report,
        )  # fmt: skip
    return translator.eval(), log


def _with_spotter(translator: SignTranslator, spotter: WordSpotter, weight: float) -> VisualInitialing:
    """The same modules (not copies) under a model that has the second loss."""
    config: Any = SignTranslatorConfig.from_dict(translator.config.to_dict())
    learner = VisualInitialing(config, translator.language_model, translator.encoder)
    learner.adapter = translator.adapter
    learner.spotter, learner.weight = spotter, weight
    return learner


def with_states(stage1: SignTranslator) -> VisualEncoder:
    """Stage 1's encoder and the half of Light-T that reads it, as a visual encoder directory keeps them.

    So that what is cached (table 8) can be chosen at extraction, without training anew.
    """
    assert stage1.encoder is not None
    described = {
        "transformer": stage1.language_model.config.to_dict(),
        "width": stage1.config.feature_width,
        "hidden": stage1.adapter.hidden.out_features,
        "activation": stage1.config.adapter_activation,
    }
    config = VisualEncoderConfig.from_dict(stage1.encoder.config.to_dict() | {"states": described})
    whole = VisualEncoder(config)
    whole.backbone.load_state_dict(stage1.encoder.backbone.state_dict())
    whole.temporal.load_state_dict(stage1.encoder.temporal.state_dict())
    assert whole.states is not None
    whole.states.adapter.load_state_dict(stage1.adapter.state_dict())
    weights = stage1.language_model.get_encoder().state_dict()
    weights.pop("embed_tokens.weight")
    whole.states.transformer.load_state_dict(weights, strict=False)
    return whole.eval()
