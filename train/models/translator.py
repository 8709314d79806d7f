"""The one model class of every stage: visual encoder (or cached features), adapter, language model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

from extract.encoder.encoder_config import VisualEncoderConfig
from extract.encoder.hidden_states import SignAdapter, embedding_scale
from extract.encoder.visual_encoder import VisualEncoder
from extract.errors import InputError
from extract.own_device import own_device, valid_steps
from extract.settings import Level
from train.models.translator_config import SignTranslatorConfig
from train.settings import AdapterSettings


class SignTranslator(PreTrainedModel):
    """Translates sign-wise features, or frames when it has an encoder, to text.

    With an encoder and Light-T it is stage 1, without an encoder stage 2, with an encoder and mBART the joint
    baseline. Features arrive packed, the clips of a batch one after the other, so that nothing is spent on padding
    before the language model.
    """

    config_class = SignTranslatorConfig
    base_model_prefix = "translator"
    main_input_name = "features"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = True
    """The trainer passes ``num_items_in_batch``, so that a step's loss does not depend on how it is batched."""

    def activation_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """Of the language model. The encoder has a way of its own (``frame_pass``): computed again as it is, its
        BatchNorms would count each batch twice."""
        self.language_model.activation_checkpointing_enable(*args, **kwargs)

    def __init__(
        self,
        config: SignTranslatorConfig,
        language_model: PreTrainedModel | None = None,
        encoder: VisualEncoder | None = None,
    ) -> None:
        super().__init__(config)
        if language_model is None:
            fields = dict(config.language_model)
            language_config = AutoConfig.for_model(fields.pop("model_type"), **fields)
            language_model = AutoModelForSeq2SeqLM.from_config(language_config, trust_remote_code=False)
        text = language_model.config
        hidden = config.adapter_hidden or text.d_model
        if encoder is None and config.encoder:
            encoder = VisualEncoder(VisualEncoderConfig.from_dict(config.encoder))
        self.encoder = encoder
        self.adapter = SignAdapter(
            config.feature_width, hidden, text.d_model, config.adapter_activation, embedding_scale(text),
            config.adapter_norm,
        )  # fmt: skip
        self.language_model = language_model
        self.generation_config = language_model.generation_config
        self.label_smoothing = 0.0
        self.reads: Level = "sign"
        """What the cached features are that it is given: stage 1 can go on from any of its own levels."""
        self.post_init()

    @classmethod
    def compose(
        cls,
        language_model: PreTrainedModel,
        adapter: AdapterSettings,
        feature_width: int,
        encoder: VisualEncoder | None = None,
    ) -> SignTranslator:
        """A translator around models that already have their weights."""
        config = SignTranslatorConfig(
            language_model=language_model.config.to_dict(),
            feature_width=feature_width,
            adapter_hidden=adapter.hidden,
            adapter_activation=adapter.activation,
            adapter_norm=adapter.norm,
            encoder=encoder.config.to_dict() if encoder is not None else None,
        )
        model = cls(config, language_model, encoder)
        with torch.no_grad():
            model.adapter.start_like(language_model.get_input_embeddings().weight)
        return model

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: its parts initialise themselves, the adapter in ``compose``, which knows the language model."""

    @property
    def feature_width(self) -> int:
        """C of the cached features that it is given."""
        if self.encoder is None or self.reads == "sign":
            return int(self.config.feature_width)
        return self.encoder.backbone_width if self.reads == "frame" else int(self.language_model.config.d_model)

    def sign_features(
        self, frames: Tensor | None, features: Tensor | None, lengths: Tensor | Sequence[int]
    ) -> tuple[Tensor, list[int]]:
        """Packed sign-wise features (sum, C) and their lengths, from frames when there is an encoder."""
        steps = lengths.tolist() if isinstance(lengths, Tensor) else list(lengths)
        if frames is not None:
            if self.encoder is None:
                raise ValueError("frames need a translator with an encoder; this one reads cached features")
            return tuple(self.encoder(frames, steps))
        if features is None:
            raise ValueError("give frames or features")
        width = self.feature_width
        if features.ndim != 2 or features.shape[1] != width:
            raise InputError("features", expected=f"(steps, {width}), of the encoder that it learnt with",
                             found=str(tuple(features.shape)), remedy="Are they another encoder's?")  # fmt: skip
        if self.reads == "frame":
            if self.encoder is None:
                raise ValueError("frame-wise features need a translator with an encoder")
            return tuple(self.encoder.temporal(features, steps))
        return features, steps

    def embed(self, features: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor]:
        """Packed features to padded input embeddings (B, T, d_model) and the attention mask (B, T)."""
        return _padded(self._words(features), lengths)

    def _words(self, features: Tensor) -> Tensor:
        words: Tensor = self.adapter(features.to(self.adapter.hidden.weight.dtype))
        return words

    def forward(
        self,
        labels: Tensor,
        lengths: Tensor | Sequence[int] = (),
        features: Tensor | None = None,
        frames: Tensor | None = None,
        mask: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Seq2SeqLMOutput:
        """
        Args:
            labels: (B, L) target ids, -100 where padded.
            lengths: sampled frames, or feature steps, per clip.
            features: (sum of lengths, C), or
            frames: (sum of lengths, 3, H, W) uint8.
            mask: (B, T) bool, with features that are padded already, (B, T, C): which steps count. No lengths then.
            num_items_in_batch: target pieces of the whole optimiser step that this batch is a part of; None: its own.

        Returns:
            The label-smoothed cross entropy, summed over target pieces and divided by ``num_items_in_batch``; in
            evaluation mode also logits (B, L, V), which training would copy to float32.
        """
        if mask is not None and features is not None:
            return self.decode(self._words(features), mask, labels, num_items_in_batch)
        packed, steps = self.sign_features(frames, features, lengths)
        return self.decode(*self.embed(packed, steps), labels, num_items_in_batch)

    def decode(
        self, embeds: Tensor, mask: Tensor, labels: Tensor, pieces: Tensor | int | None = None
    ) -> Seq2SeqLMOutput:
        """The part of ``forward`` after the adapter.

        Args:
            embeds: (B, T, d_model).
            mask: (B, T) int64, or bool where the batch was padded before it came.
        """
        # Not `labels=`: the language model would compute a loss of its own, without smoothing, over all pieces.
        shifted = self.decoder_inputs(labels)
        output = self.language_model(
            inputs_embeds=embeds, decoder_input_ids=shifted, use_cache=False, **self._masks(mask, labels.shape[1])
        )
        total = nn.functional.cross_entropy(
            output.logits.flatten(0, 1).float(), labels.flatten(), label_smoothing=self.label_smoothing, reduction="sum"
        )
        loss = total / ((labels >= 0).sum() if pieces is None else pieces)
        states = output.encoder_last_hidden_state
        return Seq2SeqLMOutput(
            loss=loss, logits=None if self.training else output.logits, encoder_last_hidden_state=states
        )

    def decoder_inputs(self, labels: Tensor) -> Tensor:
        """(B, L) what the decoder has written before each target piece."""
        # mBART looks for the last piece of each sentence: a clip that only fills up a batch has none.
        begun = torch.cat([labels[:, :1].clamp(min=0), labels[:, 1:]], dim=1)
        shifted: Tensor = self.language_model.prepare_decoder_input_ids_from_labels(begun)
        return shifted

    def _masks(self, mask: Tensor, pieces: int) -> dict[str, Tensor]:
        """What the language model is told of padding. mBART takes whole masks as they are; of others it asks whether
        all is seen, which waits for the device, and would make a recorded step another one."""
        few_shapes = mask.dtype == torch.bool or mask.device.type == "cuda"
        if not few_shapes or self.language_model.config.model_type != "mbart":
            return {"attention_mask": mask.long()}
        causal = torch.ones(pieces, pieces, dtype=torch.bool, device=mask.device).tril()
        return {"attention_mask": mask.bool()[:, None, None, :], "decoder_attention_mask": causal[None, None]}

    @torch.no_grad()
    def generate(
        self,
        lengths: Tensor | Sequence[int],
        features: Tensor | None = None,
        frames: Tensor | None = None,
        labels: Tensor | None = None,
        **options: Any,
    ) -> Any:
        """Token ids (B, L), or what ``return_dict_in_generate`` asks for; ``options`` as in transformers.

        ``labels`` is accepted because a trainer passes its whole batch, and is not read.
        """
        packed, steps = self.sign_features(frames, features, lengths)
        if self.reads == "states":
            states, mask = _padded(packed, steps)
            given: dict[str, Any] = {"encoder_outputs": BaseModelOutput(last_hidden_state=states)}
        else:
            embeds, mask = self.embed(packed, steps)
            given = {"inputs_embeds": embeds}
        settings = copy.deepcopy(self.language_model.generation_config)
        rest = settings.update(**options)  # what is left over is no setting of the search
        return self.language_model.generate(**given, attention_mask=mask, generation_config=settings, **rest)


def load_sign_translator(folder: Path) -> SignTranslator:
    """The translator of a trained directory, in evaluation mode, on this process's device.

    Raises:
        InputError: there is none, or weights are absent, too many or of another shape.
    """
    remedy = "Train it again, or check the path."
    try:
        model, report = SignTranslator.from_pretrained(folder, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(folder, expected="a translator directory", found=str(error).splitlines()[0][:200],
                         remedy=remedy) from error  # fmt: skip
    # Weights that are not in the file would be drawn at random, with no more than a log line.
    wrong = [key for what in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in report[what]]
    if wrong:
        raise InputError(folder, expected="the weights of its configuration",
                         found=f"{len(wrong)} that do not fit, e.g. {wrong[0]}", remedy=remedy)  # fmt: skip
    translator: SignTranslator = model.to(own_device()).eval()
    return translator


def _padded(packed: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Packed (sum, C) to (B, T, C) and its mask (B, T)."""
    padded = nn.utils.rnn.pad_sequence(list(torch.split(packed, lengths)), batch_first=True)
    return padded, valid_steps(lengths, padded.shape[1], padded.device).long()


AutoModel.register(SignTranslatorConfig, SignTranslator)
