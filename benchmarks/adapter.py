"""Receiving, beside Orthanc and storescp: ``python benchmarks/adapter.py``; needs Debian's dcmtk and orthanc.

Many storescu send at once, each over one association, to one receiver after the other; rounds alternate and
the median counts. Adapter and Orthanc answer Success when the instance is synced to disk (Orthanc:
SyncStorageArea); storescp syncs nothing. What the adapter kept is compared with what was sent, by SHA-256 of
every data set. ``--memory 20000`` sends that many small instances as well and shows its resident size.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

ROOT = Path(__file__).resolve().parents[1]
_ROOT_UID = "1.2.826.0.1.3680043.10.1511"
_ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1", "PYTHONPATH": str(ROOT)}  # DCMTK waits 40 ms without it
_START_S = 30.0
_Process = subprocess.Popen[bytes]


def program(name: str) -> str:
    """Return where Debian's program is; pynetdicom installs others of the same names."""
    folders = [
        each for each in os.environ["PATH"].split(os.pathsep) if Path(each) != Path(sys.prefix) / "bin"
    ]
    found = shutil.which(name, path=os.pathsep.join([*folders, "/usr/sbin"]))
    if found is None:
        raise SystemExit(f"{name} is not installed: apt-get install dcmtk orthanc")
    return found


def write_instances(folder: Path, *, associations: int, instances: int, rows: int, first: int = 0) -> None:
    """Write a folder of CT slices for each association; every slice has other pixels."""
    for association in range(first, first + associations):
        within = folder / f"{association:05}"
        within.mkdir(parents=True)
        for n in range(instances):
            _slice(association + 1, n + 1, rows).save_as(within / f"{n:05}.dcm", enforce_file_format=True)


