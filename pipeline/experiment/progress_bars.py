"""Progress: bars with the time left on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.errors import MarkupError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from extract.errors import visible

if TYPE_CHECKING:
    from extract.jobs import job_account

Tick = Callable[..., None]
"""Called with done and total, and optionally a mapping of figures to show."""

LOG_SECONDS = 20.0


class Bars:
    """One bar at a time on standard error."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)

    @contextmanager
    def bar(self, name: str, unit: str) -> Iterator[Tick]:
        """A bar that closes with the block; yields the function that moves it."""
        draw = self._live if self.console.is_terminal else self._logged
        with draw(name, unit) as tick:
            yield tick

    def say(self, text: str) -> None:
        """A line, with rich's markup where it can be read as such: names in it may look like some."""
        text = visible(text)
        try:
            line = Text.from_markup(text)
        except MarkupError:
            line = Text(text)
        self.console.print(line, highlight=False)

    @contextmanager
    def _live(self, name: str, unit: str) -> Iterator[Tick]:
        columns = (
            TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[figures]}"),
        )  # fmt: skip
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(name, total=None, figures="")

            def tick(done: int, total: int, figures: Mapping[str, float] | None = None) -> None:
                progress.update(task, completed=done, total=total, figures=_shown(figures))

            yield tick

    @contextmanager
    def _logged(self, name: str, unit: str) -> Iterator[Tick]:
        started = said = time.monotonic()
        first: int | None = None  # what an earlier run has done took no time in this one

        def tick(done: int, total: int, figures: Mapping[str, float] | None = None) -> None:
            nonlocal said, first
            now = time.monotonic()
            first = done - 1 if first is None else first
            if now - said >= LOG_SECONDS:
                said = now
                left = (now - started) / max(done - first, 1) * (total - done)
                self.say(f"  {name}: {done}/{total} {unit}, {left:.0f} s left {_shown(figures)}".rstrip())

        yield tick
        self.say(f"  {name}: {time.monotonic() - started:.0f} s")


def follow(tick: Tick) -> Callable[[job_account.Progress], None]:
    """What a job calls after each block, to move a bar."""

    def show(progress: job_account.Progress) -> None:
        rates = {"clips/s": progress.clips_per_second, "frames/s": progress.frames_per_second}
        shares = {f"{step} %": 100 * share for step, share in progress.shares.items()}
        failed = {f"failed ({kind})": float(n) for kind, n in progress.failed.items()}
        tick(progress.done, progress.total, {**rates, **shares, **failed})

    return show


def follow_looks(tick: Tick) -> Callable[[job_account.Progress], None]:
    """What the index job calls after each block, to move a bar of frame folders and videos."""

    def show(progress: job_account.Progress) -> None:
        bad = {f"unreadable ({kind})": float(n) for kind, n in progress.failed.items()}
        tick(progress.done, progress.total, bad)

    return show


def _shown(figures: Mapping[str, float] | None) -> str:
    return "  ".join(f"{name} {value:.3g}" for name, value in (figures or {}).items())
