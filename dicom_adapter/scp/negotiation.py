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

from pydicom.config import IGNORE
from pydicom.uid import UID, AllTransferSyntaxes

from dicom_adapter.dimse.pdus import IMPLEMENTATION_UID, IMPLEMENTATION_VERSION, item
from dicom_adapter.scp.association_request import AssociationRequest, ProposedContext
from dicom_files import uids

PERMANENT, TRANSIENT = 0x01, 0x02
BY_USER, BY_ACSE, BY_PRESENTATION = 0x01, 0x02, 0x03
NO_REASON, CONTEXT_NAME_UNKNOWN, CALLING_UNKNOWN, CALLED_UNKNOWN = 0x01, 0x02, 0x03, 0x07
VERSION_NOT_SUPPORTED, LIMIT_EXCEEDED = 0x02, 0x02

_ASSOCIATE_AC, _ASSOCIATE_RJ = 0x02, 0x03
_ACCEPTED, _BY_US, _NOT_USABLE, _ABSTRACT_UNKNOWN, _TRANSFER_UNKNOWN = 0, 1, 2, 3, 4

_UNCOMPRESSED = (uids.ImplicitVRLittleEndian, uids.ExplicitVRLittleEndian)
_OF_VERIFICATION = (*_UNCOMPRESSED, uids.ExplicitVRBigEndian, uids.DeflatedExplicitVRLittleEndian)
_LOSSLESS = (
    *(*_UNCOMPRESSED, uids.EncapsulatedUncompressedExplicitVRLittleEndian, uids.RLELossless),
    *(uids.JPEGLossless, uids.JPEGLosslessSV1, uids.JPEGLSLossless),
    *(uids.JPEG2000Lossless, uids.JPEG2000MCLossless, uids.HTJ2KLossless, uids.HTJ2KLosslessRPCL),
)
_SELDOM_READ = (
    *(uids.DeflatedExplicitVRLittleEndian, uids.ExplicitVRBigEndian),
    *(uids.JPEGLosslessNonHierarchical15, uids.JPEGLosslessHierarchical28, uids.JPEGLosslessHierarchical29),
)
_REFERENCES = (  # the pixels stay there
    *(uids.JPIPReferenced, uids.JPIPReferencedDeflate),
    *(uids.JPIPHTJ2KReferenced, uids.JPIPHTJ2KReferencedDeflate),
)
_RANKED = {
    **dict.fromkeys(_LOSSLESS, 0),
    **dict.fromkeys(_SELDOM_READ, 1),
    **dict.fromkeys(_REFERENCES, 4),
}
_NO_FILES = ("SMPTE", "RFC 2557", "XML", "Papyrus")  # the names of what is no data set as PS3.5 has one


