"""Language models: mBART by name or folder, and small MBart-shaped ones that start from random weights."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    MBartConfig,
    MBartForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from extract.errors import InputError
from train.settings import TransformerSettings
from train.tokenizer import load_tokenizer


def build_mbart(size: TransformerSettings, tokenizer: PreTrainedTokenizerBase, language: str) -> PreTrainedModel:
    """A small ``MBartForConditionalGeneration`` with random weights: Light-T, or an offline language model."""
    config = MBartConfig(
        vocab_size=len(tokenizer),
        d_model=size.d_model,
        encoder_layers=size.layers,
        decoder_layers=size.layers,
        encoder_attention_heads=size.heads,
        decoder_attention_heads=size.heads,
        encoder_ffn_dim=size.ffn,
        decoder_ffn_dim=size.ffn,
        dropout=size.dropout,
        max_position_embeddings=size.positions,
        scale_embedding=True,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=tokenizer.eos_token_id,
    )
    model = MBartForConditionalGeneration(config)
    set_language(model, tokenizer, language)
    return model


def load_language_model(name: str | Path, language: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A pre-trained language model and its tokenizer.

    Raises:
        InputError: it is neither a folder nor in the Hugging Face cache.
    """
    try:
        tokenizer = load_tokenizer(name, language)
        # Not in the file's own dtype: half precision is a setting of the training, with full-precision weights.
        model = AutoModelForSeq2SeqLM.from_pretrained(name, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise InputError(
            f"train.translate.language_model = {name}", expected="an encoder-decoder in a folder or in the hub's cache",
            found=str(error).splitlines()[0][:200],
            remedy=f"Where it is missing, fetch it once with a network: `hf download {name}`.",
        ) from error  # fmt: skip
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise InputError(
            str(name), expected=f"a tokenizer of at most {model.get_input_embeddings().num_embeddings} pieces",
            found=f"{len(tokenizer)}", remedy="Model and tokenizer do not belong together.",
        )  # fmt: skip
    set_language(model, tokenizer, language)
    return model, tokenizer


def set_language(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, language: str) -> None:
    """Generation starts with the language code, as mBART's decoder was trained to; a model without such codes
    (mT5) keeps its own start.

    Raises:
        InputError: the tokenizer has no such code and the model no start.
    """
    start = tokenizer.convert_tokens_to_ids(language)
    if start in (None, tokenizer.unk_token_id):
        start = None if model.config.model_type == "mbart" else model.config.decoder_start_token_id
    if start is None:
        raise InputError("language", expected="a language code that the tokenizer has", found=repr(language),
                         remedy="mBART's are like de_DE, en_XX, zh_CN.")  # fmt: skip
    model.config.decoder_start_token_id = start
    model.generation_config = GenerationConfig(
        decoder_start_token_id=start,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=tokenizer.eos_token_id,
        max_length=None,
    )
