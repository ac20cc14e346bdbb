"""The listening side alone, and those who call it."""

import subprocess

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, build_context

from dicom_adapter.config.dicom_blocks import Scp
from dicom_adapter.scp.storage_scp import StorageScp
from dicom_adapter.storage.paths import AdapterPaths
from dicom_adapter.storage.receiver import InstanceReceiver, sweep
from dicom_adapter.storage.study_locks import StudyLocks
from tests.dicom_adapter.destinations import program
from tests.dicom_adapter.instances import CT

NODELAY = {"TCP_NODELAY": "1", "PATH": "/usr/bin:/bin:/usr/local/bin"}


class RecordingObserver:
    """What the service told of itself."""

    def __init__(self):
        self.new, self.again, self.conflicts, self.refusals, self.rejections = [], [], [], [], []
        self.open, self.endings = set(), []

    def opened(self, association, ae_title, caller, *, address):
        self.open.add(association)

    def rejected(self, ae_title, caller, reason, *, address):
        self.rejections.append((ae_title, caller, reason))

    def kept(self, association, kept):
        (self.new if kept.is_new else self.again).append(kept.received)
        if kept.received.conflict:
            self.conflicts.append(kept.received)

    def refused(self, association, status, reason):
        self.refusals.append((status, reason))

    def closed(self, association, *, is_released):
        self.open.discard(association)

    def ended(self, ending, reason, *, address):
        self.endings.append((ending, reason))

    def catch_up(self, *, all_of_it=False):
        pass


class Service:
    def __init__(self, root, *, minimum_free=0, reporters=None, report=None, **settings):
        self.places = AdapterPaths(root=root)
        root.mkdir(exist_ok=True)
        sweep(self.places)
        titles = settings.pop("titles", ["CT_AI", "MR AI"])
        given = {"port": 0, "host": "127.0.0.1", "reject-unknown-sources": False, **settings}
        self.config = Scp.model_validate({**given, "ae-titles": [{"ae-title": title} for title in titles]})
        self.told = RecordingObserver()
        self.study_locks = StudyLocks()
        self.receiver = InstanceReceiver(self.places, minimum_free=minimum_free, study_locks=self.study_locks)
        self.scp = StorageScp(
            *(lambda: self.config, self.receiver, self.told),
            report=report,
            reporters=reporters and (lambda: Scp.model_validate(reporters)),
        )
        self.scp.start()

    @property
    def files(self):
        return sorted(path for path in self.places.studies.rglob("*") if path.is_file())


def dcmtk(name, service, *arguments, called="CT_AI", caller="STORESCU"):
    command = [program(name), "-aet", caller, "-aec", called, "127.0.0.1", str(service.scp.port)]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, env=NODELAY, timeout=60
    )


def associate(service, *, called="CT_AI", syntax=ExplicitVRLittleEndian, sop_class=CT):
    entity = AE(ae_title="TEST")
    association = entity.associate(
        "127.0.0.1", service.scp.port, contexts=[build_context(sop_class, syntax)], ae_title=called
    )
    assert association.is_established
    return association


def data_set_of(path):
    """Return the bytes behind a file's meta information."""
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]
