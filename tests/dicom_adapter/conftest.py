"""What several tests share: an archive, emptied for each, and certificates."""

import pytest

from tests.dicom_adapter.certificates import NAMES, make_certificates
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


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """Return a folder with certificates and keys: of a server, a client of its, and a stranger."""
    return make_certificates(tmp_path_factory.mktemp("tls"), *NAMES)


@pytest.fixture(scope="session")
def coarse_series(tmp_path_factory):
    """Return a coarse phantom as a DICOM series: 24 slices of 96 x 96."""
    from clara_wf.run.demo import write_phantom
    from phantoms import make_abdomen

    folder = tmp_path_factory.mktemp("coarse")
    phantom = make_abdomen(900_002, shape=(24, 96, 96), spacing_mm=(8.0, 4.0, 4.0))
    write_phantom(phantom, folder / "series", truth_folder=folder / "truth")
    return folder / "series"
