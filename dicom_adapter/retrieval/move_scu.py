"""C-MOVE: an archive calls us back and sends a study, as the sources of the adapter do.

References
----------
DICOM PS3.4 C.4.2 (C-MOVE).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove

from dicom_adapter.config.dicom_blocks import AeTitle, Dicom, Scp, Source
from dicom_adapter.delivery.answers import DestinationError
from dicom_adapter.delivery.association import Peer, RequestedAssociation, associated
from dicom_adapter.dimse import commands
from dicom_adapter.dimse.pdus import ProtocolError
from dicom_adapter.retrieval.answers import ListedInstance
from dicom_adapter.retrieval.expected import ExpectedReceiver
from dicom_adapter.retrieval.levels import Request, requests_for
from dicom_adapter.retrieval.query_scu import MEDIUM, PENDING, SYNTAX, encoded_query, meaning_of
from dicom_adapter.scp.association import Ending
from dicom_adapter.scp.storage_scp import StorageScp
from dicom_adapter.storage.receiver import KeptInstance
from dicom_adapter.supervision.deadline import Deadline
from stages.errors import InputError, OutputError, SettingsError

MOVE = str(StudyRootQueryRetrieveInformationModelMove)
_MORE = 1000  # messages beside one for each instance
_OUR_FAULT = (0xA700, 0x0110)
_PARTLY, _NOT_SENT, _UNKNOWN_DESTINATION = 0xB000, 0xA702, 0xA801


def retrieve_by_c_move(
    peer: Peer,
    dicom: Dicom,
    study_uid: str,
    wanted: Sequence[ListedInstance],
    receiver: ExpectedReceiver,
    missing: set[str],
) -> None:
    """Retrieve the instances of a study that are missing; see `Archive.retrieve`.

    Parameters
    ----------
    peer
        The archive.
    dicom
        Says where we listen, and what we are called.
    study_uid, wanted, receiver, missing
        As `Archive.retrieve` has them.

    Raises
    ------
    DestinationError
        If the archive does not answer C-MOVE, does not know us, goes away, or fails.
    SettingsError
        If we cannot listen.
    """
    with _listening(peer, dicom, receiver) as calls, associated(peer, [(MOVE, SYNTAX)]) as association:
        if not association.takes(MOVE, SYNTAX):
            raise DestinationError(
                f"{peer.place} answers neither C-GET nor C-MOVE (Study Root); is it an archive?"
            )
        all_series = {each.series_uid for each in wanted}
        for request in requests_for(study_uid, wanted, missing, alone=all_series):
            try:
                _move(association, request, calls, dicom)
            finally:  # what we refused is why the archive failed
                calls.raise_refusal(peer)


class _Calls:
    """What the archive's calls to us have come to; called by the listener's threads."""

    def __init__(self) -> None:
        self.open = 0
        self._refused: tuple[int, str] | None = None
        self.deadline = Deadline(0)

    def opened(self, association: int, ae_title: str, caller: str, *, address: str) -> None:
        self.open += 1
        self.deadline.restart()

    def rejected(self, ae_title: str, caller: str, reason: str, *, address: str) -> None:
        pass

    def kept(self, association: int, kept: KeptInstance) -> None:
        self.deadline.restart()

    def refused(self, association: int, status: int, reason: str) -> None:
        self._refused = self._refused or (status, reason)

    def closed(self, association: int, *, is_released: bool) -> None:
        self.open -= 1
        self.deadline.restart()

    def ended(self, ending: Ending, reason: str, *, address: str) -> None:
        pass

    def raise_refusal(self, peer: Peer) -> None:
        """Raise why an instance was not taken, if one was not."""
        if self._refused is not None:
            status, reason = self._refused
            kind = OutputError if status in _OUR_FAULT else InputError
            raise kind(reason if peer.place in reason else f"{peer.place}: {reason}")

    def catch_up(self, *, all_of_it: bool = False) -> None:
        pass


class _WhileCalled(Deadline):
    """A deadline that is not over while the archive sends, which the listener limits."""

    def __init__(self, seconds: float, is_called: Callable[[], bool]) -> None:
        super().__init__(seconds)
        self._is_called = is_called

    def require(self) -> float:
        if self._is_called():
            self.restart()
        return super().require()


@contextmanager
def _listening(peer: Peer, dicom: Dicom, receiver: ExpectedReceiver) -> Iterator[_Calls]:
    calls = _Calls()
    config = _scp(peer, dicom)
    scp = StorageScp(lambda: config, receiver, calls)
    try:
        scp.start()
    except SettingsError as error:
        raise SettingsError(
            f"{error}; C-MOVE sends to us there: name another port in dicom.scu.move-port, and at the archive"
        ) from error
    try:
        yield calls
    finally:
        scp.stop()


def _scp(peer: Peer, dicom: Dicom) -> Scp:
    """Return how we are called: under the name that we call by, by the archive and the known sources."""
    scp, scu = dicom.scp, dicom.scu
    return scp.model_copy(
        update={
            "port": scp.port if scu.move_port is None else scu.move_port,
            "ae_titles": (AeTitle.model_validate({"ae-title": scu.ae_title}),),
            "sources": (*scp.sources, Source.model_validate({"ae-title": peer.ae_title})),
        }
    )


def _move(association: RequestedAssociation, request: Request, calls: _Calls, dicom: Dicom) -> None:
    peer = association.peer
    data = encoded_query(request.level, request.values)
    values: commands.Values = {
        commands.SOP_CLASS: MOVE,
        commands.PRIORITY: MEDIUM,
        commands.MOVE_DESTINATION: dicom.scu.ae_title.encode("ascii").ljust(16),
    }
    asked = association.call(MOVE, SYNTAX, commands.C_MOVE, values, [data], size=len(data))
    for _ in range(request.count + _MORE):
        calls.deadline = _WhileCalled(peer.timeout_s, lambda: calls.open > 0)
        association.wait_until(calls.deadline)
        response = association.response(asked, commands.C_MOVE)
        status = commands.number(response.fields, commands.STATUS)
        if status in (commands.SUCCESS, _PARTLY):
            return  # what is missing is asked for once more
        if status not in PENDING:
            raise DestinationError(f"{peer.place} does not send the study: {_meaning(status, dicom)}")
    raise ProtocolError("it sends more messages than the study has instances")


def _meaning(status: int, dicom: Dicom) -> str:
    scp, scu = dicom.scp, dicom.scu
    port = scp.port if scu.move_port is None else scu.move_port
    if status == _UNKNOWN_DESTINATION:
        return (
            f"{meaning_of(status)}; enter {scu.ae_title} there, with this machine's address and port {port}"
        )
    if status == _NOT_SENT:
        return f"{meaning_of(status)}; does it reach {scu.ae_title} at port {port} of this machine?"
    return meaning_of(status)
