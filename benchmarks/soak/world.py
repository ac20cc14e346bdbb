"""The adapter of a soak with its disk and its archive, each of which somebody takes away now and then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapter import free_port  # benchmarks/adapter.py
from ruamel.yaml import YAML

from clara_wf.publish.publish import publish
from soak.modality import names, until

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = "7b413e24-d018-4689-8c41-73272f6649d4"
CHART = ROOT / "clara-reference-workflows/charts/clara-workflow"
MINIMUM_FREE = 64 << 20
_START_S = 60.0
_ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}"}

_VALUES = """
stages:
  ##BEGIN_stamp##
  stamp:
    image: {{repository: clara/stamp, tag: latest}}
    mount:
      in: {{name: "input"}}
      out: {{name: "output"}}
    stageName: "stamp"
    appDir: "/app"
    inputLock: "/app/locks/input.lock"
    inputs: "input"
    logName: "/app/logs/stamp.log"
    outputs: "output"
    lockDir: "/app/locks"
    lockName: "stamp.lock"
    timeout: "120"
    publishPath: "/publish"
    command: ["{python}", "{stage}"]
  ##END_stamp##

workflows:
  {workflow}:
    name: "stamp"
    stages: ["stamp"]
    waitLocks: [""]
    ioFolders: ["stamp/input", "stamp/output"]
    args: [""]
"""


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path | None]:
    """Give a file system of so many bytes, until the block ends; None where nothing may be mounted."""
    image, place = folder / "disk.img", folder / "disk"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(size)
    made = subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], capture_output=True, check=False)
    mounted = (
        not made.returncode
        and not subprocess.run(
            ["mount", "-o", "loop", image, place], capture_output=True, check=False
        ).returncode
    )
    try:
        yield place if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", place], check=False)


class Disk:
    """A file system that is filled up and freed."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._filler = place / "filler"

    def fill(self, leave: int) -> None:
        """Leave so many bytes free."""
        status = os.statvfs(self.place)
        wanted = status.f_bavail * status.f_frsize - leave
        held = self._filler.stat().st_size if self._filler.exists() else 0
        if wanted > 0:
            with self._filler.open("ab") as file:
                os.posix_fallocate(file.fileno(), held, wanted)

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)


class Archive:
    """The destination; it comes and goes."""

    def __init__(self, folder: Path) -> None:
        self.port, self.journal = free_port(), folder / "journal"
        self._log = folder / "archive.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            sys.executable,
            str(Path(__file__).with_name("archive.py")),
            str(self.port),
            str(self.journal),
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, env=_ENVIRONMENT, stdout=log, stderr=log)

    def send_signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            if number == signal.SIGKILL:
                self._process.wait()
                self._process = None

    def arrivals(self) -> list[tuple[str, str]]:
        """Return SOPInstanceUID and digest of everything that came, in this order."""
        lines = self.journal.read_text().splitlines() if self.journal.exists() else []
        return [(line.split()[0], line.split()[1]) for line in lines]


class Adapter:
    """An adapter as its users start it."""

    def __init__(self, folder: Path, disk: Path, archive_port: int, *, modalities: int) -> None:
        self.port, self.http_port = free_port(), free_port()
        self.root = disk / "dicom-adapter"
        self.log = folder / "adapter.log"
        self._file = folder / "dicom-server-config.yaml"
        self.starts: list[float] = []
        values = folder / "values.yaml"
        stage = Path(__file__).with_name("stage.py")
        values.write_text(_VALUES.format(python=sys.executable, stage=stage, workflow=WORKFLOW))
        target = folder / "published"
        publish(
            WORKFLOW,
            "stamp",
            target,
            values=values,
            chart=CHART,
            models=None,
            environ={"PATH": "/nonexistent"},
        )
        YAML().dump(self._settings(disk, target, archive_port, modalities), self._file)

    def _settings(self, disk: Path, published: Path, archive_port: int, modalities: int) -> dict[str, object]:
        sources = [{"ae-title": name, "host-ip": address} for name, address in names(modalities)]
        sources += [
            {"ae-title": "CANARY", "host-ip": "127.0.0.10"},
            {"ae-title": "ODD", "host-ip": "127.0.0.9"},
        ]
        archive = {
            "name": "ARCHIVE",
            "host-ip": "127.0.0.1",
            "port": archive_port,
            "ae-title": "ARCHIVE",
        }
        return {
            "dicom": {
                "scp": {
                    "port": self.port,
                    "host": "127.0.0.1",
                    "ae-titles": [{"ae-title": "CT_AI", "quiet-seconds": 1}, {"ae-title": "KEPT"}],
                    "sources": sources,
                },
                "scu": {"ae-title": "CLARA", "timeout-seconds": 5, "destinations": [archive]},
            },
            "workflows": [
                {
                    "name": "stamp",
                    "clara-ae-title": "CT_AI",
                    "destination-name": ["ARCHIVE"],
                    "workflow": WORKFLOW,
                }
            ],
            "storage": {
                "payloads": str(disk / "payloads"),
                "workflows": str(published),
                "received": str(self.root),
                "minimum-free": "64M",
                "retention-hours": 0.02,
            },
            "jobs": {
                "engine": "process",
                "model-server": "none",
                "retry-seconds": 2,
                "tries": 20,
                "at-once": 2,
            },
            "http": {"port": self.http_port},
        }

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it answers."""
        begun = time.monotonic()
        command = [sys.executable, "-m", "clara_wf", "adapter", "--config", str(self._file)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, env=_ENVIRONMENT, cwd=ROOT, stdout=log, stderr=log)
        if not until(lambda: self.readiness() is not None, within_s=_START_S, every_s=0.1):
            raise SystemExit(f"the adapter did not start:\n{self.log.read_text()[-3000:]}")
        self.starts.append(time.monotonic() - begun)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> float:
        """End it by SIGTERM, and return how long that took, seconds."""
        begun = time.monotonic()
        self._process.terminate()
        self._process.wait(120)
        return time.monotonic() - begun

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def readiness(self) -> tuple[bool, str] | None:
        """Return what ``/readyz`` says; None if nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/readyz", timeout=5) as answer:
                return True, answer.read().decode().strip()
        except urllib.error.HTTPError as error:
            return False, error.read().decode().strip()
        except OSError:
            return None

    def resident_mib(self) -> float:
        """Return its resident memory, without the jobs'."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024
