"""A table of results before it has a form: what the terminal, LaTeX, Markdown, CSV and the report draw alike."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rich.table import Table
from rich.text import Text

from extract.errors import visible

Form = Literal["latex", "markdown", "csv"]

BEST_GLOSS_FREE, BEST, DIFFERENT = "*", "+", "‡"
"""Marks of a cell in plain text. LaTeX and Markdown set the first bold and underline the second."""
LEGEND = {
    BEST_GLOSS_FREE: "best gloss-free",
    BEST: "best of all",
    DIFFERENT: "another metric than ours, not in the running",
}


@dataclass(frozen=True)
class Cell:
    """One value as it is printed."""

    text: str
    marks: str = ""
    """Of ``LEGEND``."""
    note: str = ""
    """Why it has the mark ``‡``, or where the figure comes from."""


@dataclass(frozen=True)
class Sheet:
    """A table: rows of cells under columns, the first of which names the row."""

    name: str
    """A word for files and options."""
    title: str
    columns: tuple[str, ...]
    groups: tuple[tuple[tuple[Cell, ...], ...], ...]
    """Rows, with a rule between one group and the next."""
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> list[tuple[Cell, ...]]:
        return [row for group in self.groups for row in group]

    @property
    def legend(self) -> list[str]:
        """What the marks that occur mean, with the reasons for ``‡``."""
        marks = {mark for row in self.rows for cell in row for mark in cell.marks}
        lines = [f"{mark} {meaning}" for mark, meaning in LEGEND.items() if mark in marks]
        reasons = dict.fromkeys(f"{row[0].text}: {cell.note}" for row in self.rows for cell in row if cell.note)
        return [*lines, *reasons]


def cells(*texts: str) -> tuple[Cell, ...]:
    """A row without marks."""
    return tuple(Cell(text) for text in texts)


def rich_table(sheet: Sheet) -> Table:
    """For the terminal."""
    # Without its outer border the table of scores fits the 80 columns of a terminal.
    table = Table(title=Text(sheet.title), title_justify="left", caption_justify="left",
                  show_edge=False, pad_edge=False)  # fmt: skip
    for place, column in enumerate(sheet.columns):
        table.add_column(Text(column), justify="right" if is_numeric(sheet, place) else "left", overflow="fold")
    for group in sheet.groups:
        for row in group:
            table.add_row(*(Text(visible(cell.text) + cell.marks) for cell in row))
        table.add_section()
    table.caption = Text("\n".join([*sheet.legend, *sheet.notes]))
    return table


def export(sheet: Sheet, form: Form) -> str:
    """The table as text that ends with a newline."""
    groups = tuple(tuple(tuple(map(_line, row)) for row in group) for group in sheet.groups)
    return {"latex": _latex, "markdown": _markdown, "csv": _csv}[form](replace(sheet, groups=groups))


def _line(cell: Cell) -> Cell:
    """A cell that is one line, without signs that are not printed."""
    return replace(cell, text=visible(cell.text).replace("\n", " "))


def _latex(sheet: Sheet) -> str:
    r"""With the package booktabs; bold = best gloss-free, underlined = best of all."""

    def shown(cell: Cell) -> str:
        text = _escaped(cell.text)
        text = rf"\underline{{{text}}}" if BEST in cell.marks else text
        text = rf"\textbf{{{text}}}" if BEST_GLOSS_FREE in cell.marks else text
        return rf"{text}$^\ddagger$" if DIFFERENT in cell.marks else text

    align = "".join("r" if is_numeric(sheet, place) else "l" for place in range(len(sheet.columns)))
    lines = [r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{{align}}}", r"\toprule"]
    lines.append(_latex_row(map(_escaped, sheet.columns)))
    for group in sheet.groups:
        lines.append(r"\midrule")
        lines += [_latex_row(map(shown, row)) for row in group]
    said = [
        sheet.title,
        *_typographic(sheet, r"\textbf{bold}", r"\underline{underlined}", r"$^\ddagger$"),
        *sheet.notes,
    ]
    caption = " ".join(f"{line.rstrip('.')}." for line in (_escaped_words(text) for text in said))
    lines += [
        r"\bottomrule",
        r"\end{tabular}",
        rf"\caption[{{{_escaped(sheet.title)}}}]{{{caption}}}",
        rf"\label{{tab:{_slug(sheet.title)}}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_row(texts: Iterable[str]) -> str:
    line = " & ".join(texts) + r" \\"
    # After the end of a row or a rule, these would be taken for its options.
    return f"{{}}{line}" if line[0] in "[*" else line


def _slug(title: str) -> str:
    """A title as the name of a label: ``slices-of-stage-2``."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _markdown(sheet: Sheet) -> str:
    def shown(cell: Cell) -> str:
        text = cell.text.replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")
        text = f"<ins>{text}</ins>" if BEST in cell.marks else text
        text = f"**{text}**" if BEST_GLOSS_FREE in cell.marks else text
        return text + (DIFFERENT if DIFFERENT in cell.marks else "")

    lines = [f"**{sheet.title}**", "", "| " + " | ".join(shown(Cell(name)) for name in sheet.columns) + " |"]
    lines.append(
        "|" + "|".join("---:" if is_numeric(sheet, place) else "---" for place in range(len(sheet.columns))) + "|"
    )
    lines += ["| " + " | ".join(map(shown, row)) + " |" for row in sheet.rows]
    said = [*_typographic(sheet, "**bold**", "<ins>underlined</ins>", DIFFERENT), *sheet.notes]
    return "\n".join([*lines, "", *(f"{line}  " for line in said)]).rstrip() + "\n"


