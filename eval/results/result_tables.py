"""The tables of results: scores, published results, comparisons, slices."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from eval.results.comparison import Comparison
from eval.results.controls import CONTROL_NOTE, CONTROLS, SHUFFLES, controlled
from eval.results.published import PublishedRow, published
from eval.results.scores import ROW_LABELS, Interval, Score
from eval.results.slices import Slices, SystemSlices
from eval.results.table_formats import BEST, BEST_GLOSS_FREE, DIFFERENT, Cell, Sheet, cells

COMPARISON_NOTE = (
    "Published rows are test-set results as the papers give them. "
    "Metric implementations and text conventions differ between papers: compare with care."
)
METRICS = ("ROUGE", "B1", "B2", "B3", "B4")
FURTHER = ("chrf", "wer")
INTERVAL_NOTE = "± half the width of the 95 % bootstrap interval of BLEU-4."
SLICE_NOTE = "A slice of few clips says little: see its interval."
TOP = 10
"""Confusions and numbers of each kind in a table; the file has more."""
NAMES = {"bleu4": "BLEU-4", "rouge": "ROUGE-L", "chrf": "chrF"}


def ordered_rows(scores: Mapping[str, Score]) -> list[tuple[str, Score]]:
    """(label, score) of each row: the pipeline's rows in their fixed order, then any others as they come."""
    names = [name for name in ROW_LABELS if name in scores] + [name for name in scores if name not in ROW_LABELS]
    return [(ROW_LABELS.get(name, name), scores[name]) for name in names]


def score_sheet(scores: Mapping[str, Score]) -> Sheet:
    """Our rows: every metric, half of BLEU-4's interval and the number of clips, with every signature in the notes."""
    entries = [entry for _, entry in ordered_rows(scores)]
    intervals = any("bleu4" in entry.intervals for entry in entries)
    further = [name for name in FURTHER if any(getattr(entry, name) is not None for entry in entries)]
    more = list(dict.fromkeys(name for entry in entries for name in entry.more))
    columns = ("system", *METRICS, *(["±"] if intervals else []),
               *({"chrf": "chrF", "wer": "WER"}[name] for name in further), *more, "n")  # fmt: skip
    rows = tuple(
        cells(
            label,
            *(two_decimals(value) for value in values_of(entry)),
            *([half_width(entry.intervals.get("bleu4"))] if intervals else []),
            *(two_decimals(getattr(entry, name)) for name in further),
            *(two_decimals(entry.more.get(name)) for name in more),
            str(entry.n),
        )
        for label, entry in ordered_rows(scores)
    )
    notes = (*signatures(scores), *([INTERVAL_NOTE] if intervals else []), *control_note(scores))
    return Sheet("scores", "Scores", columns, (rows,), notes)


def published_sheet(dataset: str, scores: Mapping[str, Score]) -> Sheet:
    """Published systems with ours among them: the paper's table with ours at its end, then newer systems.

    The best gloss-free figure and the best of all are marked in each column. A figure of another metric than ours is
    marked too and is neither: which metric a row has is known where its code is published.
    """
    ours = {name: entry for name, entry in scores.items() if name not in (*CONTROLS, "stage1")}
    listed = published(dataset)
    paper = [row for row in listed if not row.newer]
    groups = [
        [_published(row, ours) for row in paper if not row.gloss_free],
        [_published(row, ours) for row in paper if row.gloss_free],
        [row for name, entry in ours.items() for row in _ours(name, entry)],
        [_published(row, ours) for row in listed if row.newer],
    ]
    columns = ("system", "year", "gloss-free", *METRICS)
    for place in range(len(columns) - len(METRICS), len(columns)):
        _mark_best(groups, place)
    shown = tuple(tuple(tuple(row) for row in group) for group in groups if group)
    return Sheet("published", f"Published results on {dataset}", columns, shown, (COMPARISON_NOTE,))


