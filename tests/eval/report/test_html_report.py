"""The report: what stands on the page, and that it needs nothing but itself."""

from __future__ import annotations

import base64
import dataclasses
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eval.predictions.prediction_file import Prediction
from eval.report.charts import draw_curve
from eval.report.dominance_figure import draw_dominance
from eval.report.gallery import Strip
from eval.report.html_report import Content, write_report
from eval.results.result_tables import published_sheet, score_sheet, slice_sheets
from eval.results.scores import Interval, Score, count
from eval.results.slices import slice_systems
from eval.results.table_formats import Sheet, cells
from eval.settings import ReportSettings, ScoreSettings
from eval.translation.cross_attention import Attention
from extract.errors import InputError

ENTRY = Score(
    bleu1=46.29, bleu2=35.33, bleu3=28.03, bleu4=23.09, rouge=45.27, signature="tok:none|dot:keep", n=6420,
    intervals={"bleu4": Interval(low=21.5, high=24.75)},
)  # fmt: skip
VOID = {"meta", "link", "img", "br", "hr", "input"}


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


def png(width: int = 1) -> bytes:
    """A black image one pixel high."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, 1, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * (width + 1))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


PREDICTIONS = {
    "stage2": [Prediction("clip-1", "regen im norden", "regen im süden", 80), Prediction("clip-2", "", "kühl", 40)],
    "stage1": [Prediction("clip-1", "regen", "regen im süden", 80)],
}
SETTINGS = ScoreSettings(bootstrap=50)
SLICES = slice_systems(
    {"stage2": PREDICTIONS["stage2"]}, {"stage2": count(PREDICTIONS["stage2"], SETTINGS)}, None, SETTINGS, "de_DE"
)
SCORES = {"stage1": ENTRY, "stage2": ENTRY}
CONTENT = Content(
    title="PHOENIX14T, test",
    scores=SCORES,
    sheets=[score_sheet(SCORES), published_sheet("phoenix14t", SCORES), *slice_sheets(SLICES)],
    slices=SLICES,
    predictions=PREDICTIONS,
    curves=[draw_curve("training loss", {"train": [(0, 7.0), (50, 3.5), (100, 2.0)], "dev": [(50, 4), (100, 3)]})],
    strips={"clip-1": Strip(png(3), 3, 20, 6.25)},
    attentions={"clip-1": Attention(("▁regen", "▁im", "▁nor", "den"), np.full((4, 5), 0.2, np.float32))},
    signers={"clip-1": "Signer03"},
    provenance={"seed": 1, "config": Path("configs/demo.yaml"), "versions": {"torch": "2.8.0"}, "git": None},
)


def written(tmp_path: Path, content: Content = CONTENT, **changes: Any) -> tuple[str, Page]:
    path = write_report(tmp_path / "report.html", dataclasses.replace(content, **changes))
    html = path.read_text(encoding="utf-8")
    return html, Page(html)


def test_page_holds_every_part(tmp_path: Path) -> None:
    _, page = written(tmp_path)
    text = "\n".join(page.text)
    for expected in (
        "45.27", "tok:none|dot:keep", "FLa-LLM", "ours, stage 2", "training loss", "clip length in frames",
        "sentence length in words", "[21.50, 24.75]", "BLEU-4, 95 % intervals", "BLEU-4 by sentence length",
        "Words of stage 2", "best gloss-free", "Signer03", "3 of 20 frames", "▁regen", "configs/demo.yaml",
        '"torch": "2.8.0"', "None", "6420", "2 of 2 clips",
    ):  # fmt: skip
        assert expected in text, expected
    assert page.text.count("absent") == 1
    assert page.text.count("empty") == 1
    anchors = [(link["href"] or "").removeprefix("#") for link in page.all("a")]
    assert anchors == ["main", "scores", "published", "slices", "curves", "lengths", "clips", "provenance"]
    assert set(anchors) <= {attrs.get("id") for _, attrs in page.tags}


def test_page_needs_no_network_and_runs_one_script_only(tmp_path: Path) -> None:
    html, page = written(tmp_path)
    assert not page.all("link")
    assert "http://" not in html
    assert "https://" not in html
    assert html.count("url(") == html.count("url(data:image/png;base64,") == 2  # the frames and the attention
    assert "@import" not in html
    (policy,) = [meta["content"] or "" for meta in page.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-")
    assert page.all("script") == [{}]
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]


def test_frames_survive_inlining(tmp_path: Path) -> None:
    _, page = written(tmp_path)
    (card,) = [item for item in page.all("li") if "data-rate" in item]
    style = card["style"] or ""
    assert base64.b64decode(style.partition("base64,")[2].rstrip(")")) == png(3)
    assert style.startswith("--frames: 3;")
    assert (card["data-id"], card["data-rate"]) == ("clip-1", "6.25")


def test_words_that_differ_are_marked(tmp_path: Path) -> None:
    html, _ = written(tmp_path)
    assert "regen im <del>süden</del>" in html
    assert "regen im <ins>norden</ins>" in html


def test_frames_then_sentences_give_way_to_the_budget(tmp_path: Path) -> None:
    rows = [Prediction(f"clip-{i}", "regen im norden", "regen im süden", 80) for i in range(400)]
    strips = {row.id: Strip(png(3) + bytes(20_000), 3, 20, 6.25) for row in rows[:40]}
    big: dict[str, Any] = {"predictions": {"stage2": rows}, "strips": strips, "attentions": {}}
    whole, page = written(tmp_path, **big)
    kept = [item for item in page.all("li") if "data-rate" in item]
    assert len(kept) == 40
    settings = ReportSettings(megabytes=0.5)
    html, page = written(tmp_path, **big, settings=settings)
    assert 400_000 < len(html.encode()) <= 500_000 < len(whole.encode())
    fewer = [item["data-id"] for item in page.all("li") if "data-rate" in item]
    assert 0 < len(fewer) < len(kept)
    assert fewer == [item["data-id"] for item in kept[: len(fewer)]]  # the best stay
    assert sum("data-id" in item for item in page.all("li")) == 400
    html, page = written(tmp_path, **big, settings=ReportSettings(megabytes=0.1))
    assert len(html.encode()) <= 100_000
    assert 0 < sum("data-id" in item for item in page.all("li")) < 400
    assert not [item for item in page.all("li") if "data-rate" in item]


def test_page_is_accessible(tmp_path: Path) -> None:
    html, page = written(tmp_path)
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1
    assert len(page.all("table")) == len(page.all("caption")) == 4
    assert all(cell.get("scope") in ("col", "row") for cell in page.all("th"))
    drawings = page.all("svg")
    assert len(drawings) == 3 + 2 + len(SLICES.systems["stage2"].slices)
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in drawings)
    assert all(attrs.get("aria-label") for _, attrs in page.tags if attrs.get("role") == "img")
    assert "width=device-width" in html
    assert "prefers-color-scheme: dark" in html
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a & b < c", "</style><p>"]
)
def test_text_is_escaped_everywhere(tmp_path: Path, text: str) -> None:
    row = Prediction(text, text, f"other {text}", 3)
    html, page = written(
        tmp_path,
        title=text,
        scores={text: ENTRY},
        sheets=[Sheet("scores", text, ("system", text), ((cells(text, text),),), (text,))],
        predictions={text: [row], f"{text} 2": [row]},
        provenance={text: text, "nested": {text: [text]}},
        curves=[draw_curve(text, {text: [(0, 1.0)], "other": [(0, 1.0)]})],
        strips={text: Strip(png(), 1, 1, 1.0)},
        attentions={text: Attention((text,), np.ones((1, 1), np.float32))},
        signers={text: text},
    )
    assert text not in html
    assert page.all("script") == [{}]
    assert not page.all("img")
    assert page.text.count(text) >= 8


def test_empty_parts_are_left_out(tmp_path: Path) -> None:
    _, page = written(tmp_path, Content("PHOENIX14T, test"))
    assert not page.all("section")
    assert not page.all("table")
    assert page.text.count("PHOENIX14T, test") == 2


def test_text_that_is_no_unicode_does_not_stop_the_report(tmp_path: Path) -> None:
    _, page = written(tmp_path, provenance={"file": "caf\udce9.mp4"})
    assert "caf?.mp4" in page.text


def test_only_pictures_that_browsers_know_are_taken_and_the_earlier_report_stays(tmp_path: Path) -> None:
    before, _ = written(tmp_path)
    with pytest.raises(InputError, match="frames of clip 'clip-1': expected a PNG or WebP file"):
        written(tmp_path, strips={"clip-1": Strip(b"\xff\xd8\xff\xe0 JFIF", 1, 1, 1.0)})
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_equal_contents_make_equal_bytes(tmp_path: Path) -> None:
    def drawn() -> str:
        curves = [draw_curve("loss", {"train": [(0, 7.0), (50, 3.5)], "dev": [(50, 4.0)]})]
        return written(tmp_path, curves=curves)[0]

    assert drawn() == drawn()


def test_dominance_figure(tmp_path: Path) -> None:
    path = tmp_path / "joint.dominance.parquet"
    steps = 1000
    rows = [
        {"step": step, "group": group, "gradient_norm": norm / (1 + step), "parameter_norm": 10 + norm * step / steps,
         "update_ratio": 0.01 if step % 10 == 0 else None}
        for step in range(steps)
        for group, norm in (("encoder.last", 0.1), ("lm.last", 2.0), ("adapter", 1.0))
    ]  # fmt: skip
    rows[3]["gradient_norm"] = None
    pq.write_table(pa.Table.from_pylist(rows), path)
    drawn = draw_dominance("joint training", path)
    gradients, parameters, moved, updates = drawn[:4]  # of the last layers
    assert [label for label in ("encoder.last", "lm.last", "adapter") if f">{label}<" in gradients.svg] == [
        "encoder.last", "lm.last",
    ]  # fmt: skip
    assert drawn[4].words.startswith("joint training, groups: gradient norm: 300 points")  # of the adapter alone
    assert len(drawn) == 8
    assert "lm.last: 300 points, first 0.8333," in gradients.words  # the median of 2, 1, 2/3 and 1/2
    assert "encoder.last: 300 points, first 0.02917," in gradients.words  # of 1/10, 1/30, 1/40, 1/50
    assert parameters.words.count("lowest 10,") == 2
    ends = [part.partition("highest ")[2] for part in moved.words.split("; ")]
    assert [round(float(end)) for end in ends] == [1, 20]  # per cent
    assert updates.words.count("100 points, first 0.01, last 0.01") == 2
    _, page = written(tmp_path, dominance=drawn)
    assert "joint training, last layers: gradient norm" in page.text
    assert ("a", {"href": "#dominance"}) in page.tags
    pq.write_table(pa.Table.from_pylist(rows).drop_columns(["update_ratio"]), path)
    assert len(draw_dominance("joint training", path)) == 6


@pytest.mark.parametrize("table", [{"step": [1], "group": ["a"]}, {"step": ["x"], "group": ["a"]}, None])
def test_a_log_of_another_form_is_refused(tmp_path: Path, table: dict[str, list[Any]] | None) -> None:
    path = tmp_path / "joint.dominance.parquet"
    if table is None:
        path.write_bytes(b"PAR1 cut off")
    else:
        pq.write_table(pa.table(table), path)
    with pytest.raises(InputError, match="with the columns step, group, gradient_norm, parameter_norm"):
        draw_dominance("joint training", path)
