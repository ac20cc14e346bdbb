"""Print docs/reference/cli.md: what ``--help`` says of every command."""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
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
    "pull",
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
    ("clara-wf", ["clara_wf"]),
    *((f"clara-wf {name}", ["clara_wf", *name.split()]) for name in CLARA_WF),
    ("python -m dicom_reader", ["dicom_reader"]),
    ("python -m ai_livertumor", ["ai_livertumor"]),
    ("python -m dicom_writer", ["dicom_writer"]),
)


def main() -> None:
    """Ask every command for its help and print one page."""
    os.environ.update({"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"})
    page = ["# Command line", "", "Made by `scripts/cli_reference.py` from `--help`; checked by a test.", ""]
    for title, arguments in COMMANDS:
        page += [f"## {title}", "", "```text", _help(arguments), "```", ""]
    sys.stdout.write("\n".join(page))


def _help(arguments: list[str]) -> str:
    """Return what ``python -m`` of a package and its arguments prints, asked for its help."""
    package, *more = arguments
    sys.argv = [package, *more, "--help"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        runpy.run_module(package, run_name="__main__", alter_sys=True)
    return re.sub(r"[ \t]+$", "", printed.getvalue().strip(), flags=re.MULTILINE)


if __name__ == "__main__":
    main()
