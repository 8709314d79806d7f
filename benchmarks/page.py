"""docs/benchmarks.md from the results in docs/benchmarks/*.json; each benchmark calls it when it has measured.

python benchmarks/page.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path("docs/benchmarks")
INTRODUCTION = """# Benchmarks

Run by hand, results committed with the command that made them. Contenders take turns in one run, round by round, and
medians count: machines are noisy, so ratios say more than seconds. This page is written from `docs/benchmarks/*.json`.
"""


def write_report(report: dict[str, Any], path: Path) -> None:
    """A benchmark's result beside the others, and the page anew.

    Args:
        report: ``title``, ``command``, ``machine``, ``figures`` (name to number), ``ratios`` (name to number) and
            ``wanted`` (name of a ratio to the bound that it must keep, in words); ``notes``, sentences, where there are
            some.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    if path.parent == FOLDER:
        write_page()


def write_page() -> None:
    sections = [INTRODUCTION]
    for path in sorted(FOLDER.glob("*.json")):
        report = json.loads(path.read_text())
        wanted = report.get("wanted", {})
        lines = [f"## {report['title']}", "", f"`{report['command']}` on {report['machine']}", ""]
        lines += ["| figure | measured |", "|---|---|"]
        figures = {name: value for name, value in report["figures"].items() if isinstance(value, int | float)}
        lines += [f"| {name.replace('_', ' ')} | {_number(value)} |" for name, value in figures.items()]
        lines += ["", "| ratio | measured | wanted |", "|---|---|---|"]
        lines += [
            f"| {name.replace('_', ' ')} | {_number(value)} | {wanted.get(name, '')} |"
            for name, value in report["ratios"].items()
        ]
        lines += [line for note in report.get("notes", []) for line in ("", note)]
        sections.append("\n".join(lines) + "\n")
    FOLDER.with_suffix(".md").write_text("\n".join(sections))


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    write_page()
