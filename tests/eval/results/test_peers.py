"""Outputs of published systems give the values that were published of them. They are not in the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eval.predictions.prediction_file import Prediction
from eval.results.controls import best_constant
from eval.results.scores import score
from pipeline.experiment.scored_files import score_files, settings_of

PEERS = Path(os.environ.get("SLT_PEERS") or Path(__file__).parents[4] / "shared" / "peers")


@pytest.mark.skipif(not PEERS.is_dir(), reason="no outputs of published systems at $SLT_PEERS")
@pytest.mark.parametrize(
    ("hypotheses", "references", "dataset", "dot", "bleu4", "rouge"),
    [
        ("phoenix14t.fla-llm.hyp.txt", "phoenix14t.639.ref.txt", "phoenix14t", "add", 20.10, 44.22),
        ("phoenix14t.fla-llm.hyp.txt", "phoenix14t.639.ref.txt", "phoenix14t", "strip", 18.99, 39.15),
        ("phoenix14t.c2rl.hyp.txt", "phoenix14t.639.ref.txt", "phoenix14t", "add", 21.95, 47.77),
        ("csl-daily.fla-llm.hyp.txt", "csl-daily.ref.txt", "csl_daily", "keep", 11.79, None),
        ("uni-sign.csl_daily.hyp.txt", "uni-sign.csl_daily.ref.txt", "csl_daily", "keep", 25.61, None),
        ("uni-sign.how2sign.hyp.txt", "uni-sign.how2sign.ref.txt", "how2sign", "keep", 14.5, None),
    ],
)
def test_a_published_system_gets_its_published_scores(
    hypotheses: str, references: str, dataset: str, dot: str, bleu4: float, rouge: float | None
) -> None:
    settings, _ = settings_of(dataset, None, [f"final_dot={dot}", "bootstrap=0"])
    results = score_files([PEERS / hypotheses], settings, references=PEERS / references, dataset=dataset)
    (found,) = results.scores.values()
    assert found.bleu4 == pytest.approx(bleu4, abs=0.1)
    assert rouge is None or found.rouge == pytest.approx(rouge, abs=0.1)
    if dataset == "phoenix14t":
        assert found.final_dot == ("without" if dot == "strip" else "with")


@pytest.mark.skipif(not PEERS.is_dir(), reason="no outputs of published systems at $SLT_PEERS")
def test_two_published_systems_differ_as_published() -> None:
    settings, _ = settings_of("phoenix14t", None, ["test=randomisation", "bootstrap=0"])
    systems = [PEERS / f"phoenix14t.{name}.hyp.txt" for name in ("fla-llm", "c2rl")]
    found = score_files(
        systems, settings, references=PEERS / "phoenix14t.639.ref.txt", baseline="phoenix14t.fla-llm.hyp"
    ).comparison.systems["phoenix14t.c2rl.hyp"]["bleu4"]
    assert found.difference == pytest.approx(1.86, abs=0.1)
    assert found.p_value < 0.01


@pytest.mark.skipif(not PEERS.is_dir(), reason="no texts of PHOENIX14T at $SLT_PEERS")
@pytest.mark.parametrize(("dot", "bleu4"), [("keep", 4.13), ("add", 4.36)])
def test_one_train_sentence_for_all_clips_of_phoenix14t(dot: str, bleu4: float) -> None:
    table = [line.split("\t") for line in (PEERS / "phoenix14t.text.tsv").read_text(encoding="utf-8").splitlines()]
    texts = {split: [row[4] for row in table if row[1] == split] for split in ("train", "dev", "test")}
    settings, _ = settings_of("phoenix14t", None, [f"final_dot={dot}", "bootstrap=0"])
    sentence = best_constant(texts["train"], texts["dev"], settings)
    found = score([Prediction(str(n), sentence, text) for n, text in enumerate(texts["test"])], settings)
    assert (found.n, found.bleu4) == (642, pytest.approx(bleu4, abs=0.01))
