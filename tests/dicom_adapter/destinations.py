"""Destinations on this machine: a real Orthanc, DCMTK's storescp, and a wire with faults before either."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from io import BytesIO
from pathlib import Path

import pytest

from tests.ports import free_port

DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def wait_until(condition, *, timeout_s=60.0, what="it"):
    """Return the condition's value as soon as it is true."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {timeout_s:g} s"
        time.sleep(0.02)
    return value


def program(name):
    """Return where a program is; pynetdicom installs others of DCMTK's names beside Python."""
    folders = [each for each in os.get_exec_path() if Path(each) != Path(sys.prefix) / "bin"]
    found = shutil.which(name, path=os.pathsep.join([*folders, "/usr/sbin"]))
    if found is None:
        pytest.skip(f"{name} is not installed; scripts/install-peers does")
    return found


class Orthanc:
    """An archive; `calls` names the applications that it may call back, as (title, port)."""

    ae_title = "ORTHANC"

    def __init__(self, folder, *, calls=()):
        self.port, self.http_port = free_port(), free_port()
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "Name": "test",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "DicomAet": self.ae_title,
            "DicomCheckCalledAet": True,
            "DicomPort": self.port,
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "StableAge": 1,
            "OverwriteInstances": False,
            "Plugins": [str(DICOMWEB)] if DICOMWEB.exists() else [],
            "DicomModalities": {title: [title, "127.0.0.1", port] for title, port in calls},
        }
        self._settings = folder / "orthanc.json"
        self._settings.write_text(json.dumps(settings))
        self._process = None

    def __enter__(self):
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            [program("Orthanc"), str(self._settings)], stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        log.close()
        wait_until(self._is_up, what="the start of Orthanc")
        return self

    def __exit__(self, *reason):
        self._process.terminate()
        self._process.wait(20)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http_port}"

    def ask(self, path):
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.loads(answer.read())

    def instances(self):
        """Return the SOPInstanceUIDs that it has, sorted."""
        return sorted(each["MainDicomTags"]["SOPInstanceUID"] for each in self.ask("/instances?expand"))

    def add(self, *datasets):
        """Take instances, as they are."""
        for each in datasets:
            file = BytesIO()
            each.save_as(file, enforce_file_format=True)
            request = urllib.request.Request(f"{self.url}/instances", data=file.getvalue(), method="POST")
            urllib.request.urlopen(request, timeout=10).close()

    def delete(self, *uids):
        """Lose instances; without any: all of them."""
        for each in self.ask("/instances?expand"):
            if not uids or each["MainDicomTags"]["SOPInstanceUID"] in uids:
                request = urllib.request.Request(f"{self.url}/instances/{each['ID']}", method="DELETE")
                urllib.request.urlopen(request, timeout=10).close()

    def _is_up(self):
        try:
            return self.ask("/system")
        except (urllib.error.URLError, ConnectionError):
            assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
            return None


class Storescp:
    """DCMTK's storescp; what it takes lies in `folder`."""

    ae_title = "STORESCP"

    def __init__(self, folder, *options, port=None):
        self.port, self.folder, self._options = port or free_port(), folder, options
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self):
        command = [program("storescp"), "-od", str(self.folder), "-aet", self.ae_title, "+B"]
        self._process = subprocess.Popen(
            [*command, *self._options, str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: _listens(self.port), what="the start of storescp")
        return self

    def __exit__(self, *reason):
        self._process.kill()
        self._process.wait(10)

    def files(self):
        return sorted(path.name for path in self.folder.iterdir())


def _listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class Wire:
    """A connection to a destination through us: cut after so many bytes to it, or slowed down.

    Parameters
    ----------
    cut_after
        Bytes of one connection after which it is cut, for each connection in turn; None: never.
    delay_s
        Wait before every piece of 16 KB.
    """

    def __init__(self, port, *, cut_after=(), delay_s=0.0):
        self._target, self._cuts, self._delay_s = port, list(cut_after), delay_s
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.connections = self.cut = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *reason):
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()

    def _accept(self):
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            limit = self._cuts.pop(0) if self._cuts else None
            threading.Thread(target=self._connect, args=(near, limit), daemon=True).start()

    def _connect(self, near, limit):
        with near, socket.create_connection(("127.0.0.1", self._target)) as far:
            back = threading.Thread(target=self._pass, args=(far, near, None), daemon=True)
            back.start()
            self._pass(near, far, limit)
            back.join()

    def _pass(self, source, sink, limit):
        passed = 0
        try:
            while piece := source.recv(16384):
                time.sleep(self._delay_s)
                if limit is not None and passed + len(piece) > limit:
                    sink.sendall(piece[: limit - passed])
                    self.cut += 1
                    break
                sink.sendall(piece)
                passed += len(piece)
        except OSError:
            pass
        for each in (source, sink):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
