"""The ROUGE-Ls in use: five computations that papers report under one name. Each scores one sentence pair, 0..1.

| name | whose | tokens | F |
|---|---|---|---|
| ``coco`` | neccam/slt, nlg-eval, pycocoevalcap | of the level | beta 1.2 |
| ``twostream`` | TwoStreamNetwork, MMTLB | of the level | beta = precision / recall |
| ``rouge_score`` | HF ``evaluate`` | runs of a-z and 0-9, lower case | beta 1 |
| ``rouge_score_stem`` | SpaMo | the same, Porter-stemmed from four letters on | beta 1 |
| ``rouge_1.0.1`` | Uni-Sign | distinct words, the text cut at full stops | beta 1 |

An empty hypothesis scores 0 in all of them. The package ``rouge`` stops with an error there, and those who use it
must have dropped such clips.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from eval.metrics.rouge import lcs_length, sentence_rouge_l
from eval.metrics.scored_text import apply_convention, tokens
from eval.settings import RougeFlavour, ScoreSettings
from extract.errors import InputError

SentenceScore = Callable[[str, str], float]
"""Hypothesis and reference to a score."""


def rouge_flavour(name: RougeFlavour, settings: ScoreSettings) -> SentenceScore:
    """The sentence score of a flavour, on texts in the settings' convention.

    Raises:
        InputError: it needs a package of the extra ``rouge``.
    """

    def split(text: str) -> list[str]:
        return tokens(text, settings)

    def plain(text: str) -> str:
        return " ".join(split(text)) if settings.level == "char" else apply_convention(text, settings)

    if name == "coco":
        return lambda hypothesis, reference: sentence_rouge_l(split(hypothesis), split(reference), beta=settings.beta)
    if name == "twostream":
        return lambda hypothesis, reference: _beta_of_ratio(split(hypothesis), split(reference))
    if name == "rouge_1.0.1":
        package = _rouge_package()
        return lambda hypothesis, reference: _unique_words(package, plain(hypothesis), plain(reference))
    stem = _porter() if name == "rouge_score_stem" else None
    return lambda hypothesis, reference: sentence_rouge_l(
        _alphanumeric(plain(hypothesis), stem), _alphanumeric(plain(reference), stem), beta=1.0
    )


def _beta_of_ratio(hypothesis: list[str], reference: list[str]) -> float:
    """With beta = P / R, so that F = P R (R^2 + P^2) / (R^3 + P^3): nearer to the higher of the two."""
    common = lcs_length(hypothesis, reference)
    if not common:
        return 0.0
    return sentence_rouge_l(hypothesis, reference, beta=len(reference) / len(hypothesis))


def _alphanumeric(text: str, stem: Callable[[str], str] | None) -> list[str]:
    """Tokens as rouge_score 0.1.2 makes them: an ``ü`` is no letter there and cuts its word in two."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return [stem(word) if len(word) > 3 else word for word in words] if stem else words


def _unique_words(package: Any, hypothesis: str, reference: str) -> float:
    if not hypothesis.replace(".", "") or not reference.replace(".", ""):
        return 0.0
    try:
        (scores,) = package.get_scores([hypothesis], [reference])
    except RecursionError:
        raise InputError(
            "ROUGE of the package rouge 1.0.1", expected="sentences of a few hundred words",
            found=f"{max(len(hypothesis.split()), len(reference.split()))} words",
            remedy="The package recurses once per word: use the flavour coco.",
        ) from None  # fmt: skip
    return float(scores["rouge-l"]["f"])


@lru_cache(maxsize=1)
def _porter() -> Callable[[str], str]:
    try:
        from nltk.stem.porter import PorterStemmer
    except ImportError as error:
        raise _absent("nltk", "rouge_score_stem") from error
    return lru_cache(maxsize=2**17)(PorterStemmer().stem)


@lru_cache(maxsize=1)
def _rouge_package() -> Any:
    try:
        from rouge import Rouge
    except ImportError as error:
        raise _absent("rouge", "rouge_1.0.1") from error
    return Rouge(metrics=["rouge-l"])


def _absent(package: str, flavour: str) -> InputError:
    return InputError(
        f"ROUGE flavour {flavour}", expected=f"the package {package}", found="none",
        remedy="Install the extra: pip install -e '.[rouge]'.",
    )  # fmt: skip