def _slice(study: int, number: int, rows: int) -> Dataset:
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, f"{_ROOT_UID}.{study}.1.{number}"
    made.StudyInstanceUID, made.SeriesInstanceUID = f"{_ROOT_UID}.{study}", f"{_ROOT_UID}.{study}.1"
    made.Modality, made.PatientName, made.PatientID = "CT", "PHANTOM", "PHANTOM"
    made.InstanceNumber, made.Rows, made.Columns = number, rows, rows
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 1
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.add_new(
        "PixelData", "OW", hashlib.sha256(f"{study} {number}".encode()).digest() * (rows * rows // 16)
    )
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made


def hashes(paths: Iterator[Path]) -> dict[str, int]:
    """Return the SHA-256 of the data set of every file, and how often it is there."""
    found: dict[str, int] = {}
    for path in paths:
        content = path.read_bytes()
        data = content[144 + int.from_bytes(content[140:144], "little") :]
        digest = hashlib.sha256(data).hexdigest()
        found[digest] = found.get(digest, 0) + 1
    return found


def send(folder: Path, port: int, called: str) -> float:
    """Send each folder over an association of its own, all at once; return the seconds of the last to end."""
    begun = time.perf_counter()
    command = [program("storescu"), "-aec", called, "+sd", "127.0.0.1", str(port)]
    senders = [
        subprocess.Popen(
            [*command, str(each)], env=_ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        for each in sorted(folder.iterdir())
    ]
    for each in senders:
        _, told = each.communicate()
        if each.returncode:
            raise SystemExit(f"storescu ended with {each.returncode}: {told.decode()[-500:]}")
    return time.perf_counter() - begun


def free_port() -> int:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return int(each.getsockname()[1])


@contextmanager
def started(command: Sequence[str | Path], is_up: Callable[[], bool], log: Path) -> Iterator[_Process]:
    """Run a receiver until the block ends."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=_ENVIRONMENT, cwd=ROOT, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + _START_S
        while not is_up():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[0]} did not start: {log.read_text()[-1000:]}")
            time.sleep(0.05)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError):
        return False


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def adapter(folder: Path) -> Iterator[tuple[int, _Process]]:
    """Run the adapter as its users do, with nothing to do but receive."""
    port, http_port = free_port(), free_port()
    config = {
        "dicom": {
            "scp": {
                "port": port,
                "host": "127.0.0.1",
                "ae-titles": [{"ae-title": "BENCH"}],
                "reject-unknown-sources": False,
            }
        },
        "storage": {"payloads": str(folder / "payloads"), "workflows": str(folder / "workflows")},
        "http": {"port": http_port},
    }
    file = folder / "config.yaml"
    file.write_text(json.dumps(config))
    command = [sys.executable, "-m", "clara_wf", "adapter", "--config", str(file)]
    url = f"http://127.0.0.1:{http_port}/readyz"
    with started(command, lambda: answers(url), folder / "log") as process:
        yield port, process


@contextmanager
def orthanc(folder: Path) -> Iterator[tuple[int, _Process]]:
    """Run Orthanc, which syncs what it stores."""
    port, http_port = free_port(), free_port()
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomAet": "BENCH",
        "DicomPort": port,
        "HttpPort": http_port,
        "AuthenticationEnabled": False,
        "SyncStorageArea": True,
        "DicomThreadsCount": 20,
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(settings))
    url = f"http://127.0.0.1:{http_port}/system"
    with started([program("Orthanc"), str(file)], lambda: answers(url), folder / "log") as process:
        yield port, process


@contextmanager
def storescp(folder: Path) -> Iterator[tuple[int, _Process]]:
    """Run storescp, a process for each association."""
    port = free_port()
    (folder / "kept").mkdir()
    command = [program("storescp"), "+B", "--fork", "-od", str(folder / "kept"), "-aet", "BENCH", str(port)]
    with started(command, lambda: listens(port), folder / "log") as process:
        yield port, process


RECEIVERS = {"adapter": adapter, "Orthanc": orthanc, "storescp": storescp}


def measure(name: str, sent: Path, count: int) -> tuple[float, float]:
    """Return instances a second, and the receiver's milliseconds of processor time for each."""
    folder = Path(tempfile.mkdtemp(dir=sent.parent))
    with RECEIVERS[name](folder) as (port, process):
        before = processor_s(process.pid)
        seconds = send(sent, port, "BENCH")
        used = processor_s(process.pid) - before
        if name == "adapter":
            check(sent, folder / "dicom-adapter/studies", count)
    give_back(folder)
    return count / seconds, used / count * 1000


def give_back(folder: Path) -> None:
    """Free the room of files, but not their inodes.

    An ext4 without a journal passes over inodes that were freed less than a minute ago, one by one, when a
    new one is wanted: a round would pay for the clean-up of the one before. The folder goes in the end.
    """
    for path in folder.rglob("*"):
        if path.is_file():
            os.truncate(path, 0)


def processor_s(pid: int) -> float:
    """Return what a process and its children that have ended have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def check(sent: Path, kept: Path, count: int) -> None:
    """End the benchmark unless what is kept is what was sent."""
    wanted, found = hashes(sent.rglob("*.dcm")), hashes(kept.rglob("*.dcm"))
    if wanted != found or sum(found.values()) != count:
        raise SystemExit(
            f"LOST OR CORRUPTED: {count} were sent, {len(wanted.items() & found.items())} are there"
        )


def compare(work: Path, *, associations: int, instances: int, rounds: int, rows: int) -> None:
    """Print the rates of all receivers."""
    sent, count = work / "sent", associations * instances
    write_instances(sent, associations=associations, instances=instances, rows=rows)
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in RECEIVERS}
    for _ in range(rounds):
        for name, found in measured.items():
            found.append(measure(name, sent, count))
    size = rows * rows * 2 // 1024
    print(f"{associations} associations x {instances} instances of {size} KB, {rounds} rounds")
    ours = statistics.median(rate for rate, _ in measured["adapter"])
    for name, found in measured.items():
        median = statistics.median(rate for rate, _ in found)
        used = statistics.median(each for _, each in found)
        rates = ", ".join(f"{rate:.0f}" for rate, _ in found)
        print(
            f"{name:8} {median:6.0f}/s  {used:5.2f} ms of processor  adapter {ours / median:5.2f}x  ({rates})"
        )
    print(f"0 of {count * rounds} instances lost or corrupted (SHA-256 of every data set)")
    shutil.rmtree(sent)


def resident_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def watch_memory(work: Path, count: int, *, associations: int, batch: int = 2000) -> None:
    """Print the adapter's resident size after every batch of small instances."""
    folder, each = work / "adapter", batch // associations
    folder.mkdir()
    with adapter(folder) as (port, process):
        for done in range(0, count, batch):
            sent = work / "sent"
            first = done // batch * associations
            write_instances(sent, associations=associations, instances=each, rows=128, first=first)
            send(sent, port, "BENCH")
            shutil.rmtree(sent)
            print(f"{done + batch:6} instances: {resident_mb(process.pid):.0f} MB resident", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--associations", type=int, default=20)
    parser.add_argument("--instances", type=int, default=200, help="of each association")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, default=0, metavar="COUNT")
    parser.add_argument("--folder", type=Path, help="on the disk that is measured; default: TMPDIR")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder or tempfile.gettempdir()) as work:
        if given.rounds:
            compare(
                Path(work),
                associations=given.associations,
                instances=given.instances,
                rounds=given.rounds,
                rows=given.rows,
            )
        if given.memory:
            watch_memory(Path(work), given.memory, associations=given.associations)


if __name__ == "__main__":
    main()
