"""When does the language model dominate? Factorised minus joint BLEU-4 over two axes, with the dominance probe on.

``python benchmarks/dominance_map.py CONFIG --x width --y clips --out runs/map --set ...`` trains a joint baseline and
a factorised translator in every cell, as ``slt ablate --table 4`` does, and writes ``map-<x>-<y>.json`` and ``.png``
below ``--out``. Stopped, it goes on where it was. Both sides of a cell have the config's recipe, and the joint side the
clip passes of both stages. Stage 1, extraction and the language models' pre-training are shared by all the cells that
they are the same in, so each further factorised cell costs stage 2 alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose extract.py would hide the package

import argparse
import json
import shlex
import statistics
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from extract.atomic_write import write_atomic
from extract.own_device import own_device
from pipeline.ablation.arm import Arm, arms
from pipeline.ablation.outcome import Outcome, measure
from pipeline.ablation.tables import OPTIONS_OFF, Row, Table, table
from pipeline.commands.arguments import open_run
from pipeline.experiment.progress_bars import Bars
from pipeline.experiment.config import Experiment
from pipeline.experiment.run import Run

Axis = Mapping[str, Mapping[str, Any]]
"""Label to what it changes in the config."""


def _widths(experiment: Experiment, values: list[str]) -> Axis:
    """Of the language model: d, with an FFN of 4 d."""
    shapes = {f"d {value}": int(value) for value in values}
    return {name: {"train.lm.model.d_model": d, "train.lm.model.ffn": 4 * d} for name, d in shapes.items()}


def _layers(experiment: Experiment, values: list[str]) -> Axis:
    """Of the language model's encoder and decoder."""
    return {f"{value}+{value} layers": {"train.lm.model.layers": int(value)} for value in values}


def _clips(experiment: Experiment, values: list[str]) -> Axis:
    """That training learns from."""
    return {f"{int(value):,} clips": {"train.clips": int(value)} for value in values}


def _text(experiment: Experiment, values: list[str]) -> Axis:
    """That the language model has learnt before: none, the train split's sentences, the config's text, or a file."""
    known: dict[str, tuple[str, dict[str, Any]]] = {
        "none": ("no pre-training", {"train.stage2.pretrained": False}),
        "train": ("the train split's text", {"train.lm.text": None}),
        "config": ("a text of its kind", {}),
    }
    return dict(known.get(value) or (Path(value).stem.replace("-", " "), {"train.lm.text": value}) for value in values)


def _rates(experiment: Experiment, values: list[str]) -> Axis:
    """Learning rate of the joint run's encoder, in multiples of the config's."""
    joint = experiment.train.joint
    assert joint is not None
    return {
        f"encoder rate x {value}": {"train.joint.encoder_learning_rate": float(value) * joint.encoder_learning_rate}
        for value in values
    }


def _lm_rates(experiment: Experiment, values: list[str]) -> Axis:
    """Learning rates of the language model on both sides, in its pre-training too, in multiples of the config's."""
    train = experiment.train
    assert train.lm is not None
    assert train.joint is not None
    learning = {"lm": train.lm, "stage2": train.stage2, "joint": train.joint}
    rates = {f"train.{name}.learning_rate": settings.learning_rate for name, settings in learning.items()}
    return {f"LM rates x {value}": {name: float(value) * rate for name, rate in rates.items()} for value in values}


def _options(experiment: Experiment, values: list[str]) -> Axis:
    """Beyond the paper, on both sides: those of the config, or none, where stage 1 has its warm-up's steps besides."""
    visual = experiment.train.stage1
    off = {f"train.{stage}.{name}": value for stage in ("stage1", "joint") for name, value in OPTIONS_OFF.items()}
    off |= {"train.stage1.warm_start": None}
    if visual.steps and visual.warmup and visual.warmup.steps:
        off |= {"train.stage1.steps": visual.steps + visual.warmup.steps}
    known: dict[str, tuple[str, dict[str, Any]]] = {"config": ("the config's options", {}), "none": ("no options", off)}
    return dict(known[value] for value in values)


