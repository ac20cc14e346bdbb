"""Instances on their way from an archive to the disk: only those that were asked for, each kept once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from dicom_adapter.config.blocks import Storage
from dicom_adapter.dimse.pdus import IMPLEMENTATION_UID, IMPLEMENTATION_VERSION
from dicom_adapter.retrieval.answers import FoundStudy, ListedInstance
from dicom_adapter.storage.instance_header import InstanceHeader
from dicom_adapter.storage.paths import AdapterPaths
from dicom_adapter.storage.receiver import InstanceReceiver, KeptInstance
from dicom_adapter.storage.spool import SpooledDataSet
from dicom_adapter.storage.study_locks import StudyLocks
from dicom_files.file_meta import encoded_meta
from stages.errors import InputError

AE_TITLE = "RETRIEVED"
"""What the folder is named after in which all of it is kept, whatever we are called by."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What an archive was asked for, and has said that it has.

    Attributes
    ----------
    study
        The study, as the archive has described it.
    place
        The archive, for people.
    study
        What the archive said of the study.
    instances
        By SOPInstanceUID.
    missing
        SOPInstanceUIDs of those that are not kept yet.
    on_kept
        Called after each that was kept.
    """

    place: str
    study: FoundStudy
    instances: Mapping[str, ListedInstance]
    missing: set[str]
    on_kept: Callable[[], None]

    def require(self, header: InstanceHeader) -> None:
        """Return if an instance is one of those.

        Raises
        ------
        InputError
            If it is not. The message says what of it is wrong, and no identity.
        """
        listed = self.instances.get(header.sop_instance_uid)
        if header.study_uid != self.study.uid:
            wrong = "an instance of another study"
        elif not self._is_patient(header.patient_id):
            wrong = "an instance of another patient"
        elif listed is None:
            wrong = "an instance that it did not list (does the study still arrive there?)"
        elif header.series_uid != listed.series_uid:
            wrong = "an instance of another series than it listed"
        elif listed.sop_class_uid and header.sop_class_uid != listed.sop_class_uid:
            wrong = "an instance of another SOP class than it listed"
        else:
            return
        raise InputError(f"{self.place} sent {wrong}; it was not taken, and nothing is run")

    def _is_patient(self, patient_id: str) -> bool:
        asked = self.study.patient_id.casefold()
        return not asked or not patient_id or patient_id.strip().casefold() == asked


class ExpectedReceiver(InstanceReceiver):
    """Keeps instances that are expected, with the guarantees of what the adapter receives."""

    def __init__(self, paths: AdapterPaths, storage: Storage, expected: Expected) -> None:
        self._locks = StudyLocks()
        super().__init__(
            paths,
            minimum_free=storage.minimum_free,
            study_locks=self._locks,
            largest=storage.largest_instance,
            permissions=storage.permissions,
        )
        self._expected = expected

    def keep(
        self, ae_title: str, header: InstanceHeader, meta: bytes, data: bytes | memoryview | SpooledDataSet
    ) -> KeptInstance:
        """Write an instance and return when it is on disk.

        Raises
        ------
        InputError
            If it is not one that was asked for, or came before with another content.
        OutputError
            If it cannot be written.
        """
        self._expected.require(header)
        kept = super().keep(AE_TITLE, header, meta, data)
        self._locks.release((AE_TITLE, header.study_uid))
        if kept.received.conflict:
            kept.received.path.unlink(missing_ok=True)
            raise InputError(f"{self._expected.place} sent two instances of one SOPInstanceUID that differ")
        if header.sop_instance_uid in self._expected.missing:
            self._expected.missing.discard(header.sop_instance_uid)
            self._expected.on_kept()
        return kept

    def sink(self, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax: str) -> InstanceSink:
        """Return what takes an instance, of which the archive says this much.

        Parameters
        ----------
        sop_class_uid, sop_instance_uid, transfer_syntax
            What the archive says that it is.
        """
        return InstanceSink(self, self._expected.place, sop_class_uid, sop_instance_uid, transfer_syntax)


class InstanceSink:
    """Takes one instance while it comes; made by `ExpectedReceiver.sink`.

    Parameters
    ----------
    receiver
        Keeps it.
    place
        The archive, for people.
    sop_class, sop_instance, syntax
        What the archive says that it is.
    """

    def __init__(
        self, receiver: ExpectedReceiver, place: str, sop_class: str, sop_instance: str, syntax: str
    ) -> None:
        self._receiver, self._place, self._said = receiver, place, (sop_class, sop_instance)
        self._meta = encoded_meta(
            sop_class_uid=sop_class,
            sop_instance_uid=sop_instance,
            transfer_syntax=syntax,
            implementation_class_uid=IMPLEMENTATION_UID,
            implementation_version=IMPLEMENTATION_VERSION,
        )
        try:
            self._data = receiver.spool(self._meta, syntax)
        except ValueError as error:
            raise InputError(f"{place} sent an instance in a transfer syntax that is none") from error

    def add(self, piece: bytes) -> None:
        """Take the next bytes of its data set.

        Parameters
        ----------
        piece
            Of any size.
        """
        self._data.write(memoryview(piece))

    def keep(self) -> None:
        """Return when it is on disk, which all of it has reached.

        Raises
        ------
        StageError
            If it is not what was asked for, or cannot be written.
        """
        header = self._data.header()
        if (header.sop_class_uid, header.sop_instance_uid) != self._said:
            raise InputError(f"{self._place} sent an instance whose data set says that it is another one")
        self._receiver.keep(AE_TITLE, header, self._meta, self._data)

    def close(self) -> None:
        """Free the space, unless it was kept."""
        with suppress(OSError):
            self._data.close()
