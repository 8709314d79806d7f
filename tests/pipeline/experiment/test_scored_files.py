"""Scores of systems in files: what is read, joined, compared, printed and written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.predictions.prediction_file import Prediction, write_predictions
from eval.settings import ScoreSettings
from extract.dataset.clip_index import ClipIndex, write_index
from extract.errors import InputError
from pipeline.commands.printing import show_results
from pipeline.experiment.config import ConfigError
from pipeline.experiment.scored_files import dataset_of, is_config, score_files, settings_of

FEW = ScoreSettings(bootstrap=20)


@pytest.fixture
def systems(tiny_index: ClipIndex, tmp_path: Path) -> list[Path]:
    """A perfect one, and one that says the first reference of all clips, as lines."""
    clips = ClipIndex(tiny_index.path, "test").clips()
    perfect = write_predictions(
        tmp_path / "perfect.jsonl", [Prediction(clip.id, clip.text, clip.text) for clip in clips]
    )
    (tmp_path / "prior.txt").write_text(f"{clips[0].text}\n" * len(clips), encoding="utf-8")
    (tmp_path / "ids").write_text("".join(f"{clip.id}\n" for clip in clips), encoding="utf-8")
    return [tmp_path / "prior.txt", perfect]


def test_systems_in_two_forms_meet_the_index(
    systems: list[Path], tiny_index: ClipIndex, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = score_files(
        systems, FEW, references=tiny_index.path, ids=tmp_path / "ids", baseline=str(systems[0]), dataset="phoenix14t"
    )
    assert results.scores["perfect"].bleu4 == results.scores["perfect"].rouge == 100
    assert results.scores["prior"].rouge < 60
    assert list(results.comparison.systems) == ["perfect"]
    assert results.slices.language == "de_DE"
    assert set(results.slices.systems["prior"].slices) >= {
        "clip length",
        "signer",
        "signer seen in train",
        "rare words",
    }
    assert results.slices.systems["perfect"].words.content_recall == 100
    show_results(results, None, None, as_json=False, out=tmp_path / "out")
    told = capsys.readouterr().out
    for title in ("Scores", "Against prior", "Published results on phoenix14t", "Slices of prior", "Words of perfect"):
        assert title in told
    for name, model in (("scores", results.scores), ("comparison", results.comparison), ("slices", results.slices)):
        written = json.loads((tmp_path / f"out/{name}.json").read_text(encoding="utf-8"))
        if isinstance(model, dict):
            assert written == {system: score.model_dump() for system, score in model.items()}
        else:
            assert written == model.model_dump()
    show_results(results, "latex", ["published"], as_json=False)
    latex = capsys.readouterr().out
    assert latex.count(r"\begin{table}") == 1
    assert r"ours, perfect &  &  & \underline{100.00}" in latex
    show_results(results, "csv", ["slices"], as_json=False)
    titles = [line for line in capsys.readouterr().out.splitlines() if line.startswith("#")]
    assert titles == ["# Slices of prior", "# Slices of perfect"]
    with pytest.raises(InputError, match=r"--table: .*Did you mean 'slices'"):
        show_results(results, None, ["slice"], as_json=False)


def test_a_split_that_is_not_the_predictions_is_named(systems: list[Path], tiny_index: ClipIndex) -> None:
    with pytest.raises(InputError, match=r"perfect.jsonl, line 1: .*of split 'test'.*--split") as caught:
        score_files(systems[1:], FEW, references=tiny_index.path, split="dev")
    assert "11 more of 12" in str(caught.value)


def test_missing_clips_are_counted_or_refused(systems: list[Path], tiny_index: ClipIndex) -> None:
    rows = systems[1].read_text(encoding="utf-8").splitlines(keepends=True)
    systems[1].write_text("".join(rows[1:]), encoding="utf-8")
    with pytest.raises(InputError, match=r"index.parquet, clip .* expected a hypothesis of clip"):
        score_files(systems[1:], FEW, references=tiny_index.path)
    results = score_files(systems[1:], FEW, references=tiny_index.path, missing="empty")
    assert results.missing == {"perfect": 1}
    assert results.scores["perfect"].n == 12
    assert results.scores["perfect"].rouge == pytest.approx(100 * 11 / 12)


def test_several_files_with_references_of_their_own_meet_by_id(tmp_path: Path) -> None:
    one = [Prediction(id, f"one {id}", f"reference {id}") for id in "abc"]
    other = [Prediction(id, f"other {id}", f"reference {id}") for id in "cab"]
    paths = [write_predictions(tmp_path / "1.jsonl", one), write_predictions(tmp_path / "2.jsonl", other)]
    settings = ScoreSettings(bootstrap=10)
    alone = score_files(paths[1:], settings).scores["2"]
    together = score_files(paths, settings, baseline="1")
    assert together.scores["2"] == alone
    assert together.comparison.systems["2"]["bleu4"].score == alone.bleu4
    write_predictions(paths[1], [Prediction("a", "x", "another reference"), *other[2:], other[0]])
    with pytest.raises(InputError, match=r"2.jsonl, line 1: expected the reference 'reference a'"):
        score_files(paths, settings)
    with pytest.raises(InputError, match="--ids: expected a file of lines without ids"):
        score_files(paths[:1], settings, ids=tmp_path / "ids")


def test_a_dataset_brings_its_level_and_its_language(tmp_path: Path) -> None:
    settings, language = settings_of("csl_daily", None, ["score.final_dot=strip", "rouge=twostream"])
    assert (settings.level, settings.tokenizer, settings.final_dot, settings.rouge) == (
        "char",
        "none",
        "strip",
        "twostream",
    )
    assert language == "zh_CN"
    assert settings_of(None, None, []) == (ScoreSettings(), None)
    with pytest.raises(ConfigError, match=r"score.tokeniser: expected a known key.*Did you mean 'tokenizer'"):
        settings_of(None, None, ["tokeniser=13a"])
    with pytest.raises(ConfigError, match=r"score.rouge: expected .*found 'rouge_scor'. Did you mean 'rouge_score'"):
        settings_of(None, None, ["rouge=rouge_scor"])


def test_an_index_says_of_which_dataset_it_is(tiny_index: ClipIndex, tmp_path: Path) -> None:
    assert dataset_of(tiny_index.path, None) == "builtin"
    write_index(tmp_path / "own.parquet", tiny_index, {"name": "my own"})
    assert dataset_of(tmp_path / "own.parquet", None) is None
    assert dataset_of(tmp_path / "references.csv", None) is None


def test_what_names_a_config(tmp_path: Path) -> None:
    (tmp_path / "predictions").write_text("x")
    assert [is_config(name) for name in ("demo", "my.yaml", "a.jsonl", "a.hyp", str(tmp_path / "predictions"))] == [
        True, True, False, False, False,
    ]  # fmt: skip