def difference_sheet(comparison: Comparison) -> Sheet:
    """Each system's differences from the baseline."""
    groups = tuple(
        tuple(
            cells(label, NAMES[metric], two_decimals(found.score), f"{found.difference:+.2f}",
                  f"[{found.low:+.2f}, {found.high:+.2f}]", p_value(found.p_value) + (" ?" if doubt else ""))
            for metric, found in metrics.items()
        )
        for label, doubt, metrics in (
            (ROW_LABELS.get(name, name), comparison.doubts.get(name), found)
            for name, found in comparison.systems.items()
        )
    )  # fmt: skip
    test = {"bootstrap": "paired bootstrap resampling", "randomisation": "paired approximate randomisation"}
    baseline = ROW_LABELS.get(comparison.baseline or "", comparison.baseline)
    how = f"{test[comparison.test]}, {comparison.samples} samples, seed {comparison.seed}, as sacreBLEU"
    notes = (
        f"Differences from {baseline} on {comparison.n} clips; 95 % of the paired resamples. p: {how}.",
        *(f"? {ROW_LABELS.get(name, name)}: {doubt}" for name, doubt in comparison.doubts.items()),
    )
    columns = ("system", "metric", "score", "difference", "95 %", "p")
    return Sheet("comparison", f"Against {baseline}", columns, groups, notes)


def grounding_sheet(comparison: Comparison) -> Sheet | None:
    """Does it look? None where that was not measured."""
    found = comparison.grounding
    if found is None:
        return None
    row = cells(ROW_LABELS.get(found.system, found.system), two_decimals(found.right_clip),
                two_decimals(found.other_clip), two_decimals(found.text_prior), two_decimals(found.constant),
                f"{found.difference:+.2f}", f"[{found.low:+.2f}, {found.high:+.2f}]")  # fmt: skip
    note = (
        "BLEU-4 with a clip's own features minus that of the strongest control, here "
        f"{ROW_LABELS[found.control]}: what is owed to the video."
    )
    columns = ("system", "right clip", "other clips", "text prior", "constant", "grounding", "95 %")
    return Sheet("grounding", "Does it look?", columns, ((row,),), (note,))


def slice_sheets(slices: Slices) -> list[Sheet]:
    """Of each system: scores by slice; words, confusions and numbers."""
    sheets = []
    for name, found in slices.systems.items():
        label = ROW_LABELS.get(name, name)
        groups = tuple(
            tuple(
                cells(kind, part.label, str(part.n), two_decimals(part.bleu4), spread(part.intervals.get("bleu4")),
                      two_decimals(part.rouge), two_decimals(part.chrf))
                for part in parts
            )
            for kind, parts in found.slices.items()
        )  # fmt: skip
        columns = ("by", "slice", "clips", "BLEU-4", "95 %", "ROUGE-L", "chrF")
        sheets.append(Sheet("slices", f"Slices of {label}", columns, groups, (SLICE_NOTE,)))
        sheets.append(_words_sheet(label, found))
    return sheets


def _words_sheet(label: str, found: SystemSlices) -> Sheet:
    words, numbers = found.words, found.numbers
    recalls = [
        cells("recall of content words", str(words.n_content), two_decimals(words.content_recall)),
        *(cells(f"… in train {part.label} times" if part.label[0].isdigit() else f"… {part.label} in train",
                str(part.n), two_decimals(part.recall)) for part in words.by_frequency),
        cells("recall of numbers", str(numbers.n_reference), two_decimals(numbers.recall)),
        cells("precision of numbers", str(numbers.n_hypothesis), two_decimals(numbers.precision)),
    ]  # fmt: skip
    lists = [
        *(cells(f"confused: {one.reference} → {one.hypothesis}", str(one.count), "") for one in found.confusions[:TOP]),
        *(cells(f"hallucinated: {one.token}", str(one.count), "") for one in numbers.hallucinated[:TOP]),
        *(cells(f"dropped: {one.token}", str(one.count), "") for one in numbers.dropped[:TOP]),
    ]
    groups = tuple(group for group in (tuple(recalls), tuple(lists)) if group)
    return Sheet("words", f"Words of {label}", ("what", "n", "%"), groups)


