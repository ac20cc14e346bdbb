"""The adapter as a process: it runs until a signal says stop, and ends in time whatever hangs."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

_POLL_S = 0.1
_STOP_S, _RESERVE_S = 9.0, 0.6


@dataclass
class _SignalFlags:
    """What signals have asked for, as plain flags: a handler must wait for no lock."""

    to_stop: bool = False
    to_reload: bool = False
    stop_s: Callable[[], float] = lambda: _STOP_S


def serve(config: Path, environ: Mapping[str, str]) -> None:
    """Run until a signal says stop.

    Parameters
    ----------
    config, environ
        The file of the configuration and environment variables.
    """
    from dicom_adapter.service import running

    asked = _SignalFlags()

    def stop(number: int, frame: FrameType | None) -> None:
        asked.to_stop = True

    def reload(number: int, frame: FrameType | None) -> None:
        asked.to_reload = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    signal.signal(signal.SIGHUP, reload)
    threading.Thread(target=_end_in_time, args=(asked,), name="last resort", daemon=True).start()
    logger = logging.getLogger(__name__)
    with running(config.resolve(), environ=environ) as adapter:
        asked.stop_s = adapter.stop_s
        logger.info("listening: DICOM on port %d, HTTP on port %d", adapter.dicom_port, adapter.http_port)
        while not asked.to_stop:
            if asked.to_reload:
                asked.to_reload = False
                adapter.reload()
            time.sleep(_POLL_S)
        logger.info("stopping")
    if adapter.left_over:
        _end_by_force()


def _end_in_time(asked: _SignalFlags) -> None:
    """Wait until the end is asked for, and end by force if it takes too long."""
    while not asked.to_stop:
        time.sleep(_POLL_S)
    time.sleep(asked.stop_s() + _RESERVE_S)
    _end_by_force()


def _end_by_force() -> None:
    """End although a thread hangs, which would keep the interpreter from its end: as safe as a crash is."""
    logging.getLogger(__name__).warning("ended by force; what was not finished goes on at the next start")
    logging.shutdown()
    os._exit(0)
