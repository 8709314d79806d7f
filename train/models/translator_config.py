"""What ``config.json`` of a translator directory holds."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PretrainedConfig


class SignTranslatorConfig(PretrainedConfig):
    """Language model, adapter and, where it has one, encoder of a translator."""

    model_type = "fla_slt_translator"

    def __init__(
        self,
        language_model: dict[str, Any] | None = None,
        feature_width: int = 512,
        adapter_hidden: int | None = None,
        adapter_activation: str = "relu",
        adapter_norm: bool = False,
        encoder: dict[str, Any] | None = None,
        features: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.language_model = language_model or {"model_type": "mbart"}
        self.feature_width = feature_width
        self.adapter_hidden = adapter_hidden
        self.adapter_activation = adapter_activation
        self.adapter_norm = adapter_norm
        """Older configurations do not say, and have none."""
        self.encoder = encoder
        self.features = features
        """Provenance of the features that it learnt from; it is given no others."""
        kwargs.setdefault("is_encoder_decoder", True)
        super().__init__(**kwargs)


AutoConfig.register(SignTranslatorConfig.model_type, SignTranslatorConfig)
