"""DICOMweb services that stop, repeat themselves or send what is not asked for: one line, one exit code."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest

from dicom_adapter.retrieval import qido
from stages.errors import StageError
from tests.dicom_adapter.destinations import free_port
from tests.dicom_adapter.faulty_peers import FaultyPeer, drip, silence
from tests.dicom_adapter.retrieval.test_rogue_archives import SECRETS, changed
from tests.phantoms import STUDY, ct_slices, uid_of

BOUNDARY = b"a-boundary"
MULTIPART = 'multipart/related; type="application/dicom"; boundary="a-boundary"'
STUDY_TAGS = {"0020000D": STUDY, "00100020": "P-1", "00201208": 4}


def element(value):
    return {"vr": "UN", "Value": [value]}


def file_of(dataset):
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def multipart(*parts):
    head = b"\r\n--" + BOUNDARY + b"\r\nContent-Type: application/dicom\r\n\r\n"
    return b"".join(head + each for each in parts) + b"\r\n--" + BOUNDARY + b"--\r\n"


class RogueService:
    """A DICOMweb service that is honest but for the attributes that a test has changed.

    Attributes
    ----------
    studies, instances, series
        Status, content type and body of the answers to a search and to a retrieval.
    """

    def __init__(self):
        slices = ct_slices((4, 16, 20))
        self.studies = self.found({tag: element(value) for tag, value in STUDY_TAGS.items()})
        listed = [(each.SeriesInstanceUID, each.SOPInstanceUID) for each in slices]
        self.instances = self.found(
            *({"0020000E": element(series), "00080018": element(uid)} for series, uid in listed)
        )
        self.series = 200, MULTIPART, multipart(*map(file_of, slices))
        self.asked = []

    @staticmethod
    def found(*answers):
        return 200, "application/dicom+json", json.dumps(answers).encode()

    def answer(self, path, query):
        if path.endswith("/studies"):
            answer = self.studies
        elif path.endswith("/instances"):
            answer = self.instances
        else:
            answer = self.series
        if callable(answer):
            return answer(int(query["offset"][0]))
        is_later = answer[1] == "application/dicom+json" and int(query["offset"][0]) > 0
        return (204, "", b"") if is_later else answer

    def __enter__(self):
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                parts = urlsplit(self.path)
                service.asked.append((self.path, self.headers["Accept"]))
                status, kind, body = service.answer(parts.path, parse_qs(parts.query))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *reason):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def service():
    with RogueService() as found:
        yield found


@pytest.fixture
def refused(fetching):
    """Return what fetches from a service and returns the exit code and the line that follow."""
    fetching.timeout_s = 1

    def fetch(port, **query):
        fetching.destinations = []
        fetching.add("WEB", dicomweb=f"http://127.0.0.1:{port}/dicom-web")
        with pytest.raises(StageError) as error:
            fetching.fetch("WEB", **query)
        line = str(error.value)
        assert not [word for word in SECRETS if word in line]
        assert "\n" not in line
        assert not [path for path in fetching.left() if "reader" in path.parts]
        return error.value.exit_code, line

    return fetch


def test_honest_service_gives_the_study(service, fetching):
    fetching.add("WEB", dicomweb=f"http://127.0.0.1:{service.port}/dicom-web")
    (fetched,) = fetching.fetch("WEB")
    assert sorted(fetching.files(fetched)) == [uid_of(n) for n in range(4)]
    assert "transfer-syntax=*" in service.asked[-1][1]


def test_service_that_knows_no_wildcard_is_asked_without(service, fetching):
    honest = service.answer

    def picky(path, query):
        is_asked_so = path.endswith("1.2.3.2") and "transfer-syntax" in service.asked[-1][1]
        return (406, "text/plain", b"") if is_asked_so else honest(path, query)

    service.answer = picky
    fetching.add("WEB", dicomweb=f"http://127.0.0.1:{service.port}/dicom-web")
    assert [each.retrieved for each in fetching.fetch("WEB")] == [4]


def one(**attributes):
    return 200, MULTIPART, multipart(file_of(changed(0, **attributes)))


SLICES = [file_of(changed(n)) for n in range(4)]
WHOLE = multipart(*SLICES)
BODIES = {
    "half of it": ((200, MULTIPART, WHOLE[: len(WHOLE) // 2]), 5, "before its last part was whole"),
    "no last boundary": ((200, MULTIPART, WHOLE[:-18]), 5, "before its last part was whole"),
    "a part too few": ((200, MULTIPART, multipart(*SLICES[1:])), 5, "lists 4 instances and sent 3"),
    "another study": (
        one(StudyInstanceUID="1.2.9"),
        3,
        "another study",
    ),
    "another patient": (
        one(PatientID="P-2"),
        3,
        "another patient",
    ),
    "no DICOM": ((200, MULTIPART, multipart(b"<html>" * 100)), 3, "no DICOM file: it does not begin"),
    "a part cut": ((200, MULTIPART, multipart(SLICES[0][:200])), 3, "no DICOM file: it is cut"),
    "an empty part": ((200, MULTIPART, multipart(b"")), 3, "no DICOM file: it is cut"),
    "half a header": ((200, MULTIPART, multipart(SLICES[0][:400])), 3, ""),
    "noise": ((200, MULTIPART, b"\x00\xff" * 5000), 5, "multipart answer that is none"),
    "a page": ((200, "text/html", b"<html>Log in</html>"), 5, "no multipart of DICOM files"),
    "no boundary": ((200, "multipart/related", WHOLE), 5, "no multipart of DICOM files"),
    "nothing": ((200, MULTIPART, b""), 5, "before its last part was whole"),
    "404": ((404, "", b""), 5, "HTTP 404"),
    "403": ((403, "", b""), 5, "does not let us in (HTTP 403)"),
    "500": ((500, "", b""), 5, "HTTP 500"),
}


@pytest.mark.parametrize("case", BODIES)
def test_retrieval_that_is_not_what_was_asked_for(service, refused, case):
    service.series, code, words = BODIES[case]
    found, line = refused(service.port)
    assert (found, words in line) == (code, True), line


SEARCHES = {
    "another study": (RogueService.found({"0020000D": element("1.2.9")}), 3, "another StudyInstanceUID"),
    "a path": (RogueService.found({"0020000D": element("../..")}), 3, "is no UID"),
    "an object": ((200, "application/dicom+json", b"{}"), 5, "no DICOM JSON"),
    "a page": ((200, "application/dicom+json", b"<html>"), 5, "no DICOM JSON"),
    "deep JSON": ((200, "application/dicom+json", b"[" * 100_000), 5, "no DICOM JSON"),
    "nothing": ((204, "", b""), 3, "no such study"),
    "odd values": (RogueService.found({"0020000D": 5, "00100020": [1]}), 3, "missing or empty"),
    "login": ((401, "", b""), 5, "does not let us in"),
    "too large": ((200, "application/dicom+json", b" " * (2 << 20)), 5, "more than 1 MiB"),
}


@pytest.mark.parametrize("case", SEARCHES)
def test_search_that_is_not_answered_as_it_was_asked(service, refused, case):
    service.studies, code, words = SEARCHES[case]
    found, line = refused(service.port)
    assert (found, words in line) == (code, True), line


def test_same_page_again_and_again(service, refused):
    page = [{"0020000D": element(f"1.2.{n}")} for n in range(200)]
    service.studies = lambda offset: RogueService.found(*page)
    assert "the same page again and again" in refused(service.port, patient_id="P-1")[1]


def test_pages_without_end(service, refused):
    service.studies = lambda offset: RogueService.found(
        *({"0020000D": element(f"1.2.{n}")} for n in range(offset, offset + 200))
    )
    code, line = refused(service.port, patient_id="P-1")
    assert (code, "finds more than 1000, or does not end" in line) == (5, True)


def test_pages_of_one_are_read_to_the_end(service, fetching, monkeypatch):
    monkeypatch.setattr(qido, "_PAGE", 1)
    listed = json.loads(service.instances[2])
    service.instances = lambda offset: RogueService.found(*listed[offset : offset + 1])
    fetching.add("WEB", dicomweb=f"http://127.0.0.1:{service.port}/dicom-web")
    assert [each.instances for each in fetching.fetch("WEB")] == [4]


def test_fewer_instances_listed_than_counted(service, refused):
    service.studies = RogueService.found({"0020000D": element(STUDY), "00201208": element(9)})
    assert refused(service.port) == (3, refused(service.port)[1])
    assert "has 9 instances and lists 4" in refused(service.port)[1]


@pytest.mark.parametrize(
    "behave",
    [silence, lambda wire: drip(wire, b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + bytes(5000))],
    ids=["silent", "dripping"],
)
def test_service_that_takes_too_long(refused, behave):
    with FaultyPeer(behave) as peer:
        code, line = refused(peer.port)
    assert (code, "longer than 1 s" in line) == (4, True), line


def test_nobody_there(refused):
    assert refused(free_port())[0] == 5
