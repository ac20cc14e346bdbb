"""Whether this process may be forked, and what is to be seen to before it is.

A forked process has one thread, and none of what the GPU's driver keeps: whatever another thread held locked
stays so for ever, and CUDA refuses to work. Threads that end before a fork (``os.register_at_fork``), as
those of OpenBLAS and `stages.compute.threads` do, are no matter: so this is looked at after a fork.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

_GPU_DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri/")
_ENDING_S = 0.2  # a thread that was joined is listed a moment longer


def why_not() -> str:
    """Return why this process must not be forked for jobs; "" if it may be."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    if _threads() > 1:
        return f"it has {_threads()} threads"
    if device := _gpu_device():
        return f"it has {device} open"
    return ""


def _threads() -> int:
    end = time.monotonic() + _ENDING_S
    while (count := len(os.listdir("/proc/self/task"))) > 1 and time.monotonic() < end:
        time.sleep(0.005)
    return count


def _gpu_device() -> str:
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found = os.readlink(f"/proc/self/fd/{name}")
            if found.startswith(_GPU_DEVICES):
                return found
    return ""
