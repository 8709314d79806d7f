"""The one model class of every stage: visual encoder (or cached features), adapter, language model."""

from __future__ import annotations

import copy
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
        self, frames: Tensor | None, features: Tensor | None, lengths: Tensor
    ) -> tuple[Tensor, list[int]]:
        """Packed sign-wise features (sum, C) and their lengths, from frames when there is an encoder."""
        steps = lengths.tolist()
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
        return _padded(self.adapter(features.to(self.adapter.hidden.weight.dtype)), lengths)

    def forward(
        self,
        labels: Tensor,
        lengths: Tensor,
        features: Tensor | None = None,
        frames: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Seq2SeqLMOutput:
        """
        Args:
            labels: (B, L) target ids, -100 where padded.
            lengths: (B,) sampled frames, or feature steps, per clip.
            features: (sum of lengths, C), or
            frames: (sum of lengths, 3, H, W) uint8.
            num_items_in_batch: target pieces of the whole optimiser step that this batch is a part of; None: its own.

        Returns:
            logits (B, L, V) and the label-smoothed cross entropy, summed over target pieces and divided by
            ``num_items_in_batch``.
        """
        packed, steps = self.sign_features(frames, features, lengths)
        return self.decode(packed, steps, labels, num_items_in_batch)

    def decode(
        self, features: Tensor, lengths: list[int], labels: Tensor, pieces: Tensor | int | None = None
    ) -> Seq2SeqLMOutput:
        """The part of ``forward`` after the encoder."""
        embeds, mask = self.embed(features, lengths)
        # Not `labels=`: the language model would compute a loss of its own, without smoothing, over all pieces.
        shifted = self.decoder_inputs(labels)
        output = self.language_model(
            inputs_embeds=embeds, attention_mask=mask, decoder_input_ids=shifted, use_cache=False
        )
        total = nn.functional.cross_entropy(
            output.logits.flatten(0, 1).float(), labels.flatten(), label_smoothing=self.label_smoothing, reduction="sum"
        )
        loss = total / ((labels >= 0).sum() if pieces is None else pieces)
        states = output.encoder_last_hidden_state
        return Seq2SeqLMOutput(loss=loss, logits=output.logits, encoder_last_hidden_state=states)

    def decoder_inputs(self, labels: Tensor) -> Tensor:
        """(B, L) what the decoder has written before each target piece."""
        shifted: Tensor = self.language_model.prepare_decoder_input_ids_from_labels(labels)
        return shifted

    @torch.no_grad()
    def generate(
        self,
        lengths: Tensor,
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
    """The translator of a trained directory, in evaluation mode, on the GPU where there is one.

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
    translator: SignTranslator = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    return translator


def _padded(packed: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Packed (sum, C) to (B, T, C) and its mask (B, T)."""
    padded = nn.utils.rnn.pad_sequence(list(torch.split(packed, lengths)), batch_first=True)
    steps = torch.arange(padded.shape[1], device=padded.device)
    mask = steps[None, :] < torch.tensor(lengths, device=padded.device)[:, None]
    return padded, mask.long()


AutoModel.register(SignTranslatorConfig, SignTranslator)
