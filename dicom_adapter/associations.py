"""Associations that others open with us: negotiated by pynetdicom, then served by one thread each.

pynetdicom serves an association by two threads that look for news every millisecond, and reads 4 KB at a
time; with twenty senders at once most of the time goes into that. Here one thread waits for the next PDU,
puts C-STORE requests together and answers them, and gives every other message to pynetdicom's own services.
What a peer may make us hold is bounded, before it is known who that is as well.

References
----------
DICOM PS3.8 9.3 (protocol data units), PS3.7 9.3.1 (C-STORE), PS3.8 Annex E (messages in P-DATA).
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pynetdicom import evt
from pynetdicom.association import MODE_ACCEPTOR, Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import A_ABORT_RQ, A_RELEASE_RP, P_DATA_TF
from pynetdicom.pdu_primitives import A_ABORT, P_DATA
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from dicom_adapter.commands import StoreCommand, has_data_set, read_store_command, store_response
from stages.errors import StageError

logger = logging.getLogger(__name__)

_P_DATA, _RELEASE_RQ, _ABORT = 0x04, 0x05, 0x07
_LARGEST_PDU = 1 << 20
_LARGEST_COMMAND = 1 << 16
_LARGEST_DATA = (1 << 32) - 1
_USUAL_DATA, _LARGEST_KEPT = 1 << 20, 1 << 26
_BY_PROVIDER, _UNRECOGNISED_PDU, _INVALID_PARAMETER = 0x02, 0x01, 0x06
_HANDSHAKE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class StoreRequest:
    """An instance that a peer wants to be kept.

    Attributes
    ----------
    association
        Tells those of one association from others'.
    data
        The data set as it came; valid until the request is answered.
    """

    association: int
    called: str
    caller: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    data: memoryview


class _ProtocolError(Exception):
    """A peer does what the standard does not allow."""

    def __init__(self, message: str, reason: int) -> None:
        super().__init__(message)
        self.reason = reason


class AssociationServer(ThreadedAssociationServer):  # type: ignore[misc]
    """Listens; each connection is secured and served by a thread of its own.

    Parameters
    ----------
    store
        Keeps an instance, and returns the status to answer with.
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
        secure: Callable[[], ssl.SSLContext | None],
        idle_s: float,
        **more: Any,
    ) -> None:
        self.store, self.secure, self.idle_s = store, secure, idle_s
        super().__init__(*args, request_handler=_Handler, **more)
        self.ae._servers.append(self)  # as start_server does; its associations are counted there

    def service_actions(self) -> None:
        """Leave the collection of garbage to Python; pynetdicom forces one every few seconds."""

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Secure a connection, in its own thread so that a slow peer keeps nobody waiting, and serve it."""
        try:
            context = self.secure()
            request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                request.settimeout(_HANDSHAKE_S)
                request = context.wrap_socket(request, server_side=True)
            request.settimeout(self.idle_s)
        except (OSError, StageError) as error:
            logger.warning("a connection from %s was not secured: %s", client_address[0], error)
            self.shutdown_request(request)
            return
        super().finish_request(request, client_address)


class _Handler(RequestHandler):  # type: ignore[misc]
    def _create_association(self) -> Association:
        made = _acceptor(self)
        made.set_socket(_Socket(made, client_socket=self.request))
        return made


def _acceptor(handler: RequestHandler) -> _Acceptor:
    """Return an association with what pynetdicom's own handler gives one."""
    server, entity = handler.server, handler.ae
    made = _Acceptor(entity, server)
    made.acceptor.maximum_length = entity.maximum_pdu_size
    made.acceptor.ae_title = server.ae_title
    made.acceptor.address_info = handler.local
    made.acceptor.implementation_class_uid = entity.implementation_class_uid
    made.acceptor.implementation_version_name = entity.implementation_version_name
    made.acceptor.supported_contexts = server.contexts
    made.requestor.address_info = handler.remote
    for event, bound in server._handlers.items():
        if event.is_intervention and bound:
            made.bind(event, *bound)
        elif isinstance(event, evt.NotificationEvent):
            for function, arguments in bound:
                made.bind(event, function, arguments)
    return made


