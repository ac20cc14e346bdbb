"""Receiving, beside Orthanc and storescp: ``python benchmarks/adapter.py``; needs Debian's dcmtk and orthanc.

The receivers run all the time and take turns: in each short round many associations send at once to one
receiver, then as much to the next, in another order each time. What counts is the median of the rounds'
ratios, whatever else the machine does; the lowest and the highest stand beside it. The senders
(`benchmarks/dicom_sender.py`) take little time, which is told apart. Adapter and Orthanc answer Success when
the instance is synced to disk (Orthanc: SyncStorageArea); storescp syncs nothing. What the adapter kept is
compared with what was sent, by SHA-256 of every data set. ``--memory 20000`` sends that many small instances
as well and shows its resident size.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
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
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1", "PYTHONPATH": str(ROOT)}  # DCMTK waits 40 ms without
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


def hashes(paths: Iterator[Path]) -> dict[str, int]:
    """Return the SHA-256 of the data set of every file, and how often it is there."""
    found: dict[str, int] = {}
    for path in paths:
        content = path.read_bytes()
        data = content[144 + int.from_bytes(content[140:144], "little") :]
        digest = hashlib.sha256(data).hexdigest()
        found[digest] = found.get(digest, 0) + 1
    return found


@dataclass(frozen=True)
class Sent:
    """What was sent in a round.

    Attributes
    ----------
    seconds
        From the first byte to the last answer.
    processor_s
        Processor time of the senders.
    digests
        SHA-256 of each data set.
    """

    seconds: float
    processor_s: float
    digests: list[str]


def send(port: int, *, associations: int, instances: int, rows: int, first: int) -> Sent:
    """Send new studies, an association each, all at once."""
    command = [sys.executable, str(ROOT / "benchmarks/dicom_sender.py"), str(port), "BENCH"]
    counts = {"associations": associations, "instances": instances, "rows": rows, "first": first}
    command += [f"--{name}={value}" for name, value in counts.items()]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the senders ended with {done.returncode}: {done.stderr[-500:]}")
    told = json.loads(done.stdout)
    if told["failed"]:
        raise SystemExit(f"{told['failed']} instances were not taken")
    return Sent(told["seconds"], told["processor_s"], told["digests"])


def free_port() -> int:
    """Return a port that nobody has, below those that connections of programs get."""
    while True:
        port = random.randrange(15000, 32000)
        with socket.socket() as each:
            try:
                each.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


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
        "MaximumPduLength": 131072,  # the most that it takes; 16384 unless it is set
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


@dataclass(frozen=True)
class Round:
    """A receiver's part of a round: its rate, and milliseconds of processor time for each instance."""

    rate: float
    receiver_ms: float
    sender_ms: float


def measure(port: int, process: _Process, count: int, **what: int) -> tuple[Round, Sent]:
    before = processor_s(process.pid)
    sent = send(port, **what)
    used = processor_s(process.pid) - before
    return Round(count / sent.seconds, used / count * 1e3, sent.processor_s / count * 1e3), sent


