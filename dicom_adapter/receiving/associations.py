"""Associations that others open with us, each served by one thread that waits for the wire.

pynetdicom serves an association by two threads that look for news every millisecond, and reads 4 KB at a
time; with twenty senders at once most of the time goes into that. Here its parts are used without its
threads: it decodes requests for an association, negotiates them, and serves every message but C-STORE.

References
----------
DICOM PS3.8 9.2 (the state machine: an acceptor reads, answers, and reads), PS3.7 9.3.1 (C-STORE).
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pynetdicom import evt
from pynetdicom.association import MODE_ACCEPTOR, Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import (
    A_ABORT_RQ,
    A_ASSOCIATE_AC,
    A_ASSOCIATE_RJ,
    A_ASSOCIATE_RQ,
    A_RELEASE_RP,
    P_DATA_TF,
)
from pynetdicom.pdu_primitives import A_ABORT, A_ASSOCIATE, P_DATA
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from dicom_adapter.receiving import wire
from dicom_adapter.receiving.commands import StoreCommand, read_store_command, store_response
from dicom_adapter.receiving.spool import SpooledDataSet
from dicom_adapter.receiving.wire import DataSet, Incoming, MessageReader, ProtocolError
from stages.errors import StageError

logger = logging.getLogger(__name__)

_HANDSHAKE_S = 10.0
_REQUEST_S = 10.0
_BEYOND_LIMIT = 64
_PERMANENT, _BY_ACSE_PROVIDER, _VERSION_NOT_SUPPORTED = 0x01, 0x02, 0x02


@dataclass(frozen=True, kw_only=True)
class StoreRequest:
    """An instance that a peer wants to be kept.

    Attributes
    ----------
    association
        Tells those of one association from others'.
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


class AssociationServer(ThreadedAssociationServer):  # type: ignore[misc]
    """Listens; each connection is secured and served by a thread of its own.

    Parameters
    ----------
    store
        Keeps an instance, and returns the status to answer with.
    spool
        Returns where the data set of a request goes that is too large for memory.
    secure
        Returns what a connection is secured with, or None.
    idle_s
        A peer that says nothing for so long is aborted.
    """

    request_queue_size = 128
    daemon_threads = True

    def __init__(
        self,
        *args: Any,
        store: Callable[[StoreRequest], int],
        spool: Callable[[StoreRequest], SpooledDataSet],
        secure: Callable[[], ssl.SSLContext | None],
        idle_s: float,
        **more: Any,
    ) -> None:
        self.store, self.spool, self.secure, self.idle_s = store, spool, secure, idle_s
        super().__init__(*args, request_handler=_Handler, **more)
        self.ae._servers.append(self)  # as start_server does; its associations are counted there

    def service_actions(self) -> None:
        """Leave the collection of garbage to Python; pynetdicom forces one every few seconds."""

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Tell whether a connection may try; beyond the associations allowed some may, to hear why not."""
        return bool(len(self.active_associations) < self.ae.maximum_associations + _BEYOND_LIMIT)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Secure a connection, in its own thread so that a slow peer keeps nobody waiting, and serve it."""
        try:
            context = self.secure()
            request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                request.settimeout(_HANDSHAKE_S)
                request = context.wrap_socket(request, server_side=True)
        except (OSError, StageError) as error:
            logger.warning("a connection from %s was not secured: %s", client_address[0], error)
            self.shutdown_request(request)
            return
        super().finish_request(request, client_address)


class _Handler(RequestHandler):  # type: ignore[misc]
    def _create_association(self) -> Association:
        """Return an association with what pynetdicom's own handler gives one."""
        server, entity = self.server, self.ae
        made = _Acceptor(entity, server, self.request)
        made.acceptor.maximum_length = entity.maximum_pdu_size
        made.acceptor.ae_title = server.ae_title
        made.acceptor.address_info = self.local
        made.acceptor.implementation_class_uid = entity.implementation_class_uid
        made.acceptor.implementation_version_name = entity.implementation_version_name
        made.acceptor.supported_contexts = server.contexts
        made.requestor.address_info = self.remote
        for event, bound in server._handlers.items():
            if event.is_intervention and bound:
                made.bind(event, *bound)
            elif isinstance(event, evt.NotificationEvent):
                for function, arguments in bound:
                    made.bind(event, function, arguments)
        return made


