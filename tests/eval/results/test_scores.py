"""Scores of a whole split, their file and their table."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from rich.console import Console

from eval.metrics.scored_text import apply_convention, tokens
from eval.predictions.prediction_file import Prediction
from eval.results.result_tables import score_sheet, signatures
from eval.results.scores import Score, complete, read_scores, score, write_scores
from eval.results.table_formats import rich_table
from eval.settings import ScoreSettings
from extract.errors import InputError

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "metrics.json").read_text(encoding="utf-8"))
ENTRY = Score(bleu1=46.29, bleu2=35.33, bleu3=28.03, bleu4=23.09, rouge=45.27, signature="tok:none", n=642)
KEYS = [
    "bleu1",
    "bleu2",
    "bleu3",
    "bleu4",
    "rouge",
    "chrf",
    "wer",
    "more",
    "intervals",
    "final_dot",
    "other_dot",
    "signature",
    "signatures",
    "n",
]

settings_of_any_kind = st.builds(
    ScoreSettings,
    level=st.sampled_from(["word", "char"]),
    lowercase=st.booleans(),
    final_dot=st.sampled_from(["keep", "strip", "add"]),
)


def golden_rows(corpus: str) -> list[Prediction]:
    given = GOLDEN["corpora"][corpus]
    pairs = zip(given["hyp"], given["ref"], strict=True)
    return [Prediction(f"clip {index}", hyp, ref) for index, (hyp, ref) in enumerate(pairs)]


@pytest.mark.parametrize("corpus", ["de_all", "en_all", "de_all_with_one_empty_hyp", "de_identical", "de_with_dot"])
def test_default_scores_are_those_of_neccam(corpus: str) -> None:
    measured = score(golden_rows(corpus), ScoreSettings())
    expected = GOLDEN["corpora"][corpus]["values"]
    orders = [measured.bleu1, measured.bleu2, measured.bleu3, measured.bleu4]
    assert orders == pytest.approx([expected["neccam.bleu"][f"bleu{order}"] for order in (1, 2, 3, 4)], abs=1e-6)
    assert measured.rouge == pytest.approx(expected["neccam.rouge"], abs=1e-6)
    assert measured.n == len(GOLDEN["corpora"][corpus]["hyp"])


def test_signature_covers_both_metrics() -> None:
    signature = score(golden_rows("zh_all"), ScoreSettings(level="char", final_dot="strip")).signature
    assert "smooth:none" in signature
    assert signature.endswith("|level:char|dot:strip|unicode:keep|rougeL:beta1.2")


def test_final_dot_moves_rouge_by_points() -> None:
    rows = golden_rows("de_with_dot")
    kept, stripped = score(rows, ScoreSettings()), score(rows, ScoreSettings(final_dot="strip"))
    assert kept.rouge > stripped.rouge + 2
    assert kept.signature != stripped.signature


def test_no_rows_are_refused() -> None:
    with pytest.raises(InputError, match="at least one"):
        score([], ScoreSettings())


def test_absent_clip_counts_as_an_empty_hypothesis() -> None:
    rows = golden_rows("de_identical")
    references = {row.id: row.reference for row in rows}
    completed = complete(rows[1:], references)
    assert completed[0] == Prediction("clip 0", "", rows[0].reference)
    measured = score(completed, ScoreSettings())
    assert measured.n == len(rows)
    assert measured.rouge == pytest.approx(100 * (len(rows) - 1) / len(rows))
    assert measured.bleu1 < 100  # the brevity penalty sees the whole split's references


@given(st.permutations(list("abcdef")), st.integers(0, 6))
def test_complete_gives_each_clip_once_in_the_order_of_the_split(order: list[str], kept: int) -> None:
    references = {clip: f"reference of {clip}" for clip in "abcdef"}
    rows = [Prediction(clip, clip, references[clip], 10) for clip in order[:kept]]
    completed = complete(rows, references)
    assert [row.id for row in completed] == list("abcdef")
    assert {row.id for row in completed if row.hypothesis} == set(order[:kept])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([Prediction("clip_A", "x", "y")], "none such.*Did you mean 'clip_a'"),
        (
            [Prediction("clip_a", "x", "y"), Prediction("clip_a", "z", "y")],
            "expected one per clip, found two",
        ),
        ([Prediction("clip_a", "x", "y .")], "expected the split's reference 'y', found 'y .'"),
    ],
)
def test_complete_refuses_rows_of_another_split(rows: list[Prediction], message: str) -> None:
    with pytest.raises(InputError, match=message):
        complete(rows, {"clip_a": "y"})


def test_scores_file_round_trip(tmp_path: Path) -> None:
    scores = {"stage2": ENTRY, "stage1": score(golden_rows("de_all"), ScoreSettings())}
    path = write_scores(tmp_path / "scores.json", scores)
    assert read_scores(path) == scores
    written = json.loads(path.read_text(encoding="utf-8"))
    assert list(written) == ["stage2", "stage1"]
    assert all(list(entry) == KEYS for entry in written.values())


@pytest.mark.parametrize(
    ("content", "where", "found"),
    [
        ("{}", "", "none"),
        ("not json", "", "Invalid JSON"),
        ('{"stage1": {"bleu1": 1}}', ", stage1.bleu2", "Field required"),
        (
            json.dumps({"stage1": ENTRY.model_dump() | {"rouge": 101}}),
            ", stage1.rouge",
            "less than or equal to 100",
        ),
        (json.dumps({"stage1": ENTRY.model_dump() | {"rouge": "45"}}), ", stage1.rouge", "valid number"),
        (json.dumps({"stage1": ENTRY.model_dump() | {"bleu5": 1}}), ", stage1.bleu5", "not permitted"),
    ],
)
def test_damaged_scores_file_is_refused(tmp_path: Path, content: str, where: str, found: str) -> None:
    path = tmp_path / "scores.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_scores(path)
    assert caught.value.where == f"{path}{where}"
    assert found in caught.value.found


def test_absent_scores_file_and_empty_scores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a scores file"):
        read_scores(tmp_path / "scores.json")
    with pytest.raises(InputError, match="at least one row"):
        write_scores(tmp_path / "scores.json", {})
    assert list(tmp_path.iterdir()) == []


def test_score_table_has_the_rows_in_order() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    scores = {"text_prior": ENTRY, "ablation [red]": ENTRY, "stage2": ENTRY, "stage1": ENTRY}
    console.print(rich_table(score_sheet(scores)))
    lines = console.export_text().splitlines()
    starts = [line.split("│")[0].strip() for line in lines if "45.27" in line]
    assert starts == ["stage 1", "stage 2", "text prior", "ablation [red]"]
    row = next(line for line in lines if "stage 2" in line)
    assert [cell.strip() for cell in row.split("│")[1:]] == [
        "45.27",
        "46.29",
        "35.33",
        "28.03",
        "23.09",
        "642",
    ]
    assert sum("tok:none" in line for line in lines) == 1


def test_rows_of_different_flavours_are_told_apart() -> None:
    other = ENTRY.model_copy(update={"signature": "tok:13a"})
    scores = {"stage1": ENTRY, "stage2": other, "shuffled": other}
    assert signatures(scores) == ["stage 1: tok:none", "stage 2, shuffled: tok:13a"]


@given(st.text(), settings_of_any_kind)
def test_convention_is_idempotent(text: str, settings: ScoreSettings) -> None:
    once = apply_convention(text, settings)
    assert apply_convention(once, settings) == once


@given(st.text(), settings_of_any_kind)
def test_tokens_are_those_of_the_text_in_its_convention(text: str, settings: ScoreSettings) -> None:
    conventional = apply_convention(text, settings)
    assert "".join(tokens(text, settings)) == "".join(conventional.split())
    if settings.level == "word":
        assert tokens(text, settings) == conventional.split()


@given(st.text())
def test_characters_are_the_text_without_white_space(text: str) -> None:
    assert "".join(tokens(text, ScoreSettings(level="char"))) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("regen .", "regen"),
        ("regen.", "regen"),
        ("3.5 grad", "3.5 grad"),
        ("下雨。", "下雨"),
        (" . ", ""),
        ("a ?", "a ?"),
    ],
)
def test_strip_takes_the_final_full_stop_only(text: str, expected: str) -> None:
    assert apply_convention(text, ScoreSettings(final_dot="strip")) == expected


def test_unknown_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="tokeniser"):
        ScoreSettings.model_validate({"tokeniser": "13a"})


def test_scoring_loads_no_framework() -> None:
    root = Path(__file__).parents[3]
    folders = [root / "eval" / name for name in ("metrics", "predictions", "report", "results")]
    modules = sorted(f"{folder.name}.{path.stem}" for folder in folders for path in folder.glob("[a-z]*.py"))
    code = (
        "import sys\n"
        + "".join(f"import eval.{module}\n" for module in modules)
        + "print({'torch', 'transformers', 'cv2', 'matplotlib', 'dask'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
