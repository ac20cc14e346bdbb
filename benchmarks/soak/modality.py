"""Modalities that send one study after the other, and note what was acknowledged."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path

from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association

ROOT_UID = "1.2.826.0.1.3680043.10.1511.9"
_AGAIN_S, _CALL_S = 0.5, 10.0
_PREAMBLE = 132


class Acknowledged:
    """SHA-256 of the data set of every instance that was acknowledged, by AE title, study and UID."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[tuple[str, str, str], str] = {}

    def add(self, called: str, study: str, uid: str, digest: str) -> None:
        with self._lock:
            self._found[called, study, uid] = digest

    def all(self) -> dict[tuple[str, str, str], str]:
        with self._lock:
            return dict(self._found)


def ct_slice(study: str, number: int, *, rows: int, **more: object) -> Dataset:
    """Return a CT slice; every one has other pixels."""
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, f"{study}.1.{number}"
    made.StudyInstanceUID, made.SeriesInstanceUID = study, f"{study}.1"
    made.Modality, made.PatientName, made.PatientID = "CT", "PHANTOM", "PHANTOM"
    made.InstanceNumber, made.Rows, made.Columns = number, rows, rows
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 1
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.add_new("PixelData", "OW", hashlib.sha256(f"{study} {number}".encode()).digest() * (rows**2 // 16))
    for keyword, value in more.items():
        setattr(made, keyword, value)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made


def data_set_digest(file: bytes) -> str:
    """Return the SHA-256 of what stands behind a file's meta information."""
    return hashlib.sha256(file[_PREAMBLE + 12 + int.from_bytes(file[140:144], "little") :]).hexdigest()


class Modality:
    """Sends until it is told to stop; what was not acknowledged is sent again, as modalities do."""

    def __init__(
        self, name: str, called: str, port: int, *, address: str, acknowledged: Acknowledged, every_s: float
    ) -> None:
        self._name, self._called, self._port, self._address = name, called, port, address
        self._acknowledged, self._every_s = acknowledged, every_s
        self._stopping = threading.Event()
        self.studies = self.refused = self.broken = 0
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop after the study that is being sent."""
        self._stopping.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stopping.is_set():
            self.studies += 1
            study = f"{ROOT_UID}.{self._address.rpartition('.')[2]}.{self.studies}"
            self._send([ct_slice(study, n + 1, rows=128) for n in range(20)])
            self._stopping.wait(self._every_s)

    def _send(self, waiting: list[Dataset]) -> None:
        while waiting:
            for association in self._associated():
                for each in list(waiting):
                    if not self._is_stored(association, each):
                        break
                    waiting.remove(each)
            if waiting:
                time.sleep(_AGAIN_S)

    def _associated(self) -> Iterator[Association]:
        entity = AE(ae_title=self._name)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _CALL_S
        entity.connection_timeout = _CALL_S
        entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        association = entity.associate(
            "127.0.0.1", self._port, ae_title=self._called, bind_address=(self._address, 0)
        )
        if not association.is_established:
            self.broken += 1
            return
        yield association
        if association.is_established:
            association.release()

    def _is_stored(self, association: Association, each: Dataset) -> bool:
        try:
            answer = association.send_c_store(each)
        except (RuntimeError, ValueError, OSError):
            self.broken += 1
            return False
        if "Status" not in answer:
            self.broken += 1
            return False
        if answer.Status:
            self.refused += 1
            return False
        study, uid = str(each.StudyInstanceUID), str(each.SOPInstanceUID)
        self._acknowledged.add(self._called, study, uid, _digest(each))
        return True


def _digest(each: Dataset) -> str:
    file = BytesIO()
    dcmwrite(file, each, enforce_file_format=True)
    return data_set_digest(file.getvalue())


def store_once(port: int, address: str, name: str, called: str, each: Dataset, *, within_s: float) -> bool:
    """Return whether an instance is taken within a time."""
    entity = AE(ae_title=name)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = within_s
    entity.connection_timeout = within_s
    entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", port, ae_title=called, bind_address=(address, 0))
    if not association.is_established:
        return False
    try:
        answer = association.send_c_store(each)
        return bool(answer.get("Status", -1) == 0)
    except (RuntimeError, ValueError, OSError):
        return False
    finally:
        if association.is_established:
            association.release()


def kept_digests(folder: Path) -> dict[str, str]:
    """Return the digest of every kept file below a folder, by its SOPInstanceUID."""
    return {path.stem: data_set_digest(path.read_bytes()) for path in folder.rglob("*.dcm")}


def until(condition: Callable[[], bool], *, within_s: float, every_s: float = 0.5) -> bool:
    """Return whether something became so within a time."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(every_s)
    return False


def names(count: int) -> Sequence[tuple[str, str]]:
    """Return the title and the address of each modality."""
    return [(f"CT{n + 1}", f"127.0.0.{11 + n}") for n in range(count)]
