"""A whole adapter as its users start it: ``clara-wf adapter --config FILE``, a process of its own."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from types import SimpleNamespace

from ruamel.yaml import YAML

from dicom_adapter.database.counts import counts_by_destination
from dicom_adapter.database.store import Store
from tests.dicom_adapter.destinations import free_port, program, wait_until
from tests.dicom_adapter.workflows import ROOT, STAMP, publish_stamp


class Adapter:
    """An adapter in a folder, with the stamping workflow unless others are given."""

    def __init__(self, folder, *destinations, ae_titles=None, workflows=None, jobs=None, port=None, **more):
        self.folder, self.port, self.http_port = folder, port or free_port(), free_port()
        self.steering = folder / "steering"
        published = publish_stamp(folder, self.steering)
        names = [each["name"] for each in destinations]
        rule = {"name": "stamp", "clara-ae-title": "CT_AI", "destination-name": names, "workflow": STAMP}
        self.settings = {
            "dicom": {
                "scp": {
                    "port": self.port,
                    "host": "127.0.0.1",
                    "ae-titles": ae_titles or [{"ae-title": "CT_AI", "quiet-seconds": 0.5}],
                    "reject-unknown-sources": False,
                },
                "scu": {"ae-title": "CLARA", "timeout-seconds": 5, "destinations": list(destinations)},
            },
            "workflows": [rule] if workflows is None else workflows,
            "storage": {
                "payloads": str(folder / "payloads"),
                "workflows": str(more.get("published", published)),
                "minimum-free": "10M",
                "retention-hours": more.get("retention_hours", 24),
            },
            "jobs": {"engine": "process", "model-server": "none", "retry-seconds": 0.2, "resident": False}
            | (jobs or {}),
            "http": {"port": self.http_port},
        }
        self.file = folder / "dicom-server-config.yaml"
        self.log = folder / "adapter.log"
        self.write()

    def write(self):
        YAML().dump(self.settings, self.file)

    def start(self, *, ready=True):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "clara_wf", "adapter", "--config", str(self.file)],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self.is_ready if ready else self.is_alive, what="the adapter's start")
        return self

    def __enter__(self):
        return self.start()

    def __exit__(self, *reason):
        if self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(40) == 0, self.log.read_text()[-3000:]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=10) as answer:
            return answer.read().decode()

    def is_ready(self):
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            return self.get("/readyz") == "ok\n"
        except (urllib.error.URLError, ConnectionError):
            return False

    def is_alive(self):
        try:
            return self.get("/healthz") == "ok\n"
        except (urllib.error.URLError, ConnectionError):
            return False

    def clara_wf(self, *arguments, by=()):
        """Run a command of the adapter, by another program if one is named."""
        done = subprocess.run(
            [*by, sys.executable, "-m", "clara_wf", "adapter", "--config", str(self.file), *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)

    def jobs(self):
        """Return the jobs as the database has them, the oldest first."""
        return self._asked(lambda store: store.jobs())

    def deliveries(self):
        """Return how many results are in each state, by destination and state."""
        return self._asked(lambda store: counts_by_destination(store)[0])

    def _asked(self, question):
        store = Store(self.folder / "dicom-adapter/adapter.sqlite")
        try:
            return question(store)
        finally:
            store.close()

    def send(self, folder, *, called="CT_AI", check=True):
        return subprocess.run(
            [program("storescu"), "+sd", "+r", "-aec", called, "127.0.0.1", str(self.port), str(folder)],
            capture_output=True,
            text=True,
            check=check,
        )

    def lines(self):
        """Return what it has logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def ran(self):
        file = self.steering / "ran"
        return len(file.read_text().splitlines()) if file.exists() else 0
