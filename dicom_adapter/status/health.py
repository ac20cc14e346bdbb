"""Whether the adapter on this machine can take a study, asked by HTTP as probes ask."""

from __future__ import annotations

from contextlib import closing
from http.client import HTTPConnection, HTTPException

from dicom_adapter.config.blocks import Http
from stages.errors import StageError

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where we ask, not where we listen


def ask_ready(http: Http, *, timeout_s: float) -> str:
    """Ask the adapter on this machine whether it can take a study.

    Parameters
    ----------
    http
        Where it answers, as configured.
    timeout_s
        Longest wait for the answer, seconds.

    Returns
    -------
    str
        What it says: ``ok``.

    Raises
    ------
    StageError
        If it does not answer, or says why it is not ready.
    """
    host = _EVERYWHERE.get(http.host, http.host)
    try:
        with closing(HTTPConnection(host, http.port, timeout=timeout_s)) as connection:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            text = answer.read(4096).decode(errors="replace").strip()
    except (OSError, HTTPException) as error:
        raise StageError(f"no adapter answers at {host}:{http.port}: {error}; is it running?") from error
    if answer.status != 200:
        raise StageError(f"the adapter is not ready: {text}")
    return text
