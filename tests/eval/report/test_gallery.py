"""Which clips the gallery shows, and the words in which a hypothesis differs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.scored_text import tokens
from eval.predictions.prediction_file import Prediction
from eval.report.gallery import Strip, cards, choose
from eval.report.word_diff import compare
from eval.settings import ReportSettings, ScoreSettings

WORD, CHAR = ScoreSettings(), ScoreSettings(level="char")
SENTENCES = st.lists(st.sampled_from(["regen", "im", "norden", "süden", "und", "schnee"]), max_size=9).map(" ".join)


@given(SENTENCES, SENTENCES, st.sampled_from([WORD, CHAR]))
def test_a_diff_says_both_sides_and_agrees_outside_its_marks(
    reference: str, hypothesis: str, settings: ScoreSettings
) -> None:
    left, right = compare(reference, hypothesis, settings)
    gap = "" if settings.level == "char" else " "
    for parts, text in ((left, reference), (right, hypothesis)):
        assert gap.join(part.text for part in parts) == gap.join(tokens(text, settings))
    same = [[part.text for part in parts if not part.differs] for parts in (left, right)]
    assert same[0] == same[1]
    assert (reference == hypothesis) == (not any(part.differs for part in left + right))


def test_a_diff_follows_the_convention_of_the_scores() -> None:
    settings = ScoreSettings(lowercase=True, final_dot="strip")
    left, right = compare("Regen im Norden .", "regen im süden", settings)
    assert [(part.text, part.differs) for part in left] == [("regen im", False), ("norden", True)]
    assert [(part.text, part.differs) for part in right] == [("regen im", False), ("süden", True)]


def test_frequent_words_of_a_long_sentence_are_compared() -> None:
    words = " ".join(["und", "dann"] * 150)  # difflib's heuristic would take them for noise
    left, _ = compare(words, f"heute {words}", WORD)
    assert [part.differs for part in left] == [False]


def predictions(number: int) -> list[Prediction]:
    """Of clip i, i words are right out of ``number``, in an order that is not that of the scores."""
    rows = []
    for i in range(number):
        right = (i * 23 + 3) % number
        words = [f"w{k}" for k in range(number)]
        rows.append(Prediction(f"{right:03d}", " ".join(words[:right] + ["x"] * (number - right)), " ".join(words)))
    return rows


def test_best_and_worst_are_the_ends_and_the_random_ones_are_drawn() -> None:
    rows = predictions(40)
    chosen = choose(rows, ReportSettings(clips=5), WORD)
    of = {kind: [id for id, kinds in chosen.items() if kind in kinds] for kind in ("best", "worst", "random")}
    assert of["best"] == ["039", "038", "037", "036", "035"]
    assert of["worst"] == ["004", "003", "002", "001", "000"]
    assert len(of["random"]) == 5
    assert choose(rows, ReportSettings(clips=5), WORD) == chosen
    drawn = [choose(rows, ReportSettings(clips=5, seed=seed), WORD) for seed in range(5)]
    assert len({tuple(id for id, kinds in each.items() if "random" in kinds) for each in drawn}) == 5


@given(st.integers(0, 22), st.integers(0, 9))
def test_no_clip_is_both_best_and_worst(number: int, clips: int) -> None:
    chosen = choose(predictions(number) if number else [], ReportSettings(clips=clips), WORD)
    assert not [kinds for kinds in chosen.values() if {"best", "worst"} <= set(kinds)]
    assert sum("random" in kinds for kinds in chosen.values()) == min(number, clips)


def test_of_equal_scores_the_longer_sentence_is_shown() -> None:
    rows = [Prediction(str(n), "w " * n, "w " * n) for n in (3, 9, 5, 1)]
    assert next(iter(choose(rows, ReportSettings(clips=1), WORD))) == "9"


def test_every_clip_can_be_searched_up_to_the_setting() -> None:
    rows = predictions(40)
    strips = {"039": Strip(b"RIFF\0\0\0\0WEBP", 64, 100, 4.0), "000": Strip(b"RIFF\0\0\0\0WEBP", 1, 1, 4.0)}
    given_settings = ReportSettings(clips=5, sentences=30)
    made = cards({"stage 2": rows, "stage 1": rows[:3]}, given_settings, WORD, strips=strips, attentions={}, signers={})
    assert len(made) == len({card.id for card in made}) == 30
    assert made[0].id == "039"
    assert made[0].thumbnails == (3, 9, 16, 22, 28, 35, 41, 48, 54, 60)
    (short,) = [card for card in made if card.id == "000"]
    assert short.thumbnails == (0,)
    rest = [card.id for card in made if not card.kinds]
    assert rest == [row.id for row in rows if row.id in set(rest)]  # in the split's order
    assert {line.system: line.parts is None for line in short.lines} == {"stage 2": False, "stage 1": True}
