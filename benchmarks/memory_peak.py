"""What a process really takes of the memory of host and GPU, beside what was predicted."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path
from types import TracebackType

from stages.memory.limits import resident_bytes

EVERY_S = 0.002


class HostPeak:
    """The most that a process holds of the host's memory while the block lasts, mapped files not counted.

    Parameters
    ----------
    process
        Its number; by default this process.

    Attributes
    ----------
    bytes
        The peak so far.
    """

    def __init__(self, process: int | None = None) -> None:
        self._proc = Path("/proc")
        self._process = process or os.getpid()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.bytes = 0

    def __enter__(self) -> HostPeak:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(EVERY_S):
            self.bytes = max(self.bytes, resident_bytes(self._proc, process=self._process))


def gpu_bytes_by_process() -> dict[int, int]:
    """Return what each process holds of all GPUs, as nvidia-smi has it, contexts included; {} without it.

    In a container the numbers of the processes may be the host's.
    """
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    held: dict[int, int] = {}
    for line in found.splitlines():
        number, _, mebibytes = line.partition(",")
        if mebibytes.strip().isdigit():
            held[int(number)] = held.get(int(number), 0) + int(mebibytes) * 2**20
    return held


def beside(predicted: int, taken: int) -> str:
    """Return a prediction and what was taken, with the difference, in one line."""
    mebibytes = [f"{size / 2**20:.0f} MiB" for size in (predicted, taken)]
    return f"predicted {mebibytes[0]}, taken {mebibytes[1]} ({(predicted - taken) / taken:+.0%})"