@dataclass(frozen=True, kw_only=True)
class AcceptedContext:
    """A presentation context that both sides use.

    Attributes
    ----------
    abstract_syntax
        The UID of the object.
    transfer_syntax
        The UID of the encoding.
    """

    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """Why there is no association, in the standard's numbers (PS3.8 table 9-21) and in words.

    Attributes
    ----------
    result
        Whether for good or for now.
    source
        The number of who rejects.
    reason
        The number of the reason.
    words
        The reason in words.
    """

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
    if request.application_context != uids.DICOMApplicationContext:
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
    request
        What the peer asks for.
    accepted, results
        What `negotiate` has found.
    max_pdu
        The longest P-DATA that we ask for, bytes.
    """
    items = [item(0x10, uids.DICOMApplicationContext.encode())]
    for each, result in results.items():
        syntax = accepted[each].transfer_syntax if each in accepted else uids.ImplicitVRLittleEndian
        items.append(item(0x21, struct.pack("BxBx", each, result) + item(0x40, syntax.encode())))
    user = [
        item(0x51, struct.pack(">L", max_pdu)),
        item(0x52, IMPLEMENTATION_UID.encode()),
        *(_role(uid, request.roles[uid]) for uid in _with_roles(request, accepted)),
        item(0x55, IMPLEMENTATION_VERSION.encode()),
    ]
    body = b"\0\1" + request.head[8:] + b"".join(items) + item(0x50, b"".join(user))
    return struct.pack(">BxL", _ASSOCIATE_AC, len(body)) + body


def best_syntax(context: ProposedContext) -> str:
    """Return the transfer syntax that a context is taken in; "" if it offers none.

    Uncompressed or compressed without loss before all others, then retired and seldom read ones without
    loss, then those with loss, then what is retired; among equals the peer's order, which spares it to
    encode anew. Never a private one, nor one for streams that are no files.
    """
    ranks = {each: _rank(each, context.abstract_syntax) for each in context.transfer_syntaxes}
    taken = {each: rank for each, rank in ranks.items() if rank is not None}
    return min(taken, key=taken.__getitem__, default="")


def best_first() -> list[str]:
    """Return every transfer syntax in which an object is taken, the best ones first."""
    ranks = {str(each): _rank(str(each), uids.CTImageStorage) for each in AllTransferSyntaxes}
    return sorted(
        (each for each, rank in ranks.items() if rank is not None), key=lambda each: ranks[each] or 0
    )


@lru_cache(maxsize=1024)
def is_storage(sop_class_uid: str) -> bool:
    """Return whether objects of a SOP class are kept: the standard's storage classes, and private ones.

    Parameters
    ----------
    sop_class_uid
        The UID of the SOP class.
    """
    known = UID(sop_class_uid, validation_mode=IGNORE)
    if not known.type:
        return _looks_like_uid(sop_class_uid)
    is_other = "Commitment" in known.name or "Directory" in known.name
    return known.type == "SOP Class" and "Storage" in known.name and not is_other


def _looks_like_uid(text: str) -> bool:
    return 0 < len(text) <= uids.LONGEST and text.replace(".", "").isdigit() and text.isascii()


@lru_cache(maxsize=1024)
def _rank(syntax: str, abstract_syntax: str) -> int | None:
    """Return how good a transfer syntax is for keeping an image, 0 the best; None where it is not taken."""
    if abstract_syntax == uids.Verification and syntax not in _OF_VERIFICATION:
        return None
    if abstract_syntax == uids.StorageCommitmentPushModel and syntax not in _UNCOMPRESSED:
        return None
    if syntax in _RANKED:
        return _RANKED[syntax]
    known = UID(syntax, validation_mode=IGNORE)
    if known.type != "Transfer Syntax" or known.name.startswith(_NO_FILES):
        return None
    return 3 if known.is_retired else 2


def _result(context: ProposedContext, syntax: str, roles: dict[str, tuple[bool, bool]]) -> int:
    uid = context.abstract_syntax
    if uid not in (uids.Verification, uids.StorageCommitmentPushModel) and not is_storage(uid):
        return _ABSTRACT_UNKNOWN
    if not syntax:
        return _TRANSFER_UNKNOWN
    return _ACCEPTED if uid not in roles or any(_agreed(uid, roles[uid])) else _BY_US


def _agreed(uid: str, wanted: tuple[bool, bool]) -> tuple[bool, bool]:
    """Return the peer's roles, as user and as provider: it sends us objects, and reports on commitment."""
    if not any(wanted):
        return True, False  # what it means is the default (PS3.7 D.3.3.4)
    return (False, wanted[1]) if uid == uids.StorageCommitmentPushModel else (wanted[0], False)


def _with_roles(request: AssociationRequest, accepted: dict[int, AcceptedContext]) -> list[str]:
    taken = {each.abstract_syntax for each in accepted.values()}
    return [uid for uid, wanted in request.roles.items() if uid in taken and any(wanted)]


def _role(uid: str, wanted: tuple[bool, bool]) -> bytes:
    as_user, as_provider = _agreed(uid, wanted)
    return item(0x54, struct.pack(">H", len(uid)) + uid.encode() + bytes((as_user, as_provider)))
