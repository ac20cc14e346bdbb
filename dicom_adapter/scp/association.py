"""Associations that others open with us, each served by one thread that waits for the wire.

References
----------
DICOM PS3.8 9.2 (the state machine: an acceptor reads, answers, and reads), PS3.7 9 and 10 (services), Annex C
(statuses of what is refused).
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from dicom_adapter.dimse import pdus
from dicom_adapter.dimse.commands import (
    C_ECHO,
    N_EVENT_REPORT,
    RESOURCE_LIMITATION,
    SUCCESS,
    Command,
    StoreCommand,
    read_command,
    read_store_command,
    refusal_of,
    response,
    store_response,
)
from dicom_adapter.dimse.pdus import ProtocolError
from dicom_adapter.scp import pdu_stream
from dicom_adapter.scp.association_request import AssociationRequest, read_request
from dicom_adapter.scp.messages import DataSet, MessageReader
from dicom_adapter.scp.negotiation import (
    AcceptedContext,
    acceptance,
    is_storage,
    negotiate,
    why_impossible,
)
from dicom_adapter.scp.pdu_stream import Incoming, Pace, SlowPeerError
from dicom_adapter.storage.spool import SpooledDataSet
from dicom_files.uids import StorageCommitmentPushModel, Verification

logger = logging.getLogger(__name__)

_RELEASE_RP = struct.pack(">BxLL", pdus.RELEASE_RP, 4, 0)
_KNOWN_PDUS = range(0x01, 0x08)
_ABORTING_S = 1.0
_LEAST_PDU = 7  # one value of one byte
_LARGEST_REPORT = 1 << 20
_NUMBERS = itertools.count(1)

Ending: TypeAlias = str
"""How a connection ended, one of `dicom_adapter.observability.metrics.ENDINGS`."""


@dataclass(frozen=True, kw_only=True)
class StoreRequest:
    """An instance that a peer wants to be kept.

    Attributes
    ----------
    association
        Tells those of one association from others'.
    called
        The AE title that is called.
    caller
        The AE title of who calls.
    sop_class_uid
        Of the instance.
    sop_instance_uid
        Of the instance.
    transfer_syntax
        The UID of the encoding.
    data
        The data set as it came, valid until the request is answered.
    """

    association: int
    called: str
    caller: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    data: DataSet


@dataclass(frozen=True, kw_only=True)
class Services:
    """What an association is served with.

    Attributes
    ----------
    store
        Keeps an instance, and returns the status to answer with.
    report
        Takes a report on storage commitment, its transfer syntax, and the caller's AE title and address;
        returns the status to answer with.
    spool
        Returns where the data set of a request goes that is too large for memory.
    ended
        Told when an association is over, how, and in words why.
    max_pdu
        The longest P-DATA that we ask for, bytes.
    pace
        How slow a peer may be.
    """

    store: Callable[[StoreRequest], int]
    report: Callable[[bytes, str, str, str], int]
    spool: Callable[[StoreRequest], SpooledDataSet]
    ended: Callable[[AcceptedAssociation, Ending, str], None]
    max_pdu: int
    pace: Pace


class AcceptedAssociation:
    """An association that is opened with us.

    Parameters
    ----------
    connection
        What it is spoken over; closed in the end.
    address
        The peer's IP address.
    called, caller
        AE titles that were let in.
    services
        What it is served with.
    """

    def __init__(
        self, connection: socket.socket, address: str, *, called: str, caller: str, services: Services
    ) -> None:
        self.number = next(_NUMBERS)
        self.has_spoken = False
        self.address = address
        self._connection, self._services = connection, services
        self._called, self._caller = called, caller
        self._contexts: dict[int, AcceptedContext] = {}
        self._largest_answer = 0
        self._is_unwanted = ""
        self._is_over = threading.Event()

    def serve(self, pdu: bytes) -> None:
        """Answer the request for the association and serve it, until one side ends it.

        Parameters
        ----------
        pdu
            The A-ASSOCIATE-RQ, whole.
        """
        ending, why = "broken", ""
        try:
            ending, why = self._serve(read_request(pdu), Incoming(self._connection, self._services.pace))
        except ProtocolError as error:
            why = str(error)
            self._abort(pdus.BY_PROVIDER, error.reason)
        except SlowPeerError as error:
            ending, why = "slow", str(error)
            self._abort(pdus.BY_PROVIDER, pdus.NO_REASON)
        except (OSError, EOFError) as error:
            ending, why = "lost", f"the connection is lost: {error}"
        except Exception:  # a border: this peer's association ends, the others' go on
            logger.exception("aborted the association with %s", self.address)
            self._abort(pdus.BY_PROVIDER, pdus.NO_REASON)
        finally:
            self._services.ended(self, ending, why)
            pdu_stream.linger_close(self._connection)
            self._is_over.set()

    def cancel(self) -> None:
        """Forget it, since no thread could be started."""
        self._services.ended(self, "broken", "no thread could be started")
        self._is_over.set()

    def end(self, why: str) -> None:
        """Abort it as soon as its thread comes to it, for which it is woken; called by other threads.

        Parameters
        ----------
        why
            The reason, a sentence.
        """
        self._is_unwanted = why
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._connection, socket.SHUT_RD)  # TLS and all

    def cut(self) -> None:
        """Cut the connection, whatever its thread is doing."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._connection, socket.SHUT_RDWR)

    def wait(self, seconds: float) -> bool:
        """Return whether it is over within so many seconds.

        Parameters
        ----------
        seconds
            Seconds.
        """
        return self._is_over.wait(seconds)

    def _serve(self, request: AssociationRequest, incoming: Incoming) -> tuple[Ending, str]:
        if impossible := why_impossible(request):
            self._write(impossible.encoded())
            return "rejected", impossible.words
        if 0 < request.largest_pdu < _LEAST_PDU:
            raise ProtocolError("the peer takes no PDU that could hold anything", pdus.INVALID_PARAMETER)
        self._contexts, results = negotiate(request)
        self._largest_answer = request.largest_pdu
        self._write(acceptance(request, self._contexts, results, max_pdu=self._services.max_pdu))
        incoming.message_ended()
        with contextlib.closing(MessageReader(incoming, self._spool)) as messages:
            return self._listen(incoming, messages)

    def _spool(self, context_id: int, request: StoreCommand) -> SpooledDataSet:
        context = self._contexts.get(context_id)
        if context is None:
            raise ProtocolError(f"presentation context {context_id} was not accepted", pdus.INVALID_PARAMETER)
        return self._services.spool(self._store_request(request, context.transfer_syntax, memoryview(b"")))

    def _listen(self, incoming: Incoming, messages: MessageReader) -> tuple[Ending, str]:
        largest = max(pdus.LARGEST_PDU, self._services.max_pdu)
        while not self._is_unwanted and (pdu := incoming.pdu(largest)) is not None:
            kind, length, _ = pdu
            if kind == pdus.P_DATA and length:
                for context_id, command, data in messages.read(length):
                    self._answer(context_id, command, data)
                    incoming.message_ended()
            elif kind == pdus.RELEASE_RQ:
                self._write(_RELEASE_RP)
                return "released", "within a message" if messages.is_within else ""
            elif kind == pdus.ABORT:
                return "aborted", "within a message" if messages.is_within else ""
            else:
                raise _misplaced(kind, length)
        if self._is_unwanted:
            self._abort(pdus.BY_USER, pdus.NO_REASON)
            return "ended", self._is_unwanted
        return "lost", "the peer has hung up"

    def _answer(self, context_id: int, encoded: bytes, data: DataSet) -> None:
        context = self._contexts.get(context_id)
        if context is None:
            raise ProtocolError(f"presentation context {context_id} was not accepted", pdus.INVALID_PARAMETER)
        self.has_spoken = True
        store = read_store_command(encoded)
        if store is not None and is_storage(context.abstract_syntax):
            status = self._services.store(self._store_request(store, context.transfer_syntax, data))
            answer = store_response(store, status)
        else:
            command = read_command(encoded)
            if command is None:
                raise ProtocolError("a message that cannot be read", pdus.INVALID_PARAMETER)
            if not command.is_answered:
                return  # there is nothing of ours that it could mean
            answer = response(command, self._status(command, context, data))
        for each in pdus.fragments(
            context_id, answer, largest=self._largest_answer, is_command=True, is_last=True
        ):
            self._write(each)

    def _status(self, command: Command, context: AcceptedContext, data: DataSet) -> int:
        """Return what is answered to a command other than C-STORE where objects are stored."""
        if (command.field, context.abstract_syntax) == (C_ECHO, Verification):
            return SUCCESS
        if (command.field, context.abstract_syntax) == (N_EVENT_REPORT, StorageCommitmentPushModel):
            if not isinstance(data, memoryview) or len(data) > _LARGEST_REPORT:
                return RESOURCE_LIMITATION
            return self._services.report(bytes(data), context.transfer_syntax, self._caller, self.address)
        return refusal_of(command.field)

    def _store_request(self, request: StoreCommand, syntax: str, data: DataSet) -> StoreRequest:
        return StoreRequest(
            association=self.number,
            called=self._called,
            caller=self._caller,
            sop_class_uid=request.sop_class_uid,
            sop_instance_uid=request.sop_instance_uid,
            transfer_syntax=syntax,
            data=data,
        )

    def _abort(self, source: int, reason: int) -> None:
        with contextlib.suppress(OSError):
            pdu_stream.write(self._connection, pdus.abort(source, reason), _ABORTING_S)

    def _write(self, data: bytes) -> None:
        pdu_stream.write(self._connection, data, self._services.pace.idle_s)


def _misplaced(kind: int, length: int) -> ProtocolError:
    if kind == pdus.P_DATA:
        return ProtocolError(f"a P-DATA of {length} bytes", pdus.INVALID_PARAMETER)
    if kind in _KNOWN_PDUS:
        return ProtocolError(f"PDU type {kind:#04x} within an association", pdus.UNEXPECTED_PDU)
    return ProtocolError(f"PDU type {kind:#04x}", pdus.UNRECOGNISED_PDU)
