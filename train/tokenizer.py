"""The text side's tokenizer: mBART's class, trained on the user's own text where mBART's is not at hand."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, MBartTokenizer, PreTrainedTokenizerBase
from transformers.models.mbart.tokenization_mbart import FAIRSEQ_LANGUAGE_CODES

from extract.errors import InputError

_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")


def train_tokenizer(lines: Sequence[str], vocabulary: int, language: str) -> MBartTokenizer:
    """A unigram tokenizer with mBART's specials in mBART's places: four first, language codes and mask last.

    The pieces come from byte-pair merges, their scores from how often the merges use them: the unigram trainer
    seeds itself with substrings that recur in different words, and on a small text that leaves no whole words.

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
    merges = Tokenizer(models.BPE())
    merges.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    # Sorted: the result must not depend on the order of a file's lines.
    merges.train_from_iterator(sorted(lines), trainers.BpeTrainer(vocab_size=vocabulary, show_progress=False))
    used = Counter(piece for encoding in merges.encode_batch(list(lines)) for piece in encoding.tokens)
    letters = {letter for piece in merges.get_vocab() for letter in piece}  # so that no known letter is unknown
    total = used.total()
    learned = sorted(used.keys() | letters, key=lambda piece: (-used[piece], piece))
    vocab = [(piece, 0.0) for piece in _SPECIAL]
    vocab += [(piece, math.log(max(used[piece], 0.5) / total)) for piece in learned]
    vocab += [(code, 0.0) for code in FAIRSEQ_LANGUAGE_CODES] + [("<mask>", 0.0)]
    return MBartTokenizer(vocab=vocab, src_lang=language, tgt_lang=language)


def load_tokenizer(folder: str | Path, language: str) -> PreTrainedTokenizerBase:
    """A saved tokenizer, set to one language on both sides.

    Raises:
        InputError: it is neither a folder nor in the Hugging Face cache.
    """
    try:
        return AutoTokenizer.from_pretrained(folder, src_lang=language, tgt_lang=language)
    except (OSError, ValueError) as error:
        raise InputError(
            f"tokenizer of the language model {folder}", expected="a model folder or a cached hub model",
            found="neither", remedy=f"Fetch it once where there is a network: `hf download {folder}`.",
        ) from error  # fmt: skip
