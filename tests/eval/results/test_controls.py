"""What scores without looking: shuffles, and the best constant sentence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.bleu import corpus_bleu4
from eval.predictions.prediction_file import Prediction
from eval.results.controls import best_constant, derange, mean_of, of_other_clips
from eval.results.scores import count, score
from eval.settings import ScoreSettings

PLAIN = ScoreSettings(bootstrap=0)


@given(st.integers(2, 60), st.integers(0, 20))
def test_no_clip_keeps_its_translation_when_shuffled(number: int, seed: int) -> None:
    places = list(range(number))
    moved = derange(places, seed)
    assert sorted(moved) == places
    assert all(a != b for a, b in zip(places, moved, strict=True))
    assert moved == derange(places, seed)


def test_shuffling_gives_each_clip_anothers_translation_and_leaves_the_silent_silent() -> None:
    rows = [Prediction(f"c{n}", "" if n == 3 else f"h{n}", f"r{n}", n, -float(n)) for n in range(8)]
    moved = of_other_clips(rows, 1)
    assert [(row.id, row.reference, row.n_frames) for row in moved] == [(f"c{n}", f"r{n}", n) for n in range(8)]
    assert sorted(row.hypothesis for row in moved) == sorted(row.hypothesis for row in rows)
    assert moved[3].hypothesis == ""
    for row, own in zip(moved, rows, strict=True):
        assert row.hypothesis != own.hypothesis or not own.hypothesis
        assert row.score == (-float(row.hypothesis[1:]) if row.hypothesis else own.score)


def test_the_mean_of_shuffles_has_the_mean_of_their_counts() -> None:
    rows = [Prediction(f"c{n}", f"am {n % 3} tag regen", f"am {n % 4} tag viel regen") for n in range(12)]
    counts = [count(of_other_clips(rows, seed), PLAIN) for seed in range(5)]
    values = [one.scores()["rouge"] for one in counts]
    assert mean_of(counts).scores()["rouge"] == pytest.approx(np.mean(values))
    assert min(one.scores()["bleu1"] for one in counts) <= mean_of(counts).scores()["bleu1"]


@pytest.mark.parametrize(
    ("settings", "train", "dev"),
    [
        (PLAIN, ["a b c d e", "a b c d", "x y", "a a b c d e a a"], ["a b c d f", "a b c d", "a a a a", "b c d e"]),
        (ScoreSettings(level="char", bootstrap=0), ["今天下雨", "明天下雨。", "他"], ["今天下大雨。", "明天下大雨吗"]),
        (ScoreSettings(tokenizer="13a", lowercase=True, smoothing="exp", bootstrap=0),
         ["It's a cat.", "A dog, a cat", "no"], ["it's a dog, a cat!", "A cat"]),
        (ScoreSettings(final_dot="add", bootstrap=0), ["es regnet", "am tag regnet es"], ["heute am tag regnet es"]),
    ],
)  # fmt: skip
def test_the_best_constant_sentence_is_that_of_scoring_them_all(
    settings: ScoreSettings, train: list[str], dev: list[str]
) -> None:
    def bleus(text: str) -> list[float]:
        found = score([Prediction(str(n), text, said) for n, said in enumerate(dev)], settings)
        return [found.bleu4, found.bleu3, found.bleu2, found.bleu1]

    chosen = best_constant([*train, *train], dev, settings)
    assert bleus(chosen) == max(bleus(text) for text in train)
    assert corpus_bleu4([chosen] * len(dev), dev, settings) == bleus(chosen)[0]