class _Socket(AssociationSocket):  # type: ignore[misc]
    """Reads what was asked for at once, and no more than a negotiation needs."""

    def recv(self, nr_bytes: int) -> bytearray:
        if nr_bytes > _LARGEST_PDU or self.socket is None:
            raise OSError(f"a PDU of {nr_bytes} bytes before an association is refused")
        return read_exactly(self.socket, nr_bytes)

    def _shutdown_socket(self) -> None:
        """Close it also where the peer has hung up already."""
        if self.socket is not None:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()


class _Negotiation(DULServiceProvider):  # type: ignore[misc]
    """pynetdicom's upper layer until the association is established; it reads nothing after that."""

    def _is_transport_event(self) -> bool:
        if self.state_machine.current_state == "Sta6":
            return False
        return bool(super()._is_transport_event())

    def send_pdu(self, primitive: Any) -> None:
        if self.assoc.serving:
            self.assoc.send(primitive)
        else:
            super().send_pdu(primitive)


class _Acceptor(Association):  # type: ignore[misc]
    """An association that was opened with us."""

    def __init__(self, entity: Any, server: AssociationServer) -> None:
        super().__init__(entity, MODE_ACCEPTOR)
        self.serving = False
        self.name = f"AcceptorThread-{id(self):x}"  # pynetdicom finds a server's associations by the word
        self._server = server
        self._sending = threading.Lock()
        self.dul = _Negotiation(self)

    def send(self, primitive: Any) -> None:
        """Send what pynetdicom's service classes, or an abort from another thread, have to say."""
        if isinstance(primitive, P_DATA):
            self._write(P_DATA_TF(primitive).encode())
        elif isinstance(primitive, A_ABORT):
            self._abort(primitive.abort_source or 0, 0)

    def _run_reactor(self) -> None:
        """Serve the association once it is established."""
        while self.dul.to_provider_queue.queue or self.dul.event_queue.queue:
            self.dul.join(0.001)  # the acceptance is on its way
        self.serving = True
        self.dul.kill_dul()
        self.dul.join()
        wire = self.dul.socket.socket
        try:
            self._serve(wire)
        except _ProtocolError as error:
            logger.warning("aborted the association with %s: %s", self.requestor.address, error)
            self._abort(_BY_PROVIDER, error.reason)
        except TimeoutError:
            logger.warning("aborted the association with %s: it was silent", self.requestor.address)
            self._abort(_BY_PROVIDER, 0)
        except (OSError, EOFError) as error:
            logger.info("the connection with %s is lost: %s", self.requestor.address, error)
            self.is_aborted = True
        except Exception:  # a border: this peer's association ends, the others' go on
            logger.exception("aborted the association with %s", self.requestor.address)
            self._abort(_BY_PROVIDER, 0)
        finally:
            self.is_established = False
            self._kill = True
            evt.trigger(self, evt.EVT_CONN_CLOSE, {"address": self.requestor.address_info.as_tuple})

    def _serve(self, wire: socket.socket) -> None:
        message = _Message(wire)
        while (head := _read_head(wire, max(_LARGEST_PDU, self.acceptor.maximum_length))) is not None:
            kind, length = head
            if kind == _P_DATA:
                for context_id, command, data in message.read(length):
                    self._answer(context_id, command, data)
                if self.is_aborted:
                    return
            elif kind == _RELEASE_RQ:
                self._write(A_RELEASE_RP().encode())
                self.is_released = True
                evt.trigger(self, evt.EVT_RELEASED, {})
                return
            elif kind == _ABORT:
                self.is_aborted = True
                evt.trigger(self, evt.EVT_ABORTED, {})
                return
            else:
                raise _ProtocolError(f"PDU type {kind:#04x} in an association", _UNRECOGNISED_PDU)
        self.is_aborted = True

    def _answer(self, context_id: int, command: bytes, data: memoryview) -> None:
        context = self._accepted_cx.get(context_id)
        if context is None:
            raise _ProtocolError(f"presentation context {context_id} was not accepted", _INVALID_PARAMETER)
        request = read_store_command(command)
        if request is None:
            self._give_to_pynetdicom(context_id, command, data)
        else:
            status = self._server.store(self._store_request(request, context.transfer_syntax[0], data))
            self._write(_p_data(context_id, store_response(request, status)))

    def _store_request(self, request: StoreCommand, syntax: str, data: memoryview) -> StoreRequest:
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
            raise _ProtocolError(f"a message that cannot be read: {error}", _INVALID_PARAMETER) from error
        found, request = self.dimse.get_msg(block=False)
        if request is not None:
            self._serve_request(request, found)
        elif self.dul.event_queue.queue:
            raise _ProtocolError("a message that cannot be read", _INVALID_PARAMETER)

    def _abort(self, source: int, reason: int) -> None:
        """Say so, and let whoever waits for the peer know."""
        self.is_aborted = True
        pdu = A_ABORT_RQ()
        pdu.source, pdu.reason_diagnostic = source, reason
        try:
            self._write(pdu.encode())
            self.dul.socket.socket.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            logger.debug("an abort was not heard: %s", error)

    def _write(self, data: bytes) -> None:
        with self._sending:
            self.dul.socket.socket.sendall(data)


