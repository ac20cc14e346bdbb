"""C-STORE to a destination: a file as it lies, with the status of every instance."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pydicom.uid import UID
from pynetdicom import AE, _config
from pynetdicom.association import Association

from dicom_adapter.delivering.answers import Answer, DestinationError, Told
from dicom_adapter.delivering.results import Result, contexts_of

_config.LOG_HANDLER_LEVEL = "none"  # texts of each message, which nobody reads
_config.STORE_SEND_CHUNKED_DATASET = True  # from the disk in pieces, never decoded
_MOST_CONTEXTS = 128
_PDU_BYTES = 131072


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
        Longest wait for a connection, and for an answer, seconds.
    """

    name: str
    host: str
    port: int
    ae_title: str
    calling_ae_title: str
    tls: ssl.SSLContext | None = None
    timeout_s: float = 30.0


@dataclass(frozen=True, kw_only=True)
class StoreScu:
    """Sends files by C-STORE."""

    peer: Peer

    def send(self, results: Sequence[Result], told: Told) -> None:
        """Send files over one association for every 128 kinds, and tell of each what was said.

        Raises
        ------
        DestinationError
            If the association is refused, aborted or silent.
        """
        contexts = contexts_of(results)
        for first in range(0, len(contexts), _MOST_CONTEXTS):
            chosen = contexts[first : first + _MOST_CONTEXTS]
            with associated(self.peer, chosen) as association:
                for each in results:
                    if (each.sop_class_uid, each.transfer_syntax_uid) in chosen:
                        told(each, self._store(association, each))

    def _store(self, association: Association, result: Result) -> Answer:
        try:
            status = association.send_c_store(result.path)
        except ValueError:
            return Answer(
                verdict="refused",
                status="context",
                message=f"{self.peer.name} does not take {UID(result.sop_class_uid).name} in "
                f"{UID(result.transfer_syntax_uid).name}",
            )
        except RuntimeError as error:
            raise self._gone() from error
        if "Status" not in status:
            association.abort()
            raise self._gone()
        return answer_of(int(status.Status), self.peer.name)

    def _gone(self) -> DestinationError:
        return DestinationError(
            f"{self.peer.name} ({self.peer.host}:{self.peer.port}) went away, or was silent for "
            f"{self.peer.timeout_s:g} s, before it had answered"
        )


@contextmanager
def associated(peer: Peer, contexts: Sequence[tuple[str, str]], **options: object) -> Iterator[Association]:
    """Open an association, and release it in the end; abort it after an error.

    Raises
    ------
    DestinationError
        If there is no connection, or the peer rejects it.
    """
    entity = AE(ae_title=peer.calling_ae_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = peer.timeout_s
    entity.connection_timeout = peer.timeout_s
    for sop_class, syntax in contexts:
        entity.add_requested_context(sop_class, syntax)
    association = entity.associate(
        peer.host,
        peer.port,
        ae_title=peer.ae_title,
        max_pdu=_PDU_BYTES,
        tls_args=(peer.tls, peer.host) if peer.tls else None,
        **options,
    )
    if not association.is_established:
        raise DestinationError(_why_not(peer, association))
    try:
        yield association
    except BaseException:
        if association.is_established:
            association.abort()
        raise
    else:
        if association.is_established:
            association.release()


def answer_of(status: int, name: str) -> Answer:
    """Return what a status of C-STORE means (PS3.4 table B.2-1): a warning says that it is stored."""
    told = f"0x{status:04X}"
    if status == 0x0000 or 0xB000 <= status <= 0xBFFF or status in (0x0001, 0x0107, 0x0116):
        return Answer(verdict="accepted", status=told)
    if 0xA700 <= status <= 0xA7FF or status == 0x0110:
        return Answer(verdict="busy", status=told, message=f"{name} is out of resources ({told})")
    return Answer(verdict="refused", status=told, message=f"{name} refused it ({told})")


def _why_not(peer: Peer, association: Association) -> str:
    where = f"{peer.name} ({peer.ae_title} at {peer.host}:{peer.port})"
    if association.is_rejected:
        answer = association.acceptor.primitive
        why = answer.reason_str if answer else "no reason given"
        return f"{where} rejects our association as {peer.calling_ae_title}: {why}"
    if association.is_aborted and association.acceptor.primitive is not None:
        return f"{where} accepts none of what we offer"
    return f"{where} cannot be reached; is it running, and is TLS the same on both sides?"
