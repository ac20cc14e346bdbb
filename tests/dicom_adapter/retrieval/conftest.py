"""What tests of retrievals share: a configuration that names archives, and studies fetched from them."""

import pytest
from ruamel.yaml import YAML

from clara_wf.definitions.workflow import Workflow
from clara_wf.run.archives import FetchOptions, study_query
from clara_wf.workspace import Places, Workspace
from dicom_adapter.cli.archives import open_archives
from dicom_adapter.storage.results import read_result
from tests.dicom_adapter.destinations import DICOMWEB
from tests.phantoms import STUDY

WORKFLOW = Workflow(
    id="7b413e24-d018-4689-8c41-73272f6649d4",
    name="stamp",
    input_folder="reader/input",
    steps=(),
    result_folders=("writer/output",),
)


class Fetching:
    """Archives of a configuration, and a workspace that studies are fetched into."""

    def __init__(self, folder, *, port=0):
        self.folder, self.port, self.lines = folder, port, []
        self.places = Places.of(Workspace(root=folder, chosen_by="a test"), {})
        self.destinations, self.scp, self.storage = [], {"reject-unknown-sources": False}, {}
        self.timeout_s, self.ae_title = 3, "CLARA"

    def add(self, name, **keys):
        """Name an archive in the configuration."""
        self.destinations.append({"name": name, **keys})
        return self

    @property
    def file(self):
        file = self.folder / "dicom-server-config.yaml"
        scp = {"port": self.port, "host": "127.0.0.1", "ae-titles": [{"ae-title": "CT_AI"}], **self.scp}
        scu = {
            "ae-title": self.ae_title,
            "timeout-seconds": self.timeout_s,
            "destinations": self.destinations,
        }
        storage = {"minimum-free": "1M", **self.storage}
        YAML().dump({"dicom": {"scp": scp, "scu": scu}, "storage": storage}, file)
        return file

    def fetch(self, name="PACS", *, study_uid=STUDY, options=None, **query):
        """Fetch as ``clara-wf pull`` does, and return what it gives for each study."""
        asked = study_query(study_uid="" if query else study_uid, **query)
        archives = open_archives(self.file)
        return archives.fetch(
            name, asked, WORKFLOW, self.places, FetchOptions(**(options or {})), self.lines.append
        )

    def files(self, fetched):
        """Return the files that a job would read, by SOPInstanceUID."""
        folder = self.places.test_data / fetched.job / WORKFLOW.input_folder
        return {read_result(path).sop_instance_uid: path for path in folder.iterdir()}

    def left(self):
        """Return every file below the test data."""
        return [path for path in self.places.test_data.rglob("*") if path.is_file()]


@pytest.fixture
def fetching(tmp_path, report_port):
    """Return what fetches; C-MOVE sends to the port that Orthanc knows."""
    return Fetching(tmp_path, port=report_port)


@pytest.fixture
def orthanc(archive, fetching):
    """Return an Orthanc that is named GET, MOVE and WEB, after how it is asked."""
    here = {"host-ip": "127.0.0.1", "port": archive.port, "ae-title": archive.ae_title}
    fetching.add("GET", **here, retrieve="get").add("MOVE", **here, retrieve="move")
    if DICOMWEB.exists():
        fetching.add("WEB", dicomweb=f"{archive.url}/dicom-web")
    return archive