def values_of(entry: Score) -> tuple[float, float, float, float, float]:
    """A score's numbers in the order of the columns: ROUGE, BLEU-1..4."""
    return entry.rouge, entry.bleu1, entry.bleu2, entry.bleu3, entry.bleu4


def two_decimals(value: float | None) -> str:
    """A number as papers print it; a dash where none is reported."""
    return "–" if value is None else f"{value:.2f}"


def spread(interval: Interval | None) -> str:
    """An interval as papers print it."""
    return "–" if interval is None else f"[{interval.low:.2f}, {interval.high:.2f}]"


def half_width(interval: Interval | None) -> str:
    """Half of an interval's width, as sacreBLEU prints it after ±."""
    return "–" if interval is None else f"{(interval.high - interval.low) / 2:.2f}"


def p_value(value: float) -> str:
    """To three decimals; never 0, which no test can give."""
    return "<0.001" if value < 0.0005 else f"{value:.3f}"


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
    system = controlled(scores)
    if system is None or not any(name in scores for name in CONTROLS):
        return []
    return [CONTROL_NOTE.format(system=ROW_LABELS.get(system, system), shuffles=SHUFFLES)]


def _ours(name: str, entry: Score) -> list[list[Cell]]:
    label = f"ours, {ROW_LABELS[name]}" if name in ROW_LABELS else f"ours, {name}"
    # Of somebody's predictions nobody says whether glosses were used.
    described = (label, "", "yes" if name in ROW_LABELS else "")
    rows = [list(cells(*described, *map(two_decimals, values_of(entry))))]
    if entry.other_dot:
        dot = "without" if entry.final_dot == "with" else "with"
        values = [Cell(two_decimals(value), DIFFERENT) for value in entry.other_dot.values()]
        rows.append([Cell(f"{label}, {dot} final dot"), *cells(*described[1:]), *values])
    return rows


def _published(row: PublishedRow, ours: Mapping[str, Score]) -> list[Cell]:
    reasons = {"rouge": set[str](), "bleu": set[str]()}
    for entry in ours.values():
        tokenizer, flavour = _metrics_of(entry)
        if row.rouge_metric and row.rouge_metric != flavour:
            reasons["rouge"].add(f"ROUGE-L of {row.rouge_metric}")
        if row.bleu_metric and row.bleu_metric != tokenizer:
            reasons["bleu"].add(f"BLEU with tokenizer {row.bleu_metric}")
        if entry.final_dot and row.final_dot and row.final_dot != entry.final_dot:
            for said in reasons.values():
                said.add(f"{row.final_dot} final dot")
    values = [Cell(two_decimals(row.rouge)), *(Cell(two_decimals(value)) for value in row.bleu)]
    for place, cell in enumerate(values):
        why = ", ".join(sorted(reasons["bleu" if place else "rouge"]))
        if why and cell.text != "–":
            values[place] = replace(cell, marks=DIFFERENT, note=why)
    system = Cell(row.system, note=row.note or "")
    return [system, Cell(str(row.year)), Cell("yes" if row.gloss_free else "no"), *values]


def _metrics_of(entry: Score) -> tuple[str, str]:
    """The tokenizer of BLEU and the flavour of ROUGE-L that a signature names."""
    tokenizer = re.search(r"\btok:([^|]+)", entry.signature)
    flavour = re.search(r"\brougeL:([^|]+)", entry.signature)
    named = flavour[1] if flavour else ""
    return tokenizer[1] if tokenizer else "", "coco" if named == "beta1.2" else named


def _mark_best(groups: Sequence[list[list[Cell]]], place: int) -> None:
    rows = [row for group in groups for row in group if row[place].text != "–" and DIFFERENT not in row[place].marks]
    for mark, chosen in ((BEST_GLOSS_FREE, [row for row in rows if row[2].text == "yes"]), (BEST, rows)):
        best = max((float(row[place].text) for row in chosen), default=None)
        for row in chosen:
            if float(row[place].text) == best:
                row[place] = replace(row[place], marks=row[place].marks + mark)
