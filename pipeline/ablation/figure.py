"""The picture of an ablation: every seed's BLEU-4, beside the paper's."""

from __future__ import annotations

from pathlib import Path

from extract.atomic_write import replacing
from pipeline.ablation.outcome import Outcome


def draw(outcome: Outcome, path: Path) -> Path:
    """One line per row: a dot per seed, their mean as a bar; at the right the paper's figures, where it has them."""
    from matplotlib.figure import Figure

    names = list(outcome.rows)
    papers = [row.paper for row in outcome.rows.values()]
    told = any(paper is not None for paper in papers)
    figure = Figure(figsize=(9 if told else 6, 1.3 + 0.4 * len(names)), layout="constrained")
    axes = figure.subplots(1, 2 if told else 1, sharey=True, squeeze=False)[0]
    places = range(len(names))
    ours, *theirs = axes
    ours.barh(places, [row.mean["bleu4"] for row in outcome.rows.values()], color="#9ecae1", height=0.6)
    for place, row in zip(places, outcome.rows.values(), strict=True):
        ours.plot([seed.bleu4 for seed in row.seeds.values()], [place] * len(row.seeds), "o", color="#08519c", ms=4)
    ours.set_yticks(places, names)
    ours.invert_yaxis()
    seeds = f"{len(outcome.seeds)} seeds" if len(outcome.seeds) > 1 else "1 seed"
    ours.set_title(f"{outcome.dataset}, {seeds}, {outcome.n} test clips", fontsize=10)
    for paper in theirs:
        paper.barh(places, [value or 0.0 for value in papers], color="#d9d9d9", height=0.6)
        paper.set_title("the paper, PHOENIX14T", fontsize=10)
    for one in axes:
        one.set_xlabel("BLEU-4")
        one.spines[["top", "right"]].set_visible(False)
    figure.suptitle(outcome.title, fontsize=11)
    with replacing(path) as new:
        figure.savefig(new, dpi=120)
    return path
