"""C-ECHO and C-STORE as a service: who may call, and what is answered.

References
----------
DICOM PS3.4 Annex B (storage service class, table B.2-1: statuses), PS3.8 9.3.4 (reasons of rejection).
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from io import BytesIO
from typing import Protocol

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID

from dicom_adapter.config.dicom_blocks import Scp
from dicom_adapter.dimse.pdus import IMPLEMENTATION_UID, IMPLEMENTATION_VERSION
from dicom_adapter.scp.admission import Admission, is_known, who_may_not
from dicom_adapter.scp.association import AcceptedAssociation, Ending, Services, StoreRequest
from dicom_adapter.scp.association_request import read_titles
from dicom_adapter.scp.listener import Listener
from dicom_adapter.scp.negotiation import (
    BY_ACSE,
    BY_PRESENTATION,
    LIMIT_EXCEEDED,
    PERMANENT,
    TRANSIENT,
    VERSION_NOT_SUPPORTED,
    Rejection,
)
from dicom_adapter.scp.pdu_stream import Pace
from dicom_adapter.scp.pending import ListenerCallbacks, RequestAnswer
from dicom_adapter.scp.tls import TlsFiles
from dicom_adapter.storage.disk_space import DiskFullError
from dicom_adapter.storage.instance_header import read_header
from dicom_adapter.storage.paths import checked_uid
from dicom_adapter.storage.receiver import InstanceReceiver, KeptInstance
from dicom_adapter.storage.spool import SpooledDataSet
from dicom_adapter.supervision.supervisor import Supervisor
from dicom_files.file_meta import encoded_meta
from stages.errors import InputError, SettingsError, StageError

logger = logging.getLogger(__name__)

_SUCCESS, _OUT_OF_RESOURCES, _MISMATCH, _NOT_UNDERSTOOD = 0x0000, 0xA700, 0xA900, 0xC000
_FAILED, _NOT_AUTHORISED, _INVALID = 0x0110, 0x0124, 0x0115  # PS3.7 annex C
_PARTING_S, _CUTTING_S = 3.0, 2.0
_OTHER_VERSION = Rejection(
    result=PERMANENT, source=BY_ACSE, reason=VERSION_NOT_SUPPORTED, words="protocol version not supported"
)
_TOO_MANY = Rejection(
    result=TRANSIENT,
    source=BY_PRESENTATION,
    reason=LIMIT_EXCEEDED,
    words="local limit of associations exceeded",
)


class ScpObserver(Protocol):
    """What hears of what comes; called by the associations' threads."""

    def opened(self, association: int, ae_title: str, caller: str, *, address: str) -> None:
        """Note that somebody has called one of our names.

        Parameters
        ----------
        association, ae_title, caller
            Its number, the name that was called and the AE title of who calls.
        address
            The peer's IP address.
        """

    def rejected(self, ae_title: str, caller: str, reason: str, *, address: str) -> None:
        """Note that somebody may not.

        Parameters
        ----------
        ae_title, caller
            The name that was called and the AE title of who calls.
        reason
            Why, a sentence.
        address
            The peer's IP address.
        """

    def kept(self, association: int, kept: KeptInstance) -> None:
        """Note an instance that is on disk, and will be acknowledged.

        Parameters
        ----------
        association, kept
            Its number and the instance.
        """

    def refused(self, association: int, status: int, reason: str) -> None:
        """Note an instance that was not taken.

        Parameters
        ----------
        association, status
            Its number and the status of the C-STORE response.
        reason
            Why, a sentence.
        """

    def closed(self, association: int, *, is_released: bool) -> None:
        """Note that an association is over, and whether its peer has said that it was done.

        Parameters
        ----------
        association, is_released
            Its number and whether the peer released it.
        """

    def ended(self, ending: Ending, reason: str, *, address: str) -> None:
        """Note how a connection ended, also one that never was an association.

        Parameters
        ----------
        ending
            How.
        reason
            Why, a sentence.
        address
            The peer's IP address.
        """

    def catch_up(self, *, all_of_it: bool = False) -> None:
        """Sum up what happened too often to be logged each time; called every few seconds, and at the end.

        Parameters
        ----------
        all_of_it
            Whether this is the end, so that nothing is left for later.
        """


