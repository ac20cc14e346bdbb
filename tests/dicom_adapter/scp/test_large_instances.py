"""Data sets that are too large to be held in memory while they come."""

import hashlib
import os
import struct
import threading
import time
from pathlib import Path

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom_adapter.dimse.pdus import ProtocolError
from dicom_adapter.scp.messages import MessageReader
from dicom_adapter.storage.receiver import read_received
from tests.dicom_adapter.destinations import wait_until
from tests.dicom_adapter.instances import instance, write
from tests.dicom_adapter.storage_service import Service, associate, data_set_of, dcmtk

LARGE = 24 << 20


@pytest.fixture
def service(tmp_path):
    running = []

    def make(**settings):
        running.append(Service(tmp_path / "adapter", **settings))
        return running[-1]

    yield make
    for each in running:
        each.scp.stop()


def large(number=1, size=LARGE, **more):
    """Return an instance of several rows, of which none is like the other."""
    made = instance(number, size=2, **more)
    made.Rows, made.Columns = size >> 12, 1 << 11
    made.PixelData = b"".join(struct.pack("<L", n) * 1024 for n in range(size >> 12))
    return made


def digest_of(path):
    return hashlib.sha256(data_set_of(path)).hexdigest()


def memory():
    """Return the memory of this process that is no file's, bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) << 10


class MostMemory:
    """What this process grows by while the block lasts."""

    def __enter__(self):
        self.before = self.most = memory()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *reason):
        self._ended.set()
        self._thread.join()
        self.growth = self.most - self.before

    def _watch(self):
        while not self._ended.is_set():
            self.most = max(self.most, memory())
            time.sleep(0.005)


def test_it_is_kept_as_it_was_sent_and_takes_no_memory_of_its_size(service, tmp_path):
    running = service()
    (sent,) = write(tmp_path / "sent", [large(size=192 << 20)])
    with MostMemory() as most:
        assert dcmtk("storescu", running, sent).returncode == 0
    assert [digest_of(path) for path in running.files] == [digest_of(sent)]
    assert most.growth < 64 << 20
    with MostMemory() as most:
        assert read_received(running.files[0]).sop_instance_uid == "1.2.3.4.1"
    assert most.growth < 16 << 20


def test_it_is_kept_once_and_another_content_is_kept_beside(service, tmp_path):
    running = service()
    paths = write(tmp_path / "sent", [large(), large(PatientID="4712")])
    assert dcmtk("storescu", running, *paths, paths[0]).returncode == 0
    assert len(running.told.again) == 1
    assert {digest_of(path) for path in running.files} == {digest_of(path) for path in paths}
    assert [each.conflict for each in running.told.new] == [False, True]


def test_a_deflated_one_is_known_by_its_beginning(service, tmp_path):
    noise = large()
    noise.PixelData = os.urandom(LARGE)
    running = service()
    association = associate(running, syntax=DeflatedExplicitVRLittleEndian)
    (sent,) = write(tmp_path / "sent", [noise], syntax=DeflatedExplicitVRLittleEndian)
    assert association.send_c_store(sent).Status == 0
    association.release()
    assert [path.name for path in running.files] == ["1.2.3.4.1.dcm"]


def test_without_room_it_is_out_of_resources_and_the_association_goes_on(service):
    running = service(minimum_free=1 << 60)
    association = associate(running)
    assert [association.send_c_store(each).Status for each in (large(1), large(2))] == [0xA700, 0xA700]
    association.release()
    assert "must stay so" in running.told.refusals[0][1]
    assert not any(running.places.incoming.iterdir())


def test_without_a_folder_for_it_it_is_refused_with_the_reason(service):
    running = service()
    running.places.incoming.rmdir()
    running.places.incoming.write_text("in the way")
    association = associate(running)
    assert association.send_c_store(large()).Status == 0x0110
    association.release()
    assert running.told.refusals == [(0x0110, "an instance cannot be kept: Not a directory")]


class Bytes:
    """What a peer has sent."""

    def __init__(self, data):
        self._data = memoryview(data)

    def take(self, count):
        taken, self._data = self._data[:count], self._data[count:]
        return bytearray(taken)

    def fill(self, buffer):
        buffer[:] = self.take(len(buffer))


def message(field, size):
    """Return the body of a P-DATA: a command with that field (PS3.7 E.1), and a data set of so many bytes."""
    command = struct.pack("<HHLHHHLHHHLH", 0, 0x100, 2, field, 0, 0x110, 2, 1, 0, 0x800, 2, 0)
    parts = ((3, command), (2, bytes(size)))
    return b"".join(struct.pack(">LBB", len(part) + 2, 1, header) + part for header, part in parts)


def test_what_is_no_instance_is_held_up_to_16_mib_and_goes_to_no_disk():
    report = message(0x0100, 3 << 20)
    ((_, _, data),) = [
        (context, command, len(data))
        for context, command, data in MessageReader(Bytes(report), spool=None).read(len(report))
    ]
    assert data == 3 << 20
    endless = message(0x0100, (16 << 20) + 1)
    with pytest.raises(ProtocolError, match="never ends"):
        list(MessageReader(Bytes(endless), spool=None).read(len(endless)))


def test_one_that_is_cut_gives_its_room_back(service):
    running = service()
    association = associate(running)
    connection = association.dul.socket.socket

    def cut():
        wait_until(lambda: any(running.places.incoming.iterdir()), what="the file of what is too large")
        connection.shutdown(2)

    cutting = threading.Thread(target=cut)
    cutting.start()
    assert "Status" not in association.send_c_store(large(size=96 << 20))
    cutting.join()
    wait_until(lambda: not any(running.places.incoming.iterdir()), what="the end of that file")
    assert running.files == []
