"""Settings of everything that learns. ``[P]`` = stated in the paper, ``[?]`` = our choice."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from extract.settings import Settings

Positive = Annotated[int, Field(ge=1)]
Smoothing = Annotated[float, Field(ge=0, lt=1)]


class TransformerSettings(Settings):
    """An MBart-shaped encoder-decoder that starts from random weights."""

    layers: Positive = 3
    """Of the encoder, and as many of the decoder."""
    heads: Positive = 8
    d_model: Positive = 512
    ffn: Positive = 2048
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    positions: Positive = 512
    """Longest source and target."""

    @model_validator(mode="after")
    def _divisible(self) -> TransformerSettings:
        if self.d_model % self.heads:
            raise ValueError(f"d_model ({self.d_model}) is not a multiple of heads ({self.heads})")
        return self


class AdapterSettings(Settings):
    """MLP with one hidden layer [P] from sign-wise features to the language model's input embeddings."""

    hidden: Positive | None = None
    """Width of the hidden layer; default: the language model's width [?]."""
    activation: Literal["relu", "gelu"] = "relu"
    """[?]"""


class TrainingSettings(Settings):
    """What every training run has."""

    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0)] = 3e-4
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of SGD."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    steps: Positive | None = None
    """Optimiser steps; or give ``epochs``."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    batch_size: Positive = 16
    accumulate: Positive = 1
    """Batches per optimiser step."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Gradients are clipped to this norm; 0: not at all."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    seed: int = 0
    evaluate_every: Positive | None = None
    """Steps between looks at dev BLEU-4 (greedy); the best checkpoint is kept. Default: only the end counts."""
    checkpoint_every: Positive = 500
    """Steps between checkpoints that an interrupted run resumes from; with ``evaluate_every``, that many."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that prepare batches; 0: the training process itself."""

    @model_validator(mode="after")
    def _one_length(self) -> TrainingSettings:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give one of steps and epochs")
        return self


class WarmupSettings(TrainingSettings):
    """The encoder alone on a bag-of-words loss, before text generation. Beyond the paper: off in its recipe.

    Per-step logits over the pieces of the clip's own sentence, max-pooled over time, binary cross entropy:
    multiple-instance learning without glosses, after GloFE's conceptual words (Lin et al., ACL 2023).
    """

    steps: Positive | None = 900


class DenoisingSettings(TrainingSettings):
    """Denoising pre-training on plain text (mBART: text infilling)."""

    text: str | None = None
    """UTF-8 file, one sentence a line; None: the sentences of the train split."""
    mask_rate: Annotated[float, Field(gt=0, lt=1)] = 0.35
    """Share of pieces that are masked, in spans [mBART, section 2.2: 0.35]."""
    span: Annotated[float, Field(gt=0)] = 3.5
    """Mean length of a span, Poisson [mBART: 3.5]."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    epochs: Annotated[float, Field(gt=0)] | None = 3
    batch_size: Positive = 64


class WarpSettings(Settings):
    """Augmentation of stage 1's frames, drawn once per clip and epoch and the same for all its frames [?, the values of
    GFSLT-VLP, Zhou et al., ICCV 2023; the random crop is there in any case]."""

    probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Of each of the three that follow."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 30.0
    """Degrees, either way, at most."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Relative, either way, at most, around the middle. GFSLT-VLP's code scales before it resizes to a square, which
    undoes it; here it stays."""
    translation: Annotated[float, Field(ge=0)] = 10.0
    """Pixels of the resized frame, in each direction, at most; GFSLT-VLP's are those of the original one."""


class VisualSettings(TrainingSettings):
    """Stage 1, visual initialing: video-grounded text generation."""

    optimizer: Literal["adamw", "sgd"] = "sgd"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-2
    epochs: Annotated[float, Field(gt=0)] | None = 75
    batch_size: Positive = 8
    label_smoothing: Smoothing = 0.2
    """[P]"""
    light_t: TransformerSettings = TransformerSettings()
    """3 + 3 layers, 8 heads, d 512, FFN 2048 [P]."""
    adapter: AdapterSettings = AdapterSettings()
    warp: WarpSettings | None = None
    """Augmentation; ``{}`` has the values of GFSLT-VLP, None only the random crop and sampling. On in the recipes."""
    max_length: Positive = 128
    """Pieces of a translation, at most [?]."""
    warmup: WarmupSettings | None = None
    """Bag-of-words warm-up of the encoder; None in the paper's recipe."""
    bag_of_words: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the same loss during text generation; 0 in the paper's recipe."""
    warm_start: DenoisingSettings | None = None
    """Denoising pre-training of Light-T before it meets the video, so that useful gradients reach the encoder at
    once; None in the paper's recipe."""


class LanguageModelSettings(DenoisingSettings):
    """A small language model of one's own: the offline substitute for mBART-large-cc25."""

    model: TransformerSettings = TransformerSettings(d_model=256, ffn=1024, heads=4)
    vocabulary: Annotated[int, Field(ge=32)] = 2000
    """Pieces of the unigram tokenizer, at most."""


class TranslateSettings(TrainingSettings):
    """Stage 2, LLM fine-tuning on cached features."""

    language_model: str = "facebook/mbart-large-cc25"
    """A name or folder that ``AutoModelForSeq2SeqLM`` loads [P: mBART-large-cc25], or ``lm``: the one that
    ``slt train lm`` made."""
    adapter: AdapterSettings = AdapterSettings()
    learning_rate: Annotated[float, Field(gt=0)] = 1e-5
    """Of the language model [P]."""
    adapter_learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Of the adapter [P]."""
    epochs: Annotated[float, Field(gt=0)] | None = 40
    label_smoothing: Smoothing = 0.2
    """[P]"""
    beams: Positive = 5
    """Beam search at test time [P]."""
    max_length: Positive = 128
    """Pieces of a translation, at most [?]."""


class TrainSettings(Settings):
    """All training stages of an experiment."""

    visual: VisualSettings = VisualSettings()
    lm: LanguageModelSettings | None = None
    translate: TranslateSettings = TranslateSettings()
    threads: Positive | None = None
    """Torch threads of the training process; default: torch's own choice."""

    @model_validator(mode="after")
    def _one_language_model(self) -> TrainSettings:
        if (self.lm is None) == (self.translate.language_model == "lm"):
            raise ValueError("translate.language_model is `lm` exactly when there is a section lm")
        return self
