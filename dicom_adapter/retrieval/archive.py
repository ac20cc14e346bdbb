"""How an archive of the configuration is asked: by DIMSE, or by DICOMweb where it has a URL."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol

from clara_wf.run.archives import StudyQuery
from dicom_adapter.config.dicom_blocks import Destination, Dicom
from dicom_adapter.delivery.answers import DestinationError
from dicom_adapter.delivery.association import Peer
from dicom_adapter.delivery.connection import DestinationConnections
from dicom_adapter.delivery.http_client import HttpCalls
from dicom_adapter.delivery.senders import peer_of, stow_client
from dicom_adapter.retrieval.answers import Attributes, ListedInstance
from dicom_adapter.retrieval.expected import ExpectedReceiver
from dicom_adapter.retrieval.get_scu import NoGetError, retrieve_by_c_get
from dicom_adapter.retrieval.move_scu import retrieve_by_c_move
from dicom_adapter.retrieval.qido import found_by_qido, listed_by_qido
from dicom_adapter.retrieval.query_scu import found_by_c_find, listed_by_c_find
from dicom_adapter.retrieval.wado import retrieve_by_wado


class Archive(Protocol):
    """One way to ask one archive; each call raises `DestinationError` if the archive fails."""

    @property
    def place(self) -> str:
        """Who and where it is, for people."""

    def find(self, query: StudyQuery) -> list[Attributes]:
        """Return what it says of the studies that match."""

    def instances(self, study_uid: str) -> list[Attributes]:
        """Return what it says of the instances of a study.

        Parameters
        ----------
        study_uid
            Its StudyInstanceUID.
        """

    def retrieve(
        self,
        study_uid: str,
        wanted: Sequence[ListedInstance],
        missing: set[str],
        receiver: ExpectedReceiver,
    ) -> None:
        """Retrieve instances of a study.

        Parameters
        ----------
        study_uid
            Its StudyInstanceUID.
        wanted
            All that the study has, in the order of their series.
        missing
            SOPInstanceUIDs of those that are to come; each that is kept is removed from it.
        receiver
            Keeps them.
        """


def archive_of(destination: Destination, dicom: Dicom, connections: DestinationConnections) -> Archive:
    """Return how a destination is asked.

    Parameters
    ----------
    destination
        The archive, as the configuration has it.
    dicom
        How we call others, and where C-MOVE sends.
    connections
        Where its connections are known, so that a stop ends them.

    Raises
    ------
    DestinationError
        If a certificate, a key or a token cannot be read.
    """
    if destination.dicomweb:
        return _WebArchive(calls=stow_client(destination, dicom.scu, connections).calls())
    return _DimseArchive(
        peer=peer_of(destination, dicom.scu, connections), dicom=dicom, retrieve_by=destination.retrieve
    )


@dataclass(frozen=True, kw_only=True)
class _WebArchive:
    calls: HttpCalls

    @property
    def place(self) -> str:
        return self.calls.place

    def find(self, query: StudyQuery) -> list[Attributes]:
        with closing(self.calls):
            return found_by_qido(self.calls, query)

    def instances(self, study_uid: str) -> list[Attributes]:
        with closing(self.calls):
            return listed_by_qido(self.calls, study_uid)

    def retrieve(
        self,
        study_uid: str,
        wanted: Sequence[ListedInstance],
        missing: set[str],
        receiver: ExpectedReceiver,
    ) -> None:
        with closing(self.calls):
            retrieve_by_wado(self.calls, study_uid, wanted, missing, receiver)


@dataclass(frozen=True, kw_only=True)
class _DimseArchive:
    peer: Peer
    dicom: Dicom = field(repr=False)
    retrieve_by: str

    @property
    def place(self) -> str:
        return self.peer.place

    def find(self, query: StudyQuery) -> list[Attributes]:
        return found_by_c_find(self.peer, query)

    def instances(self, study_uid: str) -> list[Attributes]:
        return listed_by_c_find(self.peer, study_uid)

    def retrieve(
        self,
        study_uid: str,
        wanted: Sequence[ListedInstance],
        missing: set[str],
        receiver: ExpectedReceiver,
    ) -> None:
        if self.retrieve_by == "move":
            return retrieve_by_c_move(self.peer, self.dicom, study_uid, wanted, receiver, missing)
        try:
            return retrieve_by_c_get(self.peer, study_uid, wanted, missing, receiver)
        except NoGetError as no_get:
            if self.retrieve_by == "get":
                raise
            try:
                return retrieve_by_c_move(self.peer, self.dicom, study_uid, wanted, receiver, missing)
            except DestinationError as error:
                raise DestinationError(f"{error}; before that, {no_get}") from error.__cause__
