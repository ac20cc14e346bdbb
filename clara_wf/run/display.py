"""How a run looks in a terminal: progress on standard error, the result on standard output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from clara_wf.engines.engine import ENDED, StageStatus, State
from stages.runtime.logs import printable
from stages.volume.wording import volume_text

if TYPE_CHECKING:
    from clara_wf.report.job_report import JobReport

_MANY_FILES = 5
_STYLES: dict[State, str] = {
    "starting": "dim",
    "pending": "yellow",
    "waiting": "dim",
    "working": "bold cyan",
    "done": "green",
    "kept": "green",
    "failed": "bold red",
    "stopped": "yellow",
}


class LiveProgress:
    """The stages of a running workflow: a table that refreshes, or one line an event without a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Any = None
        self._seen: dict[str, State] = {}
        self._told = ""

    def __enter__(self) -> LiveProgress:
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(console=self._console, transient=True, refresh_per_second=10)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def print_line(self, line: str) -> None:
        """Print a line above the table.

        Parameters
        ----------
        line
            The line.
        """
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def update(self, statuses: list[StageStatus]) -> None:
        """Show the status of every stage.

        Parameters
        ----------
        statuses
            The status of each stage.
        """
        why = next((status.message for status in statuses if status.state == "pending"), "")
        if self._live is not None:
            self._live.update(Group(stage_table(statuses), Text(why, style=_STYLES["pending"])))
            return
        for status in statuses:
            if self._seen.get(status.name) != status.state:
                self._seen[status.name] = status.state
                after = f" after {status.seconds:.1f} s" if status.state in ENDED - {"kept"} else ""
                self.print_line(f"{status.name}: {status.state}{after}")
        if why and why != self._told:
            self.print_line(why)
        self._told = why


def stage_table(statuses: list[StageStatus]) -> Table:
    """Return stage, state, time and peak memory as a table.

    Parameters
    ----------
    statuses
        The status of each stage.
    """
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("stage")
    table.add_column("state")
    table.add_column("time", justify="right")
    table.add_column("peak memory", justify="right")
    for status in statuses:
        measured = status.state not in ("kept", "starting", "pending", "waiting")
        table.add_row(
            status.name,
            Text(status.state, style=_STYLES[status.state]),
            f"{status.seconds:.1f} s" if measured else "-",
            f"{status.peak_memory_bytes / 2**20:.0f} MiB" if status.peak_memory_bytes else "-",
        )
    return table


def _results(paths: Sequence[str]) -> Iterator[str]:
    """Yield one line a file, or a folder where it holds many, such as a series."""
    for folder, files in groupby(paths, key=lambda path: str(Path(path).parent)):
        inside = list(files)
        shown = inside if len(inside) <= _MANY_FILES else [f"{folder} ({len(inside)} files)"]
        yield from map(printable, shown)


def print_report(console: Console, report: JobReport, statuses: list[StageStatus]) -> None:
    """Print what a job gave.

    Parameters
    ----------
    console, report, statuses
        Where to print, the report and the status of each stage.
    """
    console.print(stage_table(statuses))
    console.print()
    width = max((len(finding.name) for finding in report.findings), default=0)
    for finding in report.findings:
        agreement = "" if finding.dice is None else f"   Dice {finding.dice:.3f} against the truth"
        line = f"{finding.name:<{width}}{volume_text(finding.volume_ml):>12}{agreement}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for warning in report.warnings:
        console.print(Text(f"warning {printable(warning)}", style="yellow"), soft_wrap=True)
    for line in _results(report.results):
        console.print(f"result  {line}", highlight=False, soft_wrap=True)
    if report.picture:
        console.print(f"picture {report.picture}", highlight=False, soft_wrap=True)
    if report.page:
        console.print(f"page    {report.page}", highlight=False, soft_wrap=True)
    if report.succeeded and all(status.state == "kept" for status in statuses):
        console.print("every stage had finished before with the same input; --fresh runs them again")
