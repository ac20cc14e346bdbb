"""Studies fetched from DCMTK's dcmqrscp, which is filled by storescu."""

import subprocess
from contextlib import ExitStack

import pytest
from pydicom import dcmread
from pydicom.uid import RLELossless

from dicom_adapter.retrieval.answers import ArchiveError
from tests.dicom_adapter.destinations import _listens, free_port, program, wait_until
from tests.phantoms import ct_slices, mr_slices, save, uid_of

CONFIG = """NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
clara = (CLARA, 127.0.0.1, {ours})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
QR {folder} RW (200, 1024mb) ANY
AETable END
"""


class Dcmqrscp:
    """An archive named QR."""

    def __init__(self, folder, ours, *options):
        self._options, self.port, self.folder = options, free_port(), folder
        (folder / "files").mkdir(parents=True)
        self._config = folder / "dcmqrscp.cfg"
        self._config.write_text(CONFIG.format(port=self.port, ours=ours, folder=folder / "files"))

    def __enter__(self):
        log = (self.folder / "log").open("wb")
        command = [program("dcmqrscp"), "-c", str(self._config), *self._options]
        self._process = subprocess.Popen(command, stdout=log, stderr=log)
        log.close()
        wait_until(lambda: _listens(self.port), what="the start of dcmqrscp")
        return self

    def __exit__(self, *reason):
        self._process.kill()
        self._process.wait(10)

    def add(self, *datasets, options=("-xe",)):
        folder = save(datasets, self.folder / "to-send")
        command = [program("storescu"), *options, "-aec", "QR", "+sd", "+r"]
        subprocess.run([*command, "127.0.0.1", str(self.port), str(folder)], check=True, capture_output=True)


@pytest.fixture
def start(tmp_path, fetching):
    """Return what starts an archive with options, and names it GET, MOVE and AUTO after how it is asked."""
    with ExitStack() as opened:

        def begin(*options):
            archive = opened.enter_context(Dcmqrscp(tmp_path / "qr", fetching.port, *options))
            here = {"host-ip": "127.0.0.1", "port": archive.port, "ae-title": "QR"}
            fetching.add("GET", **here, retrieve="get").add("MOVE", **here, retrieve="move")
            fetching.add("AUTO", **here)
            return archive

        yield begin


@pytest.mark.parametrize("way", ["GET", "MOVE", "AUTO"])
def test_study_arrives_whole_and_late_instances_follow(start, fetching, way):
    slices = [*ct_slices((6, 16, 20)), *mr_slices(2)]
    archive = start()
    archive.add(*slices[2:])
    assert [each.retrieved for each in fetching.fetch(way)] == [6]
    archive.add(*slices[:2])
    (fetched,) = fetching.fetch(way, patient_id="P-1")
    files = fetching.files(fetched)
    assert (fetched.instances, fetched.retrieved) == (8, 2)
    for each in slices:
        assert dcmread(files[each.SOPInstanceUID]) == each


@pytest.mark.parametrize("way", ["MOVE", "AUTO"])
def test_compressed_instance_comes_as_it_lies_there(start, fetching, way):
    """By C-GET it looks at the first context of a SOP class alone, and sends nothing; C-MOVE follows."""
    (only,) = ct_slices((1, 16, 20))
    only.compress(RLELossless, generate_instance_uid=False)
    start("+xr", "-xr").add(only, options=("-xr",))
    files = fetching.files(*fetching.fetch(way))
    assert dcmread(files[uid_of(0)]).file_meta.TransferSyntaxUID == RLELossless
    assert dcmread(files[uid_of(0)]).PixelData == only.PixelData


def test_archive_that_does_not_know_us_is_told_how_to(start, fetching):
    start().add(*ct_slices((1, 16, 20)))
    fetching.ae_title = "STRANGER"
    with pytest.raises(ArchiveError, match="enter STRANGER there, with this machine's address and port"):
        fetching.fetch("MOVE")
