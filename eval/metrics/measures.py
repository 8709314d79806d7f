"""The metrics of a split as sums over its sentences, so that any part of it can be scored without counting again.

Every metric is one of sacreBLEU's, or joins sacreBLEU's machinery by its interface: what it needs of a sentence is a
short row of numbers, and its score is a function of their sum. Resampling, slices and significance tests are sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics import CHRF
from sacrebleu.metrics.base import Metric, Score

from eval.metrics.bleu import ORDERS, ConventionBleu, bleu_of_counts
from eval.metrics.learned_metrics import bleurt_scores, comet_scores
from eval.metrics.rouge_flavours import rouge_flavour
from eval.metrics.scored_text import apply_convention, convention_signature, tokens
from eval.metrics.wer import word_errors
from eval.settings import Further, ScoreSettings
from extract.errors import InputError

SentenceRows = Callable[[Sequence[str], Sequence[str]], list[list[float]]]
"""Hypotheses and references to one row of statistics each: a numerator and a denominator."""


class ConventionChrf(CHRF):
    """sacreBLEU's chrF2 of texts as they are given."""

    def __init__(self, settings: ScoreSettings) -> None:
        super().__init__(lowercase=settings.lowercase)
        self._settings = settings

    def _preprocess_segment(self, sent: str) -> str:
        return apply_convention(sent, self._settings)


class Ratio(Metric):
    """A sum over a sum, x100, in sacreBLEU's interface: a mean over sentences, or errors by words."""

    def __init__(self, name: str, rows: SentenceRows) -> None:
        super().__init__()
        self.name, self.rows, self.num_refs = name, rows, 1

    def _extract_corpus_statistics(self, hypotheses: Sequence[str], references: Any) -> list[list[float]]:
        return self.rows(hypotheses, references[0])

    def _aggregate_and_compute(self, stats: Sequence[Sequence[float]]) -> Any:
        return self._compute_score_from_stats(np.sum(stats, axis=0))

    def _compute_score_from_stats(self, stats: Sequence[float]) -> Any:
        return Score(self.name, 100 * float(stats[0]) / float(stats[1]) if stats[1] else 0.0)

    # sacreBLEU's own rows are made by these three; ours by one function of the whole corpus.
    _preprocess_segment = _extract_reference_info = _compute_segment_statistics = None


@dataclass(frozen=True)
class Counts:
    """What the metrics need of every sentence of one system."""

    matrix: NDArray[np.float64]
    """(sentences, statistics)"""
    measures: Measures

    def __len__(self) -> int:
        return len(self.matrix)

    def take(self, places: Sequence[int]) -> Counts:
        """Some of the sentences."""
        return Counts(self.matrix[list(places)], self.measures)

    def scores(self) -> dict[str, float]:
        """Every metric by name, over all sentences."""
        return self.measures.scores(self.matrix.sum(0))


class Measures:
    """The default metrics and those that the settings name besides.

    Raises:
        InputError: one needs a package that is not there.
    """

    def __init__(self, settings: ScoreSettings) -> None:
        self.settings = settings
        self.metrics: dict[str, Any] = {
            "bleu": ConventionBleu(settings),
            "chrf": ConventionChrf(settings),
            "rouge": Ratio("ROUGE-L", _means(rouge_flavour(settings.rouge, settings))),
            "wer": Ratio("WER", self._word_errors),
        }
        for further in settings.more:
            self.metrics[further] = Ratio(further, self._further(further))
        widths = {"bleu": 2 + 2 * len(ORDERS), "chrf": 3 * self.metrics["chrf"].order}
        self.columns: dict[str, slice] = {}
        start = 0
        for name in self.metrics:
            self.columns[name] = slice(start, start + widths.get(name, 2))
            start = self.columns[name].stop

    def count(self, hypotheses: Sequence[str], references: Sequence[str]) -> Counts:
        """
        Raises:
            InputError: no sentences, or not as many hypotheses as references.
        """
        if len(hypotheses) != len(references) or not hypotheses:
            raise InputError(
                "scores", expected="as many hypotheses as references, at least one",
                found=f"{len(hypotheses)} and {len(references)}",
                remedy="Score the whole split: an absent clip is an empty hypothesis.",
            )  # fmt: skip
        parts = [metric._extract_corpus_statistics(hypotheses, [references]) for metric in self.metrics.values()]
        return Counts(np.concatenate([np.asarray(part, np.float64) for part in parts], axis=1), self)

    def scores(self, sums: NDArray[np.float64], only: Sequence[str] | None = None) -> dict[str, float]:
        """Metrics of statistics summed over sentences.

        Args:
            only: names of metrics, as in the result; None: all.
        """
        found: dict[str, float] = {}
        for name, metric in self.metrics.items():
            part = sums[self.columns[name]].tolist()
            if name == "bleu":
                for order in ORDERS:
                    if only is None or f"bleu{order}" in only:
                        found[f"bleu{order}"] = bleu_of_counts(part, order, self.settings.smoothing)
            elif only is None or name in only:
                score = float(metric._compute_score_from_stats(part).score)
                found[name] = min(100.0, score) if name in ("chrf", "rouge") else score
        return found

    def signatures(self) -> dict[str, str]:
        """Of every metric; that of BLEU covers ROUGE-L, which stands beside it in every table."""
        settings, convention = self.settings, convention_signature(self.settings)
        for metric in self.metrics.values():
            metric.num_refs = 1
        flavour = f"beta{settings.beta:g}" if settings.rouge == "coco" else settings.rouge
        return {
            "bleu": f"{self.metrics['bleu'].get_signature()}|{convention}|rougeL:{flavour}",
            "chrf": f"{self.metrics['chrf'].get_signature()}|{convention}",
            "wer": f"wer:3-3-4|case:{'lc' if settings.lowercase else 'mixed'}|{convention}",
            **{name: f"{name}|{convention}" for name in settings.more},
        }

    def _word_errors(self, hypotheses: Sequence[str], references: Sequence[str]) -> list[list[float]]:
        rows = []
        for hypothesis, reference in zip(hypotheses, references, strict=True):
            words = tokens(reference, self.settings)
            rows.append([float(word_errors(words, tokens(hypothesis, self.settings))), float(len(words))])
        return rows

    def _further(self, name: Further) -> SentenceRows:
        if name != "bleurt" and name != "comet":
            return _means(rouge_flavour(name, self.settings))
        learned = {"bleurt": bleurt_scores, "comet": comet_scores}[name]

        def rows(hypotheses: Sequence[str], references: Sequence[str]) -> list[list[float]]:
            both = [[apply_convention(text, self.settings) for text in texts] for texts in (hypotheses, references)]
            return [[value, 1.0] for value in learned(*both)]

        return rows


def _means(score: Callable[[str, str], float]) -> SentenceRows:
    """A mean over sentences: its rows are a sentence's score and 1."""

    def rows(hypotheses: Sequence[str], references: Sequence[str]) -> list[list[float]]:
        return [[score(*pair), 1.0] for pair in zip(hypotheses, references, strict=True)]

    return rows