class _Message:
    """A message as its fragments come (PS3.8 Annex E); its data set is in a buffer that is used again."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire
        self._buffer = bytearray(_USUAL_DATA)
        self._command = bytearray()
        self._context = self._size = 0

    def read(self, length: int) -> Iterator[tuple[int, bytes, memoryview]]:
        """Read the body of a P-DATA, and give each message that is complete: context, command, data set."""
        while length:
            head = _all_of(self._wire, min(length, 6))
            if len(head) < 6 or not 2 <= (item := int.from_bytes(head[:4], "big")) <= length - 4:
                raise _ProtocolError("a presentation data value is cut", _INVALID_PARAMETER)
            length -= 4 + item
            if self._add(head[4], head[5], item - 2):
                with memoryview(self._buffer) as buffer, buffer[: self._size] as data:
                    yield head[4], bytes(self._command), data
                self._begin()

    def _add(self, context: int, header: int, size: int) -> bool:
        """Read a fragment, and tell whether it was the last of its message."""
        is_command, is_last = header & 1, header & 2
        if self._context not in (0, context) or (not is_command and not self._command):
            raise _ProtocolError("fragments of two messages are mixed", _INVALID_PARAMETER)
        self._context = context
        if not is_command:
            self._add_data(size)
            return bool(is_last)
        self._command += _all_of(self._wire, size)
        if self._size or len(self._command) > _LARGEST_COMMAND:
            raise _ProtocolError("a command that never ends", _INVALID_PARAMETER)
        return bool(is_last) and not has_data_set(self._command)

    def _add_data(self, size: int) -> None:
        end = self._size + size
        if end > _LARGEST_DATA:
            raise _ProtocolError("a data set that never ends", _INVALID_PARAMETER)
        if end > len(self._buffer):
            self._buffer.extend(bytes(max(end - len(self._buffer), len(self._buffer))))
        with memoryview(self._buffer) as buffer, buffer[self._size : end] as free:
            if _fill(self._wire, free) < size:
                raise EOFError("it ended within a PDU")
        self._size = end

    def _begin(self) -> None:
        self._command, self._context, self._size = bytearray(), 0, 0
        if len(self._buffer) > _LARGEST_KEPT:
            self._buffer = bytearray(_USUAL_DATA)


def read_exactly(wire: socket.socket, count: int) -> bytearray:
    """Return so many bytes, or fewer where the peer has hung up."""
    data = bytearray(count)
    with memoryview(data) as view:
        done = _fill(wire, view)
    del data[done:]
    return data


def _fill(wire: socket.socket, buffer: memoryview) -> int:
    """Read until a buffer is full or the peer has hung up; return how much was read."""
    done = 0
    while done < len(buffer) and (got := wire.recv_into(buffer[done:])):
        done += got
    return done


def _all_of(wire: socket.socket, count: int) -> bytearray:
    data = read_exactly(wire, count)
    if len(data) < count:
        raise EOFError("it ended within a PDU")
    return data


def _read_head(wire: socket.socket, largest: int) -> tuple[int, int] | None:
    """Return type and length of the next PDU; None where the peer has hung up between two.

    The body of a PDU other than P-DATA is read as well.
    """
    first = wire.recv(1)
    if not first:
        return None
    kind, length = first[0], int.from_bytes(_all_of(wire, 5)[1:], "big")
    if length > largest:
        raise _ProtocolError(f"a PDU of {length} bytes, more than was negotiated", _INVALID_PARAMETER)
    if kind != _P_DATA:
        _all_of(wire, length)
    return kind, length


def _p_data(context_id: int, command: bytes) -> bytes:
    return struct.pack(">BxLLBB", _P_DATA, len(command) + 6, len(command) + 2, context_id, 0x03) + command
