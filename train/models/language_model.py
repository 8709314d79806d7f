"""Language models: mBART or mT5 by name or folder, and small MBart-shaped ones that start from random weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    MBartConfig,
    MBartForConditionalGeneration,
    MBartTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from extract.errors import InputError
from extract.pretrained import load_pretrained
from train.models.tokenizer import load_tokenizer
from train.settings import TransformerSettings

FAMILIES = ("mbart", "t5", "mt5", "umt5")
"""Whose start of a sentence, positions and tokenizers are known here; others would translate, and wrongly."""


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


def load_language_model(
    name: str | Path,
    language: str | None,
    *,
    pretrained: bool = True,
    seed: int = 0,
    where: str = "train.stage2.language_model",
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A language model and its tokenizer, from a folder, the Hugging Face cache or the hub.

    Args:
        language: code of the text, e.g. ``de_DE``; None leaves the model's own start of generation as it is.
        pretrained: take the weights; False: configuration and tokenizer only, and random weights by ``seed``, the
            control of the paper's ablation.
        where: the setting that names the model, for errors.

    Raises:
        InputError: it is not there, no encoder-decoder, lacks weights, or model and tokenizer do not fit.
    """
    config, tokenizer = load_language_config(name, where), load_tokenizer(name, language, where)
    if pretrained:
        model = load_pretrained(_weights, name, where, "weights of an encoder-decoder")
    else:
        torch.manual_seed(seed)
        model = AutoModelForSeq2SeqLM.from_config(config)
    _check_fit(model, tokenizer, f"{where} = {name}")
    if language is not None:
        set_language(model, tokenizer, language)
    return model.eval(), tokenizer


def load_language_config(name: str | Path, where: str = "train.stage2.language_model") -> PretrainedConfig:
    """The configuration of a language model, without its weights.

    Raises:
        InputError: it is not there, no encoder-decoder, or of a family that is not known here.
    """
    config = load_pretrained(AutoConfig.from_pretrained, name, where, "an encoder-decoder of transformers")
    if config.model_type not in FAMILIES:
        raise InputError(f"{where} = {name}", expected="an encoder-decoder of transformers: mBART, T5 or mT5",
                         found=f"model_type {config.model_type}",
                         remedy="For example facebook/mbart-large-cc25 or google/mt5-base.")  # fmt: skip
    return config


def count_parameters(config: PretrainedConfig, pieces: int | None = None) -> int:
    """Of a language model of this configuration, tied ones once; with another number of pieces where it is given."""
    chosen = copy.deepcopy(config)
    chosen.vocab_size = pieces or config.vocab_size
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForSeq2SeqLM.from_config(chosen)
    return int(model.num_parameters())


def _weights(name: str | Path, **options: Any) -> PreTrainedModel:
    """In full precision, whatever the file has: half precision is a setting of the training.

    Raises:
        ValueError: weights that the model needs are not in its files; transformers would draw them at random.
    """
    model, report = AutoModelForSeq2SeqLM.from_pretrained(
        name, dtype=torch.float32, output_loading_info=True, **options
    )
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ValueError(f"no weights of {missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else ""))
    return model


def _check_fit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    """Refuse a tokenizer that has other pieces than the model.

    A model may have more rows than there are pieces: some fill them up to a round number.
    """
    rows, pieces, remedy = model.get_input_embeddings().num_embeddings, len(tokenizer), "Take both from one place."
    if pieces > rows:
        raise InputError(where, expected=f"a tokenizer of at most {rows} pieces", found=f"{pieces}", remedy=remedy)
    for name in ("pad_token_id", "eos_token_id"):
        of_model, of_tokenizer = getattr(model.config, name), getattr(tokenizer, name)
        if isinstance(of_model, int) and of_model != of_tokenizer:
            raise InputError(where, expected=f"{name} {of_model} in the tokenizer, as in the model's configuration",
                             found=f"{of_tokenizer}", remedy=remedy)  # fmt: skip
    require_tokenizer(model.config, tokenizer, where)
    if model.config.model_type == "mbart" and pieces != rows:
        raise InputError(where, expected=f"a tokenizer of {rows} pieces", found=f"{pieces}", remedy=remedy)


def require_tokenizer(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    """
    Raises:
        InputError: a model of mBART's shape whose targets begin with the language code, such as mBART-50.
    """
    if config.model_type == "mbart" and not isinstance(tokenizer, MBartTokenizer):
        raise InputError(where, expected="mBART-cc25's tokenizer, whose targets end with the language code",
                         found=type(tokenizer).__name__,
                         remedy="Use facebook/mbart-large-cc25, or a model made from it.")  # fmt: skip


def set_language(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, language: str) -> None:
    """Generation starts with what training puts in front of a target: mBART's language code, mT5's own start, or, for
    a model of mBART's shape with mT5's tokenizer, the end of sentence, which is then the last of the target.

    Raises:
        InputError: mBART's tokenizer has no such code.
    """
    if isinstance(tokenizer, MBartTokenizer):
        start = tokenizer.convert_tokens_to_ids(language)
        if start in (None, tokenizer.unk_token_id):
            raise InputError("language", expected="a language code that the tokenizer has", found=repr(language),
                             remedy="mBART's are like de_DE, en_XX, zh_CN.")  # fmt: skip
    elif model.config.model_type == "mbart":
        start = tokenizer.eos_token_id
    else:
        start = model.config.decoder_start_token_id
    model.config.decoder_start_token_id = start
    model.generation_config = GenerationConfig(
        decoder_start_token_id=start,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=getattr(model.config, "forced_eos_token_id", None),
        max_length=None,
    )
