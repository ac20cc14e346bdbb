"""C-ECHO and C-STORE as a service: who may call, and what is answered.

References
----------
DICOM PS3.4 Annex B (storage service class, table B.2-1: statuses), PS3.8 9.3.4 (reasons of rejection).
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable
from typing import Any, Protocol

from pynetdicom import AE, _config, evt
from pynetdicom.presentation import AllStoragePresentationContexts
from pynetdicom.sop_class import Verification

from dicom_adapter.config_blocks import Scp, ScpTls
from dicom_adapter.places import checked_uid
from dicom_adapter.receiving.associations import AssociationServer, StoreRequest
from dicom_adapter.receiving.file_meta import file_meta
from dicom_adapter.receiving.headers import read_header
from dicom_adapter.receiving.receive import Kept, Receiver
from dicom_adapter.receiving.room import FullError
from dicom_adapter.receiving.spool import SpooledDataSet
from dicom_adapter.receiving.transfer_syntaxes import TRANSFER_SYNTAXES
from stages.errors import InputError, SettingsError, StageError

logger = logging.getLogger(__name__)

_config.UNRESTRICTED_STORAGE_SERVICE = True  # private and future storage SOP classes too
_config.LOG_HANDLER_LEVEL = "none"  # texts of each message, which nobody reads
_SUCCESS, _OUT_OF_RESOURCES, _MISMATCH, _NOT_UNDERSTOOD = 0x0000, 0xA700, 0xA900, 0xC000
_FAILED, _NOT_AUTHORISED = 0x0110, 0x0124  # PS3.7 annex C
_PERMANENT, _BY_USER = 0x01, 0x01
_CALLING_UNKNOWN, _CALLED_UNKNOWN = 0x03, 0x07


class Watcher(Protocol):
    """What is told of what comes; called by the associations' threads."""

    def opened(self, association: int, ae_title: str, caller: str, *, address: str) -> None:
        """Note that somebody has called one of our names."""

    def rejected(self, ae_title: str, caller: str, reason: str, *, address: str) -> None:
        """Note that somebody may not."""

    def kept(self, association: int, kept: Kept) -> None:
        """Note an instance that is on disk, and will be acknowledged."""

    def refused(self, association: int, status: int, reason: str) -> None:
        """Note an instance that was not taken."""

    def closed(self, association: int) -> None:
        """Note that an association is over, whichever way."""