class StorageScp:
    """Listens, until it is stopped.

    Parameters
    ----------
    config
        Returns the configuration as it is now.
    receiver
        Keeps the instances.
    observer
        Is told what happens.
    report
        Takes a report on storage commitment, the AE title and the address of who sends it, and returns the
        status to answer with.
    reporters
        Who may call for these alone, and has nothing to store, beside those of `config`.
    supervisor
        Watches the thread that listens; None for one of its own.
    """

    def __init__(
        self,
        config: Callable[[], Scp],
        receiver: InstanceReceiver,
        observer: ScpObserver,
        *,
        report: Callable[[Dataset, str, str], int] | None = None,
        reporters: Callable[[], Scp] | None = None,
        supervisor: Supervisor | None = None,
    ) -> None:
        self._config = config
        self._receiver = receiver
        self._observer = observer
        self._take_report = report
        self._reporters = reporters
        self._reporting: set[int] = set()
        self._admission = Admission(config)
        self._listener: Listener | None = None
        self._supervisor = supervisor or Supervisor()
        self._lock = threading.Lock()
        self._open: dict[AcceptedAssociation, bool] = {}

    @property
    def port(self) -> int:
        """Where it listens, once it does."""
        assert self._listener is not None, "it was started"
        return self._listener.port

    @property
    def waiting(self) -> int:
        """How many connections have not asked for an association yet."""
        return self._listener.waiting if self._listener else 0

    def start(self) -> None:
        """Begin to listen.

        Raises
        ------
        SettingsError
            If the address is taken, or TLS's files are not usable.
        """
        config = self._config()
        tls_files = TlsFiles()
        if config.tls.enabled:
            tls_files.context(config.tls)  # says at the start what is wrong
        callbacks = ListenerCallbacks(
            is_secured=lambda: self._config().tls.enabled,
            secure=lambda: tls_files.context(self._config().tls),
            is_known=lambda address: is_known(self._config(), address),
            judge=self._judge,
            turned_away=lambda address, ending, why: self._observer.ended(ending, why, address=address),
            catch_up=self._observer.catch_up,
            most=lambda: self._config().max_waiting,
            patience_s=lambda: self._config().request_seconds,
        )
        try:
            self._listener = Listener(config.host, config.port, callbacks)
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {config.host}:{config.port}: {error.strerror or error}; "
                "is another adapter running?"
            ) from error
        self._listener.start(self._supervisor)

    def stop(self) -> None:
        """Take no more calls and abort the associations that are open, within 5 s whatever their peers do."""
        if self._listener is None:
            return
        self._listener.close(_CUTTING_S)
        for end, seconds in (
            (lambda each: each.end("the adapter stops"), _PARTING_S),
            (AcceptedAssociation.cut, _CUTTING_S),
        ):
            with self._lock:
                still_open = list(self._open)
            for each in still_open:
                end(each)
            until = time.monotonic() + seconds
            for each in still_open:
                each.wait(max(0.0, until - time.monotonic()))
        self._observer.catch_up(all_of_it=True)

    # Who may come in

    def _judge(self, connection: socket.socket, address: str, pdu: bytes) -> RequestAnswer:
        config, titles = self._config(), read_titles(pdu)
        called = titles.called or config.blank_called_as or ""
        caller = titles.calling or config.blank_calling_as or ""
        if not titles.is_version_1:
            return self._rejected(_OTHER_VERSION, called, caller, address)
        why = who_may_not(config, called, caller, address)
        reports = self._reporters() if why and self._reporters else None
        reports_only = reports is not None and who_may_not(reports, called, caller, address) is None
        if why and not reports_only:
            return self._rejected(why, called, caller, address)
        association = AcceptedAssociation(
            connection, address, called=called, caller=caller, services=self._services(config)
        )
        if not self._admission.enter(association):
            return self._rejected(_TOO_MANY, called, caller, address)
        with self._lock:
            self._open[association] = True
            if reports_only:
                self._reporting.add(association.number)
        self._observer.opened(association.number, called, caller, address=address)
        return association

    def _rejected(self, rejection: Rejection, called: str, caller: str, address: str) -> bytes:
        self._observer.rejected(called, caller, rejection.words, address=address)
        return rejection.encoded()

    def _services(self, config: Scp) -> Services:
        return Services(
            store=self._store,
            report=self._report,
            spool=lambda request: self._receiver.spool(_meta(request), request.transfer_syntax),
            ended=self._ended,
            max_pdu=config.max_pdu,
            pace=Pace(idle_s=config.idle_seconds, least_rate=config.least_rate),
        )

    def _ended(self, association: AcceptedAssociation, ending: Ending, why: str) -> None:
        self._admission.leave(association)
        with self._lock:
            self._open.pop(association, None)
            self._reporting.discard(association.number)
        self._observer.closed(association.number, is_released=ending == "released")
        self._observer.ended(ending, why, address=association.address)

    # What they want

    def _report(self, data: bytes, syntax: str, caller: str, address: str) -> int:
        if self._take_report is None:
            return _FAILED
        try:
            content = read_dataset(
                BytesIO(data), is_implicit_VR=UID(syntax).is_implicit_VR, is_little_endian=True
            )
        except Exception as error:  # pydicom raises anything on a broken data set
            logger.warning("a report on storage commitment cannot be read: %s", type(error).__name__)
            return _INVALID
        try:
            return self._take_report(content, caller, address)
        except Exception:  # a border: the association goes on
            logger.exception("a report on storage commitment could not be taken")
            return _FAILED

    def _store(self, request: StoreRequest) -> int:
        status, reason = _FAILED, ""
        if request.association in self._reporting:
            reason = f"{request.caller} may report to {request.called}, but not store: it is no source"
            self._observer.refused(request.association, _NOT_AUTHORISED, reason)
            return _NOT_AUTHORISED
        try:
            kept = self._keep(request)
        except DiskFullError as error:
            status, reason = _OUT_OF_RESOURCES, str(error)
        except _MismatchError as error:
            status, reason = _MISMATCH, str(error)
        except InputError as error:
            status, reason = _NOT_UNDERSTOOD, str(error)
        except StageError as error:
            reason = str(error)
        else:
            self._observer.kept(request.association, kept)
            return _SUCCESS
        self._observer.refused(request.association, status, reason)
        return status

    def _keep(self, request: StoreRequest) -> KeptInstance:
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


def _meta(request: StoreRequest) -> bytes:
    """Return the file meta information (PS3.10 7.1): its variable part is four short texts."""
    return encoded_meta(
        sop_class_uid=request.sop_class_uid,
        sop_instance_uid=request.sop_instance_uid,
        transfer_syntax=request.transfer_syntax,
        implementation_class_uid=IMPLEMENTATION_UID,
        implementation_version=IMPLEMENTATION_VERSION,
        source_ae_title=request.caller.encode("ascii", "replace").replace(b"\\", b"?")[:16],
    )
