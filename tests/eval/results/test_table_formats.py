"""Tables in LaTeX, Markdown and CSV, read back."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import pytest
from rich.console import Console

from eval.results.result_tables import published_sheet, score_sheet
from eval.results.scores import Interval, Score
from eval.results.table_formats import BEST, BEST_GLOSS_FREE, DIFFERENT, Cell, Form, Sheet, cells, export, rich_table

ENTRY = Score(
    bleu1=46.29, bleu2=35.33, bleu3=28.03, bleu4=23.09, rouge=45.27, chrf=40.1, wer=70.25, more={"twostream": 44.0},
    intervals={"bleu4": Interval(low=21.0, high=25.5)}, signature="tok:none|rougeL:beta1.2", n=642,
)  # fmt: skip
SHEET = Sheet(
    "odd", "50 % of A & B", ("system", "n_1"),
    (
        (cells("a|b", "1.00"),),
        ((Cell("x_y <z>"), Cell("2.00", BEST_GLOSS_FREE + BEST)), (Cell("w"), Cell("3.00", DIFFERENT, "why"))),
    ),
    ("A note.",),
)  # fmt: skip


def test_csv_is_read_back_with_marks_in_a_column_of_their_own() -> None:
    rows = list(csv.reader(io.StringIO(export(SHEET, "csv"))))
    assert rows[0] == ["system", "n_1", "marks"]
    assert [row[:2] for row in rows[1:]] == [["a|b", "1.00"], ["x_y <z>", "2.00"], ["w", "3.00"]]
    assert rows[2][2] == "n_1: best gloss-free, best of all"
    assert rows[3][2].endswith("not in the running, why")


def test_markdown_has_as_many_cells_in_every_row() -> None:
    lines = export(SHEET, "markdown").splitlines()
    table = [line.replace("\\|", "") for line in lines if line.startswith("|")]
    assert {line.count("|") for line in table} == {3}
    assert "| x_y &lt;z> | **<ins>2.00</ins>** |" in lines
    assert "| w | 3.00‡ |" in lines
    assert "w: why  " in lines


def test_latex_escapes_and_marks() -> None:
    text = export(SHEET, "latex")
    assert r"a\textbar\allowbreak{}b & 1.00 \\" in text
    assert r"x\_y $<$z$>$ & \textbf{\underline{2.00}} \\" in text
    assert r"w & 3.00$^\ddagger$ \\" in text
    assert r"50 \% of A \& B" in text
    assert text.count(r"\midrule") == 2
    assert {line.count("&") - line.count(r"\&") for line in text.splitlines() if line.endswith(r"\\")} == {1}


NASTY = ("[x]", "*", "{a}b", "}", "c\\d", "5 % & $1 #2_3", "~^", "<i>|", "a → b", "−1 ± 2 – 3 …", "ä ß‡")
ODD = Sheet("odd", "Of [{", ("[system]", "n}"), (tuple(cells(name, "1.00") for name in NASTY),), ("A } note.",))


def test_latex_of_any_name_is_balanced_and_keeps_its_rows() -> None:
    text = export(ODD, "latex")
    body = re.sub(r"\\[\\{}&%$#_]", "", text)  # what is escaped does not count
    assert body.count("{") == body.count("}")
    assert all(body[:end].count("{") >= body[:end].count("}") for end in range(len(body)))
    assert body.count("$") % 2 == 0
    assert not re.search("[%#_~^|<>]", body.replace(r"$^\ddagger$", "").replace("$<$", "").replace("$>$", ""))
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + len(NASTY)
    assert {re.sub(r"\\&", "", row).count("&") for row in rows} == {1}
    assert [row[:4] for row in rows[:3]] == ["{}[s", "{}[x", "{}* "]  # not the options of the row before


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex with booktabs (texlive-latex-recommended)")
def test_latex_compiles(tmp_path: Path) -> None:
    tables = [SHEET, ODD, score_sheet({"stage2": ENTRY}), published_sheet("phoenix14t", {"stage2": ENTRY})]
    body = "".join(export(sheet, "latex") for sheet in tables)
    head = r"\documentclass{article}\usepackage{booktabs}\begin{document}\listoftables"
    (tmp_path / "tables.tex").write_text(f"{head}\n{body}\\end{{document}}\n", encoding="utf-8")
    for _ in range(2):  # the second time with the list of tables
        done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables"], cwd=tmp_path,
                              capture_output=True, text=True, errors="replace", check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:]
        assert "Missing character" not in (tmp_path / "tables.log").read_text(errors="replace")


def test_scores_fit_a_terminal_of_80_columns() -> None:
    console = Console(width=80, file=io.StringIO(), legacy_windows=False)
    entry = ENTRY.model_copy(update={"more": {}, "n": 1176})
    console.print(rich_table(score_sheet({"stage1": entry, "text_prior": entry})))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert sum("│" in line for line in lines) == 2


@pytest.mark.parametrize("form", get_args(Form))
def test_every_table_has_every_form(form: Form) -> None:
    for sheet in (score_sheet({"stage2": ENTRY, "shuffled": ENTRY}), published_sheet("phoenix14t", {"stage2": ENTRY})):
        text = export(sheet, form)
        assert text.endswith("\n")
        assert "23.09" in text
        assert form == "csv" or sheet.title.split()[0] in text


def test_score_sheet_shows_every_metric() -> None:
    sheet = score_sheet({"stage2": ENTRY})
    assert sheet.columns == ("system", "ROUGE", "B1", "B2", "B3", "B4", "±", "chrF", "WER", "twostream", "n")
    assert [cell.text for cell in sheet.rows[0]] == [
        "stage 2", "45.27", "46.29", "35.33", "28.03", "23.09", "2.25", "40.10", "70.25", "44.00", "642",
    ]  # fmt: skip


def test_names_are_names_in_every_form() -> None:
    """Neither a formula in a spreadsheet, nor a second row, nor what a terminal obeys."""
    names = ["=cmd()", "-2+3", "@SUM(A1)", "a\nb", "\x1b[2J"]
    sheet = Sheet("s", "s", ("system", "score"), (tuple(cells(name, "+0.50 [-0.10, +1.20]") for name in names),))
    rows = list(csv.reader(io.StringIO(export(sheet, "csv"))))[1:]
    assert [row[0] for row in rows] == ["'=cmd()", "'-2+3", "'@SUM(A1)", "a b", "\\x1b[2J"]
    assert {row[1] for row in rows} == {"+0.50 [-0.10, +1.20]"}
    for form in ("latex", "markdown"):
        text = export(sheet, form)
        assert "\x1b" not in text
        assert "a b" in text
