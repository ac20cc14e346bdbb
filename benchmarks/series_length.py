"""How long liver-seg takes for series of 100 to 1,600 slices, by stage and engine of the embedded server.

    python benchmarks/series_length.py [--slices 100,200] [--engines openvino,onnxruntime] [--rounds 1]

The series are phantoms of 2.5 mm slices, 512 x 512; those of more than 100 slices repeat one, every second
time upside down. The engines take turns; printed are the least times of all rounds, in seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from phantoms import make_abdomen  # noqa: E402
from phantoms.dicom_series import write_series  # noqa: E402

STAGES = ("dicom-reader", "ai-livertumor", "dicom-writer")
_PART, _SPACING_MM, _SEED = 100, (2.5, 0.78, 0.78), 1_000_000


def make_series(folder: Path, count: int) -> None:
    """Write a DICOM series of so many slices."""
    part = make_abdomen(_SEED, shape=(_PART, 512, 512), spacing_mm=_SPACING_MM).hu
    parts = [part[:: 1 if n % 2 == 0 else -1] for n in range(-(-count // _PART))]
    write_series(np.concatenate(parts)[:count], folder, spacing_mm=_SPACING_MM)


def run(series: Path, engine: str, payloads: Path) -> dict[str, float]:
    """Return how long each stage took, seconds."""
    command = [sys.executable, "-m", "clara_wf", "test", "liver-seg", "length", "--fresh", "--json"]
    done = subprocess.run(
        [*command, "--input", str(series), "--payloads", str(payloads)],
        env={**os.environ, "CLARA_ONNX_ENGINE": engine, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        check=True,
    )
    return {stage["name"]: stage["seconds"] for stage in json.loads(done.stdout)["stages"]}


def main() -> None:
    """Print one line for each length and engine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--slices", default="100,200,400,800,1600")
    parser.add_argument("--engines", default="openvino,onnxruntime")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    engines = given.engines.split(",")
    print(f"{'slices':>6}  {'engine':12}" + "".join(f"{stage:>15}" for stage in STAGES))
    for count in map(int, given.slices.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            series = Path(folder, "series")
            make_series(series, count)
            rounds = [
                {engine: run(series, engine, Path(folder, "payloads")) for engine in engines}
                for _ in range(given.rounds)
            ]
        for engine in engines:
            least = [min(each[engine][stage] for each in rounds) for stage in STAGES]
            print(f"{count:6}  {engine:12}" + "".join(f"{seconds:15.1f}" for seconds in least), flush=True)


if __name__ == "__main__":
    main()