AXES: dict[str, tuple[Callable[[Experiment, list[str]], Axis], str]] = {
    "width": (_widths, "128,256,512"),
    "layers": (_layers, "2,4,6"),
    "clips": (_clips, "300,1000,2400"),
    "text": (_text, "none,train,config"),
    "rates": (_rates, "0.1,1,10"),
    "lm-rates": (_lm_rates, "0.25,0.5,1"),
    "options": (_options, "none,config"),
}
"""How an axis changes the config, and its usual values."""
RATIO_TITLE, COST_TITLE = "LM / encoder gradient norm, joint", "seconds, joint / stage 2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    for name, usual in (("x", "width"), ("y", "clips")):
        parser.add_argument(f"--{name}", default=usual, choices=AXES)
        parser.add_argument(f"--{name}-values", help="separated by commas; default: the axis's own")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/map"))
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    given = parser.parse_args()
    if given.x == given.y:
        parser.error(f"--x and --y are both {given.x}: name two axes")
    base = open_run(given.config, None, given.overrides, None)
    x, y = (_axis(base.experiment, getattr(given, name), getattr(given, f"{name}_values")) for name in ("x", "y"))
    out, bars = given.out.absolute(), Bars()
    cells: dict[str, dict[str, Any]] = {}
    for down, changes in y.items():
        for right, further in x.items():
            cell = f"{right}, {down}"
            bars.say(f"[bold magenta]{cell}[/bold magenta]")
            asked = _cell(base.experiment, {**changes, **further})
            listed = arms(asked, base.experiment, range(given.seeds), out / "arms", base.manifest, base.beside)
            for arm in listed:
                bars.say(f"[bold cyan]{arm.row.name}, seed {arm.seed}[/bold cyan] in {arm.run.folder}")
                arm.run.execute(arm.stages, bars)
            outcome = measure(asked, listed, shlex.join(["python", *sys.argv]))
            cells[cell] = {"x": right, "y": down, **_found(outcome, listed)}
            found = {
                "command": outcome.command, "device": _device(), "dataset": outcome.dataset, "n": outcome.n,
                "cells": cells,
            }  # fmt: skip
            path = out / f"map-{given.x}-{given.y}.json"
            write_atomic(path, (json.dumps(found, indent=2) + "\n").encode())
            _draw(found, list(x), list(y), path.with_suffix(".png"))
            bars.say(f"  factorised - joint: {cells[cell]['difference']:+.2f} BLEU-4, in {path}")


def _axis(experiment: Experiment, name: str, values: str | None) -> Axis:
    make, usual = AXES[name]
    return make(experiment, (values or usual).split(","))


def _device() -> str:
    """Of this call; arms that were done before may come from elsewhere."""
    device = own_device()
    return torch.cuda.get_device_name() if device.type == "cuda" else device.type


def _cell(experiment: Experiment, changes: Mapping[str, Any]) -> Table:
    """Table 4 on the ground of a changed config."""
    joint, factorised = table("4", experiment).rows
    ours = {key: value for key, value in changes.items() if not key.startswith("train.joint.")}
    theirs = {key: value for key, value in changes.items() if key.startswith("train.joint.")}
    rows = (Row(joint.name, {**joint.changes, **ours, **theirs}, "joint"), Row(factorised.name, ours))
    return Table("4", "joint against factorised", rows, ((factorised.name, joint.name),))


