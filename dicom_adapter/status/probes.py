"""Whether an adapter answers: asked by C-ECHO as its sources do, and by HTTP as probes do."""

from __future__ import annotations

import ssl
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import Any

from pynetdicom import AE
from pynetdicom.sop_class import Verification

from dicom_adapter.config.blocks import Http
from dicom_adapter.config.dicom_blocks import Scp, ScpTls
from stages.errors import StageError

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where we ask, not where we listen

_NOT_FROM_HERE = 0x03  # calling AE title not recognised, PS3.8 table 9-21
_UNKNOWN_CALLER = "ECHO"


def echo(scp: Scp, host: str, port: int, *, timeout_s: float) -> str:
    """Ask an adapter by C-ECHO, as one of the sources of its configuration.

    Over TLS its certificate is not checked, and its own is shown: who it is does not matter here.

    Parameters
    ----------
    scp
        How it is called, as configured.
    host, port
        Where it is called.
    timeout_s
        Longest wait for the connection, and for each answer, seconds.

    Returns
    -------
    str
        What was asked and answered.

    Raises
    ------
    StageError
        If it does not answer, or answers something else than a source may expect.

    References
    ----------
    DICOM PS3.4 Annex A, verification service class.
    """
    caller, only_from = _caller(scp)
    called = scp.ae_titles[0].ae_title
    entity = AE(ae_title=caller)
    entity.add_requested_context(Verification)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = timeout_s
    entity.connection_timeout = timeout_s
    association = entity.associate(host, port, ae_title=called, tls_args=_secured(scp.tls))
    asked = f"{called} at {host}:{port}, called by {caller},"
    if association.is_rejected and only_from and _diagnostic(association) == _NOT_FROM_HERE:
        return f"{asked} answers: it knows {caller} at {only_from} only, so this call was rejected"
    if not association.is_established:
        raise StageError(f"{asked} {_failure(association)}")
    try:
        status = association.send_c_echo().get("Status")
    finally:
        association.release()
    if status != 0x0000:
        raise StageError(f"{asked} answered C-ECHO with {'nothing' if status is None else hex(status)}")
    return f"{asked} answers"


def _caller(scp: Scp) -> tuple[str, str]:
    """Return a name that may call, and the address it has to call from, if there is one."""
    by_freedom = sorted(scp.sources, key=lambda each: each.host_ip != "")
    if not by_freedom or not scp.reject_unknown_sources:
        return _UNKNOWN_CALLER, ""
    return by_freedom[0].ae_title, by_freedom[0].host_ip


def _secured(tls: ScpTls) -> tuple[ssl.SSLContext, None] | None:
    if not tls.enabled:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        context.load_cert_chain(tls.certificate, tls.key, password="")  # never asked for at a terminal
    except (OSError, ssl.SSLError) as error:
        raise StageError(f"the TLS files of dicom.scp.tls cannot be used: {error}") from error
    return context, None


def _diagnostic(association: Any) -> int | None:
    return getattr(association.acceptor.primitive, "diagnostic", None)


def _failure(association: Any) -> str:
    if association.is_rejected:
        reason = getattr(association.acceptor.primitive, "reason_str", "")
        return f"rejected the association: {reason or 'no reason given'}"
    return "did not answer; is it running, and does the port speak TLS as configured?"


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
