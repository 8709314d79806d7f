"""Which words a system gets right: content words, rare ones, numbers, and what it says in their place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from eval.metrics.scored_text import tokens
from eval.metrics.wer import align
from eval.predictions.prediction_file import Prediction
from eval.results.number_words import numbers_in
from eval.settings import ScoreSettings

FREQUENCIES = ((0, 0, "never"), (1, 4, "1–4"), (5, 24, "5–24"), (25, 124, "25–124"), (125, None, "125 or more"))
"""Bins of how often a word stands in train."""
LISTED, EXAMPLES = 30, 3
"""Confusions and numbers that are listed, and clips that are named for each confusion."""
_PUNCTUATION = frozenset(".,;:!?\"'()-–—…。，、；：！？「」“”‘’«»")


class Record(BaseModel):
    """Base of what is written to ``slices.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Recall(Record):
    """How many of the references' words of a kind the hypotheses have, x100."""

    label: str
    n: int
    recall: float


class Words(Record):
    content_recall: float | None
    """Of words that are no function words (``function_words.yaml``); None where the references have none."""
    n_content: int
    by_frequency: list[Recall]
    """By how often a word stands in train; empty without a train split."""


class Confusion(Record):
    """A content word that was replaced by another."""

    reference: str
    hypothesis: str
    count: int
    clips: list[str]


class Token(Record):
    token: str
    count: int


class Numbers(Record):
    n_reference: int
    n_hypothesis: int
    recall: float | None
    precision: float | None
    hallucinated: list[Token]
    """In a hypothesis and not in its reference, the most frequent first."""
    dropped: list[Token]
    """In a reference and not in its hypothesis."""


def words_of(
    rows: Sequence[Prediction], settings: ScoreSettings, language: str, train: Mapping[str, int] | None
) -> Words:
    """Recall of content words: an occurrence in the reference counts when the hypothesis has one for it.

    Args:
        train: how often each word stands in the train split; None: not known.
    """
    functional = function_words(language)
    content, bins = [0, 0], {label: [0, 0] for *_, label in FREQUENCIES}
    for row in rows:
        said = Counter(tokens(row.hypothesis, settings))
        for word, times in Counter(tokens(row.reference, settings)).items():
            if _is_function(word, functional):
                continue
            right = min(times, said[word])
            content = [content[0] + right, content[1] + times]
            if train is not None:
                label = _bin(train.get(word, 0))
                bins[label] = [bins[label][0] + right, bins[label][1] + times]
    return Words(
        content_recall=_percent(*content),
        n_content=content[1],
        by_frequency=[
            Recall(label=label, n=total, recall=100 * right / total) for label, (right, total) in bins.items() if total
        ],
    )


def confusions(rows: Sequence[Prediction], settings: ScoreSettings, language: str) -> list[Confusion]:
    """The most frequent replacements of a content word by another, in the alignment of WER."""
    functional = function_words(language)
    clips: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for wanted, said in align(tokens(row.reference, settings), tokens(row.hypothesis, settings)):
            if wanted is None or said is None or wanted == said:
                continue
            if not (_is_function(wanted, functional) or _is_function(said, functional)):
                clips.setdefault((wanted, said), []).append(row.id)
    ordered = sorted(clips.items(), key=lambda entry: (-len(entry[1]), entry[0]))[:LISTED]
    return [
        Confusion(reference=wanted, hypothesis=said, count=len(ids), clips=list(dict.fromkeys(ids))[:EXAMPLES])
        for (wanted, said), ids in ordered
    ]


def numbers_of(rows: Sequence[Prediction], language: str) -> Numbers:
    """Which numbers were made up and which were lost, sentence by sentence."""
    hallucinated: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    wanted_in_all = said_in_all = 0
    for row in rows:
        wanted, said = (Counter(numbers_in(text, language)) for text in (row.reference, row.hypothesis))
        hallucinated += said - wanted
        dropped += wanted - said
        wanted_in_all += wanted.total()
        said_in_all += said.total()
    right = wanted_in_all - dropped.total()
    return Numbers(
        n_reference=wanted_in_all, n_hypothesis=said_in_all, recall=_percent(right, wanted_in_all),
        precision=_percent(right, said_in_all), hallucinated=_listed(hallucinated), dropped=_listed(dropped),
    )  # fmt: skip


@lru_cache(maxsize=1)
def _lists() -> dict[str, frozenset[str]]:
    text = Path(__file__).with_name("function_words.yaml").read_text(encoding="utf-8")
    return {language: frozenset(words.split()) for language, words in yaml.safe_load(text).items()}


def function_words(language: str) -> frozenset[str]:
    """Of a language by its mBART code; empty where there is no list, so that every word counts as content."""
    return _lists().get(language, frozenset())


def _is_function(word: str, functional: frozenset[str]) -> bool:
    return word.lower() in functional or all(sign in _PUNCTUATION for sign in word)


def _bin(times: int) -> str:
    return next(label for low, high, label in FREQUENCIES if times >= low and (high is None or times <= high))


def _percent(part: float, whole: float) -> float | None:
    return 100 * part / whole if whole else None


def _listed(counted: Counter[str]) -> list[Token]:
    ordered = sorted(counted.items(), key=lambda entry: (-entry[1], entry[0]))[:LISTED]
    return [Token(token=token, count=count) for token, count in ordered]
