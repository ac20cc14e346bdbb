"""An archive of pynetdicom that says and sends whatever a test lets it."""

import threading
from contextlib import contextmanager

from pydicom.dataset import Dataset
from pynetdicom import AE, StoragePresentationContexts, build_context, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicom_files.dataset import lenient
from tests.phantoms import ct_slices

OF_STUDY = ("StudyInstanceUID", "PatientID", "AccessionNumber", "StudyDate")
OF_INSTANCE = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


class RogueArchive:
    """An archive that is honest but for the attributes that a test has changed.

    Attributes
    ----------
    holds
        What it lists.
    sends
        What C-GET and C-MOVE send, whatever is asked for.
    count
        Number of Study Related Instances; None for that of `holds`.
    studies
        What it says of studies; None for that of `holds`.
    status
        Of the answers to queries.
    calls
        The port to which C-MOVE sends.
    hangs_at
        ``C-FIND`` or ``C-GET``: it says nothing more there.
    """

    ae_title = "ROGUE"

    def __init__(self):
        self.holds = ct_slices((4, 16, 20))
        self.sends = list(self.holds)
        self.count, self.studies, self.status, self.hangs_at = None, None, 0x0000, ""
        self.calls = 0
        self.asked, self._wires = [], []
        self._ended = threading.Event()
        self._ae = AE(ae_title=self.ae_title)
        self._ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        self._ae.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
        self._ae.add_supported_context(StudyRootQueryRetrieveInformationModelMove)
        for each in StoragePresentationContexts:
            self._ae.add_supported_context(each.abstract_syntax, scu_role=True, scp_role=True)

    def forget_context(self, abstract):
        self._ae.remove_supported_context(abstract)

    @contextmanager
    def running(self, **options):
        handlers = [(evt.EVT_C_FIND, self._find), (evt.EVT_C_GET, self._get)]
        handlers += [(evt.EVT_C_MOVE, self._move), (evt.EVT_CONN_OPEN, self._opened)]
        server = self._ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, **options)
        self.port = server.socket.getsockname()[1]
        try:
            yield self
        finally:
            self._ended.set()
            server.shutdown()
            for wire, thread in self._wires:
                thread.join(10)
                wire.close()  # pynetdicom leaves some open whose peer has gone

    def _opened(self, event):
        self._wires.append((event.assoc.dul.socket.socket, event.assoc))

    def _find(self, event):
        level = event.identifier.QueryRetrieveLevel
        self.asked.append(level)
        if self.hangs_at == "C-FIND":
            self._ended.wait(20)
        if self.status:
            yield self.status, None
        elif level == "STUDY":
            yield from ((0xFF00, each) for each in (self.studies or self._studies)())
        elif level == "SERIES":
            for uid in sorted({each.SeriesInstanceUID for each in self.holds}):
                yield 0xFF00, answer(SeriesInstanceUID=uid)
        else:
            for each in self.holds:
                if each.SeriesInstanceUID == event.identifier.SeriesInstanceUID:
                    yield 0xFF00, answer(**{name: each[name].value for name in OF_INSTANCE})

    def _studies(self):
        known = {name: self.holds[0][name].value for name in OF_STUDY}
        count = len(self.holds) if self.count is None else self.count
        yield answer(**known, NumberOfStudyRelatedInstances=count)

    def _move(self, event):
        self.asked.append("C-MOVE")
        yield "127.0.0.1", self.calls, {"contexts": [build_context(self.sends[0].SOPClassUID)]}
        yield len(self.sends)
        yield from ((0xFF00, each) for each in self.sends)

    def _get(self, event):
        self.asked.append("C-GET")
        yield len(self.sends)
        for n, each in enumerate(self.sends):
            if self.hangs_at == "C-GET" and n == 2:
                self._ended.wait(20)
            yield 0xFF00, each


def answer(**values):
    found = Dataset()
    with lenient():
        for keyword, value in values.items():
            setattr(found, keyword, value)
    return found
