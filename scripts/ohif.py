"""Show DICOM results in OHIF: Orthanc with DICOMweb and the viewer, on one loopback port, and pictures of it.

    scripts/ohif DICOM                          serve the viewer until Ctrl-C
    scripts/ohif DICOM --pictures DIR           open each result in Chromium, save a picture each, and end

DICOM is a folder, searched at any depth. The viewer comes from npm (`@ohif/app`) or from `--ohif DIST`.
Nothing here listens on more than the loopback, and what Orthanc stored is removed at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.client
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VERSION = "3.13.2"
_PLUGIN = "libOrthancDicomWeb.so"
_PLUGINS = ("/usr/share/orthanc/plugins", "/usr/local/share/orthanc/plugins", "/usr/lib/orthanc")
_SHOWN = {"SEG", "RTSTRUCT", "SR"}
_CONFIG = """window.config = {
  routerBasename: null, extensions: [], modes: [], showStudyList: true, maxNumberOfWebWorkers: 2,
  showWarningMessageForCrossOrigin: false, showCPUFallbackMessage: false,
  investigationalUseDialog: {option: 'never'},
  defaultDataSourceName: 'orthanc',
  dataSources: [{
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb', sourceName: 'orthanc',
    configuration: {
      friendlyName: 'Orthanc', name: 'orthanc',
      qidoRoot: '/dicom-web', wadoRoot: '/dicom-web', wadoUriRoot: '/wado',
      qidoSupportsIncludeField: false, imageRendering: 'wadors', thumbnailRendering: 'wadors',
      enableStudyLazyLoad: true, supportsFuzzyMatching: false, supportsWildcard: true,
      omitQuotationForMultipartRequest: true,
      bulkDataURI: {enabled: true},
    },
  }],
};
"""
_NO_TOUR = "localStorage.setItem('shownTours', '[\"basicViewerTour\"]')"
_SETTLED_MS = 5000
_BROWSER = (
    *("--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),  # WebGL without a GPU
)


def main() -> None:
    """Start everything, and take pictures or wait."""
    parser = argparse.ArgumentParser(prog="scripts/ohif", description=__doc__.split("\n")[0])
    parser.add_argument("dicom", type=Path, metavar="DICOM", help="folder of DICOM files: images and results")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="save a picture of each result, and end")
    parser.add_argument(
        "--ohif", type=Path, metavar="DIST", help="the folder dist of @ohif/app; default: from npm"
    )
    parser.add_argument("--version", default=VERSION, help=f"of @ohif/app (default: {VERSION})")
    parser.add_argument("--port", type=int, default=0, help="port of the viewer (default: a free one)")
    asked = parser.parse_args()
    dist = asked.ohif or from_npm(asked.version)
    with orthanc() as port, viewer(dist, port, asked.port) as url:
        send(asked.dicom, port)
        if asked.pictures:
            take_pictures(url, port, asked.pictures)
        else:
            say(f"{url}/  (Ctrl-C ends it)")
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()


def say(*words: str) -> None:
    """Print a line at once."""
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


def from_npm(version: str) -> Path:
    """Return the folder of a version of OHIF's viewer, fetched once."""
    cache = (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clara-stages" / f"ohif-{version}"
    )
    if not (cache / "package" / "dist" / "index.html").exists():
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "--silent", f"@ohif/app@{version}"], cwd=cache, check=True)
        (archive,) = cache.glob("*.tgz")
        shutil.unpack_archive(archive, cache)
        archive.unlink()
    return cache / "package" / "dist"


