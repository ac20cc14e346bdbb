"""What is answered to a request for an association: which presentation contexts are taken, and how.

Nothing is decoded when it is received, so every transfer syntax that the standard has for data sets is taken;
of those that a context offers, the best.

References
----------
DICOM PS3.8 9.3.3 (A-ASSOCIATE-AC), 9.3.4 (A-ASSOCIATE-RJ); PS3.7 D.3.3.4 (roles); PS3.5 Annex A.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

from pydicom._uid_dict import UID_dictionary
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION

from dicom_adapter.scp.association_request import APPLICATION_CONTEXT, AssociationRequest, ProposedContext

VERIFICATION = "1.2.840.10008.1.1"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"

PERMANENT, TRANSIENT = 0x01, 0x02
BY_USER, BY_ACSE, BY_PRESENTATION = 0x01, 0x02, 0x03
NO_REASON, CONTEXT_NAME_UNKNOWN, CALLING_UNKNOWN, CALLED_UNKNOWN = 0x01, 0x02, 0x03, 0x07
VERSION_NOT_SUPPORTED, LIMIT_EXCEEDED = 0x02, 0x02

_ASSOCIATE_AC, _ASSOCIATE_RJ = 0x02, 0x03
_ACCEPTED, _BY_US, _NOT_USABLE, _ABSTRACT_UNKNOWN, _TRANSFER_UNKNOWN = 0, 1, 2, 3, 4
_IMPLICIT, _EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
_BIG_ENDIAN, _DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
_LONGEST_UID = 64

_LOSSLESS = (
    *(_EXPLICIT, _IMPLICIT, "1.2.840.10008.1.2.1.98", "1.2.840.10008.1.2.5"),
    *(f"1.2.840.10008.1.2.4.{n}" for n in (57, 70, 80, 90, 92, 201, 202)),
)
_SELDOM_READ = (_DEFLATED, _BIG_ENDIAN, *(f"1.2.840.10008.1.2.4.{n}" for n in (58, 65, 66)))
_REFERENCES = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (94, 95, 204, 205))  # JPIP: the pixels stay there
_NO_FILES = ("SMPTE", "RFC 2557", "XML", "Papyrus")  # the names of what is no data set as PS3.5 has one


def _ranks() -> dict[str, int]:
    """Return how good each transfer syntax is for keeping an image, 0 the best; none for what is no file."""
    ranks = {}
    for uid, (name, kind, _, retired, _) in UID_dictionary.items():
        if kind == "Transfer Syntax" and not name.startswith(_NO_FILES):
            ranks[uid] = 3 if retired else 2
    ranks |= dict.fromkeys(_REFERENCES, 4)
    ranks |= dict.fromkeys(_SELDOM_READ, 1)
    return ranks | dict.fromkeys(_LOSSLESS, 0)


_RANKS = _ranks()


@dataclass(frozen=True, kw_only=True)
class AcceptedContext:
    """A presentation context that both sides use."""

    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """Why there is no association, in the standard's numbers (PS3.8 table 9-21) and in words."""

    result: int
    source: int
    reason: int
    words: str

    def encoded(self) -> bytes:
        """Return the A-ASSOCIATE-RJ."""
        return struct.pack(">BxLxBBB", _ASSOCIATE_RJ, 4, self.result, self.source, self.reason)


def why_impossible(request: AssociationRequest) -> Rejection | None:
    """Return why there can be no association, whoever asks; None if there can.

    Parameters
    ----------
    request
        The whole of it.
    """
    if request.application_context != APPLICATION_CONTEXT:
        words = "application context name not supported"
        return Rejection(result=PERMANENT, source=BY_USER, reason=CONTEXT_NAME_UNKNOWN, words=words)
    if not request.contexts:
        words = "no presentation context is proposed"
        return Rejection(result=PERMANENT, source=BY_USER, reason=NO_REASON, words=words)
    return None


def negotiate(request: AssociationRequest) -> tuple[dict[int, AcceptedContext], dict[int, int]]:
    """Return the contexts that are taken, by their IDs, and the result of every one that is proposed.

    Parameters
    ----------
    request
        The whole of it.
    """
    accepted: dict[int, AcceptedContext] = {}
    results: dict[int, int] = {}
    for context in request.contexts:
        if context.id in results or not context.id % 2:  # PS3.8 9.3.2.2: odd, each once
            accepted.pop(context.id, None)
            results[context.id] = _NOT_USABLE
            continue
        syntax = best_syntax(context)
        results[context.id] = _result(context, syntax, request.roles)
        if results[context.id] == _ACCEPTED:
            accepted[context.id] = AcceptedContext(
                abstract_syntax=context.abstract_syntax, transfer_syntax=syntax
            )
    return accepted, results


