"""Scoring as fast as sentences can be counted: against the field's pure Python, written from its definition.

    python benchmarks/eval.py             # writes docs/benchmarks/eval.json

100,000 invented sentence pairs of PHOENIX14T's lengths (14 words in the mean) and Zipf's frequencies. ROUGE-L is
timed against the dynamic programme over a table, as MS COCO's caption code and neccam/slt have it; BLEU-1..4 against
n-gram counts in dictionaries, one pass per order, as systems without sacreBLEU have it. Contenders take turns on
slices of the sentences, so that both see the same state of the machine. All scores agree, or the run stops.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose eval.py would hide the package

import argparse
import math
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.page import write_report
from eval.metrics.bleu import bleu_counts
from eval.metrics.bootstrap import resample
from eval.metrics.rouge_flavours import rouge_flavour
from eval.predictions.prediction_file import Prediction
from eval.results.scores import count, score
from eval.settings import ScoreSettings

SETTINGS = ScoreSettings(bootstrap=0)
VOCABULARY, WORDS = 3000, 14
SLICES = 20
RESAMPLED = 2000


def sentences(n: int, seed: int = 0) -> list[Prediction]:
    """References of about 14 words, and hypotheses in which every third word is another, left out or put in."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, VOCABULARY + 1)
    drawn = iter(rng.choice(VOCABULARY, size=n * WORDS * 4, p=weights / weights.sum()).tolist())
    rows = []
    for number in range(n):
        reference = [f"wort{next(drawn)}" for _ in range(max(1, int(rng.normal(WORDS, 5))))]
        hypothesis = []
        for word, chance in zip(reference, rng.random(len(reference)), strict=True):
            if chance < 0.1:
                continue
            hypothesis.append(f"wort{next(drawn)}" if chance < 0.3 else word)
            if chance > 0.95:
                hypothesis.append(f"wort{next(drawn)}")
        rows.append(Prediction(str(number), " ".join(hypothesis), " ".join(reference)))
    return rows


def plain_rouge(rows: Sequence[Prediction]) -> float:
    """Sum of sentence ROUGE-L, beta 1.2, the common subsequence by a table of lengths (Lin 2004, section 3.1)."""
    total = 0.0
    for row in rows:
        left, right = row.hypothesis.split(" "), row.reference.split(" ")
        table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
        for i in range(1, len(left) + 1):
            for j in range(1, len(right) + 1):
                if left[i - 1] == right[j - 1]:
                    table[i][j] = table[i - 1][j - 1] + 1
                else:
                    table[i][j] = max(table[i - 1][j], table[i][j - 1])
        common = table[-1][-1]
        precision, recall = common / len(left), common / len(right)
        if precision and recall:
            total += (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)
    return total


def plain_bleu(rows: Sequence[Prediction]) -> list[float]:
    """BLEU-1..4 (Papineni et al. 2002, section 2.3), every order counted on its own."""
    lengths = [sum(len(text.split()) for text in texts) for texts in
               ([row.hypothesis for row in rows], [row.reference for row in rows])]  # fmt: skip
    penalty = min(1.0, math.exp(1 - lengths[1] / lengths[0]))
    precisions = []
    for order in (1, 2, 3, 4):
        right = total = 0
        for row in rows:
            said, wanted = (grams(text.split(), order) for text in (row.hypothesis, row.reference))
            right += sum(min(times, wanted[gram]) for gram, times in said.items())
            total += sum(said.values())
        precisions.append(right / total)
    return [100 * penalty * math.exp(sum(map(math.log, precisions[:order])) / order) for order in (1, 2, 3, 4)]


def grams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = action()
    return time.perf_counter() - began, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/eval.json"))
    options = parser.parse_args()

    rows = sentences(options.pairs)
    ours = rouge_flavour("coco", SETTINGS)
    seconds = {"rouge": 0.0, "plain_rouge": 0.0, "bleu": 0.0, "plain_bleu": 0.0}
    totals = {"rouge": 0.0, "plain_rouge": 0.0}
    for part in np.array_split(np.arange(len(rows)), SLICES):
        some = [rows[place] for place in part]
        hypotheses, references = [row.hypothesis for row in some], [row.reference for row in some]
        for name, action in (
            ("rouge", lambda some=some: sum(ours(row.hypothesis, row.reference) for row in some)),
            ("plain_rouge", lambda some=some: plain_rouge(some)),
        ):
            took, value = timed(action)
            seconds[name] += took
            totals[name] += value
        seconds["bleu"] += timed(lambda h=hypotheses, r=references: bleu_counts(h, r, SETTINGS))[0]
        seconds["plain_bleu"] += timed(lambda some=some: plain_bleu(some))[0]
    seconds["all_metrics"], whole = timed(lambda: score(rows, SETTINGS))
    assert math.isclose(totals["rouge"], totals["plain_rouge"], abs_tol=1e-6), totals
    assert math.isclose(100 * totals["plain_rouge"] / len(rows), whole.rouge, abs_tol=1e-6)
    assert np.allclose(plain_bleu(rows), [whole.bleu1, whole.bleu2, whole.bleu3, whole.bleu4], atol=1e-6)

    few = rows[:RESAMPLED]
    seconds["count_2000"], counted = timed(lambda: count(few, SETTINGS))
    seconds["bootstrap_2000"] = timed(lambda: resample(counted, 1000))[0]
    report = {
        "title": "Scoring, against pure Python written from the definitions",
        "command": "python benchmarks/eval.py",
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "pairs": len(rows),
        "figures": {f"{name}_seconds": value for name, value in seconds.items()},
        "ratios": {
            "rouge_vs_plain": seconds["plain_rouge"] / seconds["rouge"],
            "bleu_vs_plain": seconds["plain_bleu"] / seconds["bleu"],
            "all_metrics_vs_plain_rouge_and_bleu": (seconds["plain_rouge"] + seconds["plain_bleu"])
            / seconds["all_metrics"],
            "bootstrap_seconds": seconds["count_2000"] + seconds["bootstrap_2000"],
        },
        "wanted": {"rouge_vs_plain": "at least 5", "bootstrap_seconds": "at most 10"},
    }
    write_report(report, options.out)


if __name__ == "__main__":
    main()
