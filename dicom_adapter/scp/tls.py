"""Certificates and keys that the listening side secures connections with."""

from __future__ import annotations

import logging
import os
import ssl
from pathlib import Path

from dicom_adapter.config.dicom_blocks import ScpTls
from stages.errors import SettingsError

logger = logging.getLogger(__name__)


class TlsFiles:
    """Certificates and keys as they lie there now; those that can be used no more leave the earlier ones."""

    def __init__(self) -> None:
        self._context: ssl.SSLContext | None = None
        self._seen: object = None

    def context(self, tls: ScpTls) -> ssl.SSLContext:
        """Return what the next connection is secured with.

        Raises
        ------
        SettingsError
            If a file cannot be used, and none ever could.
        """
        seen = tls, *map(_version_of, (tls.certificate, tls.key, tls.client_certificates))
        if self._context is not None and seen == self._seen:
            return self._context
        try:
            self._context = tls_context(tls)
        except SettingsError as error:
            if self._context is None:
                raise
            logger.error("%s; the earlier ones are used until they can be", error)
        self._seen = seen
        return self._context


def _version_of(file: str) -> tuple[int, ...]:
    try:
        found = os.stat(file)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def tls_context(tls: ScpTls) -> ssl.SSLContext:
    """Return what the listening side secures a connection with.

    Raises
    ------
    SettingsError
        If a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # PS3.15 B.12, BCP 195
    for file in filter(None, (tls.certificate, tls.key, tls.client_certificates)):
        if not Path(file).is_file():  # another thing would keep whoever opens it waiting
            raise SettingsError(f"the TLS files of dicom.scp.tls cannot be used: {file} is no file")
    try:
        context.load_cert_chain(tls.certificate, tls.key, password="")  # never asked for at a terminal
        if tls.client_certificates:
            context.load_verify_locations(tls.client_certificates)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"the TLS files of dicom.scp.tls cannot be used: {error}") from error
    return context
