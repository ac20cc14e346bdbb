"""How each destination of the configuration is reached."""

from __future__ import annotations

import ssl
from pathlib import Path

from dicom_adapter.config_blocks import Destination, DestinationTls, Scu
from dicom_adapter.delivering.answers import DestinationError, Sender
from dicom_adapter.delivering.scu import Peer, StoreScu
from dicom_adapter.delivering.stow import StowClient


def sender_to(destination: Destination, scu: Scu) -> Sender:
    """Return what sends to a destination: STOW-RS where it has a URL, C-STORE otherwise.

    Raises
    ------
    DestinationError
        If a certificate, a key or a token cannot be read.
    """
    if not destination.dicomweb:
        return StoreScu(peer=peer_of(destination, scu))
    headers = {}
    if destination.dicomweb_token:
        headers["Authorization"] = f"Bearer {_token(destination)}"
    is_secure = destination.dicomweb.startswith("https:")
    return StowClient(
        name=destination.name,
        url=destination.dicomweb,
        headers=headers,
        tls=_context(destination, _tls_of(destination) or DestinationTls()) if is_secure else None,
        timeout_s=scu.timeout_seconds,
    )


def peer_of(destination: Destination, scu: Scu) -> Peer:
    """Return a destination as a DICOM application.

    Raises
    ------
    DestinationError
        If a certificate or a key cannot be read.
    """
    tls = _tls_of(destination)
    return Peer(
        name=destination.name,
        host=destination.host_ip,
        port=destination.port,
        ae_title=destination.ae_title,
        calling_ae_title=scu.ae_title,
        tls=_context(destination, tls) if tls else None,
        timeout_s=scu.timeout_seconds,
    )


def address_of(destination: Destination) -> str:
    """Return where a destination is, for people."""
    return destination.dicomweb or f"{destination.host_ip}:{destination.port}"


def _tls_of(destination: Destination) -> DestinationTls | None:
    tls = DestinationTls() if destination.tls is True else destination.tls
    return tls if isinstance(tls, DestinationTls) and tls.enabled else None


def _context(destination: Destination, tls: DestinationTls) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.authorities or None)
        if tls.certificate:
            context.load_cert_chain(tls.certificate, tls.key or None)
    except OSError as error:
        raise DestinationError(
            f"the certificates for {destination.name} cannot be used: {error.strerror or error}"
        ) from error
    return context


def _token(destination: Destination) -> str:
    try:
        return Path(destination.dicomweb_token).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise DestinationError(
            f"the token for {destination.name} cannot be read: {error.strerror}"
        ) from error
