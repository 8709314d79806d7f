"""Resamples and p-values against sacreBLEU's own; grounding."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
from sacrebleu.metrics import CHRF
from sacrebleu.significance import PairedTest

from eval.metrics.bleu import sacrebleus_bleu
from eval.metrics.bootstrap import draws, interval, resample
from eval.predictions.prediction_file import Prediction
from eval.results.comparison import compare, grounding, write_comparison
from eval.results.result_tables import difference_sheet
from eval.results.scores import count, score_of
from eval.settings import ScoreSettings
from extract.errors import InputError

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "metrics.json").read_text(encoding="utf-8"))
HYP, REF = GOLDEN["corpora"]["de_all"]["hyp"] * 3, GOLDEN["corpora"]["de_all"]["ref"] * 3
FEW = ScoreSettings(bootstrap=200)


def rows(hypotheses: list[str]) -> list[Prediction]:
    return [Prediction(f"clip {n}", hyp, ref) for n, (hyp, ref) in enumerate(zip(hypotheses, REF, strict=True))]


def worse(every: int) -> list[Prediction]:
    """One hypothesis of so many is empty."""
    return rows(["" if n % every == 0 else hyp for n, hyp in enumerate(HYP)])


def test_draws_are_those_of_sacrebleu() -> None:
    theirs = np.random.default_rng(12345).choice(50, size=(7, 50), replace=True)
    assert (np.stack(list(draws(50, 7))) == [np.bincount(row, minlength=50) for row in theirs]).all()


@pytest.mark.parametrize(("name", "metric"), [("bleu4", sacrebleus_bleu(FEW)), ("chrf", CHRF())])
def test_interval_is_sacrebleus(name: str, metric: sacrebleu.metrics.base.Metric) -> None:
    theirs = metric.corpus_score(HYP, [REF], n_bootstrap=200)
    ours = resample(count(rows(HYP), FEW), 200)[name]
    low, high = interval(ours)
    # sacreBLEU sums in single precision.
    assert (high - low) / 2 == pytest.approx(theirs._ci, abs=1e-5)
    assert ours.mean() == pytest.approx(theirs._mean, abs=1e-5)


def test_interval_holds_the_score_and_narrows_with_clips() -> None:
    narrow = score_of(count(rows(HYP), FEW))
    wide = score_of(count(rows(HYP)[:17], FEW))
    for name in ("bleu1", "bleu4", "chrf", "rouge", "wer"):
        assert narrow.intervals[name].low <= getattr(narrow, name) <= narrow.intervals[name].high
        assert width(narrow.intervals[name]) < width(wide.intervals[name])
    assert score_of(count(rows(HYP), ScoreSettings(bootstrap=0))).intervals == {}


def width(found: object) -> float:
    return found.high - found.low  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize(("test", "code"), [("bootstrap", "bs"), ("randomisation", "ar")])
def test_p_values_are_sacrebleus(test: str, code: str) -> None:
    settings = ScoreSettings.model_validate({"test": test, "bootstrap": 100})
    systems = {"A": rows(HYP), "B": worse(9)}
    counts = {name: count(predictions, settings) for name, predictions in systems.items()}
    found = compare(systems, counts, "A", settings)
    named = [(name, [row.hypothesis for row in predictions]) for name, predictions in systems.items()]
    metrics = {"BLEU": sacrebleus_bleu(settings), "chrF": CHRF()}
    _, theirs = PairedTest(named, metrics, [REF], code)()
    assert found.systems["B"]["bleu4"].p_value == theirs["BLEU"][1].p_value
    assert found.systems["B"]["chrf"].p_value == theirs["chrF2"][1].p_value
    assert found.systems["B"]["bleu4"].score == pytest.approx(theirs["BLEU"][1].score)
    assert found.samples == {"bs": 1000, "ar": 10_000}[code]


def test_a_worse_system_is_significantly_worse_in_every_metric() -> None:
    systems = {"A": rows(HYP), "B": worse(3), "same": rows(HYP)}
    counts = {name: count(predictions, FEW) for name, predictions in systems.items()}
    found = compare(systems, counts, "A", FEW)
    for difference in found.systems["B"].values():
        assert difference.low <= difference.difference <= difference.high < 0
        assert difference.p_value < 0.05
    # sacreBLEU gives 0.001 to two systems that say the same.
    assert {difference.p_value for difference in found.systems["same"].values()} == {1.0}


def test_grounding_is_what_the_right_clip_adds(tmp_path: Path) -> None:
    shuffled = rows(HYP[1:] + HYP[:1])
    prior = rows(["regen"] * len(HYP))
    systems = {"stage2": rows(HYP), "shuffled": shuffled, "text_prior": prior}
    counts = {name: count(predictions, FEW) for name, predictions in systems.items()}
    found = compare(systems, counts, None, FEW).grounding
    assert found is not None
    assert found.right_clip == score_of(counts["stage2"]).bleu4
    assert found.difference == found.right_clip - found.other_clip
    assert 0 < found.low <= found.difference <= found.high
    assert found.text_prior == score_of(counts["text_prior"]).bleu4
    blind = {"stage2": shuffled, "shuffled": shuffled}
    nothing = compare(blind, dict.fromkeys(blind, counts["shuffled"]), None, FEW).grounding
    assert nothing is not None
    assert (nothing.low, nothing.difference, nothing.high) == (0, 0, 0)
    written = json.loads(write_comparison(tmp_path / "c.json", compare(systems, counts, None, FEW)).read_text())
    assert written["grounding"] == found.model_dump()


def test_grounding_is_against_the_strongest_control() -> None:
    systems = {"stage2": rows(HYP), "shuffled": rows(HYP[1:] + HYP[:1]), "constant": rows([REF[0]] * len(HYP))}
    counts = {name: count(predictions, FEW) for name, predictions in systems.items()}
    found = grounding(counts, FEW)
    assert found is not None
    constant = score_of(counts["constant"]).bleu4
    assert constant > found.other_clip
    assert (found.control, found.constant, found.difference) == ("constant", constant, found.right_clip - constant)


def test_a_test_of_few_clips_or_against_silence_is_marked() -> None:
    def doubts(**systems: list[Prediction]) -> dict[str, str]:
        counts = {name: count(predictions, FEW) for name, predictions in systems.items()}
        found = compare(systems, counts, "A", FEW)
        notes = " ".join(difference_sheet(found).notes)
        assert all(doubt in notes for doubt in found.doubts.values())
        marked = {row[0].text for row in difference_sheet(found).rows if row[-1].text.endswith(" ?")}
        assert marked == set(found.doubts)
        return found.doubts

    many = rows(HYP)
    silent = [replace(row, hypothesis="") for row in many]
    assert len(many) >= 30
    assert doubts(A=many, B=many) == {}
    assert "nothing of all clips" in doubts(A=silent, B=many)["B"]
    assert "nothing of most clips" in doubts(A=many, B=[*silent[:-1], many[-1]])["B"]
    assert "fewer than 30" in doubts(A=many[:20], B=many[:20])["B"]


def test_grounding_is_of_stage_2_or_of_the_only_translator() -> None:
    counts = {name: count(rows(HYP), FEW) for name in ("stage1", "stage2", "mine", "shuffled")}
    for own, expected in {("stage1", "stage2"): "stage2", ("mine",): "mine", ("stage1", "mine"): None}.items():
        names = (*own, "shuffled")
        systems = dict.fromkeys(names, rows(HYP))
        found = compare(systems, {name: counts[name] for name in names}, None, FEW).grounding
        assert (found.system if found else None) == expected


def test_systems_of_other_clips_are_refused() -> None:
    systems = {"A": rows(HYP), "B": rows(HYP)[::-1]}
    counts = {name: count(predictions, FEW) for name, predictions in systems.items()}
    with pytest.raises(InputError, match="predictions B: expected the clips of A"):
        compare(systems, counts, "A", FEW)
    with pytest.raises(InputError, match=r"--baseline: .* Did you mean 'stage1'"):
        compare({"stage1": rows(HYP)}, counts, "stage_1", FEW)


def test_seed_is_sacrebleus_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    before = resample(count(rows(HYP), FEW), 5)["rouge"]
    monkeypatch.setenv("SACREBLEU_SEED", "7")
    assert (resample(count(rows(HYP), FEW), 5)["rouge"] != before).any()
    monkeypatch.setenv("SACREBLEU_SEED", "none")
    with pytest.raises(InputError, match="expected a whole number"):
        resample(count(rows(HYP), FEW), 5)
