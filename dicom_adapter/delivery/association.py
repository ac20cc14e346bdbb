"""Associations that we open: one exchange after the other by the caller's own thread, each within its time.

pynetdicom reads a whole PDU in a thread of its own, which a peer that stops half-way holds for ever.

References
----------
DICOM PS3.8 9.2 (the state machine: a requestor asks, is answered, sends and reads), PS3.7 Annex D.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from dicom_adapter.delivery.answers import DestinationError
from dicom_adapter.delivery.connection import DestinationConnection, DestinationConnections
from dicom_adapter.dimse import commands, pdus
from dicom_adapter.dimse.pdus import Accepted, ProtocolError, pdu
from dicom_adapter.supervision.deadline import Deadline
from stages.errors import StageError

logger = logging.getLogger(__name__)

MOST_CONTEXTS = 128  # their numbers are odd and fit a byte
_RELEASE_S = 5.0
BUFFERED = 1 << 22  # bytes that may still be under way when the last was sent
_LARGEST_MESSAGE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A DICOM application that we call.

    Attributes
    ----------
    name
        What the configuration calls it.
    host, port, ae_title
        Where it listens, and under which name.
    calling_ae_title
        The name that we call it by.
    tls
        What the connection is secured with; None for a plain one.
    timeout_s
        Longest time for a connection with its TLS, and for the whole of each answer, seconds.
    slowest_rate
        What it takes of an instance at least, bytes a second, beside one `timeout_s`.
    connections
        Where ours are known, so that a stop ends them.
    """

    name: str
    host: str
    port: int
    ae_title: str
    calling_ae_title: str
    tls: ssl.SSLContext | None = None
    timeout_s: float = 30.0
    slowest_rate: int = 32768
    connections: DestinationConnections = field(
        default_factory=DestinationConnections, repr=False, compare=False
    )

    @property
    def place(self) -> str:
        """Who and where it is, for people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.name} ({self.ae_title} at {host}:{self.port})"


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message that came.

    Attributes
    ----------
    context
        Number of its presentation context.
    fields
        Its command set by element of group 0000.
    data
        Its data set as it came, b"" for none.
    """

    context: int
    fields: Mapping[int, bytes]
    data: bytes


