"""The stages of this adapter's workflows, kept ready by a ``clara-wf serve`` that ends with it."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from clara_wf.engines.choice import choose
from clara_wf.publish.published import load_published
from clara_wf.run.warm import service_folder
from dicom_adapter.context import AdapterContext
from dicom_adapter.jobs.job_run import environ_of_run
from dicom_adapter.private_file import open_private
from dicom_adapter.supervision.deadline import Deadline
from dicom_adapter.supervision.supervisor import stop_all
from stages.errors import SettingsError
from stages.runtime import subreaper

logger = logging.getLogger(__name__)

_LOOK_S = 2.0
_GRACE_S = 8.0
_SHORTEST_LIFE_S, _LONGEST_PAUSE_S = 30.0, 600.0


class KeptStages:
    """Runs the service while the configuration asks for it, and again when it has ended.

    Parameters
    ----------
    context
        Of the adapter.
    log
        File for its output.
    """

    def __init__(self, context: AdapterContext, *, log: Path) -> None:
        self._context, self._log = context, log
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._arguments: Sequence[str] = ()
        self._started, self._pause_s = 0.0, 0.0
        self._worker = context.supervisor.worker("kept stages", self._look)

    def start(self) -> None:
        """Begin."""
        self._worker.start()

    def ask_to_stop(self) -> None:
        """Stop soon."""
        self._stopping.set()

    def stop(self, deadline: Deadline) -> list[str]:
        """Stop, and return the names of threads that have not ended in time."""
        self.ask_to_stop()
        left_over = stop_all([self._worker], deadline)
        self._end(min(_GRACE_S, deadline.left_s()))
        return left_over

    def _look(self) -> None:
        wanted = self._wanted()
        if self._process is not None and wanted != self._arguments:
            logger.info("the stages that are kept ready are started anew, as the configuration says now")
            self._end(_GRACE_S)
            self._pause_s = 0.0
        if self._process is not None and self._process.poll() is not None:
            self._note_death(self._process.returncode)
        if wanted and self._process is None and time.monotonic() - self._started >= self._pause_s:
            self._begin(wanted)
        self._stopping.wait(_LOOK_S)

    def _wanted(self) -> Sequence[str]:
        """Return the arguments of the service; none if it is not to run."""
        config = self._context.config()
        names = sorted({rule.workflow for rule in config.workflows if self._may_stay(rule.workflow)})
        if not config.jobs.resident or not names:
            return ()
        return (
            *("serve", *names, "--published", str(config.storage.workflows.resolve())),
            *("--payloads", str(config.storage.payloads.resolve()), "--server", "none"),
            *("--at-once", str(config.jobs.at_once), "--stage-count", str(config.jobs.stage_count)),
        )

    def _may_stay(self, workflow: str) -> bool:
        config = self._context.config()
        with suppress(SettingsError):
            found = load_published(config.storage.workflows, workflow)[1]
            return choose(found, config.jobs.engine) == "process"
        return False

    def _begin(self, arguments: Sequence[str]) -> None:
        self._started, self._arguments = time.monotonic(), arguments
        command = [sys.executable, "-m", "clara_wf", *arguments]
        with os.fdopen(open_private(self._log, os.O_WRONLY | os.O_APPEND), "ab") as output:
            self._process = subprocess.Popen(
                subreaper.command_under(os.getpid(), command, grace_s=_GRACE_S),
                env=environ_of_run(self._context.environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _note_death(self, code: int) -> None:
        lived_s = time.monotonic() - self._started
        is_early = lived_s < _SHORTEST_LIFE_S
        self._pause_s = min(max(2 * self._pause_s, 1.0), _LONGEST_PAUSE_S) if is_early else 0.0
        self._process = None
        logger.warning(
            "the service that keeps stages ready ended with %d (its log: %s); jobs start their own stages "
            "until it is there again, in %.0f s",
            *(code, self._log, self._pause_s),
        )

    def _end(self, grace_s: float) -> None:
        """End the service with all that it keeps."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
        if process.poll() is None:
            process.send_signal(subreaper.END_NOW)
            process.wait()
        shutil.rmtree(service_folder(self._context.config().storage.payloads), ignore_errors=True)
