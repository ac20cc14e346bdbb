"""One model server for all jobs of this adapter that run as processes; started when the first one asks."""

from __future__ import annotations

import logging
import os
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

from clara_wf.model_server.server import ModelServer, ModelServerError, serve
from dicom_adapter.private_file import open_private

logger = logging.getLogger(__name__)


class SharedModelServer:
    """A real Triton on a model repository, started at the first need and again when it has died.

    Parameters
    ----------
    models
        The repository.
    cache
        Where the server is installed.
    log
        File for its output.
    """

    def __init__(self, models: Path, *, cache: Path, log: Path) -> None:
        self._models, self._cache, self._log = models, cache, log
        self._lock = threading.Lock()
        self._running = ExitStack()
        self._server: ModelServer | None = None

    def address(self) -> str:
        """Return ``host:port`` of the server.

        Raises
        ------
        ModelServerError
            If it cannot be started.
        """
        with self._lock:
            if self._server is not None and not self._is_alive(self._server):
                self.close()
            if self._server is None:
                _make_log(self._log)
                starting = serve(self._models, cache=self._cache, log=self._log, on_progress=logger.info)
                self._server = self._running.enter_context(starting)
            return self._server.grpc_url

    def close(self) -> None:
        """End the server."""
        self._server = None
        self._running.close()

    def _is_alive(self, server: ModelServer) -> bool:
        try:
            server.check()
        except ModelServerError as error:
            logger.warning("the model server is started again: %s", str(error).splitlines()[0])
            return False
        return True


def _make_log(log: Path) -> None:
    with suppress(OSError):  # the server says why it cannot write
        os.close(open_private(log, os.O_WRONLY))
