"""Time what a person waits for at the prompt: ``python benchmarks/command_line.py [--runs N]``.

By the launcher, as it is typed. The finished job is the README's main job, which is run first if it has not
been. Prints the median and the least wall time of the runs, and the median of their processor time, seconds.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAUNCHER = ROOT / "clara-reference-workflows/clara-wf"
COMMANDS = {
    "clara-wf --version": 0.3,
    "clara-wf --help": 0.3,
    "clara-wf tset": 0.3,
    "clara-wf list": 0.5,
    "clara-wf lint": 0.5,
    "clara-wf status": 0.5,
    "clara-wf test liver-seg": 0.5,
}
"""What is typed, and the seconds it may take."""


def run(command: str) -> tuple[float, float]:
    """Return wall time and processor time of a command, seconds."""
    before, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([LAUNCHER, *command.split()[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.monotonic() - clock, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print a line a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=11, help="runs of each command (default: %(default)s)")
    runs = parser.parse_args().runs
    subprocess.run([LAUNCHER, "test", "liver-seg"], stdout=subprocess.DEVNULL, check=True)
    run("clara-wf test liver-seg")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {runs} runs")
    print(f"{'typed':26}{'median':>8}{'least':>8}{'processor':>11}{'may take':>10}")
    for command, limit in COMMANDS.items():
        times = [run(command) for _ in range(runs)]
        wall = [each[0] for each in times]
        processor = statistics.median(each[1] for each in times)
        print(f"{command:26}{statistics.median(wall):8.2f}{min(wall):8.2f}{processor:11.2f}{limit:10.1f}")


if __name__ == "__main__":
    main()
