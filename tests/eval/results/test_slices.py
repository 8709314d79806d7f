"""Slices of a split, and which words are right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.predictions.prediction_file import Prediction
from eval.results.number_words import numbers_in
from eval.results.scores import count, score
from eval.results.slices import Corpus, slice_systems, write_slices
from eval.results.word_recall import confusions, numbers_of, words_of
from eval.settings import ScoreSettings
from extract.dataset.clip_index import Clip

WORDS = ScoreSettings(bootstrap=20)


def clip(id: str, text: str, signer: str | None = "S1", n_frames: int = 50, **more: float) -> Clip:
    return Clip(id, "test", id, n_frames, 25.0, text, "de_DE", signer=signer, **more)  # type: ignore[arg-type]


ROWS = [
    Prediction("a", "regen im süden", "regen im süden"),
    Prediction("b", "im norden zwölf grad", "im süden elf grad"),
    Prediction("c", "", "am montag scheint im ganzen land wieder die warme sonne bei zwölf grad"),
    Prediction("d", "schnee", "schnee"),
]
CLIPS = [
    clip("a", "regen im süden"),
    clip("b", "im süden elf grad", "S2", 150),
    clip("c", ROWS[2].reference, None, 0),
    clip("d", "schnee", "S9", 5000, start=10.0, end=13.5),
]
TRAIN = [clip(f"t{n}", text, "S1") for n, text in enumerate(["regen im süden"] * 5 + ["im süden grad"] * 3)]


def sliced(rows: list[Prediction], corpus: Corpus | None) -> dict[str, dict[str, int]]:
    found = slice_systems({"A": rows}, {"A": count(rows, WORDS)}, corpus, WORDS, "de_DE").systems["A"].slices
    return {kind: {part.label: part.n for part in parts} for kind, parts in found.items()}


def test_clips_fall_into_slices() -> None:
    assert sliced(ROWS, Corpus.of(CLIPS, TRAIN)) == {
        "sentence length": {"1–5": 3, "11–15": 1},
        "clip length": {"2–4 s": 2, "6–8 s": 1},  # by its times where it has some; nobody knows how long c is
        "signer": {"S1": 1, "S2": 1, "S9": 1},
        "signer seen in train": {"seen": 1, "unseen": 2},
        "sentence seen in train": {"seen": 1, "unseen": 3},
        "rare words": {"none": 1, "one": 1, "two or more": 2},
    }


def test_without_the_dataset_only_what_predictions_tell() -> None:
    assert sliced(ROWS, None) == {"sentence length": {"1–5": 3, "11–15": 1}}


def test_a_slice_is_scored_as_a_split_of_its_own(tmp_path: Path) -> None:
    found = slice_systems({"A": ROWS}, {"A": count(ROWS, WORDS)}, Corpus.of(CLIPS, TRAIN), WORDS, "de_DE")
    short = found.systems["A"].slices["sentence length"][0]
    alone = score([ROWS[0], ROWS[1], ROWS[3]], WORDS)
    assert (short.bleu4, short.rouge, short.chrf) == pytest.approx((alone.bleu4, alone.rouge, alone.chrf))
    assert short.intervals["rouge"].low <= short.rouge <= short.intervals["rouge"].high
    written = json.loads(write_slices(tmp_path / "slices.json", found).read_text(encoding="utf-8"))
    assert written == found.model_dump()
    assert list(written["systems"]["A"]) == ["slices", "words", "confusions", "numbers"]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 900)), min_size=1, max_size=30))
def test_every_clip_is_in_one_slice_of_each_kind(shapes: list[tuple[int, int]]) -> None:
    rows = [Prediction(str(n), "x", " ".join(["wort"] * words)) for n, (words, _) in enumerate(shapes)]
    clips = [clip(row.id, row.reference, n_frames=frames + 1) for row, (_, frames) in zip(rows, shapes, strict=True)]
    settings = ScoreSettings(bootstrap=0)
    found = slice_systems({"A": rows}, {"A": count(rows, settings)}, Corpus.of(clips, TRAIN), settings, "de_DE")
    assert {sum(part.n for part in parts) for parts in found.systems["A"].slices.values()} == {len(rows)}


def test_recall_of_content_words_by_frequency() -> None:
    found = words_of(ROWS[:2], WORDS, "de_DE", {"regen": 30, "süden": 3, "grad": 3})
    # "im" is a function word; of regen, süden twice, elf and grad, three are right.
    assert (found.content_recall, found.n_content) == (60, 5)
    assert [(part.label, part.n, part.recall) for part in found.by_frequency] == [
        ("never", 1, 0), ("1–4", 3, pytest.approx(200 / 3)), ("25–124", 1, 100),
    ]  # fmt: skip
    assert words_of(ROWS[:2], WORDS, "xx_XX", None).n_content == 7  # no list of function words: all count
    assert words_of([Prediction("e", "x", "in der .")], WORDS, "de_DE", None).content_recall is None


def test_a_word_that_is_said_once_answers_one_occurrence() -> None:
    row = Prediction("a", "regen", "regen regen")
    assert words_of([row], WORDS, "de_DE", None).content_recall == 50
    row = Prediction("a", "regen regen regen", "regen")
    assert words_of([row], WORDS, "de_DE", None).content_recall == 100


def test_confusions_are_replacements_of_content_words() -> None:
    rows = [ROWS[1], Prediction("e", "im norden", "im süden"), Prediction("f", "die norden", "der süden")]
    found = confusions(rows, WORDS, "de_DE")
    assert [(one.reference, one.hypothesis, one.count, one.clips) for one in found] == [
        ("süden", "norden", 3, ["b", "e", "f"]),
        ("elf", "zwölf", 1, ["b"]),
    ]


def test_numbers_are_hallucinated_or_dropped() -> None:
    found = numbers_of(ROWS, "de_DE")
    assert [(one.token, one.count) for one in found.hallucinated] == [("zwölf", 1)]
    assert [(one.token, one.count) for one in found.dropped] == [("elf", 1), ("zwölf", 1)]
    assert (found.n_reference, found.n_hypothesis, found.recall, found.precision) == (2, 1, 0, 0)
    assert numbers_of(ROWS[:1], "de_DE").recall is None


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("de_DE", "ein Tief bei einundzwanzig bis 25 Grad", ["einundzwanzig", "25"]),
        ("de_DE", "Zweihundertfünfzig Meter und tausendfünfhundert", ["zweihundertfünfzig", "tausendfünfhundert"]),
        ("de_DE", "achtung , verzweigt , einen zehnten , drei", ["drei"]),
        (
            "en_XX",
            "Add twenty-one or 3.5 cups , one by one ; someone said seventeen",
            ["twenty-one", "3.5", "seventeen"],
        ),
        ("zh_CN", "我 有 十 二 本 书 , 一起 看 两 遍", ["十二", "两"]),
        ("fr_XX", "vingt degrés , 20", ["20"]),
    ],
)
def test_numbers_of_a_language(language: str, text: str, expected: list[str]) -> None:
    assert numbers_in(text, language) == expected
