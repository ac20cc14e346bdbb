"""How each destination of the configuration is reached."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from dicom_adapter.config.dicom_blocks import Destination, DestinationTls, Scu
from dicom_adapter.delivery.answers import DestinationError, Sender
from dicom_adapter.delivery.association import Peer
from dicom_adapter.delivery.connection import DestinationConnections
from dicom_adapter.delivery.query import found_by_query
from dicom_adapter.delivery.store_scu import StoreScu
from dicom_adapter.delivery.stow import StowClient
from dicom_adapter.storage.results import ResultFile


def sender_to(destination: Destination, scu: Scu, connections: DestinationConnections) -> Sender:
    """Return what sends to a destination: STOW-RS where it has a URL, C-STORE otherwise.

    Parameters
    ----------
    destination, scu
        The destination and our side of deliveries.
    connections
        Where its connections are known, so that a stop ends them.

    Raises
    ------
    DestinationError
        If a certificate, a key or a token cannot be read.
    """
    if not destination.dicomweb:
        return StoreScu(peer=peer_of(destination, scu, connections))
    return stow_client(destination, scu, connections)


def found_at(
    destination: Destination, scu: Scu, connections: DestinationConnections, results: Sequence[ResultFile]
) -> set[str] | None:
    """Return the SOPInstanceUIDs that a destination has of some results; None if it cannot be asked.

    It is asked by QIDO-RS where it has a URL, by C-FIND otherwise.

    Parameters
    ----------
    destination, scu
        The destination and our side of deliveries.
    connections
        Makes the connections to destinations, and closes them.
    results
        The files.

    Raises
    ------
    DestinationError
        If it cannot be reached or went away.
    """
    if destination.dicomweb:
        return stow_client(destination, scu, connections).found(results)
    return found_by_query(peer_of(destination, scu, connections), results)


def stow_client(destination: Destination, scu: Scu, connections: DestinationConnections) -> StowClient:
    """Return a destination as a DICOMweb service.

    Parameters
    ----------
    destination
        One with a URL.
    scu
        How we call others.
    connections
        Where its connections are known, so that a stop ends them.

    Raises
    ------
    DestinationError
        If a certificate, a key or the token cannot be read.
    """
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
        slowest_rate=scu.slowest_rate,
        connections=connections,
    )


def peer_of(destination: Destination, scu: Scu, connections: DestinationConnections) -> Peer:
    """Return a destination as a DICOM application.

    Parameters
    ----------
    destination, scu
        The destination and our side of deliveries.
    connections
        Where its connections are known, so that a stop ends them.

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
        slowest_rate=scu.slowest_rate,
        connections=connections,
    )


def require_readable(destination: Destination) -> None:
    """Look whether the certificates, the key and the token of a destination can be used now.

    Raises
    ------
    DestinationError
        If one cannot be read.
    """
    if destination.dicomweb_token:
        _token(destination)
    if tls := _tls_of(destination):
        _context(destination, tls)


def address_of(destination: Destination) -> str:
    """Return where a destination is, for people."""
    host = f"[{destination.host_ip}]" if ":" in destination.host_ip else destination.host_ip
    return destination.dicomweb or f"{host}:{destination.port}"


def _tls_of(destination: Destination) -> DestinationTls | None:
    tls = DestinationTls() if destination.tls is True else destination.tls
    return tls if isinstance(tls, DestinationTls) and tls.enabled else None


def _context(destination: Destination, tls: DestinationTls) -> ssl.SSLContext:
    for file in filter(None, (tls.authorities, tls.certificate, tls.key)):
        if not Path(file).is_file():  # another thing would keep whoever opens it waiting
            raise DestinationError(
                f"the certificates for {destination.name} cannot be used: {file} is no file"
            )
    try:
        context = ssl.create_default_context(cafile=tls.authorities or None)
        if tls.certificate:
            no_question = ""  # a key with a passphrase is refused; nobody is asked for it at a terminal
            context.load_cert_chain(tls.certificate, tls.key or None, password=no_question)
    except OSError as error:
        raise DestinationError(
            f"the certificates for {destination.name} cannot be used: {error.strerror or error}"
        ) from error
    return context


def _token(destination: Destination) -> str:
    file = Path(destination.dicomweb_token)
    if file.exists() and not file.is_file():
        raise DestinationError(f"the token for {destination.name} cannot be read: {file} is no file")
    try:
        token = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", "") or "it is not ASCII"
        raise DestinationError(f"the token for {destination.name} cannot be read: {why}") from error
    if not token.isprintable():
        raise DestinationError(f"the token for {destination.name} has more than one line")
    return token