class _UpperLayer(DULServiceProvider):  # type: ignore[misc]
    """What pynetdicom's services send by; its thread is never started."""

    def send_pdu(self, primitive: Any) -> None:
        self.assoc.send(primitive)


class _Acceptor(Association):  # type: ignore[misc]
    """An association that is opened with us."""

    is_aborted: bool

    def __init__(self, entity: Any, server: AssociationServer, connection: socket.socket) -> None:
        super().__init__(entity, MODE_ACCEPTOR)
        self.name = f"AcceptorThread-{id(self):x}"  # pynetdicom finds a server's associations by the word
        self._server = server
        self._connection = connection
        self._incoming = Incoming(connection)
        self._sending = threading.Lock()
        self._is_over = False
        self.dul = _UpperLayer(self)

    @property
    def is_acceptor(self) -> bool:
        """Whether it counts as an association: not before the peer has asked for one, nor when it is over."""
        return self.requestor.primitive is not None and not self._is_over

    def run_reactor(self) -> None:
        """Negotiate the association and serve it, until one side ends it."""
        peer = self.requestor.address
        try:
            if self._is_accepted():
                self._serve()
        except ProtocolError as error:
            logger.warning("aborted the association with %s: %s", peer, error)
            self._abort(wire.BY_PROVIDER, error.reason)
        except (TimeoutError, BlockingIOError):
            logger.warning("aborted the association with %s: it was silent", peer)
            self._abort(wire.BY_PROVIDER, wire.NO_REASON)
        except (OSError, EOFError) as error:
            logger.info("the connection with %s is lost: %s", peer, error)
        except Exception:  # a border: this peer's association ends, the others' go on
            logger.exception("aborted the association with %s", peer)
            self._abort(wire.BY_PROVIDER, wire.NO_REASON)
        finally:
            self.is_established, self._is_over = False, True
            wire.part(self._connection)
            evt.trigger(self, evt.EVT_CONN_CLOSE, {"address": self.requestor.address_info.as_tuple})

    def send(self, primitive: Any) -> None:
        """Send what pynetdicom's services, or an abort from another thread, have to say."""
        if isinstance(primitive, P_DATA):
            self._write(P_DATA_TF(primitive).encode())
        elif isinstance(primitive, A_ASSOCIATE):
            answer = A_ASSOCIATE_RJ if primitive.result else A_ASSOCIATE_AC
            self._write(answer(primitive).encode())
        elif isinstance(primitive, A_ABORT):
            self._abort(wire.BY_USER, wire.NO_REASON)

    def _is_accepted(self) -> bool:
        """Answer the request for an association."""
        wire.limit_silence(self._connection, min(self._server.idle_s, _REQUEST_S))
        found = self._incoming.pdu(wire.LARGEST_PDU)
        wire.limit_silence(self._connection, self._server.idle_s)
        if found is None:
            return False
        kind, _, pdu = found
        if kind != wire.ASSOCIATE_RQ:
            raise ProtocolError(f"PDU type {kind:#04x} before an association", wire.UNEXPECTED_PDU)
        try:
            request = A_ASSOCIATE_RQ()
            request.decode(pdu)
            asked = request.to_primitive()
        except Exception as error:  # pynetdicom raises anything on a broken request
            raise ProtocolError(f"a request that cannot be read: {error}", wire.INVALID_PARAMETER) from error
        self.requestor.primitive = asked
        if not request.protocol_version & 1:
            self.acse.send_reject(_PERMANENT, _BY_ACSE_PROVIDER, _VERSION_NOT_SUPPORTED)
            return False
        evt.trigger(self, evt.EVT_REQUESTED, {})
        if not (self.is_aborted or self.is_rejected):
            self.acse.negotiate_association()
        return bool(self.is_established)

    def _serve(self) -> None:
        with contextlib.closing(MessageReader(self._incoming, self._spool)) as messages:
            self._listen(messages)

    def _spool(self, context_id: int, request: StoreCommand) -> SpooledDataSet:
        context = self._accepted_cx.get(context_id)
        if context is None:
            raise ProtocolError(f"presentation context {context_id} was not accepted", wire.INVALID_PARAMETER)
        return self._server.spool(self._store_request(request, context.transfer_syntax[0], memoryview(b"")))

    def _listen(self, messages: MessageReader) -> None:
        largest = max(wire.LARGEST_PDU, self.acceptor.maximum_length)
        while not self.is_aborted and (pdu := self._incoming.pdu(largest)) is not None:
            kind, length, _ = pdu
            if kind == wire.P_DATA:
                for context_id, command, data in messages.read(length):
                    self._answer(context_id, command, data)
            elif kind == wire.RELEASE_RQ:
                self._write(A_RELEASE_RP().encode())
                self.is_released = True
                evt.trigger(self, evt.EVT_RELEASED, {})
                return
            elif kind == wire.ABORT:
                self.is_aborted = True
                evt.trigger(self, evt.EVT_ABORTED, {})
            else:
                raise ProtocolError(f"PDU type {kind:#04x} in an association", wire.UNRECOGNISED_PDU)

    def _answer(self, context_id: int, command: bytes, data: DataSet) -> None:
        context = self._accepted_cx.get(context_id)
        if context is None:
            raise ProtocolError(f"presentation context {context_id} was not accepted", wire.INVALID_PARAMETER)
        request = read_store_command(command)
        if request is not None:
            status = self._server.store(self._store_request(request, context.transfer_syntax[0], data))
            self._write(wire.p_data(context_id, store_response(request, status)))
        elif isinstance(data, memoryview):
            self._give_to_pynetdicom(context_id, command, data)

    def _store_request(self, request: StoreCommand, syntax: str, data: DataSet) -> StoreRequest:
        asked = self.requestor.primitive
        return StoreRequest(
            association=id(self),
            called=asked.called_ae_title.strip(),
            caller=asked.calling_ae_title.strip(),
            sop_class_uid=request.sop_class_uid,
            sop_instance_uid=request.sop_instance_uid,
            transfer_syntax=str(syntax),
            data=data,
        )

    def _give_to_pynetdicom(self, context_id: int, command: bytes, data: memoryview) -> None:
        message = P_DATA()
        values = [[context_id, b"\x03" + command]]
        if data:
            values.append([context_id, b"\x02" + bytes(data)])
        message.presentation_data_value_list = values
        try:
            self.dimse.receive_primitive(message)
        except Exception as error:  # pydicom and pynetdicom raise anything on a broken command
            raise ProtocolError(f"a message that cannot be read: {error}", wire.INVALID_PARAMETER) from error
        found, request = self.dimse.get_msg(block=False)
        if request is not None:
            self._serve_request(request, found)
        elif self.dul.event_queue.queue:
            raise ProtocolError("a message that cannot be read", wire.INVALID_PARAMETER)

    def _abort(self, source: int, reason: int) -> None:
        """Say so, and let a thread that waits for the peer know."""
        self.is_aborted = True
        pdu = A_ABORT_RQ()
        pdu.source, pdu.reason_diagnostic = source, reason
        try:
            self._write(pdu.encode())
            self._connection.shutdown(socket.SHUT_RD)
        except OSError as error:
            logger.debug("an abort was not heard: %s", error)

    def _write(self, data: bytes) -> None:
        with self._sending:
            self._connection.sendall(data)
