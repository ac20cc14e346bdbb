"""The process that removes the containers and the network of a run, however the run ended.

It runs as a program, ``guard.py LABEL DOCKER``, in a session of its own, and holds the reading end of
a pipe as standard input. A line on it says that all stages have ended; an end without one, that clara-wf is
gone: its stages are asked to stop first. Standard library only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

STOP_GRACE_S = 10
_LATE_S = 2.0  # the engine may still be making what a client that is gone had asked for


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Wait for the end of the run and clear up.

    Parameters
    ----------
    argv, environ
        The words after the program's name and environment variables.
    """
    label, docker = argv
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ended_well = bool(sys.stdin.buffer.readline())
    if not ended_well:
        running = _listed(environ, docker, "ps", "--quiet", f"--filter=label={label}")
        _call(environ, [docker, "stop", f"--time={STOP_GRACE_S}"], running)
    clear(docker, label, environ)
    if not ended_well:
        time.sleep(_LATE_S)
        clear(docker, label, environ)
    return 0


def clear(docker: str, label: str, environ: Mapping[str, str]) -> None:
    """Remove every container and every network with a label.

    Parameters
    ----------
    docker
        The program of the client.
    label
        The label that the run's containers and networks have.
    environ
        Environment variables.
    """
    containers = _listed(environ, docker, "ps", "--all", "--quiet", f"--filter=label={label}")
    _call(environ, [docker, "rm", "--force", "--volumes"], containers)
    networks = _listed(environ, docker, "network", "ls", "--quiet", f"--filter=label={label}")
    _call(environ, [docker, "network", "rm"], networks)


def _listed(environ: Mapping[str, str], *command: str) -> list[str]:
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False).stdout.split()


def _call(environ: Mapping[str, str], command: Sequence[str], objects: Sequence[str]) -> None:
    if objects:
        subprocess.run([*command, *objects], env=environ, capture_output=True, check=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
