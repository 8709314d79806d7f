"""Score tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from eval.published import published
from eval.scores import CONTROL_NOTE, CONTROLS, ROW_LABELS, Score

COMPARISON_NOTE = (
    "Published rows are test-set results as the papers give them. "
    "Metric implementations and text conventions differ between papers: compare with care."
)
METRICS = ("ROUGE", "B1", "B2", "B3", "B4")


def ordered_rows(scores: Mapping[str, Score]) -> list[tuple[str, Score]]:
    """(label, score) of each row: the pipeline's rows in their fixed order, then any others as they come."""
    names = [name for name in ROW_LABELS if name in scores] + [name for name in scores if name not in ROW_LABELS]
    return [(ROW_LABELS.get(name, name), scores[name]) for name in names]


def score_table(scores: Mapping[str, Score]) -> Table:
    """Our rows: ROUGE, BLEU-1..4 and the number of clips, with every signature in the caption."""
    table = Table(title="Scores", title_justify="left", caption_justify="left")
    table.add_column("system")
    for metric in (*METRICS, "n"):
        table.add_column(metric, justify="right")
    for label, entry in ordered_rows(scores):
        table.add_row(Text(label), *(two_decimals(value) for value in values_of(entry)), str(entry.n))
    table.caption = Text("\n".join([*signatures(scores), *control_note(scores)]))
    return table


def comparison_table(dataset: str, scores: Mapping[str, Score]) -> Table:
    """Published systems on the dataset in order of publication, then our stage 2 where it has been scored."""
    table = Table(title=Text(f"Published results on {dataset}"), title_justify="left", caption_justify="left")
    table.add_column("system")
    table.add_column("year", justify="right")
    table.add_column("gloss-free", justify="center")
    for metric in METRICS:
        table.add_column(metric, justify="right")
    for row in published(dataset):
        numbers = (two_decimals(value) for value in (row.rouge, *row.bleu))
        table.add_row(Text(row.system), str(row.year), "yes" if row.gloss_free else "no", *numbers)
    if "stage2" in scores:
        table.add_section()
        numbers = (two_decimals(value) for value in values_of(scores["stage2"]))
        table.add_row("ours, stage 2", "", "yes", *numbers, style="bold")
    table.caption = Text(COMPARISON_NOTE)
    return table


def values_of(entry: Score) -> tuple[float, float, float, float, float]:
    """A score's numbers in the order of the columns: ROUGE, BLEU-1..4."""
    return entry.rouge, entry.bleu1, entry.bleu2, entry.bleu3, entry.bleu4


def two_decimals(value: float | None) -> str:
    """A number as papers print it; a dash where none is reported."""
    return "–" if value is None else f"{value:.2f}"


def signatures(scores: Mapping[str, Score]) -> list[str]:
    """The signature of all rows, or, where they differ, each with the rows it belongs to."""
    rows_of: dict[str, list[str]] = {}
    for label, entry in ordered_rows(scores):
        rows_of.setdefault(entry.signature, []).append(label)
    if len(rows_of) == 1:
        return list(rows_of)
    return [f"{', '.join(labels)}: {signature}" for signature, labels in rows_of.items()]


def control_note(scores: Mapping[str, Score]) -> list[str]:
    """The note on the control rows, where the table has one."""
    return [CONTROL_NOTE] if any(name in scores for name in CONTROLS) else []
