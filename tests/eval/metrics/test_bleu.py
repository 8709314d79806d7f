"""BLEU against what the metric code of published systems gives for the same sentences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics.measures import Measures
from eval.settings import ScoreSettings
from extract.errors import InputError

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "metrics.json").read_text(encoding="utf-8"))

PEERS = {
    "neccam.bleu": ScoreSettings(),
    "sacrebleu2_none": ScoreSettings(smoothing="exp"),
    "gfslt.sacrebleu_13a": ScoreSettings(tokenizer="13a", smoothing="exp"),
    "sacrebleu2_zh": ScoreSettings(level="char", tokenizer="zh", smoothing="exp"),
    "sacrebleu2_char": ScoreSettings(level="char", smoothing="exp"),
}
"""Golden key to the settings that reproduce it."""

sentences = st.lists(st.sampled_from(["regen", "im", "norden", "."]), max_size=8).map(" ".join)
splits = st.lists(st.tuples(sentences, sentences), min_size=1, max_size=8)


def bleu(hypotheses: list[str], references: list[str], flavour: ScoreSettings) -> tuple[float, ...]:
    """BLEU-1..4."""
    scores = Measures(flavour).count(hypotheses, references).scores()
    return tuple(scores[f"bleu{order}"] for order in (1, 2, 3, 4))


def golden_cases(key: str) -> list[tuple[str, list[str], list[str], dict[str, float]]]:
    """(name, hypotheses, references, expected) of every sentence pair and corpus that has the key."""
    pairs = [(pair["id"], [pair["hyp"]], [pair["ref"]], pair["values"]) for pair in GOLDEN["pairs"]]
    corpora = [(name, each["hyp"], each["ref"], each["values"]) for name, each in GOLDEN["corpora"].items()]
    return [(name, hyp, ref, values[key]) for name, hyp, ref, values in pairs + corpora if key in values]


@pytest.mark.parametrize(
    ("flavour", "name", "hypotheses", "references", "expected"),
    [
        pytest.param(flavour, *case, id=f"{key}-{case[0]}")
        for key, flavour in PEERS.items()
        for case in golden_cases(key)
    ],
)
def test_agrees_with_published_systems(
    flavour: ScoreSettings,
    name: str,
    hypotheses: list[str],
    references: list[str],
    expected: dict[str, float],
) -> None:
    measured = bleu(hypotheses, references, flavour)
    assert measured == pytest.approx([expected[f"bleu{order}"] for order in (1, 2, 3, 4)], abs=1e-6), name


@pytest.mark.parametrize(("key", "least"), [("neccam.bleu", 30), ("gfslt.sacrebleu_13a", 30), ("sacrebleu2_zh", 14)])
def test_golden_file_has_cases(key: str, least: int) -> None:
    assert len(golden_cases(key)) >= least


def test_smoothing_is_where_the_published_systems_part() -> None:
    # No bigram matches: neccam/slt gives 0 where sacreBLEU's default still gives points.
    pair = next(pair for pair in GOLDEN["pairs"] if pair["id"] == "de_07")
    unsmoothed = bleu([pair["hyp"]], [pair["ref"]], ScoreSettings())[3]
    smoothed = bleu([pair["hyp"]], [pair["ref"]], ScoreSettings(smoothing="exp"))[3]
    assert unsmoothed == 0
    assert smoothed == pytest.approx(7.545, abs=1e-3)


def test_smoothing_does_not_matter_once_every_order_has_a_match() -> None:
    corpus = GOLDEN["corpora"]["de_all"]
    unsmoothed = bleu(corpus["hyp"], corpus["ref"], ScoreSettings())
    smoothed = bleu(corpus["hyp"], corpus["ref"], ScoreSettings(smoothing="exp"))
    assert unsmoothed == smoothed


def test_tokenizer_char_equals_level_char() -> None:
    corpus = GOLDEN["corpora"]["zh_all"]
    by_level = bleu(corpus["hyp"], corpus["ref"], ScoreSettings(level="char"))
    by_tokenizer = bleu(corpus["hyp"], corpus["ref"], ScoreSettings(level="char", tokenizer="char"))
    assert by_level == by_tokenizer


@pytest.mark.parametrize(
    ("flavour", "expected"),
    [
        (ScoreSettings(), "nrefs:1|case:mixed|eff:no|tok:none|smooth:none|version:{}|level:word|dot:keep|unicode:keep"),
        (
            ScoreSettings(tokenizer="13a", smoothing="exp", lowercase=True, final_dot="strip"),
            "nrefs:1|case:lc|eff:no|tok:13a|smooth:exp|version:{}|level:word|dot:strip|unicode:keep",
        ),
        (
            ScoreSettings(level="char"),
            "nrefs:1|case:mixed|eff:no|tok:none|smooth:none|version:{}|level:char|dot:keep|unicode:keep",
        ),
    ],
)
def test_signature_names_everything_that_moves_the_score(flavour: ScoreSettings, expected: str) -> None:
    assert Measures(flavour).signatures()["bleu"] == expected.format(sacrebleu.__version__) + "|rougeL:beta1.2"


def test_conventions_apply_to_both_sides() -> None:
    flavour = ScoreSettings(lowercase=True, final_dot="strip")
    measured = bleu(["Regen im  Süden\nheute ."], ["regen IM süden heute"], flavour)
    assert measured == (100, 100, 100, 100)


def test_final_dot_moves_the_score() -> None:
    corpus = GOLDEN["corpora"]["de_with_dot"]
    kept = bleu(corpus["hyp"], corpus["ref"], ScoreSettings())
    stripped = bleu(corpus["hyp"], corpus["ref"], ScoreSettings(final_dot="strip"))
    assert kept[0] > stripped[0] + 1


@settings(deadline=None)
@given(splits)
def test_smoothing_never_lowers_a_score(split: list[tuple[str, str]]) -> None:
    hypotheses, references = [hyp for hyp, _ in split], [ref for _, ref in split]
    unsmoothed = bleu(hypotheses, references, ScoreSettings())
    smoothed = bleu(hypotheses, references, ScoreSettings(smoothing="exp"))
    assert all(0 <= low <= high <= 100 for low, high in zip(unsmoothed, smoothed, strict=True))


@settings(deadline=None)
@given(splits)
def test_order_of_sentences_does_not_matter(split: list[tuple[str, str]]) -> None:
    forwards = bleu([hyp for hyp, _ in split], [ref for _, ref in split], ScoreSettings())
    backwards = bleu([hyp for hyp, _ in split[::-1]], [ref for _, ref in split[::-1]], ScoreSettings())
    assert forwards == backwards


@pytest.mark.parametrize(("hypotheses", "references"), [([], []), (["a"], ["a", "b"]), (["a", "b"], ["a"])])
def test_refuses_unequal_or_no_sentences(hypotheses: list[str], references: list[str]) -> None:
    with pytest.raises(InputError, match="as many hypotheses as references"):
        bleu(hypotheses, references, ScoreSettings())
