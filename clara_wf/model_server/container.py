"""Start the model server of the image ``clara/model-server``; its arguments are passed on.

At each start of a model the server makes its Python backend's stub executable, by chmod(2), even when it is.
A container with a read-only root and any user cannot do that to a file of its image; but it can to a file in
memory that it has made itself. So the stub is copied there, and the backend's folder has a link to it. Memory
may be executed also where ``/tmp`` may not. Standard library only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path("/opt/triton")
STUB = ROOT / "backends/triton_python_backend_stub"
LINKED_DESCRIPTOR = 9  # the image's backends/python/triton_python_backend_stub leads to /proc/self/fd/9


def main(argv: Sequence[str]) -> NoReturn:
    """Become the server.

    Parameters
    ----------
    argv
        The words after the program's name.
    """
    hold_in_memory(STUB, LINKED_DESCRIPTOR)
    server = str(ROOT / "server/pytriton/tritonserver/bin/tritonserver")
    options = [f"--backend-directory={ROOT / 'backends'}", "--disable-auto-complete-config"]
    os.execv(server, [server, *options, *argv])  # noqa: S606 - no shell is wanted


def hold_in_memory(file: Path, descriptor: int) -> None:
    """Open a copy of a file that lies in memory, under a descriptor that programs started later inherit.

    Parameters
    ----------
    file, descriptor
        The file and its number.
    """
    writing = os.memfd_create(file.name)
    with os.fdopen(writing, "wb") as copy:
        copy.write(file.read_bytes())
        copy.flush()
        reading = os.open(f"/proc/self/fd/{writing}", os.O_RDONLY)  # what is open for writing cannot be run
    os.dup2(reading, descriptor, inheritable=True)
    os.close(reading)


if __name__ == "__main__":
    main(sys.argv[1:])
