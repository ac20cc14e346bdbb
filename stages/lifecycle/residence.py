"""A stage that stays: loaded and started once, then forked for each order (`stages.resident`).

``NVIDIA_CLARA_RESIDENT`` names the folder of orders. What `startup` leaves behind must survive a fork: where
it starts threads or CUDA, it is run by each job's own process instead.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stages.errors import SettingsError
from stages.lifecycle.settings import PREFIX
from stages.resident import forks
from stages.resident.host import Host
from stages.resident.leaving import ends_with, leave
from stages.resident.orders import make_folder
from stages.resident.sources import Sources
from stages.resident.worker import become

logger = logging.getLogger(__name__)

FOLDER = f"{PREFIX}RESIDENT"
AT_ONCE = f"{PREFIX}RESIDENTATONCE"
_EACH = f"{PREFIX}RESIDENTSTARTUP"


@dataclass(frozen=True)
class ResidentJob:
    """What a process that was forked for a job knows.

    Attributes
    ----------
    environ
        The job's environment.
    has_started
        Whether `Stage.startup` has been called before the fork.
    turn
        Returns when the job may work.
    is_last
        Whether the program has nothing to do after the job.
    """

    environ: Mapping[str, str]
    has_started: bool
    turn: Callable[[], None]
    is_last: bool

    def leave(self, code: int) -> None:
        """End this process if the program would do so now, without taking apart what belongs to the host.

        Parameters
        ----------
        code
            The exit code.
        """
        if self.is_last:
            leave(code)


def serve(
    warm_up: Callable[[], None],
    startup: Callable[[], None],
    environ: Mapping[str, str],
) -> ResidentJob | None:
    """Return in each process that was forked for a job; in the host itself None, when it was asked to stop.

    Parameters
    ----------
    warm_up, startup
        Of the stage.
    environ
        Of the host; its arguments are those of every job.

    Raises
    ------
    SettingsError
        If a stage of this kind cannot stay.
    """
    if sys.platform != "linux":
        raise SettingsError(f"stages stay on Linux only, this is {sys.platform}; start one for each job")
    for_each = bool(environ.get(_EACH))
    warm_up()
    if not for_each:
        startup()
    if why := forks.why_not():
        _renew(environ, why) if not for_each else _refuse(why)
    is_last = ends_with("main")
    folder, sources = Path(environ[FOLDER]), Sources()
    make_folder(folder)
    host = Host(folder, at_once=int(environ.get(AT_ONCE, "1")), tick=lambda: _changed(sources))
    host.on_ready = lambda: logger.info("ready for jobs in %s", folder)
    assignment = host.serve()
    if assignment is None:
        if sources.changed():
            _renew(environ, "")
        return None
    become(assignment.order)
    return ResidentJob(assignment.order.environ, not for_each, assignment.turn, is_last)


def _changed(sources: Sources) -> str:
    file = sources.changed()
    return f"{file} has changed" if file else ""


def _renew(environ: Mapping[str, str], why: str) -> None:
    """Become this program once more; where `startup` cannot be forked, without it."""
    if why:
        logger.warning(
            "startup is called for each job, since after it this process cannot be forked: %s", why
        )
    fresh = {**environ, **({_EACH: "each"} if why else {})}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], fresh)  # noqa: S606 - this very program


def _refuse(why: str) -> None:
    raise SettingsError(
        f"this stage cannot stay: what it imports cannot be forked ({why}); write resident: false into its "
        "block in values.yaml, and it is started for each job"
    )