class RequestedAssociation:
    """An association that a peer has accepted; made by `associated`.

    Parameters
    ----------
    peer
        The destination as a DICOM application.
    connection
        The connection.
    contexts
        Pairs of abstract and transfer syntax.
    accepted
        What the peer has accepted.
    """

    def __init__(
        self,
        peer: Peer,
        connection: DestinationConnection,
        contexts: Sequence[tuple[str, str]],
        accepted: Accepted,
    ) -> None:
        self.peer = peer
        self._connection, self._largest = connection, accepted.largest
        self._contexts = {
            (contexts[number // 2][0], syntax): number for number, syntax in accepted.syntaxes.items()
        }
        self._provided = accepted.provided
        self._waiting: list[tuple[int, int, bytes]] = []
        self._last_id = 0
        self.is_over = False

    def takes(self, abstract: str, syntax: str) -> bool:
        """Return whether the peer has accepted an abstract syntax with a transfer syntax.

        Parameters
        ----------
        abstract, syntax
            The UID of the abstract syntax and the UID of the transfer syntax.
        """
        return (abstract, syntax) in self._contexts

    def takes_any(self, abstract: str) -> bool:
        """Return whether the peer has accepted an abstract syntax at all.

        Parameters
        ----------
        abstract
            The UID of the abstract syntax.
        """
        return any(each == abstract for each, _ in self._contexts)

    def provides(self, abstract: str) -> bool:
        """Return whether the peer sends us objects of a SOP class.

        Parameters
        ----------
        abstract
            UID of the SOP class.
        """
        return abstract in self._provided and self.takes_any(abstract)

    def syntaxes_of(self, context: int) -> tuple[str, str]:
        """Return abstract and transfer syntax of a presentation context.

        Parameters
        ----------
        context
            Its number.

        Raises
        ------
        ProtocolError
            If it was not accepted.
        """
        for syntaxes, number in self._contexts.items():
            if number == context:
                return syntaxes
        raise ProtocolError(f"presentation context {context}, which it has not accepted")

    def call(
        self,
        abstract: str,
        syntax: str,
        kind: int,
        values: commands.Values,
        data: Iterable[bytes],
        *,
        size: int,
    ) -> int:
        """Send a request, and return its message ID.

        Parameters
        ----------
        abstract, syntax
            The UID of the abstract syntax and the UID of the transfer syntax.
        kind
            Command Field (0000,0100).
        values
            Further elements of the command set.
        data, size
            The data set in pieces, and how many bytes it has.
        """
        self._last_id = self._last_id % 0xFFFF + 1
        context = self._contexts[abstract, syntax]
        self._allow(size)
        self._send(context, commands.request(kind, self._last_id, values), is_command=True)
        before = b""
        for piece in data:
            if before:
                self._send(context, before, is_last=False)
            before = piece
        self._send(context, before)
        self._allow(min(size, BUFFERED))
        return self._last_id

    def _allow(self, size: int) -> None:
        """Set the deadline to the time of an answer, and of so many bytes before it."""
        seconds = self.peer.timeout_s + size / self.peer.slowest_rate
        self._connection.deadline = Deadline(round(seconds, 3))

    def answer(self, message: Message, status: int) -> None:
        """Answer a request of the peer.

        Parameters
        ----------
        message, status
            The request and the status.
        """
        command = commands.command_of(message.fields)
        if command is None:
            raise ProtocolError("it asks for something that cannot be answered")
        self._send(message.context, commands.response(command, status), is_command=True)

    def wait_at_most(self, seconds: float) -> None:
        """Set the time within which the next message must be there.

        Parameters
        ----------
        seconds
            Seconds.
        """
        self.wait_until(Deadline(seconds))

    def wait_until(self, deadline: Deadline) -> None:
        """Set until when the next message must be there.

        Parameters
        ----------
        deadline
            When it is over.
        """
        self._connection.deadline = deadline

    def response(self, to: int, kind: int) -> Message:
        """Return the peer's response to a request.

        Parameters
        ----------
        to, kind
            The message ID of the request and the Command Field of the response.

        Raises
        ------
        ProtocolError
            If it says something else.
        """
        message = self.message()
        require_response(message.fields, to, kind)
        return message

    def message(self) -> Message:
        """Return the next message.

        Raises
        ------
        ProtocolError
            If what comes is none, or longer than any answer.
        """
        head = self.command()
        return replace(head, data=self.data_of(head))

    def command(self) -> Message:
        """Return the next message without its data set, which is read by `pieces_of` or `data_of` then.

        Raises
        ------
        ProtocolError
            If what comes is none, or longer than any command set.
        """
        context, first, is_last = self._fragment(is_command=True, context=None)
        whole = bytearray(first)
        while not is_last:
            _, piece, is_last = self._fragment(is_command=True, context=context)
            _add(whole, piece)
        return Message(context=context, fields=commands.fields_of(bytes(whole)), data=b"")

    def data_of(self, head: Message) -> bytes:
        """Return the data set that follows a command set, b"" for none.

        Parameters
        ----------
        head
            What `command` has returned.

        Raises
        ------
        ProtocolError
            If it is longer than any answer.
        """
        whole = bytearray()
        for piece in self._pieces(head):
            _add(whole, piece)
        return bytes(whole)

    def pieces_of(self, head: Message) -> Iterator[bytes]:
        """Yield the data set that follows a command set, of any size; the time is extended by what comes.

        Parameters
        ----------
        head
            What `command` has returned.

        Raises
        ------
        ProtocolError
            If what comes is none.
        """
        for piece in self._pieces(head):
            self._connection.deadline.extend(len(piece) / self.peer.slowest_rate)
            yield piece

    def _pieces(self, head: Message) -> Iterator[bytes]:
        is_last = commands.number(head.fields, commands.DATA_SET_TYPE) == commands.NO_DATA_SET
        while not is_last:
            _, piece, is_last = self._fragment(is_command=False, context=head.context)
            yield piece

    def _fragment(self, *, is_command: bool, context: int | None) -> tuple[int, bytes, bool]:
        """Return the next fragment of a message, its context, and whether it is the last."""
        number, head, fragment = self._value()
        if bool(head & 1) is not is_command or context not in (None, number):
            raise ProtocolError("fragments of two messages are mixed")
        return number, fragment, bool(head & 2)

    def _value(self) -> tuple[int, int, bytes]:
        while not self._waiting:
            kind, body = _read_pdu(self._connection)
            if kind == pdus.ABORT:
                self.is_over = True
                raise ProtocolError(f"it aborted the association ({pdus.why_aborted(body)})")
            if kind == pdus.RELEASE_RQ:
                self._connection.sendall(pdu(pdus.RELEASE_RP, bytes(4)))
                self.is_over = True
                raise ProtocolError("it released the association before it had answered")
            if kind != pdus.P_DATA:
                raise ProtocolError(f"PDU type {kind:#04x} in place of an answer")
            self._waiting.extend(pdus.values_of(body))
        return self._waiting.pop(0)

    def release(self) -> None:
        """End it, and wait a little for the peer to agree; nothing depends on that."""
        self._connection.deadline = Deadline(min(_RELEASE_S, self.peer.timeout_s))
        self._connection.sendall(pdu(pdus.RELEASE_RQ, bytes(4)))
        while (kind := _read_pdu(self._connection)[0]) not in (pdus.RELEASE_RP, pdus.ABORT):
            if kind == pdus.RELEASE_RQ:  # at the same moment
                self._connection.sendall(pdu(pdus.RELEASE_RP, bytes(4)))

    def abort(self) -> None:
        """End it without asking."""
        self._connection.deadline = Deadline(min(1.0, self.peer.timeout_s))
        self._connection.sendall(pdus.abort(pdus.BY_USER, pdus.NO_REASON))

    def _send(self, context: int, data: bytes, *, is_command: bool = False, is_last: bool = True) -> None:
        for each in pdus.fragments(
            context, data, largest=self._largest, is_command=is_command, is_last=is_last
        ):
            self._connection.sendall(each)


def require_response(fields: Mapping[int, bytes], to: int, kind: int) -> None:
    """Return if a command set is the response to a request.

    Parameters
    ----------
    fields
        Its values, as `Message` has them.
    to
        The message ID of the request.
    kind
        Its Command Field (0000,0100).

    Raises
    ------
    ProtocolError
        If it says something else.
    """
    answered = commands.number(fields, commands.FIELD), commands.number(fields, commands.RESPONDED_TO)
    if answered != (kind | commands.RESPONSE, to):
        raise ProtocolError("it answered another request than ours")


def _add(whole: bytearray, piece: bytes) -> None:
    whole += piece
    if len(whole) > _LARGEST_MESSAGE:
        raise ProtocolError(f"its answer has more than {_LARGEST_MESSAGE >> 20} MiB")


@contextmanager
def associated(
    peer: Peer, contexts: Sequence[tuple[str, str]], *, provided: Sequence[str] = ()
) -> Iterator[RequestedAssociation]:
    """Open an association, and release it in the end; abort it after an error.

    Parameters
    ----------
    peer
        The destination as a DICOM application.
    contexts
        Pairs of abstract and transfer syntax, 128 at most; the peer may accept each of them.
    provided
        SOP classes of them whose objects the peer is to send to us.

    Raises
    ------
    DestinationError
        If there is no connection, the peer rejects the association, goes away, is too slow, or says what the
        standard does not allow.
    """
    connection = _connect(peer)
    try:
        association = RequestedAssociation(
            peer, connection, contexts, _negotiate(peer, connection, contexts, provided)
        )
        try:
            yield association
        except BaseException:
            with suppress(OSError):
                if not association.is_over:
                    association.abort()
            raise
        with suppress(OSError, EOFError, ProtocolError):
            association.release()
    except StageError:  # of who uses it; some are OSErrors
        raise
    except (OSError, EOFError, ProtocolError) as error:
        raise DestinationError(f"{peer.place} went away: {_reason_of(error)}") from error
    finally:
        connection.close()


def _connect(peer: Peer) -> DestinationConnection:
    try:
        return peer.connections.connect(peer.host, peer.port, tls=peer.tls, timeout_s=peer.timeout_s)
    except OSError as error:
        raise DestinationError(
            f"{peer.place} {why_unreachable(error, is_tls=peer.tls is not None)}"
        ) from error


def why_unreachable(error: OSError, *, is_tls: bool) -> str:
    """Return why there is no connection, and what to do about it.

    Parameters
    ----------
    error, is_tls
        The error and whether it was to be secured.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"shows a certificate that we do not trust ({error.verify_message}); check 'authorities', and "
            f"that the name or address that we call stands in the certificate"
        )
    if isinstance(error, ssl.SSLError):
        return f"cannot be reached by TLS ({error.reason or error}); is TLS the same on both sides?"
    why = error.strerror or str(error)
    what = "its address, its port and its TLS" if is_tls else "its address and its port"
    return f"cannot be reached; is it running, and are {what} right? ({why})"


def _negotiate(
    peer: Peer,
    connection: DestinationConnection,
    contexts: Sequence[tuple[str, str]],
    provided: Sequence[str],
) -> Accepted:
    connection.deadline = Deadline(peer.timeout_s)
    try:
        asked = pdus.associate_request(peer.ae_title, peer.calling_ae_title, contexts, provided=provided)
        connection.sendall(asked)
        kind, body = _read_pdu(connection)
        if kind == pdus.ASSOCIATE_AC:
            return pdus.read_accept(body, contexts)
    except (OSError, EOFError, ProtocolError) as error:
        raise DestinationError(
            f"{peer.place} did not answer our request for an association: {_reason_of(error)}; is it a DICOM "
            f"application, and is TLS the same on both sides?"
        ) from error
    if kind == pdus.ASSOCIATE_RJ:
        raise DestinationError(
            f"{peer.place} rejects our association as {peer.calling_ae_title}: {pdus.why_rejected(body)}"
        )
    if kind == pdus.ABORT:
        raise DestinationError(
            f"{peer.place} aborts our request for an association as {peer.calling_ae_title}: "
            f"{pdus.why_aborted(body)}"
        )
    raise DestinationError(
        f"{peer.place} answers our request for an association with PDU type {kind:#04x}; is it DICOM?"
    )


def _read_pdu(connection: DestinationConnection) -> tuple[int, bytes]:
    """Return type and body of the next PDU."""
    head = connection.receive(6)
    kind, length = head[0], int.from_bytes(head[2:], "big")
    if not pdus.ASSOCIATE_RQ <= kind <= pdus.ABORT:
        raise ProtocolError(f"{head!r} begins no PDU")
    if length > pdus.LARGEST_PDU:
        raise ProtocolError(f"a PDU of {length} bytes, which no answer has")
    return kind, connection.receive(length)


def _reason_of(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
