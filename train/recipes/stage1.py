"""Stage 1, visual initialing: the visual encoder and Light-T learn video-grounded text generation (section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from transformers.modeling_outputs import Seq2SeqLMOutput

from extract.dataset.clip_index import Clip
from extract.decoding.read_clip import Source
from extract.encoder.encoder_config import VisualEncoderConfig
from extract.encoder.visual_encoder import VisualEncoder
from extract.settings import EncoderSettings, FrameSettings
from train.data.clip_dataset import ClipDataset, collate_clips
from train.data.left_out import LeftOut
from train.data.targets import encode_targets, spoken_pieces
from train.loop.budget import clip_passes
from train.loop.callbacks import PlateauCallback, Report, WatchCallback
from train.loop.dev_evaluation import Bleu4, bleu4_of_words
from train.loop.trainer import fit
from train.models.backbone_checkpointing import LayerwiseBackbone, PiecewiseBackbone
from train.models.bag_of_words import SpottingEncoder, WordSpotter
from train.models.contrastive_loss import ContrastiveLoss
from train.models.translator import SignTranslator
from train.models.translator_config import SignTranslatorConfig
from train.settings import PixelSettings, TrainingSettings

LEAVING = ("warmup", "warm_start", "bag_of_words", "word_dropout", "contrastive")
"""Options by which a model leaves the plateau: docs/decisions/leaving-the-plateau.md."""


class LearnsFromPixels(SignTranslator):
    """The translator while it learns from pixels, with the losses that a setting puts beside its own."""

    accepts_loss_kwargs = False  # the further losses are means over clips, not over pieces

    def __init__(
        self,
        config: SignTranslatorConfig,
        language_model: PreTrainedModel | None = None,
        encoder: VisualEncoder | None = None,
    ) -> None:
        super().__init__(config, language_model, encoder)
        self.spotter: WordSpotter | None = None
        self.contrast: ContrastiveLoss | None = None
        self.bag_of_words = self.contrastive = self.word_dropout = 0.0
        self.mask = 0
        """Id of the piece that takes a dropped one's place."""

    def forward(
        self,
        labels: Tensor,
        lengths: Tensor | Sequence[int] = (),
        features: Tensor | None = None,
        frames: Tensor | None = None,
        mask: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Seq2SeqLMOutput:
        packed, steps = self.sign_features(frames, features, lengths)
        output = self.decode(*self.embed(packed, steps), labels)
        if self.spotter is not None:
            output.loss = output.loss + self.bag_of_words * self.spotter(packed, steps, labels)
        if self.contrast is not None:
            states, pad = output.encoder_last_hidden_state, self.language_model.config.pad_token_id
            loss = self.contrast(self.language_model, states, steps, labels, pad)
            output.loss = output.loss + self.contrastive * loss
        return output

    def decoder_inputs(self, labels: Tensor) -> Tensor:
        shifted = super().decoder_inputs(labels)
        if self.training and self.word_dropout:
            dropped = torch.rand(shifted.shape, device=shifted.device) < self.word_dropout
            dropped[:, 0] = False  # the start says which language is to be written
            shifted = shifted.masked_fill(dropped & (labels >= 0), self.mask)
        return shifted


def train_stage1(
    source: Source,
    clips: Sequence[Clip],
    dev: Sequence[Clip],
    encoder: EncoderSettings,
    frames: FrameSettings,
    settings: PixelSettings,
    tokenizer: PreTrainedTokenizerBase,
    work: Path,
    *,
    language_model: PreTrainedModel,
    bars: Callable[[str, str], AbstractContextManager[Report]],
    bleu4: Bleu4 = bleu4_of_words,
    name: str = "visual initialing",
    rates: Mapping[str, float] | None = None,
    begin: VisualEncoder | None = None,
    freeze_backbone: bool = False,
    say: Callable[[str], None] | None = None,
    left_out: LeftOut | None = None,
) -> tuple[SignTranslator, list[dict[str, float]]]:
    """Train encoder, adapter and language model on frames: stage 1 when the language model is Light-T.

    Args:
        source: the dataset's root, or packs of its frames.
        clips: readable ones of the train split.
        dev: readable ones of the dev split.
        tokenizer: of stage 2's language model [P].
        work: for checkpoints; an interrupted run resumes from there.
        language_model: Light-T at its start: random weights [P], or pre-trained by denoising.
        bars: opens a progress bar, given a phase's name and its unit.
        bleu4: by which the best checkpoint is chosen on dev: the dataset's own.
        name: of the phase that follows the warm-up.
        rates: learning rates by the start of a parameter's name; others have ``settings.learning_rate``.
        begin: the encoder at its start; None: a new one.
        freeze_backbone: its weights and BatchNorm's statistics stay as they are.
        say: as of ``fit``, for the phase after the warm-up; told too while looks at dev show that it sees nothing.
        left_out: counts clips that cannot be read; None: such a clip ends the training.

    Returns:
        The translator, in ``eval()``, with its encoder as ``.encoder``; and the training log.

    Raises:
        InputError: the backbone cannot be computed as the settings ask; a sentence has no piece, or more than the
            language model has positions.
    """
    torch.manual_seed(settings.seed)
    limit = getattr(language_model.config, "max_position_embeddings", None)
    targets = encode_targets(tokenizer, [clip.text for clip in clips], limit)
    train = ClipDataset(
        source, clips, targets, frames, random=True, seed=settings.seed, warp=settings.warp, left_out=left_out
    )
    model = begin or VisualEncoder.from_settings(encoder, frames)
    _save_memory(model, settings)
    if freeze_backbone:
        model.backbone.requires_grad_(False)
        model.running_statistics = True
    log: list[dict[str, float]] = []
    spotter = WordSpotter(model.config.width, spoken_pieces(tokenizer, targets), len(tokenizer))
    if settings.warmup:
        warming = SpottingEncoder(model, spotter)
        with bars("encoder warm-up", "steps") as report:
            warmed = fit(warming, settings.warmup, train, collate_clips, work / "warmup", report=report)
        log += _with_passes(warmed, settings.warmup, len(clips))
    # Anew: how many numbers the warm-up drew depends on whether it was resumed.
    torch.manual_seed(settings.seed)
    translator = SignTranslator.compose(language_model, settings.adapter, model.config.width, model)
    learner = _learner(translator, spotter, settings, tokenizer)
    learner.label_smoothing = settings.label_smoothing
    dev_targets = encode_targets(tokenizer, [clip.text for clip in dev], limit)
    watched = ClipDataset(source, dev, dev_targets, frames, random=False, left_out=left_out)
    with bars(name, "steps") as report:
        learnt = fit(
            learner, settings, train, collate_clips, work / "generation", rates=rates,
            dev=watched, judge=lambda said: bleu4(said, [clip.text for clip in dev]), tokenizer=tokenizer,
            max_length=settings.max_length, report=report, say=say, callbacks=_watching(settings, say),
        )  # fmt: skip
    log += _with_passes(learnt, settings, len(clips))
    model.frame_pass, model.running_statistics = None, False
    return translator.eval(), log


def _watching(settings: PixelSettings, say: Callable[[str], None] | None) -> list[TrainerCallback]:
    """Looks at dev where nothing is chosen there, and a word when the video is not looked at."""
    looks = settings.watch_every is not None and settings.evaluate_every is None
    off = [name for name in LEAVING if name in type(settings).model_fields and not getattr(settings, name)]
    return [
        *([WatchCallback(settings.watch_every)] if looks and settings.watch_every else []),
        *([PlateauCallback(say, off)] if say else []),
    ]


def _with_passes(log: list[dict[str, float]], settings: TrainingSettings, clips: int) -> list[dict[str, float]]:
    """A phase's log, and at its end how many clips it has seen."""
    step = log[-1]["step"] if log else 0
    return [*log, {"step": step, "clip_passes": clip_passes(log, settings, clips)}]


def _save_memory(encoder: VisualEncoder, settings: PixelSettings) -> None:
    encoder.running_statistics = settings.batch_norm == "running"
    if settings.frame_batch is not None:
        encoder.frame_pass = PiecewiseBackbone(encoder, settings.frame_batch)
    elif settings.gradient_checkpointing:
        encoder.frame_pass = LayerwiseBackbone(encoder)


def _learner(
    translator: SignTranslator, spotter: WordSpotter, settings: PixelSettings, tokenizer: PreTrainedTokenizerBase
) -> SignTranslator:
    """The same modules (not copies) under a model that has the further losses; itself where there are none."""
    if not (settings.bag_of_words or settings.contrastive or settings.word_dropout):
        return translator
    config: Any = SignTranslatorConfig.from_dict(translator.config.to_dict())
    learner = LearnsFromPixels(config, translator.language_model, translator.encoder)
    learner.adapter = translator.adapter
    if settings.bag_of_words:
        learner.spotter, learner.bag_of_words = spotter, settings.bag_of_words
    if settings.contrastive:
        learner.contrast = ContrastiveLoss(translator.language_model.config.d_model, settings.contrast)
        learner.contrastive = settings.contrastive
    masks = (tokenizer.mask_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id)
    learner.word_dropout, learner.mask = settings.word_dropout, next(id for id in masks if id is not None)
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
        "norm": stage1.config.adapter_norm,
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
    frozen: VisualEncoder = whole.eval()
    return frozen
