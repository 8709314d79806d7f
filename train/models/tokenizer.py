"""The text side's tokenizer: that of the language model, or one of mBART's class trained on the user's own text."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from tokenizers.normalizers import Normalizer
from transformers import AutoTokenizer, MBartTokenizer, PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import SentencePieceExtractor
from transformers.models.mbart.tokenization_mbart import FAIRSEQ_LANGUAGE_CODES
from transformers.utils import cached_file

from extract.errors import InputError
from extract.pretrained import load_pretrained

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


def load_tokenizer(
    name: str | Path, language: str | None = None, where: str = "train.stage2.language_model"
) -> PreTrainedTokenizerBase:
    """The tokenizer of a language model, by name or folder, set to one language on both sides.

    Args:
        language: code of the text; matters to tokenizers that have such codes. None: the tokenizer's own setting.
        where: the setting that names the model, for errors.

    Raises:
        InputError: it is neither a folder nor in the Hugging Face cache, cannot be used, or has no such language.
    """
    chosen = {"src_lang": language, "tgt_lang": language} if language else {}
    tokenizer = load_pretrained(
        lambda name, **options: AutoTokenizer.from_pretrained(name, **chosen, **options), name, where, "a tokenizer"
    )
    if isinstance(tokenizer, MBartTokenizer):
        _check_codes(tokenizer, name, language)
        if tokenizer.backend_tokenizer.normalizer is None:
            tokenizer.backend_tokenizer.normalizer = _normalizer(name)
    return tokenizer


def _check_codes(tokenizer: MBartTokenizer, name: str | Path, language: str | None) -> None:
    """The class puts the unknown piece in the place of a code that it does not find."""
    if tokenizer.convert_tokens_to_ids(list(_SPECIAL)) != list(range(len(_SPECIAL))):
        raise InputError(f"tokenizer of {name}", expected=f"mBART's first pieces, {' '.join(_SPECIAL)}",
                         found=" ".join(tokenizer.convert_ids_to_tokens(list(range(len(_SPECIAL))))),
                         remedy="Take it from where the model is from.")  # fmt: skip
    vocabulary = tokenizer.get_vocab()
    known = [code for code in FAIRSEQ_LANGUAGE_CODES if code in vocabulary]
    if language and language not in known:
        raise InputError("language", expected="a language code that the tokenizer has", found=repr(language),
                         remedy=f"Set data.language. Known: {', '.join(known)}.")  # fmt: skip


def _normalizer(name: str | Path) -> Normalizer | None:
    """The rule by which the pieces were made of Unicode text: full-width punctuation to ASCII, ligatures to letters.

    ``MBartTokenizer`` of transformers 5 leaves it away, and then the comma of Chinese text is an unknown piece.
    """
    options = {"local_files_only": True, "_raise_exceptions_for_missing_entries": False}
    if path := cached_file(str(name), "tokenizer.json", **options):
        described = json.loads(Path(path).read_text(encoding="utf-8")).get("normalizer")
        if described is None:
            return None
        # A tokenizer of one piece: the library reads normalizers as parts of whole tokenizers only.
        model = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0]]}
        whole = Tokenizer.from_str(json.dumps({"version": "1.0", "normalizer": described, "model": model}))
        found: Normalizer | None = whole.normalizer
        return found
    if path := cached_file(str(name), "sentencepiece.bpe.model", **options):
        rule = SentencePieceExtractor(path).proto.normalizer_spec.precompiled_charsmap
        return normalizers.Precompiled(rule) if rule else None
    return None
