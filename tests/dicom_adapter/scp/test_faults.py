"""Receiving, disturbed: what was acknowledged is there, whole and once, and nothing else is.

``CLARA_KILLS`` says how often the adapter is killed (5).
"""

import hashlib
import os
import random
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from dicom_adapter.database.store import Store
from tests.dicom_adapter.adapters import Adapter
from tests.dicom_adapter.destinations import program, wait_until
from tests.dicom_adapter.instances import instance, write
from tests.dicom_adapter.storage_service import NODELAY, Service, data_set_of, dcmtk

KILLS = int(os.environ.get("CLARA_KILLS", "5"))
SENDERS, INSTANCES = 4, 60


def digest_of(path):
    return hashlib.sha256(data_set_of(path)).hexdigest()


def send(adapter, paths):
    """Return the files that the adapter has acknowledged, over an association that may be cut."""
    command = [program("storescu"), "-v", "-aec", "CT_AI", "127.0.0.1", str(adapter.port), *map(str, paths)]
    told = subprocess.run(command, capture_output=True, text=True, env=NODELAY, timeout=60)
    said = re.findall(r"Sending file: (\S+)|Received Store Response \((Success)\)", told.stdout + told.stderr)
    return {file for (file, _), (_, success) in pairwise(said) if file and success}


def a_study(folder, n, sender):
    slices = [
        instance(i, series=f"1.2.{n + 1}.{sender + 1}", study=f"1.2.{n + 1}", size=65536)
        for i in range(1, INSTANCES + 1)
    ]
    return write(folder / f"{n}-{sender}", slices)


def paths_in_database(root):
    store = Store(root / "adapter.sqlite")
    try:
        return sorted(str(each.path) for study in store.studies() for each in store.instances(study.id))
    finally:
        store.close()


def wait_for_files(folder, count):
    """Return as soon as so many files are in a folder that may not be there yet."""
    deadline = time.monotonic() + 30
    while not folder.is_dir() or len(os.listdir(folder)) < count:
        assert time.monotonic() < deadline, "nothing comes"
        time.sleep(0.001)


@pytest.mark.slow
def test_killed_at_random_moments_it_has_all_that_it_acknowledged(tmp_path):
    chance, acknowledged, in_the_middle = random.Random(KILLS), set(), 0
    adapter, root = Adapter(tmp_path / "a", workflows=[]), tmp_path / "a/dicom-adapter"
    for n in range(KILLS):
        sent = [a_study(tmp_path / "sent", n, sender) for sender in range(SENDERS)]
        adapter.start()
        with ThreadPoolExecutor() as pool:
            sending = [pool.submit(send, adapter, paths) for paths in sent]
            wait_for_files(root / f"studies/CT_AI/1.2.{n + 1}", chance.randrange(SENDERS * INSTANCES // 2))
            adapter.kill()
            heard = set().union(*(each.result() for each in sending))
        acknowledged |= {digest_of(path) for paths in sent for path in paths if str(path) in heard}
        in_the_middle += 0 < len(heard) < SENDERS * INSTANCES
    with adapter:
        files = sorted((root / "studies").rglob("*.dcm"))
        wait_until(
            lambda: paths_in_database(root) == list(map(str, files)),
            what="the database's agreement with the files",
        )
        kept = [digest_of(path) for path in files]
        assert acknowledged <= set(kept)
        assert len(kept) == len(set(kept)), "an instance is there twice"
        assert list((root / "incoming").iterdir()) == []
    assert in_the_middle >= KILLS // 2, "most kills were not in the middle of a transfer"


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=180k", "none", folder], capture_output=True)
    if made.returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_out_of_resources_and_leaves_no_halves_until_there_is_room(small_disk, tmp_path):
    running = Service(small_disk / "adapter")
    sent = write(tmp_path / "sent", [instance(n, size=1 << 16, fill=n) for n in range(1, 5)])
    for path, stored in zip(sent, (True, True, False, False), strict=True):
        assert (dcmtk("storescu", running, path).returncode == 0) == stored
    assert {status for status, _ in running.told.refusals} == {0xA700}
    assert list(running.places.incoming.iterdir()) == []
    assert [digest_of(path) for path in running.files] == [digest_of(path) for path in sent[:2]]
    shutil.rmtree(running.files[0].parent)
    assert dcmtk("storescu", running, sent[3]).returncode == 0
    running.scp.stop()
    assert [digest_of(path) for path in running.files] == [digest_of(sent[3])]
