"""The stage that writes the report, one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from extract.fingerprint import file_sha256
from pipeline.experiment.freshness import deciding
from pipeline.experiment.run import Run
from pipeline.experiment.task import Result, Task
from pipeline.stages.table_rows import scored_rows


def report_inputs(run: Run) -> Mapping[str, Any]:
    return {"report": deciding(run.experiment.report), "score": deciding(run.scoring)}


def run_report(run: Run, task: Task, stages: Sequence[str]) -> Result:
    """``report.html``."""
    from pipeline.report_page.page_content import write_page

    path = write_page(run, scored_rows(run.experiment), stages)
    return Result([path], file_sha256(path), f"{path}")
