"""A program that knows nothing of locks, run as a stage: ``python -m stages wrap -- COMMAND ARGS...``."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Sequence

from stages.errors import SettingsError, StageError
from stages.lifecycle.driver import Job, Stage
from stages.runtime import subreaper

logger = logging.getLogger(__name__)

_STOP_S = 4.0
_GRACE_S = 0.3  # when this process is gone


class WrappedCommand(Stage):
    """Wait for the locks, run a command, publish its success or its failure.

    The command finds its folders in the ``NVIDIA_CLARA_*`` environment; exit code 0 is success. What it
    leaves running ends with it (`stages.runtime.subreaper`).

    Parameters
    ----------
    command
        The program, looked up in PATH, and its arguments.
    """

    may_stay = False  # what is wrapped starts anew each time

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None

    def startup(self) -> None:
        """Refuse an empty command."""
        if not self._command:
            raise SettingsError("nothing to run; usage: python -m stages wrap -- COMMAND ARGS...")

    def execute(self, job: Job) -> None:
        """Run the command to its end.

        Parameters
        ----------
        job
            It is not looked at: the command has the environment.
        """
        if shutil.which(self._command[0]) is None:
            raise SettingsError(f"cannot run {self._command[0]!r}: there is no such program")
        try:
            self._process = subprocess.Popen(
                subreaper.command_under(os.getpid(), self._command, grace_s=_GRACE_S)
            )
        except OSError as error:
            raise SettingsError(f"cannot run {self._command[0]!r}: {error}") from error
        code = self._process.wait()
        if code != 0:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise StageError(f"{self._command[0]} {how}")

    def cleanup(self) -> None:
        """End the command if it still runs, and all that it has started."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.send_signal(subreaper.END_NOW)
            self._process.wait()
