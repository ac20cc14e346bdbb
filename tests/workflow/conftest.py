"""The whole road as a user runs it, in a payload folder of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
LAUNCHER = ROOT / "clara-reference-workflows/clara-wf"
LIVER_SEG = "fd3ee8bf-b9f3-4808-bd60-243f870ff9bd"

Run = Callable[..., SimpleNamespace]


def clara_wf(*arguments: object, launcher: bool = False) -> SimpleNamespace:
    """Run clara-wf to its end; `report` is what ``--json`` printed."""
    command = [str(LAUNCHER)] if launcher else [sys.executable, "-m", "clara_wf"]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    report = json.loads(done.stdout) if done.stdout.startswith("{") else None
    return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr, report=report)


@pytest.fixture(scope="session")
def main_job(tmp_path_factory) -> SimpleNamespace:
    """The README's main job, by its launcher."""
    payloads = tmp_path_factory.mktemp("main") / "payloads"
    done = clara_wf("test", LIVER_SEG, "--json", "--payloads", payloads, launcher=True)
    assert done.code == 0, done.err
    return SimpleNamespace(report=done.report, err=done.err, payload=Path(done.report["payload"]))
