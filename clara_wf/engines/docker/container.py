"""A stage that runs as a container."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from clara_wf.engines.docker.client import Docker
from stages.errors import SettingsError, StageError
from stages.runtime.job_files import last_lines, open_to_append
from stages.runtime.processes import children, peak_memory_bytes

_KILL_DEADLINE_S = 20.0
_MAYBE_NOT_STARTED = (125, 126, 127)  # of ``docker run`` itself, unless they are the program's own


class Container:
    """A container in the foreground of a ``docker run``, which ends with the container's exit code.

    Parameters
    ----------
    docker
        The client.
    name
        The container's name.
    client
        The ``docker run``; it passes signals on.
    stage
        The stage's name.
    log
        Where its output goes, and the container's.
    memory_limit
        As the stage's block has it, "" for none.
    """

    def __init__(
        self,
        docker: Docker,
        name: str,
        client: subprocess.Popen[bytes],
        *,
        stage: str,
        log: Path,
        memory_limit: str,
    ) -> None:
        self.name = name
        self._docker, self._client, self._log = docker, client, log
        self._stage, self._memory_limit = stage, memory_limit
        self._pid: int | None = None
        self._not_started: bool | None = None

    def exit_code(self) -> int | None:
        """Return None while it runs; 2 if it could not be started."""
        code = self._client.poll()
        if code in _MAYBE_NOT_STARTED and self._could_not_start():
            return SettingsError.exit_code
        if code is not None and 128 < code < 128 + signal.NSIG:
            return 128 - code  # as it is told that a signal ended it
        return code

    def _could_not_start(self) -> bool:
        """Return whether the end is Docker's own, and if so make its reason the last line of the log."""
        if self._not_started is None:
            lines = last_lines(self._log)
            reasons = [line for line in lines if line.startswith("docker: ")]
            self._not_started = bool(reasons)
            if reasons:
                why = reasons[-1].removeprefix("docker: ")
                with open_to_append(self._log) as log:
                    log.write(f"the container could not be started: {why}\n".encode())
        return self._not_started

    def pending(self) -> str:
        """Return nothing: a container runs as soon as Docker has started it."""
        return ""

    def stop(self) -> None:
        """Send SIGTERM."""
        self._client.terminate()

    def kill(self) -> None:
        """Send SIGKILL, and wait."""
        if self._client.poll() is None:
            self._docker.ask("kill", self.name)
            try:
                self._client.wait(_KILL_DEADLINE_S)
            except subprocess.TimeoutExpired:
                self._client.kill()
                self._client.wait()

    def found_at(self, pid: int, identity: str) -> None:
        """Take note of the process on this machine, if it is the container's.

        Parameters
        ----------
        pid, identity
            Its process ID and what tells the process from a later one of the same ID.
        """
        with suppress(OSError):
            if identity in Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii"):
                self._pid = pid

    def peak_memory_bytes(self) -> int:
        """Return the most resident memory of its main process; 0 where the engine is not on this machine."""
        return max(map(peak_memory_bytes, self._main_processes()), default=0)

    def why_killed(self) -> StageError | None:
        """Return whether it ran out of memory."""
        done = self._docker.ask("container", "inspect", "--format", "{{json .State}}", self.name)
        if done.returncode != 0 or not json.loads(done.stdout).get("OOMKilled"):
            return None
        if not self._memory_limit:
            return StageError("out of memory, without a limit of its own")
        return StageError(
            f"out of memory, limit {self._memory_limit}; "
            f"raise resources.limits.memory of stage {self._stage} in values.yaml"
        )

    def _main_processes(self) -> Iterable[int]:
        """Return the children of process 1, which is Docker's own."""
        return (children(self._pid) if self._pid is not None else None) or ()
