"""chrF, WER and the flavours of ROUGE-L against published metric code; what a convention does; parts of a split."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import CHRF

from eval.metrics.measures import Measures
from eval.metrics.rouge_flavours import rouge_flavour
from eval.metrics.scored_text import MOST_TOKENS
from eval.metrics.wer import DELETE, INSERT, SUBSTITUTE, align, word_errors
from eval.settings import ScoreSettings
from extract.errors import InputError

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "metrics.json").read_text(encoding="utf-8"))
FLAVOURS: dict[str, Any] = {
    "twostream.rouge": "twostream",
    "unisign.rouge_pkg_1.0.1": "rouge_1.0.1",
    "spamo.rouge_score_stem": "rouge_score_stem",
    "ssvp.rouge_score_nostem": "rouge_score",
}
"""Golden key to our name."""

words = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=12)


def cases(key: str) -> list[Any]:
    """(level, hypotheses, references, expected) of every sentence pair and corpus that has the key."""
    pairs = [(pair["id"], pair["level"], [pair["hyp"]], [pair["ref"]], pair["values"]) for pair in GOLDEN["pairs"]]
    corpora = [
        (name, "char" if name.startswith("zh") else "word", each["hyp"], each["ref"], each["values"])
        for name, each in GOLDEN["corpora"].items()
    ]
    return [
        pytest.param(level, hyp, ref, values[key], id=f"{key}-{name}")
        for name, level, hyp, ref, values in pairs + corpora
        if key in values
    ]


def peers_texts(key: str, level: str, hyp: list[str], ref: list[str]) -> tuple[list[str], list[str]]:
    """The texts as the peer sees them, where that is not as they are given.

    TwoStreamNetwork joins characters by spaces and splits at them, so that a space becomes two empty tokens: here they
    get a sign. Uni-Sign makes commas and question marks of Chinese references half-width, and leaves the hypotheses as
    they are.
    """
    if key == "twostream.rouge" and level == "char":
        return [text.replace(" ", "␣␣").replace("\u3000", "␣") for text in hyp], ref
    if key.startswith("unisign") and level == "char":
        return hyp, [text.replace("，", ",").replace("？", "?") for text in ref]
    return hyp, ref


@pytest.mark.parametrize(
    ("key", "level", "hyp", "ref", "expected"),
    [pytest.param(key, *case.values, id=case.id) for key in FLAVOURS for case in cases(key)],
)
def test_flavours_of_rouge_agree_with_their_owners(
    key: str, level: Any, hyp: list[str], ref: list[str], expected: Any
) -> None:
    score = rouge_flavour(FLAVOURS[key], ScoreSettings(level=level))
    hyp, ref = peers_texts(key, level, hyp, ref)
    measured = [score(*pair) for pair in zip(hyp, ref, strict=True)]
    if isinstance(expected, dict):
        # The package `rouge` stops at an empty hypothesis; it is a sentence that scores 0 here.
        assert expected["error"] == "ValueError: Hypothesis is empty."
        assert [value for value, text in zip(measured, hyp, strict=True) if not text] == [0]
    else:
        assert 100 * sum(measured) / len(measured) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("level", "hyp", "ref", "expected"), cases("neccam.wer"))
def test_wer_agrees_with_neccam(level: Any, hyp: list[str], ref: list[str], expected: dict[str, float]) -> None:
    measured = Measures(ScoreSettings(level=level)).count(hyp, ref).scores()["wer"]
    assert measured == pytest.approx(expected["wer"], abs=1e-6)
    pairs = [pair for one, other in zip(ref, hyp, strict=True) for pair in align(one.split(), other.split())]
    total = sum(len(text.split()) for text in ref)
    kinds = Counter(
        "del" if said is None else "ins" if wanted is None else "sub" for wanted, said in pairs if wanted != said
    )
    assert {f"{kind}_rate": pytest.approx(100 * kinds[kind] / total, abs=1e-6) for kind in ("del", "ins", "sub")} == {
        key: value for key, value in expected.items() if key != "wer"
    }


@pytest.mark.parametrize(("level", "hyp", "ref", "expected"), cases("neccam.chrf"))
def test_chrf_agrees_with_neccam(level: Any, hyp: list[str], ref: list[str], expected: float) -> None:
    measured = Measures(ScoreSettings(level=level)).count(hyp, ref).scores()["chrf"]
    if len(ref) > 1 and any(len("".join(text.split())) < 6 for text in ref):
        # neccam/slt carries sacreBLEU 1.4.2. Since 2.0, n-grams of a hypothesis are not counted in an order that its
        # reference is too short for. That alone makes the difference:
        assert chrf_of_sacrebleu_1(hyp, ref) == pytest.approx(expected, abs=1e-6)
        assert measured >= expected - 1e-9
    else:
        assert measured == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.tuples(words, words), min_size=1, max_size=4))
def test_chrf_is_sacrebleus(pairs: list[tuple[list[str], list[str]]]) -> None:
    hyp, ref = ([" ".join(words) for words in side] for side in zip(*pairs, strict=True))
    measured = Measures(ScoreSettings()).count(hyp, ref).scores()["chrf"]
    assert measured == pytest.approx(CHRF().corpus_score(hyp, [ref]).score, abs=1e-9)


def chrf_of_sacrebleu_1(hyp: list[str], ref: list[str]) -> float:
    precisions, recalls = [], []
    for order in range(1, 7):
        counts = np.zeros(3)
        for pair in zip(hyp, ref, strict=True):
            plain = ["".join(text.split()) for text in pair]
            grams = [Counter(text[i : i + order] for i in range(len(text) - order + 1)) for text in plain]
            counts += [grams[0].total(), grams[1].total(), (grams[0] & grams[1]).total()]
        precisions.append(counts[2] / counts[0])
        recalls.append(counts[2] / counts[1])
    precision, recall = np.mean(precisions), np.mean(recalls)
    return float(100 * 5 * precision * recall / (4 * precision + recall))


def test_golden_file_has_cases() -> None:
    assert {key: len(cases(key)) for key in [*FLAVOURS, "neccam.wer", "neccam.chrf"]} == {
        "twostream.rouge": 44, "unisign.rouge_pkg_1.0.1": 44, "spamo.rouge_score_stem": 30,
        "ssvp.rouge_score_nostem": 30, "neccam.wer": 30, "neccam.chrf": 30,
    }  # fmt: skip


@given(words, words)
def test_alignment_holds_both_sides_and_is_the_cheapest(reference: list[str], hypothesis: list[str]) -> None:
    pairs = align(reference, hypothesis)
    assert [wanted for wanted, _ in pairs if wanted is not None] == reference
    assert [said for _, said in pairs if said is not None] == hypothesis
    cost = sum(
        0 if wanted == said else DELETE if said is None else INSERT if wanted is None else SUBSTITUTE
        for wanted, said in pairs
    )
    assert cost == cheapest(tuple(reference), tuple(hypothesis))
    assert word_errors(reference, hypothesis) == sum(wanted != said for wanted, said in pairs)


def cheapest(reference: tuple[str, ...], hypothesis: tuple[str, ...]) -> int:
    """Wagner and Fischer 1974, with the costs of the module."""
    line = [INSERT * column for column in range(len(hypothesis) + 1)]
    for row, word in enumerate(reference, start=1):
        above, line = line, [DELETE * row]
        for column, other in enumerate(hypothesis):
            best = min(above[column + 1] + DELETE, line[-1] + INSERT, above[column] + (word != other) * SUBSTITUTE)
            line.append(best)
    return line[-1]


def test_any_part_is_scored_as_if_it_were_alone() -> None:
    corpus, measures = GOLDEN["corpora"]["de_all"], Measures(ScoreSettings(more=("twostream",)))
    whole = measures.count(corpus["hyp"], corpus["ref"])
    part = [2, 5, 7, 11]
    alone = measures.count([corpus["hyp"][place] for place in part], [corpus["ref"][place] for place in part])
    assert whole.take(part).scores() == pytest.approx(alone.scores())
    assert list(alone.scores()) == ["bleu1", "bleu2", "bleu3", "bleu4", "chrf", "rouge", "wer", "twostream"]


def test_conventions_reach_every_metric() -> None:
    settings = ScoreSettings(lowercase=True, final_dot="strip", unicode="NFKC", more=("twostream", "rouge_1.0.1"))
    scores = Measures(settings).count(["Ｒegen  im Su\u0308den ."], ["regen im süden"]).scores()
    assert scores.pop("wer") == 0
    assert scores.pop("bleu4") == 0  # three words
    assert all(value == pytest.approx(100, abs=1e-5) for value in scores.values())


def test_unicode_form_is_kept_by_default_and_named() -> None:
    pair = ["fu\u0308r"], ["für"]
    kept, composed = (Measures(ScoreSettings(unicode=form)) for form in ("keep", "NFC"))
    assert (kept.count(*pair).scores()["rouge"], composed.count(*pair).scores()["rouge"]) == (0, 100)
    assert "unicode:keep" in kept.signatures()["chrf"]
    assert "unicode:NFC" in composed.signatures()["wer"]


def test_signatures_name_version_convention_and_flavour() -> None:
    signatures = Measures(ScoreSettings(rouge="rouge_score", lowercase=True, more=("coco",))).signatures()
    assert list(signatures) == ["bleu", "chrf", "wer", "coco"]
    assert signatures["bleu"].endswith("|rougeL:rouge_score")
    assert signatures["chrf"].startswith("nrefs:1|case:lc|eff:yes|nc:6|nw:0|space:no|version:")
    assert all("level:word|dot:keep|unicode:keep" in signature for signature in signatures.values())


def test_package_rouge_says_when_a_sentence_is_too_long_for_it() -> None:
    score = rouge_flavour("rouge_1.0.1", ScoreSettings())
    text = " ".join(f"w{n}" for n in range(1200))
    with pytest.raises(InputError, match="found 1200 words"):
        score(text, text)


@pytest.mark.parametrize(("metric", "needs"), [("bleurt", "the package bleurt"), ("comet", "the command comet-score")])
def test_absent_learned_metric_says_how_to_get_it(
    metric: Any, needs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=f"metric {metric}: expected {needs}, found none") as caught:
        Measures(ScoreSettings(more=(metric,))).count(["a"], ["a"])
    assert "pip install" in caught.value.remedy


def test_comet_is_asked_by_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A command with comet-score's arguments and its form of results, which scores 0.5 where both sides are equal.
    command = tmp_path / "comet-score"
    command.write_text(
        "#!/usr/bin/env python3\n"
        "import argparse, json, sys\n"
        "words = argparse.ArgumentParser()\n"
        "for name in ('-s', '-t', '-r', '--model', '--to_json', '--gpus'):\n"
        "    words.add_argument(name)\n"
        "words.add_argument('--quiet', action='store_true')\n"
        "given = words.parse_args()\n"
        "if given.model == 'none':\n"
        "    sys.exit('no such model')\n"
        "hyp, ref = (open(path, encoding='utf-8').read().splitlines() for path in (given.t, given.r))\n"
        "rows = [{'mt': a, 'ref': b, 'COMET': (a == b) / 2} for a, b in zip(hyp, ref, strict=True)]\n"
        "json.dump({given.t: rows}, open(given.to_json, 'w'))\n",
        encoding="utf-8",
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    measures = Measures(ScoreSettings(more=("comet",), final_dot="strip"))
    assert measures.count(["schön .", ""], ["schön", "kühl"]).scores()["comet"] == 25
    monkeypatch.setenv("COMET_MODEL", "none")
    with pytest.raises(InputError, match="expected scores by none, found no such model"):
        measures.count(["a"], ["a"])


@pytest.mark.parametrize("level", ["word", "char"])
def test_what_is_no_sentence_is_refused_before_minutes_are_spent(level: str) -> None:
    measures = Measures(ScoreSettings(level=level))
    text = "a " * MOST_TOKENS
    measures.count([text], ["a b"])
    for pair in ((["x"], [text + "a"]), ([text + "a"], ["x"])):
        with pytest.raises(InputError, match="at most 2000"):
            measures.count(*pair)
