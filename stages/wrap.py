"""A program that knows nothing of locks, run as a stage: ``python -m stages wrap -- COMMAND ARGS...``."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Sequence

from stages.driver import Job, Stage
from stages.errors import SettingsError, StageError

logger = logging.getLogger(__name__)


class WrappedCommand(Stage):
    """Wait for the locks, run a command, publish its success or its failure.

    The command finds its folders in the ``NVIDIA_CLARA_*`` environment; exit code 0 is success.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None

    def startup(self) -> None:
        """Refuse an empty command."""
        if not self._command:
            raise SettingsError("nothing to run; usage: python -m stages wrap -- COMMAND ARGS...")

    def execute(self, job: Job) -> None:
        """Run the command to its end."""
        try:
            self._process = subprocess.Popen(self._command)
        except OSError as error:
            raise SettingsError(f"cannot run {self._command[0]!r}: {error}") from error
        code = self._process.wait()
        if code != 0:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise StageError(f"{self._command[0]} {how}")

    def cleanup(self) -> None:
        """End the command if it still runs."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=4)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
