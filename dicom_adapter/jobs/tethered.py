"""A program that never outlives the process that started it: run as ``python tethered.py PARENT COMMAND...``.

It asks the kernel for SIGTERM at the parent's death (prctl(2)) and becomes the program. This is a file of its
own, since the adapter has many threads, and between fork and exec they may do next to nothing.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def become(parent: int, command: list[str]) -> None:
    """Become a program that is stopped when its parent is gone; return only if it is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == parent:
        os.execv(command[0], command)  # noqa: S606 - the adapter's own command, and no shell is wanted


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2:])
