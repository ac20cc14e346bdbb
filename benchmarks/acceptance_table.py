"""What `gpu_acceptance` prints: a line a check, and which of them have failed."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Table:
    """What is printed: a line a check.

    Parameters
    ----------
    counts_time
        Whether a missed time is a failure.
    """

    counts_time: bool
    failed: list[str] = field(default_factory=list)

    def row(
        self,
        name: str,
        *,
        host_ms: float | None = None,
        device_ms: float | None = None,
        wanted_ms: float | None = None,
        difference: str = "",
        agrees: bool = True,
    ) -> None:
        """Print a line, and remember whether it is good."""
        late = device_ms is not None and wanted_ms is not None and device_ms > wanted_ms
        verdict = "WRONG" if not agrees else "LATE" if late else "ok"
        if not agrees or (late and self.counts_time):
            self.failed.append(name)
        times = f"{_ms(host_ms)} {_ms(device_ms)} {_ms(wanted_ms)}"
        print(f"{name:40s} {times}   {difference:34s} {verdict}", flush=True)

    def head(self) -> None:
        """Print the names of the columns."""
        print(f"{'':40s} {'host ms':>9s} {'device ms':>9s} {'wanted':>9s}   difference")


def _ms(value: float | None) -> str:
    return f"{'' if value is None else format(value, '.2f'):>9s}"
