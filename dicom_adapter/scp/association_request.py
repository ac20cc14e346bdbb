"""What a peer asks for when it opens an association.

Read within bounds, and as other archives read it: what the standard lets an acceptor ignore is skipped, what
is odd costs the one presentation context it stands in.

References
----------
DICOM PS3.8 9.3.2 (A-ASSOCIATE-RQ), 9.3.1 (unrecognised items are ignored); PS3.7 D.3.3 (user information).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from dicom_adapter.dimse.pdus import INVALID_PARAMETER, ProtocolError
from stages.errors import printable

HEAD = 74
"""Bytes of the PDU before its items: head, version, both titles, and 32 that are reserved."""

_APPLICATION, _CONTEXT, _ABSTRACT, _TRANSFER, _USER = 0x10, 0x20, 0x30, 0x40, 0x50
_LARGEST_PDU, _ROLES = 0x51, 0x54
_USUAL_PDU = 16384
_MOST_ITEMS, _MOST_CONTEXTS = 20_000, 255


@dataclass(frozen=True, kw_only=True)
class ProposedContext:
    """A presentation context: an object, and the encodings that it can come in, the first choice first.

    Attributes
    ----------
    id
        Its number.
    abstract_syntax
        The UID of the object.
    transfer_syntaxes
        The UIDs of the encodings.
    """

    id: int
    abstract_syntax: str = ""
    transfer_syntaxes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AssociationRequest:
    """What a peer asks for.

    Attributes
    ----------
    head
        The first 74 bytes as they came; an answer repeats some of them.
    called, calling
        AE titles without what they are padded with.
    application_context
        Its UID.
    contexts
        What it wants to send, and how.
    largest_pdu
        The longest P-DATA that the peer takes, bytes; 0 for any.
    roles
        By SOP class, whether the peer wants to be its user and its provider.
    """

    head: bytes
    called: str
    calling: str
    application_context: str = ""
    contexts: tuple[ProposedContext, ...] = ()
    largest_pdu: int = _USUAL_PDU
    roles: dict[str, tuple[bool, bool]] = field(default_factory=dict)

    @property
    def is_version_1(self) -> bool:
        """Whether the peer speaks the one version of the protocol that there is."""
        return bool(int.from_bytes(self.head[6:8], "big") & 1)


def read_titles(pdu: bytes) -> AssociationRequest:
    """Return who calls whom, and nothing of what is asked for.

    Parameters
    ----------
    pdu
        A whole A-ASSOCIATE-RQ.

    Raises
    ------
    ProtocolError
        If it is cut.
    """
    if len(pdu) < HEAD:
        raise ProtocolError("a request for an association is cut", INVALID_PARAMETER)
    return AssociationRequest(head=pdu[:HEAD], called=ae_title(pdu[10:26]), calling=ae_title(pdu[26:42]))


def read_request(pdu: bytes) -> AssociationRequest:
    """Return the whole of a request.

    Parameters
    ----------
    pdu
        A whole A-ASSOCIATE-RQ.

    Raises
    ------
    ProtocolError
        If it is cut, an item in it is, or there are more items than any request has.
    """
    titles, items = read_titles(pdu), _Items()
    name, contexts, user = "", [], b""
    for kind, value in items.of(pdu[HEAD:]):
        if kind == _APPLICATION:
            name = _uid(value)
        elif kind == _CONTEXT:
            contexts.append(_context(value, items))
            if len(contexts) > _MOST_CONTEXTS:
                raise ProtocolError("a request with too many presentation contexts", INVALID_PARAMETER)
        elif kind == _USER:
            user = value
    largest, roles = _user_information(user, items)
    return AssociationRequest(
        head=titles.head,
        called=titles.called,
        calling=titles.calling,
        application_context=name,
        contexts=tuple(contexts),
        largest_pdu=largest,
        roles=roles,
    )


def ae_title(field: bytes) -> str:
    r"""Return an AE title without its padding, be it blanks, NUL, or what stands behind a NUL.

    What is no ASCII is read as Latin-1, and what a terminal would obey is shown as an escape; an AE title of
    the configuration has neither.

    Parameters
    ----------
    field
        Its 16 bytes.
    """
    text = field.lstrip(b"\0 ").partition(b"\0")[0].strip()
    return printable(text.decode("latin-1"))


class _Items:
    """Items one after the other, and how many there were in all."""

    def __init__(self) -> None:
        self._left = _MOST_ITEMS

    def of(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        at, end = 0, len(data)
        while end - at >= 4:
            kind, length = struct.unpack_from(">BxH", data, at)
            at += 4
            self._left -= 1
            if length > end - at:
                raise ProtocolError("an item of a request for an association is cut", INVALID_PARAMETER)
            if self._left < 0:
                raise ProtocolError(f"a request with more than {_MOST_ITEMS} items", INVALID_PARAMETER)
            yield kind, data[at : at + length]
            at += length


def _context(value: bytes, items: _Items) -> ProposedContext:
    if len(value) < 4:
        raise ProtocolError("a presentation context is cut", INVALID_PARAMETER)
    abstract, transfers = "", []
    for kind, uid in items.of(value[4:]):
        if kind == _ABSTRACT:
            abstract = _uid(uid)
        elif kind == _TRANSFER:
            transfers.append(_uid(uid))
    return ProposedContext(id=value[0], abstract_syntax=abstract, transfer_syntaxes=tuple(transfers))


def _user_information(value: bytes, items: _Items) -> tuple[int, dict[str, tuple[bool, bool]]]:
    largest, roles = _USUAL_PDU, {}
    for kind, part in items.of(value):
        if kind == _LARGEST_PDU and len(part) == 4:
            largest = int.from_bytes(part, "big")
        elif kind == _ROLES and len(part) >= 4:
            length = int.from_bytes(part[:2], "big")
            uid, flags = part[2 : 2 + length], part[2 + length : 4 + length]
            if len(flags) == 2:
                roles[_uid(uid)] = (bool(flags[0]), bool(flags[1]))
    return largest, roles


def _uid(value: bytes) -> str:
    return value.strip(b"\0 ").decode("ascii", "replace")
