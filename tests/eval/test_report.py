"""The report: what stands on the page, and that it needs nothing but itself."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.curve import BOTTOM, LEFT, RIGHT, TOP, draw_curve
from eval.predictions import Prediction
from eval.published import published
from eval.report import choose_examples, write_report
from eval.scores import Score
from extract.errors import InputError

ENTRY = Score(bleu1=46.29, bleu2=35.33, bleu3=28.03, bleu4=23.09, rouge=45.27, signature="tok:none|dot:keep", n=6420)
VOID = {"meta", "link", "img", "br", "hr", "input", "line", "path", "circle"}

numbers = st.floats(min_value=-1e9, max_value=1e9, allow_subnormal=False)


class Page(HTMLParser):
    """Tags with their attributes, text, and a check that every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text.append(data.strip())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def png() -> bytes:
    """A black image of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def written(tmp_path: Path, **changes: Any) -> tuple[str, Page]:
    parts: dict[str, Any] = {
        "title": "PHOENIX14T, test",
        "scores": {"stage1": ENTRY, "stage2": ENTRY},
        "examples": {
            "stage1": [Prediction("clip-1", "regen", "regen im süden"), Prediction("clip-2", "", "kühl")],
            "stage2": [Prediction("clip-1", "regen im norden", "regen im süden")],
        },
        "provenance": {
            "seed": 1,
            "config": Path("configs/demo.yaml"),
            "versions": {"torch": "2.8.0"},
            "git": None,
        },
        "published_rows": published("phoenix14t"),
        "images": {"frames of clip 1": png()},
        "curves": {"training loss": [(0, 7.0), (50, 3.5), (100, 2.0)]},
    }
    path = write_report(tmp_path / "report.html", **(parts | changes))
    html = path.read_text(encoding="utf-8")
    return html, Page(html)


def test_page_holds_every_part(tmp_path: Path) -> None:
    _, page = written(tmp_path)
    text = "\n".join(page.text)
    for expected in (
        "45.27",
        "tok:none|dot:keep",
        "FLa-LLM",
        "ours, stage 2",
        "training loss",
        "regen im norden",
    ):
        assert expected in text
    for expected in ("configs/demo.yaml", '"torch": "2.8.0"', "None", "6420", "2 of 2 clips"):
        assert expected in text
    assert page.text.count("absent") == 1
    assert page.text.count("empty") == 1


def test_page_needs_no_network_and_no_script(tmp_path: Path) -> None:
    html, page = written(tmp_path)
    assert not page.all("script")
    assert not page.all("link")
    assert "http://" not in html
    assert "https://" not in html
    assert "url(" not in html
    assert "@import" not in html
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in page.all("img"))
    assert "default-src 'none'" in html


def test_image_survives_inlining(tmp_path: Path) -> None:
    _, page = written(tmp_path)
    (image,) = page.all("img")
    assert base64.b64decode((image["src"] or "").partition(",")[2]) == png()
    assert image["alt"] == "frames of clip 1"


def test_page_is_accessible(tmp_path: Path) -> None:
    html, page = written(tmp_path)
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1
    assert len(page.all("table")) == len(page.all("caption")) == 3
    assert all(cell.get("scope") in ("col", "row") for cell in page.all("th"))
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in page.all("svg"))
    assert "width=device-width" in html
    assert "prefers-color-scheme: dark" in html
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a & b < c"])
def test_text_is_escaped_everywhere(tmp_path: Path, text: str) -> None:
    html, page = written(
        tmp_path,
        title=text,
        scores={text: ENTRY},
        examples={text: [Prediction(text, text, text)]},
        provenance={text: text, "nested": {text: [text]}},
        images={text: png()},
        curves={text: [(0, 1.0)]},
    )
    assert text not in html
    assert not page.all("script")
    assert len(page.all("img")) == 1
    assert page.text.count(text) >= 8


def test_empty_parts_are_left_out(tmp_path: Path) -> None:
    empty: dict[str, Any] = {
        "scores": {},
        "examples": {},
        "provenance": {},
        "published_rows": [],
        "images": {},
    }
    _, page = written(tmp_path, **empty, curves={})
    assert not page.all("section")
    assert not page.all("table")
    assert page.text.count("PHOENIX14T, test") == 2


def test_text_that_is_no_unicode_does_not_stop_the_report(tmp_path: Path) -> None:
    _, page = written(tmp_path, provenance={"file": "caf\udce9.mp4"})
    assert "caf?.mp4" in page.text


def test_only_png_images_are_taken_and_the_earlier_report_stays(tmp_path: Path) -> None:
    before, _ = written(tmp_path)
    with pytest.raises(InputError, match="image 'photo': expected a PNG file"):
        written(tmp_path, images={"photo": b"\xff\xd8\xff\xe0 JFIF"})
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_examples_are_spaced_evenly_over_the_split() -> None:
    rows = [Prediction(str(index), f"hypothesis {index}", f"reference {index}") for index in range(642)]
    chosen = choose_examples({"stage1": rows, "stage2": list(reversed(rows))})
    assert len(chosen) == 20
    assert [example.id for example in chosen[:3]] == ["0", "32", "64"]
    assert chosen[1].reference == "reference 32"
    assert chosen[1].hypotheses == ("hypothesis 32", "hypothesis 32")


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=60))
def test_curve_stays_in_its_area(points: list[tuple[float, float]]) -> None:
    drawn = draw_curve("loss", points)
    places = [pair.split() for pair in drawn.path.replace("L", "M").split("M")[1:]]
    assert len(places) == len(points)
    assert all(LEFT - 0.1 <= float(x) <= RIGHT + 0.1 for x, _ in places)
    assert all(TOP - 0.1 <= float(y) <= BOTTOM + 0.1 for _, y in places)
    for ticks, low, high in ((drawn.x_ticks, LEFT, RIGHT), (drawn.y_ticks, TOP, BOTTOM)):
        assert 1 <= len(ticks) <= 7
        assert all(low - 0.1 <= tick.at <= high + 0.1 for tick in ticks)


def test_curve_rises_upwards_and_breaks_at_values_that_are_not_finite() -> None:
    drawn = draw_curve("BLEU-4", [(0, 0.0), (1, 5.0), (2, math.nan), (3, 10.0)])
    assert drawn.path == "M52.0 172.0L144.0 93.0M328.0 14.0"
    assert [tick.label for tick in drawn.y_ticks] == ["0", "2", "4", "6", "8", "10"]
    assert drawn.summary == "BLEU-4: 4 points, first 0, last 10, lowest 0, highest 10"


@pytest.mark.parametrize("points", [[], [(0, math.nan)], [(math.inf, 1.0)]])
def test_curve_without_values_says_so(tmp_path: Path, points: list[tuple[float, float]]) -> None:
    assert draw_curve("loss", points).summary == "loss: no values"
    _, page = written(tmp_path, curves={"loss": points})
    assert "no values" in page.text
