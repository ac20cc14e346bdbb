"""Stages that stay, as they really run: scripts of a few lines as hosts, jobs as orders to them."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from stages.resident import orders
from tests.stages.conftest import ALWAYS, HEAD, TAIL, WRITES


class Pool:
    """A folder of orders, and what serves it."""

    def __init__(self, root):
        self.root, self.folder, self.script = root, root / "orders", root / "my_stage.py"
        self.hosts, self.tickets = [], []

    def write(self, body=WRITES):
        self.script.write_text(HEAD + textwrap.dedent(body) + TAIL)

    def start(self, body=WRITES, *arguments, at_once=1, **environ):
        self.write(body)
        return self.start_script(*arguments, at_once=at_once, **environ)

    def start_script(self, *arguments, at_once=1, **environ):
        orders.make_folder(self.folder)
        environ |= {"NVIDIA_CLARA_RESIDENT": str(self.folder), "NVIDIA_CLARA_RESIDENTATONCE": str(at_once)}
        with (self.root / "host.log").open("a") as log:
            host = subprocess.Popen(
                [sys.executable, self.script, *arguments],
                env={**os.environ, **environ, **ALWAYS},
                stderr=log,
                stdout=log,
            )
        self.hosts.append(host)
        return host

    def started(self, *args, **options):
        """Start a host and wait until it takes orders."""
        host = self.start(*args, **options)
        until(lambda: (self.folder / f"{os.uname().nodename}-{host.pid}.host").exists(), host)
        return host

    def order(self, name="job-1", *, priority=0, ready=True, environ=None, **settings):
        """Order a job in a folder of its own."""
        job = self.root / name
        (job / "input").mkdir(parents=True)
        (job / "locks").mkdir()
        if ready:
            (job / "locks/input.lock").touch()
        clara = settings_of(job, **settings)
        log = str(job / "stage.log")
        order = orders.Order(
            environ={**os.environ, **ALWAYS, **clara, **(environ or {})},
            folder=str(self.root),
            umask=0o022,
            output=log,
            errors=log,
        )
        ticket = orders.put(self.folder, order, priority=priority)
        ticket.job = job
        self.tickets.append(ticket)
        return ticket

    def run(self, *args, **options):
        return ended(self.order(*args, **options))

    @property
    def log(self):
        return (self.root / "host.log").read_text()

    def end(self):
        for host in self.hosts:
            host.kill()
            host.wait()


def settings_of(job, **more):
    settings = {
        "JOBID": "job-1",
        "STAGENAME": "my-stage",
        "INPUT": job / "input",
        "OUTPUT": job / "output",
        "SOURCE": job / "source",
        "LOCKDIR": job / "locks",
        "TIMEOUT": "5",
    }
    return {f"NVIDIA_CLARA_{key}": str(value) for key, value in {**settings, **more}.items()}


def until(condition, host=None, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        assert host is None or host.poll() is None, f"the host ended with {host.returncode}"
        time.sleep(0.005)


def ended(ticket, seconds=20):
    """Return the exit code of a job, and how it went."""
    until(lambda: ticket.exit_code() is not None, seconds=seconds)
    return ticket.exit_code()


def text(path):
    return Path(path).read_text()


@pytest.fixture
def pool(tmp_path):
    pool = Pool(tmp_path)
    yield pool
    pool.end()