def _found(outcome: Outcome, listed: list[Arm]) -> dict[str, Any]:
    joint, factorised = outcome.rows.values()
    ratios = {
        stage: [_dominance(arm.run, stage) for arm in listed if arm.row.measured == row]
        for stage, row in (("joint", "joint"), ("stage1", "stage2"))
    }
    told: dict[str, dict[str, Any]] = {}
    row_of = {"joint": "joint", "stage2": "stage2"}
    for name, row, stage in (("joint", joint, "joint"), ("factorised", factorised, "stage2")):
        told[name] = {
            "bleu4": [seed.bleu4 for seed in row.seeds.values()],
            "best_dev_bleu4": [_best_dev(arm.run, stage) for arm in listed if arm.row.measured == row_of[stage]],
            "cost": [seed.cost for seed in row.seeds.values()],
            "experiments": [seed.experiment for seed in row.seeds.values()],
            "predictions": [seed.predictions for seed in row.seeds.values()],
        }
    claim = outcome.claims[0]
    return {
        **told,
        "difference": claim.difference,
        "p_value": claim.p_value,
        "gradient_ratio": _mean(ratios["joint"]),
        "stage1_gradient_ratio": _mean(ratios["stage1"]),
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def _dominance(run: Run, stage: str) -> float | None:
    """Median over a stage's steps of the gradient norm of the language model's last layer (in stage 1: Light-T's) over
    the encoder's."""
    path = run.folder / "logs" / f"{stage}.dominance.parquet"
    if not path.is_file():
        return None
    rows = pq.read_table(path, columns=["step", "group", "gradient_norm"]).to_pylist()
    norms = {(row["step"], row["group"]): row["gradient_norm"] for row in rows}
    steps = {step for step, _ in norms}
    return float(np.median([norms[step, "lm.last"] / max(norms[step, "encoder.last"], 1e-12) for step in steps]))


def _best_dev(run: Run, stage: str) -> float | None:
    """The best dev BLEU-4 of a stage's log: what its checkpoint was chosen by."""
    log = json.loads((run.folder / "logs" / f"{stage}.json").read_text(encoding="utf-8"))
    return max((entry["eval_bleu4"] for entry in log if "eval_bleu4" in entry), default=None)


def _draw(found: Mapping[str, Any], x: list[str], y: list[str], path: Path) -> None:
    """Three maps: the difference, the gradient norms' ratio, and what joint training costs; of one row, lines."""
    from matplotlib.figure import Figure

    if len(y) == 1:
        _draw_row([cell for cell in found["cells"].values() if cell["x"] in x and cell["y"] in y], path)
        return
    figure = Figure(figsize=(4 + 2.6 * len(x), 1.6 + 0.6 * len(y)), layout="constrained")
    panels = [
        ("BLEU-4, factorised - joint", lambda cell: cell["difference"], "RdBu"),
        (RATIO_TITLE, lambda cell: cell["gradient_ratio"], "Purples"),
        (COST_TITLE, _saving, "Greens"),
    ]
    for axes, (title, value, colours) in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
        values = np.full((len(y), len(x)), np.nan)
        for cell in found["cells"].values():
            if cell["x"] in x and cell["y"] in y and value(cell) is not None:
                values[y.index(cell["y"]), x.index(cell["x"])] = value(cell)
        most = 1.6 * max(1.0, np.nanmax(np.abs(values)))  # pale enough for the figures
        axes.imshow(values, cmap=colours, vmin=-most if colours == "RdBu" else 0, vmax=most, aspect="auto")
        for (down, right), one in np.ndenumerate(values):
            if np.isfinite(one):
                axes.text(right, down, f"{one:+.1f}" if colours == "RdBu" else f"{one:.3g}", ha="center", va="center")
        axes.set_xticks(range(len(x)), x)
        axes.set_yticks(range(len(y)), y)
        axes.set_title(title, fontsize=9)
    figure.savefig(path, dpi=120)


def _draw_row(cells: list[Mapping[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3), layout="constrained")
    figure.suptitle(cells[0]["y"], fontsize=9)
    names = [textwrap.fill(cell["x"], 13) for cell in cells]
    scores, ratios, seconds = figure.subplots(1, 3)
    for side, colour in (("joint", "tab:red"), ("factorised", "tab:blue")):
        scores.plot(names, [statistics.fmean(cell[side]["bleu4"]) for cell in cells], "o-", color=colour, label=side)
    scores.legend()
    ratios.plot(names, [cell["gradient_ratio"] for cell in cells], "o-", color="tab:purple")
    ratios.axhline(1, color="grey", linewidth=0.8, linestyle="--")
    seconds.bar(names, [_saving(cell) for cell in cells], color="tab:green")
    for axes, title in ((scores, "BLEU-4"), (ratios, RATIO_TITLE), (seconds, COST_TITLE)):
        axes.set_title(title, fontsize=9)
        axes.tick_params(axis="x", labelsize=8)
        axes.margins(x=0.12)
    figure.savefig(path, dpi=120)


def _saving(cell: Mapping[str, Any]) -> float:
    """Seconds of the joint run over those of stage 2, which is all that a further language model costs."""
    joint = statistics.fmean(sum(stage["seconds"] for stage in cost.values()) for cost in cell["joint"]["cost"])
    return joint / statistics.fmean(cost["stage2"]["seconds"] for cost in cell["factorised"]["cost"])


if __name__ == "__main__":
    main()
