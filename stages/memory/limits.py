"""How much memory this process may take, and how much it has taken.

The limit is the lowest of: what the user says (``--memory-limit``), what the container is given (control
groups of version 1 and 2), and what the machine has free.

References
----------
Linux, ``Documentation/admin-guide/cgroup-v2.rst`` and ``cgroup-v1/memory.rst``.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from stages.errors import SettingsError
from stages.runtime.sizes import bytes_of

logger = logging.getLogger(__name__)

_SHARE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")
_UNLIMITED = 2**60  # version 1 writes a number near 2**63 where there is no limit


@dataclass(frozen=True)
class MemoryLimit:
    """A number of bytes, and who sets it.

    Attributes
    ----------
    size
        Bytes that this process may take, those that it has already included.
    source
        Whose limit it is, for a message.
    """

    size: int
    source: str


class MemoryLimitError(SettingsError):
    """A run needs more memory than there will be, however long one waits.

    Attributes
    ----------
    limit
        What it could have, and whose limit that is.
    """

    limit = MemoryLimit(0, "")


UNLIMITED = MemoryLimit(_UNLIMITED, "nobody's limit")


def parse_size(text: str) -> int:
    """Return the bytes of a size such as ``4G``, ``512 MiB`` or ``1000000``; units are powers of 1024.

    Parameters
    ----------
    text
        A number, with or without a unit.

    Raises
    ------
    SettingsError
        If it is no size, or 0.
    """
    size = bytes_of(text)
    if not size:
        raise SettingsError(f"a size of memory is such as 4G or 512M, found {text!r}")
    return size


def parse_share(text: str, whole: int) -> int:
    """Return the bytes of a size, or of a share of a whole such as ``50%``.

    Parameters
    ----------
    text
        The size or the share.
    whole
        What a share is of, bytes.

    Raises
    ------
    SettingsError
        If it is neither, or not more than 0 and at most 100 %.
    """
    found = _SHARE.fullmatch(text.strip())
    if not found:
        return parse_size(text)
    share = float(found[1])
    if not 0 < share <= 100:
        raise SettingsError(f"a share of memory lies above 0 and up to 100%, found {text!r}")
    return int(whole * share / 100)


def host_limit(
    wanted: str | None = None, *, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")
) -> MemoryLimit:
    """Return what this process may take on the host.

    Parameters
    ----------
    wanted
        The user's own limit, as for `parse_size`.
    proc, cgroups
        Where the kernel shows processes and control groups.

    Raises
    ------
    SettingsError
        If the user's limit is no size.
    """
    limits = [MemoryLimit(parse_size(wanted), "--memory-limit")] if wanted else []
    if container := container_limit(proc=proc, cgroups=cgroups):
        limits.append(MemoryLimit(container, "the container's limit"))
    limits.append(MemoryLimit(_available(proc) + resident_bytes(proc), "the machine's free memory"))
    return min(limits, key=lambda limit: limit.size)


def container_limit(*, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the lowest memory limit of this process's control groups, bytes; None without any.

    Parameters
    ----------
    proc, cgroups
        Where the kernel shows processes and control groups.
    """
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            found += _limits_above(cgroups, path, "memory.max")
        elif "memory" in controllers.split(","):
            found += _limits_above(cgroups / "memory", path, "memory.limit_in_bytes")
    return min(found, default=None)


def _limits_above(root: Path, path: str, name: str) -> list[int]:
    """Return the limits of a control group and of those it lies in; a container sees its own as the root."""
    limits = []
    folder = root / path.lstrip("/")
    for group in (folder, *folder.parents):
        if group.is_relative_to(root):
            try:
                limit = int((group / name).read_text())
            except (OSError, ValueError):  # there is none here, or it is "max"
                continue
            if limit < _UNLIMITED:
                limits.append(limit)
    return limits


def _available(proc: Path) -> int:
    found = re.search(r"^MemAvailable:\s+(\d+) kB", (proc / "meminfo").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else _UNLIMITED


def resident_bytes(proc: Path = Path("/proc"), *, process: int | None = None) -> int:
    """Return what a process holds of the host's memory now, mapped files not counted, bytes.

    Parameters
    ----------
    proc
        Where the kernel shows processes.
    process
        Its number; by default this process.
    """
    try:
        status = (proc / str(process or "self") / "status").read_text()
    except OSError:
        return 0
    kept = re.findall(r"^(?:RssAnon|RssShmem):\s+(\d+) kB", status, re.MULTILINE)
    return sum(int(number) for number in kept) * 1024
