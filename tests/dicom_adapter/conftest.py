"""An archive that several tests share, emptied for each."""

import pytest

from tests.dicom_adapter.destinations import Orthanc, free_port


@pytest.fixture(scope="session")
def report_port():
    """Return the port at which the archive calls CLARA back."""
    return free_port()


@pytest.fixture(scope="session")
def started_archive(tmp_path_factory, report_port):
    with Orthanc(tmp_path_factory.mktemp("orthanc"), calls=[("CLARA", report_port)]) as archive:
        yield archive


@pytest.fixture
def archive(started_archive):
    """Return an empty Orthanc."""
    started_archive.delete()
    return started_archive
