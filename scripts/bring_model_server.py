"""Install the embedded model server on a machine without a package index, of what was brought along.

The wheel of nvidia-pytriton is unpacked; the packages of its Python, with onnxruntime-gpu and CUDA's
libraries, are used where they lie. Run with the Python that will run ``clara-wf``; the folder is printed.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from clara_wf.model_server.installation import Brought, install
from clara_wf.workspace import Places


def main() -> int:
    """Install it and print where."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--wheel", type=Path, required=True, help="nvidia_pytriton-*.whl")
    parser.add_argument(
        "--packages",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR",
        help="site-packages, the first first",
    )
    parser.add_argument("--cpu", action="store_true", help="the installation for the CPU")
    parser.add_argument("--cache", type=Path, default=Places.here(os.environ).cache)
    arguments = parser.parse_args()
    brought = Brought(wheel=arguments.wheel, packages=tuple(arguments.packages))
    installation = install(arguments.cache, on_progress=_say, gpu=not arguments.cpu, brought=brought)
    sys.stdout.write(f"{installation.folder}\n")
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
