"""The text side's tokenizer: mBART's class, trained on the user's own text where mBART's is not at hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, MBartTokenizer, PreTrainedTokenizerBase
from transformers.models.mbart.tokenization_mbart import FAIRSEQ_LANGUAGE_CODES

from extract.errors import InputError

_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")


def train_tokenizer(lines: Sequence[str], vocabulary: int, language: str) -> MBartTokenizer:
    """A unigram tokenizer with mBART's specials in mBART's places: four first, language codes and mask last.

    Args:
        lines: the text.
        vocabulary: pieces at most; a small text gives fewer.
        language: mBART code, e.g. ``de_DE``.

    Raises:
        InputError: mBART has no such language.
    """
    if language not in FAIRSEQ_LANGUAGE_CODES:
        raise InputError("language", expected="one of mBART's codes", found=repr(language),
                         remedy=f"Known: {', '.join(FAIRSEQ_LANGUAGE_CODES)}.")  # fmt: skip
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    trainer = trainers.UnigramTrainer(
        vocab_size=vocabulary, special_tokens=list(_SPECIAL), unk_token="<unk>", show_progress=False
    )
    # Sorted: the trainer's result must not depend on the order of a file's lines.
    tokenizer.train_from_iterator(sorted(lines), trainer)
    learned = [(piece, score) for piece, score in _pieces(tokenizer) if piece not in _SPECIAL]
    vocab = [(piece, 0.0) for piece in _SPECIAL] + learned
    vocab += [(code, 0.0) for code in FAIRSEQ_LANGUAGE_CODES] + [("<mask>", 0.0)]
    return MBartTokenizer(vocab=vocab, src_lang=language, tgt_lang=language)


def _pieces(tokenizer: Tokenizer) -> list[tuple[str, float]]:
    return [(piece, score) for piece, score in json.loads(tokenizer.to_str())["model"]["vocab"]]


def load_tokenizer(folder: str | Path, language: str) -> PreTrainedTokenizerBase:
    """A saved tokenizer, set to one language on both sides."""
    return AutoTokenizer.from_pretrained(folder, src_lang=language, tgt_lang=language)
