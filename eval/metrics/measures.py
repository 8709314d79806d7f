"""The metrics of a split as sums over its sentences, so that any part of it can be scored without counting again.

What a metric needs of a sentence is a short row of numbers, and its score is a function of their sum. Resampling,
slices and significance tests are sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics import CHRF

from eval.metrics.bleu import ORDERS, bleu_counts, bleu_of_counts, sacrebleus_bleu
from eval.metrics.chrf import ORDER, chrf_counts, chrf_of_counts
from eval.metrics.learned_metrics import bleurt_scores, comet_scores
from eval.metrics.rouge_flavours import rouge_flavour
from eval.metrics.scored_text import apply_convention, convention_signature, tokens
from eval.metrics.wer import word_errors
from eval.settings import Further, ScoreSettings
from extract.errors import InputError

SentenceRows = Callable[[Sequence[str], Sequence[str]], list[list[float]]]
"""Hypotheses and references to one row of statistics each."""


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
        self._rows: dict[str, SentenceRows] = {
            "bleu": lambda hypotheses, references: bleu_counts(hypotheses, references, settings),
            "chrf": lambda hypotheses, references: chrf_counts(hypotheses, references, settings),
            "rouge": _means(rouge_flavour(settings.rouge, settings)),
            "wer": self._word_errors,
            **{name: self._further(name) for name in settings.more},
        }
        widths = [{"bleu": 2 + 2 * len(ORDERS), "chrf": 3 * ORDER}.get(name, 2) for name in self._rows]
        ends = zip(self._rows, widths, np.cumsum(widths).tolist(), strict=True)
        self._columns = {name: slice(end - width, end) for name, width, end in ends}

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
        parts = [rows(hypotheses, references) for rows in self._rows.values()]
        return Counts(np.concatenate([np.asarray(part, np.float64) for part in parts], axis=1), self)

    def scores(self, sums: NDArray[np.float64], only: Sequence[str] | None = None) -> dict[str, float]:
        """Metrics of statistics summed over sentences.

        Args:
            only: names of metrics, as in the result; None: all.
        """
        found: dict[str, float] = {}
        for name, columns in self._columns.items():
            part = sums[columns].tolist()
            if name == "bleu":
                for order in ORDERS:
                    if only is None or f"bleu{order}" in only:
                        found[f"bleu{order}"] = bleu_of_counts(part, order, self.settings.smoothing)
            elif only is None or name in only:
                found[name] = chrf_of_counts(part) if name == "chrf" else 100 * part[0] / part[1] if part[1] else 0.0
        if "rouge" in found:
            found["rouge"] = min(100.0, found["rouge"])  # a mean of ones may be a little more
        return found

    def signatures(self) -> dict[str, str]:
        """Of every metric; that of BLEU covers ROUGE-L, which stands beside it in every table."""
        settings, convention = self.settings, convention_signature(self.settings)
        bleu, chrf = sacrebleus_bleu(settings), CHRF(lowercase=settings.lowercase)
        bleu.num_refs = chrf.num_refs = 1
        flavour = f"beta{settings.beta:g}" if settings.rouge == "coco" else settings.rouge
        return {
            "bleu": f"{bleu.get_signature()}|{convention}|rougeL:{flavour}",
            "chrf": f"{chrf.get_signature()}|{convention}",
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
