"""Time the README's main job, cold and warm: ``python benchmarks/main_job.py [--warm N]``.

Cold: an empty cache and no test data, so environment, model server and phantom are made. Warm: every
stage again with all of that there. The stages' own times come from the report.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAUNCHER = ROOT / "clara-reference-workflows/clara-wf"
WORKFLOW = "fd3ee8bf-b9f3-4808-bd60-243f870ff9bd"
DEMO = ROOT / "clara-reference-workflows/test-data/11111111-1111-1111-1111-111111111111"


def run(cache: Path, payloads: Path) -> tuple[float, dict]:
    """Run the main job and return its wall time, seconds, and its report."""
    clock = time.monotonic()
    done = subprocess.run(
        [str(LAUNCHER), "test", WORKFLOW, "--json", "--fresh", "--payloads", str(payloads)],
        env={**os.environ, "CLARA_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return time.monotonic() - clock, json.loads(done.stdout)


def main() -> None:
    """Print one line a run and the median of the warm ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--warm", type=int, default=5, help="how many warm runs (default: %(default)s)")
    warm_runs = parser.parse_args().warm
    shutil.rmtree(DEMO, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        cache, payloads = Path(folder, "cache"), Path(folder, "payloads")
        cold, _ = run(cache, payloads)
        print(f"cold  {cold:6.1f} s on {os.cpu_count()} cores")
        warm = []
        for _ in range(warm_runs):
            seconds, report = run(cache, payloads)
            warm.append(seconds)
            stages = ", ".join(
                f"{s['name']} {s['seconds']:.1f} s {s['peak_memory_bytes'] / 2**20:.0f} MiB"
                for s in report["stages"]
            )
            print(f"warm  {seconds:6.1f} s: {stages}")
        print(f"warm, median of {warm_runs}: {statistics.median(warm):.1f} s")
        for finding in report["findings"]:
            print(f"{finding['name']}: {finding['volume_ml']:.1f} ml, Dice {finding['dice']}")


if __name__ == "__main__":
    main()
