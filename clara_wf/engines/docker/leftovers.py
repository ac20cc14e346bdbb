"""What belongs to a run of the docker engine, and how nothing of it is left behind.

Its containers and its network carry two labels: the run, and the process that owns it. A guard removes them
when the run has ended, also when clara-wf was killed; what a run left whose guard was killed as well is swept
away by the next.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from clara_wf.engines.docker import guard as docker_guard
from clara_wf.engines.docker.client import Docker
from stages.runtime.processes import start_time

_RUN, _OWNER = "clara.run", "clara.owner"
_GUARD_DEADLINE_S = 60.0


def new_labels() -> dict[str, str]:
    """Return the labels of a new run of this process."""
    owner = f"{socket.gethostname()}/{os.getpid()}/{start_time(os.getpid())}"
    return {_RUN: secrets.token_hex(4), _OWNER: owner}


def token_of(labels: Mapping[str, str]) -> str:
    """Return what tells a run from all others.

    Parameters
    ----------
    labels
        The labels of what a run has started.
    """
    return labels[_RUN]


@contextmanager
def guarded(docker: Docker, labels: Mapping[str, str]) -> Iterator[None]:
    """Leave the removal of everything with the run's label to a process that survives this one.

    Parameters
    ----------
    docker, labels
        The client and the labels of what a run has started.
    """
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", docker_guard.__file__, f"{_RUN}={labels[_RUN]}", docker.program],
        env=docker.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        with suppress(subprocess.TimeoutExpired):  # it goes on alone
            guard.communicate(b"ended\n", timeout=_GUARD_DEADLINE_S)


def sweep(docker: Docker) -> None:
    """Remove what runs have left behind whose clara-wf and guard are both gone."""
    owner = f'{{{{.Label "{_OWNER}"}}}}'
    listed = [
        docker.ask("ps", "--all", f"--filter=label={_OWNER}", f"--format={owner}").stdout,
        docker.ask("network", "ls", f"--filter=label={_OWNER}", f"--format={owner}").stdout,
    ]
    for found in set("\n".join(listed).split()):
        host, pid, started = found.split("/")
        if host == socket.gethostname() and start_time(int(pid)) != started:
            docker_guard.clear(docker.program, f"{_OWNER}={found}", docker.environ)