def processor_s(pid: int) -> float:
    """Return what a process and its children that have ended have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def compare(
    work: Path, *, associations: int, instances: int, rounds: int, rows: int, peers: Sequence[str]
) -> None:
    """Print the rates of all receivers, taken in turn."""
    names, count = ["adapter", *peers], associations * instances
    measured: dict[str, list[Round]] = {name: [] for name in names}
    wanted: Counter[str] = Counter()
    with ExitStack() as stack:
        running = {}
        for name in names:
            (work / name).mkdir()
            running[name] = stack.enter_context(RECEIVERS[name](work / name))
        for n in range(rounds + 1):  # the first warms them up
            for name in names if n % 2 else reversed(names):
                what = {"associations": associations, "instances": instances, "rows": rows}
                port, process = running[name]
                taken, sent = measure(port, process, count, **what, first=1 + n * associations)
                if n:
                    measured[name].append(taken)
                if name == "adapter":
                    wanted.update(sent.digests)
    if wanted != Counter(hashes((work / "adapter/dicom-adapter/studies").rglob("*.dcm"))):
        raise SystemExit("LOST OR CORRUPTED: what is kept is not what was sent")
    for name in names:
        shutil.rmtree(work / name)
    size = rows * rows * 2 // 1024
    load = os.getloadavg()[0]
    print(
        f"{associations} associations x {instances} instances of {size} KB, {rounds} rounds, load {load:.1f}"
    )
    for name, found in measured.items():
        ratios = [ours.rate / other.rate for ours, other in zip(measured["adapter"], found, strict=True)]
        rate, receiver, sender = (
            statistics.median(getattr(each, what) for each in found)
            for what in ("rate", "receiver_ms", "sender_ms")
        )
        print(
            f"{name:8} {rate:6.0f}/s  receiver {receiver:5.2f} ms, senders {sender:5.2f} ms of processor  "
            f"adapter {statistics.median(ratios):5.2f}x  ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    print(f"0 of {count * (rounds + 1)} instances lost or corrupted (SHA-256 of every data set)", flush=True)


def compare_with_strangers(
    work: Path, *, strangers: int, associations: int, instances: int, rounds: int, rows: int
) -> None:
    """Print the adapter's rate, and how long an echo takes, with strangers beside and without, by turns."""
    kinds = (strangers * 45 // 100, strangers * 45 // 100, strangers // 20, strangers // 20)
    folder, rates = work / "strangers", {False: [0.0] * 0, True: [0.0] * 0}
    echoes: list[float] = []
    folder.mkdir()
    with adapter(folder) as (port, process):
        for n in range(rounds + 1):  # the first warms it up
            for is_crowded in (n % 2 == 0, n % 2 == 1):
                with crowd(port, kinds if is_crowded else ()):
                    first = 1 + (2 * n + is_crowded) * associations
                    what = {"associations": associations, "instances": instances, "rows": rows}
                    taken, _ = measure(port, process, associations * instances, **what, first=first)
                    if n:
                        rates[is_crowded].append(taken.rate)
                    if is_crowded:
                        echoes += [echo_s(port) for _ in range(3)]
    shutil.rmtree(folder)
    ratios = [beside / alone for alone, beside in zip(rates[False], rates[True], strict=True)]
    print(
        f"{associations} associations x {instances} instances, {rounds} rounds, load {os.getloadavg()[0]:.1f}"
    )
    for is_crowded, found in rates.items():
        print(f"{sum(kinds) if is_crowded else 0:4} strangers: {statistics.median(found):.0f}/s")
    print(f"beside them {statistics.median(ratios):.2f}x  ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"an echo beside them {statistics.median(echoes):.2f} s, {max(echoes):.2f} s at most", flush=True)


@contextmanager
def crowd(port: int, kinds: Sequence[int]) -> Iterator[None]:
    """Let strangers call until the block ends: idle ones, tricklers, garbage, unknown titles."""
    if not kinds:
        yield
        return
    script = ROOT / "benchmarks/soak/strangers.py"
    process = subprocess.Popen([sys.executable, str(script), str(port), *map(str, kinds)])
    try:
        time.sleep(3)  # for all of them to come
        yield
    finally:
        process.kill()
        process.wait()


def echo_s(port: int) -> float:
    """Return how long an echo of another takes, its program's start included, seconds."""
    begun = time.perf_counter()
    command = [program("echoscu"), "-aec", "BENCH", "127.0.0.1", str(port)]
    subprocess.run(command, env=_ENVIRONMENT, capture_output=True, check=True)
    return time.perf_counter() - begun


def resident_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def watch_memory(work: Path, count: int, *, associations: int, batch: int = 2000) -> None:
    """Print the adapter's resident size after every batch of small instances."""
    folder, each = work / "memory", batch // associations
    folder.mkdir()
    with adapter(folder) as (port, process):
        for done in range(0, count, batch):
            first = 1 + done // batch * associations
            send(port, associations=associations, instances=each, rows=128, first=first)
            print(f"{done + batch:6} instances: {resident_mb(process.pid):.0f} MB resident", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--associations", type=int, nargs="+", default=[1, 4, 20])
    parser.add_argument("--instances", type=int, default=400, help="of all associations in a round")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peers", nargs="*", default=["Orthanc", "storescp"])
    parser.add_argument("--strangers", type=int, default=0, metavar="COUNT", help="compare with and without")
    parser.add_argument("--memory", type=int, default=0, metavar="COUNT")
    parser.add_argument("--folder", type=Path, help="on the disk that is measured; default: TMPDIR")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder or tempfile.gettempdir()) as work:
        if given.strangers:
            compare_with_strangers(
                Path(work),
                strangers=given.strangers,
                associations=max(given.associations),
                instances=given.instances // max(given.associations),
                rounds=given.rounds,
                rows=given.rows,
            )
        for associations in given.associations if given.rounds and not given.strangers else ():
            compare(
                Path(work),
                associations=associations,
                instances=given.instances // associations,
                rounds=given.rounds,
                rows=given.rows,
                peers=given.peers,
            )
        if given.memory:
            watch_memory(Path(work), given.memory, associations=max(given.associations))


if __name__ == "__main__":
    main()
