"""All that an AI stage does beside its model: ``python benchmarks/inference.py``.

The rows of `inference_kernels.py` (what stands before and behind the model) and of
`inference_windows.py` (passing a volume, windows, transport), then the memory of the whole stage.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Run one after the other, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = str(parser.parse_args().repeats)
    for name, arguments in (
        ("inference_kernels.py", ["--rounds", repeats]),
        ("inference_windows.py", ["--repeats", repeats]),
        ("inference_memory.py", []),
    ):
        print(f"-- {name}", flush=True)
        done = subprocess.run([sys.executable, str(HERE / name), *arguments], check=False)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
