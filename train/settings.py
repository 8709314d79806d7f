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
    """Examples of a batch, in each process."""
    batch_tokens: Positive | None = None
    """In place of ``batch_size``: as many examples as fit into this many source steps and target pieces, padding
    included. For stages whose examples have lengths."""
    accumulate: Positive = 1
    """Batches per optimiser step. The loss is the mean over all target pieces of a step, however they are batched."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Gradients are clipped to this norm; 0: not at all."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the computation; weights are kept in fp32. Refused where the device has no such arithmetic."""
    gradient_checkpointing: bool = False
    """Keep only each layer's input for the backward pass and compute the rest again: less memory, about a third more
    time, the same gradients."""
    seed: int = 0
    evaluate_every: Positive | None = None
    """Steps between looks at dev BLEU-4 (greedy); the best checkpoint is kept. Default: only the end counts."""
    patience: Positive | None = None
    """Looks at dev without a better BLEU-4 after which training ends early; None: never."""
    checkpoint_every: Positive = 500
    """Steps between checkpoints that an interrupted run resumes from; with ``evaluate_every``, that many."""
    log_every: Positive = 25
    """Steps between entries of the log; each checkpoint makes one too."""
    report_to: tuple[str, ...] = ()
    """Trackers that the log goes to besides, by transformers' names: ``tensorboard`` (extra ``track``), ``wandb``,
    ``mlflow``; each must be installed."""
    check_memory: bool = True
    """Refuse before the first step what the estimate says cannot fit into memory."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that prepare batches; 0: the training process itself."""

    @model_validator(mode="after")
    def _one_length(self) -> TrainingSettings:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give one of steps and epochs")
        if self.patience is not None and self.evaluate_every is None:
            raise ValueError("patience counts looks at dev: give evaluate_every")
        return self


class WarmupSettings(TrainingSettings):
    """The encoder alone on a bag-of-words loss, before text generation. Beyond the paper: off in its recipe.

    Per-step logits over the pieces of the clip's own sentence, max-pooled over time, binary cross entropy:
    multiple-instance learning without glosses, after GloFE's conceptual words (Lin et al., ACL 2023).
    """

    steps: Positive | None = 900


class DenoisingSettings(TrainingSettings):
    """Denoising pre-training on plain text (mBART: text infilling and sentence permutation)."""

    text: str | None = None
    """UTF-8 file, one sentence a line, an empty line between documents; None: the sentences of the train split."""
    sentences: Positive = 1
    """Consecutive sentences of a document that make up an example, at most: shuffled in the source, in order in the
    target. 1: no permutation, and targets that are one sentence, as translations are."""
    mask_rate: Annotated[float, Field(gt=0, lt=1)] = 0.35
    """Share of pieces that are masked, in spans [mBART, section 2.2: 0.35]."""
    span: Annotated[float, Field(gt=0)] = 3.5
    """Mean length of a span, Poisson [mBART: 3.5]."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    epochs: Annotated[float, Field(gt=0)] | None = 3
    batch_size: Positive = 64


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
    """A language model of one's own, ``lm/``: a small one, the offline substitute for mBART-large-cc25, or a
    pre-trained one that is adapted to a domain."""

    start_from: str | None = None
    """A name or folder as for ``translate.language_model``, whose training goes on with its own tokenizer; None: a
    small model with random weights."""
    model: TransformerSettings = TransformerSettings(d_model=256, ffn=1024, heads=4)
    """Without ``start_from``."""
    vocabulary: Annotated[int, Field(ge=32)] = 2000
    """Pieces of the unigram tokenizer, at most; without ``start_from``."""
    sentences: Positive = 8


class AugmentSettings(Settings):
    """Augmentation of cached features, drawn anew for each clip in every epoch. Beyond the paper: off in its recipe."""

    stretch: Annotated[float, Field(ge=0, le=1)] = 0.0
    """A clip is stretched in time by a factor from 1 / (1 + this) to 1 + this, with linear interpolation."""
    noise: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of Gaussian noise, in units of that of the clip's features."""
    masks: Annotated[int, Field(ge=0)] = 0
    """Spans of steps that are set to zero [SpecAugment's time masks, Park et al., Interspeech 2019]."""
    mask_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Length of a span, as a share of the clip, at most; drawn evenly."""


class LoraSettings(Settings):
    """Low-rank adaptation of the language model (Hu et al., ICLR 2022), with the extra ``lora``."""

    rank: Positive = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0
    """The update is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    targets: str | tuple[str, ...] = "all-linear"
    """Names of the layers that get an update, as in peft: ``[q_proj, v_proj]`` of mBART, ``[q, v]`` of mT5; or all
    linear ones."""
    keep: bool = False
    """Beside the translator, whose weights have the update merged in, keep it by itself in ``translator/lora``, for
    ``peft.PeftModel.from_pretrained`` on the same language model."""


class TranslateSettings(TrainingSettings):
    """Stage 2, LLM fine-tuning on cached features."""

    language_model: str = "facebook/mbart-large-cc25"
    """A name or folder that ``AutoModelForSeq2SeqLM`` loads [P: mBART-large-cc25], or ``lm``: the one that
    ``slt train lm`` made."""
    pretrained: bool = True
    """False: the language model's shape and tokenizer with random weights, the control of the paper's ablation."""
    trim: bool = True
    """Leave out the pieces that the train split never needs [P], of tokenizer and model; a model that is made here
    from random weights has none such."""
    trim_text: tuple[str, ...] = ()
    """UTF-8 files whose pieces are kept too."""
    adapter: AdapterSettings = AdapterSettings()
    learning_rate: Annotated[float, Field(gt=0)] = 1e-5
    """Of the language model [P]."""
    adapter_learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Of the adapter [P]."""
    epochs: Annotated[float, Field(gt=0)] | None = 40
    label_smoothing: Smoothing = 0.2
    """[P]"""
    augment: AugmentSettings | None = None
    """Of the train split's features; None in the paper's recipe."""
    lora: LoraSettings | None = None
    """Train low-rank updates of the language model, at ``learning_rate``, in place of all its weights [P: all]."""
    max_left_out: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of a split's clips that may be left out, each with its reason: no features, no sentence, or either longer
    than the language model's positions."""
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

    @property
    def foreign(self) -> str | None:
        """The pre-trained language model that comes from elsewhere, if any."""
        return self.lm.start_from if self.lm else self.translate.language_model

    @property
    def trims(self) -> bool:
        """Whether there is a vocabulary to trim."""
        return self.translate.trim and self.foreign is not None