def _csv(sheet: Sheet) -> str:
    """Values as printed, without marks; a column of marks and notes of the row at the end where there are any."""
    told = any(cell.marks or cell.note for row in sheet.rows for cell in row)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*sheet.columns, *(["marks"] if told else [])])
    for row in sheet.rows:
        marks = [
            f"{name}: {', '.join([*(LEGEND[mark] for mark in cell.marks), *([cell.note] if cell.note else [])])}"
            for name, cell in zip(sheet.columns, row, strict=True)
            if cell.marks or cell.note
        ]
        writer.writerow([*(_inert(cell.text) for cell in row), *(["; ".join(marks)] if told else [])])
    return file.getvalue()


def _inert(text: str) -> str:
    """A text that no spreadsheet takes for a formula; figures, with their interval or not, stay."""
    figure = re.fullmatch(r"[-+][\d.]+( \[[-+.,\d ]+\])?", text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) and not figure else text


def _typographic(sheet: Sheet, bold: str, underlined: str, different: str) -> list[str]:
    """The legend where marks are set in type."""
    signs = {BEST_GLOSS_FREE: bold, BEST: underlined, DIFFERENT: different}
    return [f"{signs[line[0]]} {line[2:]}" if line[:1] in signs and line[1:2] == " " else line for line in sheet.legend]


_SPECIAL = str.maketrans({
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar\allowbreak{}",
    "–": "--", "−": "$-$", "<": "$<$", ">": "$>$", "→": r"$\rightarrow$", "±": r"$\pm$", DIFFERENT: r"$^\ddagger$",
})  # fmt: skip
"""In one pass, so that nothing is escaped twice. What else stands in a word is left to inputenc or the font."""


def _escaped(text: str) -> str:
    return text.translate(_SPECIAL)


def _escaped_words(text: str) -> str:
    """A sentence that may begin with one of the commands of ``_typographic``."""
    if text.startswith(("\\textbf", "\\underline", "$^")):
        command, _, rest = text.partition(" ")
        return f"{command} {_escaped(rest)}"
    return _escaped(text)


def is_numeric(sheet: Sheet, place: int) -> bool:
    """Whether a column holds numbers, which are set flush right."""
    texts = [row[place].text for row in sheet.rows]
    return any(texts) and all(not text or text[0] in "0123456789+-−–<[" for text in texts)


def select(sheets: Sequence[Sheet], names: Sequence[str]) -> list[Sheet]:
    """The sheets of these names; all of them where none is named."""
    return [sheet for sheet in sheets if not names or sheet.name in names]
