"""Settings of everything that learns. ``[P]`` = stated in the paper, ``[?]`` = our choice."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from extract.settings import Contents, Execution, Settings

Positive = Annotated[int, Field(ge=1)]
Smoothing = Annotated[float, Field(ge=0, lt=1)]


class TransformerSettings(Settings):
    """An MBart-shaped encoder-decoder that starts from random weights."""

    layers: Positive = 3
    """Of the encoder, and as many of the decoder."""
    heads: Positive = 8
    """Of attention."""
    d_model: Positive = 512
    """Width of the embeddings and of every layer."""
    ffn: Positive = 2048
    """Width within a layer."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Of embeddings, attention and layers, in training."""
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
    norm: bool = True
    """Layer norm at the output, which begins with the words' standard deviation [?]; False: the output is scaled as the
    language model scales its words (docs/decisions/adapter-start.md)."""


class TrainingSettings(Settings):
    """What every training run has."""

    optimizer: Literal["adamw", "sgd"] = "adamw"
    """torch's."""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-4
    """At its highest, after the warm-up."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of SGD."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Of weights; biases and normalisation are spared."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the rate falls after the warm-up, to 0 at the last step; or that it does not."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps in which the rate rises from 0."""
    steps: Positive | None = None
    """Optimiser steps; or give ``epochs``."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Passes over the examples; or give ``steps``."""
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
    gradient_checkpointing: Annotated[bool, Execution] = False
    """Keep only each layer's input for the backward pass and compute the rest again: less memory, about a third more
    time, the same gradients."""
    seed: int = 0
    """Of initial weights, order and draws."""
    evaluate_every: Positive | None = None
    """Steps between looks at dev BLEU-4 (greedy, as the dataset is scored); the best checkpoint is kept, of equals the
    one with the smaller dev loss. Default: only the end counts."""
    patience: Positive | None = None
    """Looks at dev without a better one after which training ends early; None: never."""
    checkpoint_every: Annotated[Positive, Execution] = 500
    """Steps between checkpoints that an interrupted run resumes from; with ``evaluate_every``, that many."""
    log_every: Annotated[Positive, Execution] = 25
    """Steps between entries of the log; each checkpoint makes one too."""
    report_to: Annotated[tuple[str, ...], Execution] = ()
    """Trackers that the log goes to besides, by transformers' names: ``tensorboard`` (extra ``track``), ``wandb``,
    ``mlflow``; each must be installed."""
    check_memory: Annotated[bool, Execution] = True
    """Refuse before the first step what the estimate says cannot fit into memory."""
    workers: Annotated[int | None, Field(ge=0), Execution] = None
    """Processes that prepare batches; 0: the training process itself; None: of clips for a GPU a process per core less
    two, as shared memory allows, else 0."""
    batch_shapes: Annotated[Literal["auto", "packed", "padded", "replayed"], Execution] = "auto"
    """Of stage 2: batches as they are; padded up to few shapes; or these, each shape's whole step recorded and replayed
    (docs/decisions/replayed-steps.md). ``auto``: replayed on a GPU, packed elsewhere. Results differ by rounding."""
    resident: Annotated[bool | None, Execution] = None
    """Stage 2's features lie on the device, with padded or replayed steps. None: on a GPU, where they take a tenth of
    its free memory at most."""
    dominance: Annotated[bool, Execution] = False
    """Log the norms of gradients, parameters and updates of each part of the model, as the paper's Figure 2 does."""

    @model_validator(mode="before")
    @classmethod
    def _given_wins(cls, raw: Any) -> Any:
        """What is given wins over a default: ``steps: 60`` leaves no hidden ``epochs``, nor the other way round."""
        if isinstance(raw, dict):
            for given, other in (("steps", "epochs"), ("epochs", "steps")):
                if raw.get(given) is not None and other not in raw:
                    return {**raw, other: None}
        return raw

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

    text: Annotated[str | None, Contents] = None
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


class PixelSettings(TrainingSettings):
    """What learns from pixels: stage 1, and the joint baseline."""

    label_smoothing: Smoothing = 0.2
    """[P]"""
    adapter: AdapterSettings = AdapterSettings()
    max_length: Positive = 128
    """Pieces of a translation, at most [?]."""
    warp: WarpSettings | None = None
    """Augmentation; ``{}`` has the values of GFSLT-VLP, None only the random crop and sampling. On in the recipes."""
    gradient_checkpointing: Annotated[bool, Execution] = False
    """Of the backbone, a ResNet, and of the language model: keep each layer's input only, and compute the rest again in
    the backward pass. The same gradients."""
    frame_batch: Annotated[Positive | None, Execution] = None
    """Frames that the backbone computes at a time, with the same gradients, in less memory and more time
    (docs/decisions/frames-by-pieces.md); None: those of the whole batch."""
    batch_norm: Literal["batch", "running"] = "batch"
    """What the backbone's BatchNorm uses in training: the statistics of the batch's frames [?], or its own running
    statistics, which then stay those of the pre-trained weights."""
    watch_every: Annotated[float | None, Field(gt=0), Execution] = 5
    """Epochs between looks at dev that only tell, the first after one epoch; None: none. With ``evaluate_every`` its
    looks tell as much."""
    warmup: WarmupSettings | None = None
    """Bag-of-words warm-up of the encoder; None in the paper's recipe."""
    bag_of_words: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the same loss during text generation; 0 in the paper's recipe."""
    word_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the decoder's input pieces that are masked in training, so that it must look at the clip (Bowman et al.,
    CoNLL 2016); 0 in the paper's recipe."""
    contrastive: Annotated[float, Field(ge=0)] = 0.0
    """Weight of a contrastive loss between clips and sentences (GFSLT-VLP); 0 in the paper's recipe."""
    contrast: Literal["sentence", "token"] = "sentence"
    """What it compares: means of whole clips and sentences (GFSLT-VLP), or steps and words (CiCo, C2RL)."""

    @model_validator(mode="after")
    def _one_saving(self) -> PixelSettings:
        if self.gradient_checkpointing and self.frame_batch is not None:
            raise ValueError("gradient_checkpointing and frame_batch both compute the backbone again: give one")
        return self


