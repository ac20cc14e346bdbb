"""Print a table of what tests have run of each package, and of the rooms where nothing may be missing.

``coverage_table.py FILE``: FILE is what ``coverage json`` wrote. See ``scripts/coverage``.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PACKAGES = (
    *("stages", "dicom_files", "dicom_reader", "ai_livertumor", "dicom_writer"),
    *("clara_wf", "dicom_adapter", "phantoms"),
)
WHOLE = (
    "stages/volume/geometry",
    "stages/lifecycle/locks",
    "stages/runtime/file_lock",
    "dicom_reader/slices",
    "dicom_reader/series",
)
"""Where each branch is to be run: what decides whether a volume is refused, and what a lock says."""


def main(file: str) -> None:
    """Print the table."""
    files: dict[str, Any] = json.loads(Path(file).read_text(encoding="utf-8"))["files"]
    sys.stdout.write("| package or room | lines | run | branches | run |\n|---|--:|--:|--:|--:|\n")
    for place in (*PACKAGES, *WHOLE):
        sys.stdout.write(_row(f"`{place}`", _total(files, [place])))
    sys.stdout.write(_row("all", _total(files, PACKAGES)))


def _total(files: Mapping[str, Any], places: Iterable[str]) -> Counter[str]:
    """Return the sums of the files below some places."""
    total: Counter[str] = Counter()
    for path, found in files.items():
        if any(path.startswith((f"{place}/", f"{place}.", f"{place}_")) for place in places):
            total.update({key: value for key, value in found["summary"].items() if isinstance(value, int)})
    return total


def _row(name: str, total: Mapping[str, int]) -> str:
    lines = _percent(total["covered_lines"], total["num_statements"])
    branches = _percent(total["covered_branches"], total["num_branches"])
    return f"| {name} | {total['num_statements']} | {lines} | {total['num_branches']} | {branches} |\n"


def _percent(part: int, whole: int) -> str:
    """Return a percentage that is 100 only where nothing is missing."""
    return f"{int(1000 * part / whole) / 10:g} %" if whole else "-"


if __name__ == "__main__":
    main(sys.argv[1])
