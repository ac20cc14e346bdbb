"""Peak memory and time of the whole AI stage on a volume of 400 slices, with the reference model.

::

    python benchmarks/inference_memory.py [--slices 400]

Starts the embedded model server; the stage is a process of its own, and so is its peak.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from benchmarks.memory_peak import HostPeak, beside  # noqa: E402
from clara_wf.model_server.server import serve  # noqa: E402
from clara_wf.workspace import Places  # noqa: E402
from phantoms.abdomen import DEMO_SPACING_MM, make_demo  # noqa: E402
from stages import Origin, Volume, write_volume  # noqa: E402
from stages.memory.limits import parse_size  # noqa: E402

MIB = 2**20


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=400)
    slices = parser.parse_args().slices
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "in"), Path(folder, "out")
        given.mkdir()
        made.mkdir()
        size = write_phantom(given, slices)
        cache, log = Places.here(os.environ).cache, Path(folder, "server.log")
        with serve(ROOT / "models", cache=cache, log=log, on_progress=lambda _: None) as server:
            told, seconds, held, resident = run_stage(given, made, server.grpc_url)
    (line,) = (line for line in told.splitlines() if "memory: at most" in line)
    print(line)
    print(f"{slices} slices, {size / MIB:.0f} MiB: {beside(predicted(line), held)}")
    print(f"{held / size:.2f} x the volume; with the files that are mapped {resident / MIB:.0f} MiB")
    print(f"{seconds:.1f} s from start to exit, model included")


def run_stage(given: Path, made: Path, server: str) -> tuple[str, float, int, int]:
    """Run the stage; return its log, its wall time, what it held at most, and with mapped files, bytes."""
    command = [sys.executable, "-m", "ai_livertumor", "--input", given, "--output", made, "--server", server]
    clock = time.monotonic()
    with subprocess.Popen(
        [*command, "--device", "cpu"], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as stage:
        with HostPeak(stage.pid) as peak:
            told = stage.stderr.read() if stage.stderr else ""
        _, status, used = os.wait4(stage.pid, 0)
        stage.returncode = os.waitstatus_to_exitcode(status)
    if stage.returncode:
        sys.exit(told)
    return told, time.monotonic() - clock, peak.bytes, used.ru_maxrss * 1024


def predicted(line: str) -> int:
    """Return the bytes that the stage said it would take."""
    found = re.search(r"at most ([0-9.]+ [MG]iB)", line)
    if not found:
        sys.exit(f"no size in {line!r}")
    return parse_size(found[1])


def write_phantom(folder: Path, slices: int) -> int:
    """Write the demo's abdomen in so many slices of 512 x 512; return its size, bytes."""
    hu = make_demo().hu
    more = -(-slices // len(hu))
    affine = np.eye(4)
    affine[:3, :3] = np.diag([DEMO_SPACING_MM[0] / more, *DEMO_SPACING_MM[1:]])[::-1]  # slices go up
    array = np.repeat(hu, more, axis=0)[:slices]
    write_volume(Volume(array=array, affine=affine, origin=Origin(series_instance_uid="2.25.1")), folder)
    return array.nbytes


if __name__ == "__main__":
    main()