class Stage1Settings(PixelSettings):
    """Stage 1, visual initialing: video-grounded text generation."""

    optimizer: Literal["adamw", "sgd"] = "sgd"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-2
    epochs: Annotated[float, Field(gt=0)] | None = 75
    batch_size: Positive = 8
    light_t: TransformerSettings = TransformerSettings()
    """3 + 3 layers, 8 heads, d 512, FFN 2048 [P]."""
    warm_start: DenoisingSettings | None = None
    """Denoising pre-training of Light-T before it meets the video, so that useful gradients reach the encoder at
    once; None in the paper's recipe."""


class JointSettings(PixelSettings):
    """The joint baseline (table 4): encoder, adapter and language model learn end to end from pixels; the paper
    gives no recipe of it [?]. Without steps and epochs it gets what the factorised run was given."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-5
    """Of the language model, as in stage 2."""
    adapter_learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Of the adapter, as in stage 2."""
    encoder_learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Of the visual encoder."""
    batch_size: Positive = 8
    start: Literal["new", "stage1"] = "new"
    """The encoder's weights: as stage 1 begins, or as stage 1 left them (the paper's freezing table)."""
    freeze_backbone: bool = False
    """The backbone stays as it is; temporal module, adapter and language model learn. With ``start: new`` that is table
    5's stage 2 only."""
    budget: Literal["clips", "seconds"] | None = None
    """What is matched: clips that training sees, of stage 1 and stage 2 together, or wall-clock seconds of stage 1,
    extraction and stage 2. With steps or epochs there is none; else ``clips``."""
    amount: Annotated[float, Field(gt=0)] | None = None
    """Of the budget; default: what the finished stages of this experiment took."""

    @model_validator(mode="after")
    def _one_length(self) -> JointSettings:
        lengths = [self.steps, self.epochs, self.budget]
        if sum(length is not None for length in lengths) > 1:
            raise ValueError("give one of steps, epochs and budget")
        if self.amount is not None and self.budget is None:
            raise ValueError("amount is that of a budget: clips or seconds")
        return self


class LanguageModelSettings(DenoisingSettings):
    """A language model of one's own, ``lm/``: a small one, the offline substitute for mBART-large-cc25, or a
    pre-trained one that is adapted to a domain."""

    start_from: str | None = None
    """A name or folder as for ``stage2.language_model``, whose training goes on with its own tokenizer; None: a
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
    """Of each update."""
    alpha: Annotated[float, Field(gt=0)] = 32.0
    """The update is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Of what goes into the updates, in training."""
    targets: str | tuple[str, ...] = "all-linear"
    """Names of the layers that get an update, as in peft: ``[q_proj, v_proj]`` of mBART, ``[q, v]`` of mT5; or all
    linear ones."""
    keep: bool = False
    """Beside the translator, whose weights have the update merged in, keep it by itself in ``stage2/lora``, for
    ``peft.PeftModel.from_pretrained`` on the same language model."""


class Stage2Settings(TrainingSettings):
    """Stage 2, LLM fine-tuning on cached features."""

    language_model: str = "facebook/mbart-large-cc25"
    """A name or folder that ``AutoModelForSeq2SeqLM`` loads [P: mBART-large-cc25], or ``lm``: the one that
    ``slt train lm`` made."""
    pretrained: bool = True
    """False: the language model's shape and tokenizer with random weights, the control of the paper's ablation."""
    trim: bool = True
    """Leave out the pieces that the train split never needs [P], of tokenizer and model; a model that is made here
    from random weights has none such."""
    trim_text: Annotated[tuple[str, ...], Contents] = ()
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
    translate_clips: Annotated[Positive | None, Execution] = None
    """Clips that are translated at once; None: as many as a GPU's memory takes, 32 on a CPU."""
    translate_precision: Annotated[Literal["fp32", "bf16"], Execution] = "fp32"
    """Of the weights at test time. The test split is translated anew when it changes; training stays as it is. Rounding
    in bf16 hangs on what is translated together."""


class TrainSettings(Settings):
    """All training stages of an experiment."""

    stage1: Stage1Settings = Stage1Settings()
    lm: LanguageModelSettings | None = None
    """A language model of one's own; None: stage 2 names one."""
    stage2: Stage2Settings = Stage2Settings()
    joint: JointSettings | None = None
    """The joint baseline, as further stages; None: without."""
    clips: Positive | None = None
    """How many of the train split's clips stage 1, stage 2 and the joint baseline learn from, drawn by their ids, so
    that fewer are a part of more; None: all. To see what more data would bring."""
    threads: Annotated[Positive | None, Execution] = None
    """Torch threads of the training process; default: torch's own choice."""

    @model_validator(mode="after")
    def _one_language_model(self) -> TrainSettings:
        if (self.lm is None) == (self.stage2.language_model == "lm"):
            raise ValueError("stage2.language_model is `lm` exactly when there is a section lm")
        return self

    @property
    def foreign(self) -> str | None:
        """The pre-trained language model that comes from elsewhere, if any."""
        return self.lm.start_from if self.lm else self.stage2.language_model

    @property
    def tokenizes(self) -> bool:
        """Whether the tokenizer is learnt here, with a small language model."""
        return self.lm is not None and self.lm.start_from is None

    @property
    def trims(self) -> bool:
        """Whether there is a vocabulary to trim."""
        return self.stage2.trim and self.foreign is not None