@contextlib.contextmanager
def orthanc() -> Iterator[int]:
    """Start an empty Orthanc with DICOMweb, and give its port."""
    program = shutil.which("Orthanc", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    plugin = next((p / _PLUGIN for p in map(Path, _PLUGINS) if (p / _PLUGIN).exists()), None)
    if program is None or plugin is None:
        raise SystemExit(
            "Orthanc or its DICOMweb plugin is missing: apt-get install orthanc orthanc-dicomweb"
        )
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ohif-") as folder:
        settings = {
            "StorageDirectory": folder, "IndexDirectory": folder, "HttpPort": port,
            "HttpBindAddresses": ["127.0.0.1"], "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False, "DicomServerEnabled": False,
            "Plugins": [str(plugin)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }  # fmt: skip
        (Path(folder) / "settings.json").write_text(json.dumps(settings))
        with open(Path(folder) / "log", "wb") as log:
            server = subprocess.Popen([program, str(Path(folder) / "settings.json")], stdout=log, stderr=log)
        try:
            wait_for(server, port, Path(folder) / "log")
            yield port
        finally:
            server.terminate()
            server.wait(30)


def free_port() -> int:
    """Return a port of the loopback that nobody has."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until Orthanc answers."""
    for _ in range(300):
        with contextlib.suppress(OSError):
            ask(port, "/system")
            return
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit(f"Orthanc did not start: {log.read_text(errors='replace')[-2000:]}")


def ask(port: int, path: str, body: bytes | None = None) -> Any:
    """Return what Orthanc answers, JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("POST" if body is not None else "GET", path, body)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise SystemExit(f"Orthanc answers {answer.status} to {path}")
        return json.loads(content)


def send(folder: Path, port: int) -> None:
    """Store every DICOM file of a folder in Orthanc."""
    sent = 0
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = path.read_bytes()
        if content[128:132] == b"DICM":
            ask(port, "/instances", content)
            sent += 1
    if not sent:
        raise SystemExit(f"{folder} holds no DICOM file")
    say(f"sent {sent} files to Orthanc")


class Handler(http.server.SimpleHTTPRequestHandler):
    """The viewer's files, its configuration, and behind ``/dicom-web`` Orthanc: one origin."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *args: Any, archive: int, **how: Any) -> None:
        self.archive = archive
        super().__init__(*args, **how)

    def do_GET(self) -> None:
        """Answer with a file, or with what Orthanc says."""
        if self.path.startswith(("/dicom-web/", "/wado")):
            self.forward()
        elif self.path.startswith("/app-config.js"):
            self.answer(200, "text/javascript", _CONFIG.encode())
        else:
            if not Path(self.translate_path(self.path)).is_file():
                self.path = "/index.html"  # the viewer reads the path itself
            super().do_GET()

    def forward(self) -> None:
        """Ask Orthanc, under the name by which the browser knows this server."""
        connection = http.client.HTTPConnection("127.0.0.1", self.archive, timeout=120)
        with contextlib.closing(connection):
            asked = {name: self.headers[name] for name in ("Host", "Accept") if name in self.headers}
            connection.request("GET", self.path, headers=asked)
            answer = connection.getresponse()
            self.answer(answer.status, answer.getheader("Content-Type", "text/plain"), answer.read())

    def answer(self, status: int, kind: str, content: bytes) -> None:
        """Send an answer."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def viewer(dist: Path, archive: int, port: int) -> Iterator[str]:
    """Serve the viewer, and give its address."""
    if not (dist / "index.html").exists():
        raise SystemExit(f"{dist} holds no viewer (index.html)")
    handler = functools.partial(Handler, directory=str(dist), archive=archive)
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def take_pictures(url: str, archive: int, folder: Path) -> None:
    """Save what the viewer shows of each segmentation, structure set and report; print its names."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        raise SystemExit("there is no Chromium: scripts/install-peers")
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_BROWSER))
        for study in ask(archive, "/studies?expand"):
            for series in ask(archive, f"/studies/{study['ID']}/series"):
                tags = series["MainDicomTags"]
                if tags["Modality"] in _SHOWN:
                    name = f"{study['PatientMainDicomTags'].get('PatientID', '')}-{tags['SeriesNumber']}"
                    uids = study["MainDicomTags"]["StudyInstanceUID"], tags["SeriesInstanceUID"]
                    page = browser.new_page(viewport={"width": 1280, "height": 800})
                    page.add_init_script(_NO_TOUR)
                    page.goto(f"{url}/viewer?StudyInstanceUIDs={uids[0]}&initialSeriesInstanceUID={uids[1]}")
                    shown = show(page, tags["Modality"])
                    page.screenshot(path=folder / f"{name}-{tags['Modality']}.png")
                    say(name, tags["Modality"], ", ".join(shown))
                    page.close()


def show(page: Any, modality: str) -> list[str]:
    """Open what a page was asked for, go to where its first thing lies, and return what it says of each."""
    page.set_default_timeout(120_000)
    if modality == "SR":
        lines = page.locator("svg text tspan")
        lines.first.wait_for()
        page.wait_for_timeout(_SETTLED_MS)
        return list(lines.all_text_contents())
    page.get_by_text("Yes", exact=True).click()
    page.locator("#panelSegmentation-btn").click()
    rows = page.locator('[data-cy="data-row"]')
    rows.first.click()
    page.mouse.move(1100, 700)  # off the row, which else shows a card
    page.wait_for_timeout(_SETTLED_MS)
    return [" ".join(text.split()) for text in rows.all_inner_texts()]


if __name__ == "__main__":
    main()