def acceptance(
    request: AssociationRequest,
    accepted: dict[int, AcceptedContext],
    results: dict[int, int],
    *,
    max_pdu: int,
) -> bytes:
    """Return the A-ASSOCIATE-AC.

    Parameters
    ----------
    accepted, results
        What `negotiate` has found.
    max_pdu
        The longest P-DATA that we ask for, bytes.
    """
    items = [_item(0x10, APPLICATION_CONTEXT.encode())]
    for each, result in results.items():
        syntax = accepted[each].transfer_syntax if each in accepted else _IMPLICIT
        items.append(_item(0x21, struct.pack("BxBx", each, result) + _item(0x40, syntax.encode())))
    user = [
        _item(0x51, struct.pack(">L", max_pdu)),
        _item(0x52, PYNETDICOM_IMPLEMENTATION_UID.encode()),
        *(_role(uid, request.roles[uid]) for uid in _with_roles(request, accepted)),
        _item(0x55, PYNETDICOM_IMPLEMENTATION_VERSION.encode()),
    ]
    body = b"\0\1" + request.head[8:] + b"".join(items) + _item(0x50, b"".join(user))
    return struct.pack(">BxL", _ASSOCIATE_AC, len(body)) + body


def best_syntax(context: ProposedContext) -> str:
    """Return the transfer syntax that a context is taken in; "" if it offers none.

    Uncompressed or compressed without loss before all others, then retired and seldom read ones without
    loss, then those with loss, then what is retired; among equals the peer's order, which spares it to
    encode anew. Never a private one, nor one for streams that are no files.
    """
    syntaxes = (each for each in context.transfer_syntaxes if each in _taken(context.abstract_syntax))
    return min(syntaxes, key=_RANKS.__getitem__, default="")


@lru_cache(maxsize=1024)
def is_storage(sop_class_uid: str) -> bool:
    """Return whether objects of a SOP class are kept: the standard's storage classes, and private ones."""
    known = UID_dictionary.get(sop_class_uid)
    if known is None:
        return _looks_like_uid(sop_class_uid)
    name, kind = known[:2]
    is_other = "Commitment" in name or "Directory" in name
    return kind == "SOP Class" and "Storage" in name and not is_other


def _looks_like_uid(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_UID and text.replace(".", "").isdigit() and text.isascii()


def _taken(abstract_syntax: str) -> dict[str, int] | tuple[str, ...]:
    if abstract_syntax == VERIFICATION:
        return _IMPLICIT, _EXPLICIT, _BIG_ENDIAN, _DEFLATED
    return (_IMPLICIT, _EXPLICIT) if abstract_syntax == STORAGE_COMMITMENT else _RANKS


def _result(context: ProposedContext, syntax: str, roles: dict[str, tuple[bool, bool]]) -> int:
    uid = context.abstract_syntax
    if uid not in (VERIFICATION, STORAGE_COMMITMENT) and not is_storage(uid):
        return _ABSTRACT_UNKNOWN
    if not syntax:
        return _TRANSFER_UNKNOWN
    return _ACCEPTED if uid not in roles or any(_agreed(uid, roles[uid])) else _BY_US


def _agreed(uid: str, wanted: tuple[bool, bool]) -> tuple[bool, bool]:
    """Return the peer's roles, as user and as provider: it sends us objects, and reports on commitment."""
    if not any(wanted):
        return True, False  # what it means is the default (PS3.7 D.3.3.4)
    return (False, wanted[1]) if uid == STORAGE_COMMITMENT else (wanted[0], False)


def _with_roles(request: AssociationRequest, accepted: dict[int, AcceptedContext]) -> list[str]:
    taken = {each.abstract_syntax for each in accepted.values()}
    return [uid for uid, wanted in request.roles.items() if uid in taken and any(wanted)]


def _role(uid: str, wanted: tuple[bool, bool]) -> bytes:
    as_user, as_provider = _agreed(uid, wanted)
    return _item(0x54, struct.pack(">H", len(uid)) + uid.encode() + bytes((as_user, as_provider)))


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value
