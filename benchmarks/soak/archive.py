"""An archive that writes down every instance it takes, and can be asked what it has.

``python archive.py PORT JOURNAL``: a line ``SOPInstanceUID SHA-256`` for each C-STORE, synced before Success;
C-FIND of the study root answers by SOPInstanceUID.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

_PENDING, _SUCCESS = 0xFF00, 0x0000


class Journal:
    """What came, in the order in which it came."""

    def __init__(self, file: Path) -> None:
        self.known = {line.split()[0] for line in file.read_text().splitlines()} if file.exists() else set()
        self._descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def store(self, event: Any) -> int:
        data = event.request.DataSet.getvalue()
        uid = str(event.request.AffectedSOPInstanceUID)
        line = f"{uid} {hashlib.sha256(data).hexdigest()}\n".encode()
        os.write(self._descriptor, line)
        os.fdatasync(self._descriptor)
        self.known.add(uid)
        return _SUCCESS

    def find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        asked = event.identifier.get("SOPInstanceUID", "")
        for uid in [asked] if isinstance(asked, str) else asked:
            if str(uid) in self.known:
                answer = Dataset()
                answer.QueryRetrieveLevel, answer.SOPInstanceUID = "IMAGE", str(uid)
                yield _PENDING, answer


def main(port: int, file: Path) -> None:
    journal = Journal(file)
    entity = AE(ae_title="ARCHIVE")
    entity.supported_contexts = AllStoragePresentationContexts
    entity.add_supported_context(Verification)
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    handlers = [(evt.EVT_C_STORE, journal.store), (evt.EVT_C_FIND, journal.find)]
    entity.start_server(("127.0.0.1", port), block=True, evt_handlers=handlers)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