class StorageScp:
    """Listens, until it is stopped.

    Parameters
    ----------
    others
        Handlers of other services (pairs of event and function), such as reports on storage commitment,
        with their presentation contexts.
    reporters
        Who may call for these alone, and has nothing to store, beside those of `config`.
    """

    def __init__(
        self,
        config: Callable[[], Scp],
        receiver: Receiver,
        watcher: Watcher,
        *,
        others: tuple[tuple[Any, Callable[[Any], Any]], ...] = (),
        other_contexts: tuple[str, ...] = (),
        reporters: Callable[[], Scp] | None = None,
    ) -> None:
        self._config = config
        self._receiver = receiver
        self._watcher = watcher
        self._others = others
        self._other_contexts = other_contexts
        self._reporters = reporters
        self._reporting: set[int] = set()
        self._server: Any = None

    @property
    def port(self) -> int:
        """Where it listens, once it does."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to listen.

        Raises
        ------
        SettingsError
            If the address is taken, or TLS's files are not usable.
        """
        config = self._config()
        entity = AE(ae_title="ANY-SCP")
        entity.maximum_associations = config.max_associations
        entity.maximum_pdu_size = config.max_pdu
        entity.network_timeout = entity.dimse_timeout = config.idle_seconds
        entity.add_supported_context(Verification)
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(context.abstract_syntax, TRANSFER_SYNTAXES)
        for uid in self._other_contexts:
            entity.add_supported_context(uid, scu_role=True, scp_role=True)
        handlers = [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_C_ECHO, lambda event: _SUCCESS),
            (evt.EVT_CONN_CLOSE, self._closed),
            *self._others,
        ]
        tls_context(config.tls)  # says at the start what is wrong
        try:
            self._server = entity.make_server(
                (config.host, config.port),
                contexts=entity.supported_contexts,
                evt_handlers=handlers,
                server_class=AssociationServer,
                store=self._store,
                spool=lambda request: self._receiver.spool(_meta(request), request.transfer_syntax),
                secure=lambda: tls_context(self._config().tls),
                idle_s=config.idle_seconds,
            )
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {config.host}:{config.port}: {error.strerror or error}; "
                "is another adapter running?"
            ) from error
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="listens", daemon=True).start()

    def stop(self) -> None:
        """Take no more calls; associations that are open are aborted."""
        if self._server is not None:
            self._server.shutdown()
            for association in self._server.active_associations:
                association.abort(block=False)

    def _requested(self, event: Any) -> None:
        request = event.assoc.requestor.primitive
        called, caller = request.called_ae_title.strip(), request.calling_ae_title.strip()
        address = str(event.assoc.requestor.address)
        why = who_may_not(self._config(), called, caller, address)
        if why and self._reporters and not who_may_not(self._reporters(), called, caller, address):
            self._reporting.add(id(event.assoc))
            why = None
        if why is None:
            self._watcher.opened(id(event.assoc), called, caller, address=address)
            return
        diagnostic, reason = why
        self._watcher.rejected(called, caller, reason, address=address)
        event.assoc.acse.send_reject(_PERMANENT, _BY_USER, diagnostic)

    def _closed(self, event: Any) -> None:
        self._reporting.discard(id(event.assoc))
        self._watcher.closed(id(event.assoc))

    def _store(self, request: StoreRequest) -> int:
        status, reason = _FAILED, ""
        if request.association in self._reporting:
            reason = f"{request.caller} may report to {request.called}, but not store: it is no source"
            self._watcher.refused(request.association, _NOT_AUTHORISED, reason)
            return _NOT_AUTHORISED
        try:
            kept = self._keep(request)
        except FullError as error:
            status, reason = _OUT_OF_RESOURCES, str(error)
        except _MismatchError as error:
            status, reason = _MISMATCH, str(error)
        except InputError as error:
            status, reason = _NOT_UNDERSTOOD, str(error)
        except StageError as error:
            reason = str(error)
        else:
            self._watcher.kept(request.association, kept)
            return _SUCCESS
        self._watcher.refused(request.association, status, reason)
        return status

    def _keep(self, request: StoreRequest) -> Kept:
        data = request.data
        if isinstance(data, SpooledDataSet):
            header = data.header()
        else:
            header = read_header(data, request.transfer_syntax)
        wanted = checked_uid(request.sop_instance_uid, "AffectedSOPInstanceUID")
        if (header.sop_instance_uid, header.sop_class_uid) != (wanted, request.sop_class_uid):
            raise _MismatchError("the data set has another SOP instance or class than the request")
        return self._receiver.keep(request.called, header, _meta(request), data)


class _MismatchError(InputError):
    """The request and its data set contradict each other."""


def who_may_not(config: Scp, called: str, caller: str, address: str) -> tuple[int, str] | None:
    """Return why somebody may not call: the standard's number (PS3.8 table 9-21) and words; None: may.

    Parameters
    ----------
    address
        Where the call comes from.
    """
    if called not in {each.ae_title for each in config.ae_titles}:
        return _CALLED_UNKNOWN, "called AE title not recognised"
    if not config.reject_unknown_sources:
        return None
    known = [each for each in config.sources if each.ae_title == caller]
    if not known:
        return _CALLING_UNKNOWN, "calling AE title not recognised"
    if any(each.host_ip in ("", address) for each in known):
        return None
    return _CALLING_UNKNOWN, "calling AE title comes from another host"


def tls_context(tls: ScpTls) -> ssl.SSLContext | None:
    """Return what the listening side secures a connection with; None without TLS.

    Raises
    ------
    SettingsError
        If a file cannot be used.
    """
    if not tls.enabled:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # PS3.15 B.12, BCP 195
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        if tls.client_certificates:
            context.load_verify_locations(tls.client_certificates)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"the TLS files of dicom.scp.tls cannot be used: {error}") from error
    return context


def _meta(request: StoreRequest) -> bytes:
    """Return the file meta information (PS3.10 7.1): its variable part is four short texts."""
    caller = request.caller.encode("ascii", "replace")[:16]
    return file_meta(request.sop_class_uid, request.sop_instance_uid, request.transfer_syntax, caller)
