"""Drawings of the report: where their lines, dots, bars and labels stand, and that they are the page's own."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.report.charts import BOTTOM, RIGHT, ROW, TOP, WIDTH, Chart, Value, draw_curve, draw_dots, draw_histogram
from eval.results.scores import Interval

numbers = st.floats(min_value=-1e9, max_value=1e9, allow_subnormal=False)
XLINK = "{http://www.w3.org/1999/xlink}href"


def parsed(chart: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(f'<svg xmlns:xlink="http://www.w3.org/1999/xlink">{chart.svg}</svg>')


def texts(chart: Chart) -> list[str]:
    return [text.text or "" for text in parsed(chart).iter("text")]


def paths(chart: Chart, colour: str) -> list[list[list[tuple[float, float]]]]:
    """Of every path of a colour, its pieces as points."""
    return [
        [
            [(float(x), float(y)) for x, y in re.findall(r"(\S+) (\S+)", piece.replace("L ", ""))]
            for piece in (path.get("d") or "").split("M ")[1:]
        ]
        for path in parsed(chart).iter("path")
        if colour in (path.get("style") or "") and not path.get("id")
    ]


def dots(chart: Chart, colour: str) -> list[tuple[float, float]]:
    return [
        (float(use.get("x") or "nan"), float(use.get("y") or "nan"))
        for use in parsed(chart).iter("use")
        if f"fill: var({colour})" in (use.get("style") or "")
    ]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=39))
def test_curve_stays_in_its_area(points: list[tuple[float, float]]) -> None:
    drawn = draw_curve("loss", {"a": points})
    places = dots(drawn, "--series-0")
    assert len(places) == len(points)
    assert all(52 - 0.1 <= x <= WIDTH - RIGHT + 0.1 for x, _ in places)
    assert all(TOP - 0.1 <= y <= 200 - BOTTOM + 0.1 for _, y in places)
    assert 2 <= len(texts(drawn)) <= 14  # the ticks of both axes


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(1e-12, 1e12), min_size=1, max_size=30))
def test_logarithmic_curve_stays_in_its_area(values: list[float]) -> None:
    drawn = draw_curve("norm", {"a": list(enumerate(values))}, logarithmic=True)
    places = [y for _, y in dots(drawn, "--series-0")]
    assert all(TOP - 0.1 <= y <= 200 - BOTTOM + 0.1 for y in places)
    assert places[values.index(max(values))] == min(places)
    assert 2 <= len(texts(drawn)) <= 16


def test_logarithmic_curve_has_powers_of_ten_and_no_place_for_zero() -> None:
    drawn = draw_curve("norm", {"a": [(0, 0.01), (1, 0.0), (2, 1.0), (3, 100.0)]}, logarithmic=True)
    assert texts(drawn)[-5:] == ["0.01", "0.1", "1", "10", "100"]
    first, one, hundred = (y for _, y in dots(drawn, "--series-0"))
    assert first - one == pytest.approx(one - hundred, abs=0.1)
    ((before, after),) = [path for path in paths(drawn, "stroke: var(--series-0)") if len(path) > 1]
    assert (len(before), len(after)) == (1, 2)


def test_curve_rises_upwards_and_breaks_at_values_that_are_not_finite() -> None:
    drawn = draw_curve("BLEU-4", {"dev": [(0, 0.0), (1, 5.0), (2, math.nan), (3, 10.0)]})
    low, middle, high = dots(drawn, "--series-0")
    assert low[0] < middle[0] < high[0]
    assert low[1] - middle[1] == pytest.approx(middle[1] - high[1], abs=0.1)
    ((before, after),) = [path for path in paths(drawn, "stroke: var(--series-0)") if len(path) > 1]
    assert (len(before), len(after)) == (2, 1)
    assert texts(drawn)[-6:] == ["0", "2", "4", "6", "8", "10"]
    assert drawn.words == "BLEU-4: 4 points, first 0, last 10, lowest 0, highest 10"


@pytest.mark.parametrize("points", [[], [(0, math.nan)], [(math.inf, 1.0)]])
def test_curve_without_values_says_so(points: list[tuple[float, float]]) -> None:
    drawn = draw_curve("loss", {"train": points})
    assert drawn.words == "loss: no values"
    assert texts(drawn) == ["no values"]


def test_only_short_series_have_their_points_marked_and_lines_differ_without_colour() -> None:
    series = {f"group {number}": [(step, number + step) for step in range(50)] for number in range(12)}
    drawn = draw_curve("norm", series)
    assert not list(parsed(drawn).iter("use"))
    styles = [path.get("style") or "" for path in parsed(drawn).iter("path")]
    strokes = {style for style in styles if "--series-" in style}
    assert len({re.sub(r"; stroke-linecap.*", "", style) for style in strokes}) == 12
    assert set(series) <= set(texts(drawn))
    assert drawn.height > 200  # the legend stands above the area


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 500), min_size=1, max_size=80), st.lists(st.integers(0, 9), max_size=9))
def test_every_clip_is_in_a_bar(first: list[int], second: list[int]) -> None:
    drawn = draw_histogram("length", {"a": first, "b": second})
    assert drawn is not None
    heights = []
    for number, values in enumerate((first, second)):
        colour = f"stroke: var(--series-{number})" if number else "fill: var(--series-0)"
        bars = [piece for (piece,) in paths(drawn, colour)]
        found = [bar for bar in bars if bar[0][1] > drawn.height - BOTTOM - 0.2]  # and not in the legend
        heights.append(sum(bar[0][1] - bar[2][1] for bar in found))
        assert bool(found) == bool(values)
        assert all(52 - 0.1 <= x <= WIDTH - RIGHT + 0.1 for bar in found for x, _ in bar)
    assert heights[1] / heights[0] == pytest.approx(len(second) / len(first), abs=0.1)
    assert f"length, a: {len(first)} clips, shortest {min(first)}, " in drawn.words


def test_histogram_of_nothing_is_none_and_of_one_length_is_one_bar() -> None:
    assert draw_histogram("length", {"a": []}) is None
    drawn = draw_histogram("length", {"a": [7, 7, 7]})
    assert drawn is not None
    ((bar,),) = paths(drawn, "fill: var(--series-0)")
    assert bar[0][1] - bar[2][1] == pytest.approx(200 - TOP - BOTTOM, rel=0.06)
    assert "7" in texts(drawn)


def test_dots_and_their_intervals_have_their_places() -> None:
    values = [Value("short", 80, Interval(low=60.0, high=100.0), 12), Value("long", 50), Value("none", math.nan)]
    drawn = draw_dots("BLEU-4", values)
    assert drawn is not None
    (short, long), ((interval,),) = dots(drawn, "--series-0"), paths(drawn, "stroke: var(--series-0); stroke-width")
    assert short[1] == pytest.approx(TOP + ROW / 2)
    assert long[1] == pytest.approx(TOP + ROW * 1.5)
    assert interval[0][0] < short[0] < interval[1][0]
    scale = (interval[1][0] - interval[0][0]) / 40
    assert short[0] - long[0] == pytest.approx(30 * scale, abs=0.1)
    assert long[0] - 50 * scale == pytest.approx(118, abs=0.5)  # the axis begins at 0
    assert [text for text in texts(drawn) if not text.isdecimal()] == ["short", "n = 12", "long"]
    assert drawn.words == "BLEU-4: short 80.0 (60.0 to 100.0), n 12; long 50.0"
    assert draw_dots("BLEU-4", [Value("none", math.nan)]) is None


def test_an_interval_need_not_hold_its_value() -> None:
    drawn = draw_dots("BLEU-4", [Value("few", 0.0, Interval(low=2.0, high=3.0)), Value("below", -4.0)])
    assert drawn is not None
    assert all(118 - 5 <= x <= WIDTH - RIGHT for x, _ in dots(drawn, "--series-0"))


@pytest.mark.parametrize("label", ["a $x^2$", "<b>&amp;", "手语翻译", "caf\udce9", "long " * 30, "x" * 200, "", "a\nb"])
def test_any_label_can_be_drawn(label: str) -> None:
    for drawn in (
        draw_curve(label, {label: [(0, 1)], "other": [(0, 1)]}),
        draw_dots(label, [Value(label, 1, n=3), Value(label, 2)]),
        draw_histogram(label, {label: [1], "b": [2]}),
    ):
        assert drawn is not None
        assert drawn.svg.encode()
        shown = label.replace("\udce9", "?").replace("\n", " ")
        found = [text.rstrip("…") for text in texts(drawn) if len(text) >= min(len(shown), 16)]
        assert not shown or any(shown.startswith(text) for text in found)
        assert all(len(text) <= 40 for text in texts(drawn))


def test_drawings_have_the_page_s_colours_and_font_and_names_of_their_own() -> None:
    drawn = [draw_curve(name, {"a": [(0, 1), (1, 2)], "b": [(0, 3)]}) for name in ("loss", "norm")]
    drawn += [draw_dots("BLEU", [Value("a", 1)]) or drawn[0], draw_histogram("length", {"a": [1, 2]}) or drawn[0]]
    known = {f"var(--{name})" for name in ("soft", "line", "series-0", "series-1")} | {"none"}
    for chart in drawn:
        painted = re.findall(r"(?:fill|stroke): ([^;\"]+)", chart.svg)
        assert set(painted) <= known
        assert not re.search("font-family|<style|url\\(|http|<title|#0000", chart.svg)
        tree = parsed(chart)
        named = {f"#{element.get('id')}" for element in tree.iter() if element.get("id")}
        assert {use.get(XLINK) for use in tree.iter("use")} == named
    names = [at.get("id") for chart in drawn for at in parsed(chart).iter() if at.get("id")]
    assert len(names) == len(set(names)) > 3
