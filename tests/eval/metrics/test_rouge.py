"""ROUGE-L against published metric code, and the bit-parallel LCS against the dynamic programme."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.measures import Measures
from eval.metrics.rouge import lcs_length, sentence_rouge_l
from eval.settings import ScoreSettings

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "metrics.json").read_text(encoding="utf-8"))
PAIRS = {pair["id"]: pair for pair in GOLDEN["pairs"]}

STRAY_WHITE_SPACE = {
    "edge_leading_trailing_space_hyp": (78.540773, 100.0),
    "edge_newline_in_hyp": (55.707763, 100.0),
}
"""(neccam/slt's score, ours) where the two part. neccam/slt splits on single spaces: a stray space is an
empty token, a newline part of a word. Our convention collapses white space, as sacreBLEU does for BLEU."""

words = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=80)


def rouge(hypotheses: list[str], references: list[str], settings: ScoreSettings) -> float:
    """The mean over sentences, x100, as it is scored."""
    return Measures(settings).count(hypotheses, references).scores()["rouge"]


def neccam_cases() -> list[tuple[str, list[str], list[str], float]]:
    pairs = [(pair["id"], [pair["hyp"]], [pair["ref"]], pair["values"]) for pair in GOLDEN["pairs"]]
    corpora = [(name, each["hyp"], each["ref"], each["values"]) for name, each in GOLDEN["corpora"].items()]
    return [
        (name, hyp, ref, values["neccam.rouge"])
        for name, hyp, ref, values in pairs + corpora
        if "neccam.rouge" in values
    ]


def plain_lcs_length(left: list[str], right: list[str]) -> int:
    """Cormen et al., Introduction to Algorithms, section 15.4."""
    table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for row, one in enumerate(left, start=1):
        for column, other in enumerate(right, start=1):
            longer = max(table[row - 1][column], table[row][column - 1])
            table[row][column] = table[row - 1][column - 1] + 1 if one == other else longer
    return table[-1][-1]


@pytest.mark.parametrize(
    ("hypotheses", "references", "expected"), [pytest.param(*case[1:], id=case[0]) for case in neccam_cases()]
)
def test_agrees_with_neccam_on_its_own_tokens(hypotheses: list[str], references: list[str], expected: float) -> None:
    pairs = zip(hypotheses, references, strict=True)
    scores = [sentence_rouge_l(hypothesis.split(" "), reference.split(" ")) for hypothesis, reference in pairs]
    measured = 100 * sum(scores) / len(scores)
    assert measured == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "hypotheses", "references", "expected"),
    [pytest.param(*case, id=case[0]) for case in neccam_cases()],
)
def test_agrees_with_neccam_on_our_tokens_except_for_stray_white_space(
    name: str, hypotheses: list[str], references: list[str], expected: float
) -> None:
    measured = rouge(hypotheses, references, ScoreSettings())
    theirs, ours = STRAY_WHITE_SPACE.get(name, (expected, expected))
    assert expected == pytest.approx(theirs, abs=1e-6)
    assert measured == pytest.approx(ours, abs=1e-6)


def test_golden_file_has_cases() -> None:
    assert len(neccam_cases()) == 30


@pytest.mark.parametrize("name", ["zh_00", "zh_01", "zh_03", "zh_05", "zh_10", "zh_13", "zh_14"])
def test_character_level_agrees_with_twostream_where_lengths_are_equal(name: str) -> None:
    # TwoStreamNetwork sets beta = precision / recall, another measure; with equal lengths precision = recall,
    # and every beta gives the same. Its 1e-12 in the denominator shifts the score by less than 1e-6.
    pair, settings = PAIRS[name], ScoreSettings(level="char")
    measured = rouge([pair["hyp"]], [pair["ref"]], settings)
    assert measured == pytest.approx(pair["values"]["twostream.rouge"], abs=1e-6)


def test_character_level_ignores_white_space_and_twostream_does_not() -> None:
    # TwoStreamNetwork joins code points, spaces among them, by spaces: each space becomes empty tokens.
    pair, settings = PAIRS["zh_09"], ScoreSettings(level="char")
    assert pair["values"]["twostream.rouge"] == pytest.approx(39.283154, abs=1e-6)
    assert rouge([pair["hyp"]], [pair["ref"]], settings) == 100


def test_formula_by_hand() -> None:
    # LCS "a c" = 2, P = 2/2, R = 2/4, F = (1 + 1.44) * 0.5 / (0.5 + 1.44) = 1.22 / 1.94
    assert sentence_rouge_l(["a", "c"], ["a", "b", "c", "d"]) == pytest.approx(1.22 / 1.94)


def test_beta_one_is_the_harmonic_mean() -> None:
    assert sentence_rouge_l(["a", "c"], ["a", "b", "c", "d"], beta=1.0) == pytest.approx(2 / 3)


def test_empty_hypothesis_counts_in_the_mean() -> None:
    assert rouge(["a", ""], ["a", "a"], ScoreSettings()) == 50


@pytest.mark.parametrize(("left", "right"), [([], []), (["a"], []), ([], ["a"])])
def test_empty_sides_score_zero(left: list[str], right: list[str]) -> None:
    assert sentence_rouge_l(left, right) == 0


@given(words, words)
def test_bit_parallel_lcs_equals_dynamic_programme(left: list[str], right: list[str]) -> None:
    assert lcs_length(left, right) == plain_lcs_length(left, right)


@given(words)
def test_every_sentence_is_its_own_subsequence(sentence: list[str]) -> None:
    assert lcs_length(sentence, sentence) == len(sentence)


@given(words, words)
def test_rouge_is_a_percentage_and_full_only_for_equal_sentences(left: list[str], right: list[str]) -> None:
    value = sentence_rouge_l(left, right)
    assert 0 <= value <= 1 + 1e-12
    assert (value > 1 - 1e-9) == (left == right and bool(left))
