"""Print docs/reference/cli.md: what ``--help`` says of every command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLARA_WF = (
    "init",
    "cs",
    "new",
    "list",
    "show",
    "lint",
    "plan",
    "test",
    "serve",
    "status",
    "logs",
    "publish",
    "unpublish",
    "doctor",
    "env",
    "help",
    "models list",
    "models check",
    "models add",
    "adapter",
    "adapter status",
    "adapter dead-letters",
    "adapter replay",
    "adapter commit",
    "adapter release",
    "adapter audit",
    "adapter rebuild",
    "adapter health",
    "adapter echo",
)
COMMANDS = (
    ("clara-wf", ["-m", "clara_wf"]),
    *((f"clara-wf {name}", ["-m", "clara_wf", *name.split()]) for name in CLARA_WF),
    ("python -m dicom_reader", ["-m", "dicom_reader"]),
    ("python -m ai_livertumor", ["-m", "ai_livertumor"]),
    ("python -m dicom_writer", ["-m", "dicom_writer"]),
)


def main() -> None:
    """Ask every command for its help and print one page."""
    page = ["# Command line", "", "Made by `scripts/cli_reference.py` from `--help`; checked by a test.", ""]
    for title, arguments in COMMANDS:
        page += [f"## {title}", "", "```text", _help(arguments), "```", ""]
    sys.stdout.write("\n".join(page))


def _help(arguments: list[str]) -> str:
    environ = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *arguments, "--help"], env=environ, capture_output=True, text=True, check=True
    )
    return re.sub(r"[ \t]+$", "", done.stdout.strip(), flags=re.MULTILINE)


if __name__ == "__main__":
    main()
