"""Low-rank updates of the language model by peft (Hu et al., ICLR 2022): few weights trained, gradients and optimiser
states of those alone."""

from __future__ import annotations

import warnings
from typing import Any

from transformers import PreTrainedModel

from extract.errors import InputError
from train.settings import LoraSettings


def add_lora(language_model: PreTrainedModel, settings: LoraSettings) -> Any:
    """Freeze ``language_model`` and put updates beside its layers, in place.

    Returns:
        peft's model around it, which can save the updates and merge them.

    Raises:
        InputError: peft is not installed, or no layer has one of the names.
    """
    try:
        from peft import LoraConfig, TaskType, get_peft_model
    except ImportError:
        raise InputError("train.stage2.lora", expected="peft", found="no such package",
                         remedy="Install the extra: `pip install 'fla-slt[lora]'`.") from None  # fmt: skip
    targets = settings.targets if isinstance(settings.targets, str) else list(settings.targets)
    config = LoraConfig(
        task_type=TaskType.SEQ_2_SEQ_LM,
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
    )
    try:
        with warnings.catch_warnings():
            # peft 0.21 asks by a name that transformers 5.23 is about to drop.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            return get_peft_model(language_model, config)
    except ValueError as error:
        raise InputError("train.stage2.lora.targets", expected="names of layers of the language model",
                         found=str(settings.targets), remedy=str(error)) from error  # fmt: skip
