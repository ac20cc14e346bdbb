"""STOW-RS to a real Orthanc, and what each answer means."""

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from dicom_adapter.delivery.answers import DestinationError
from dicom_adapter.delivery.stow import StowClient, answer_of
from dicom_adapter.storage.results import find_results
from tests.dicom_adapter.destinations import DICOMWEB, free_port
from tests.phantoms import ct_slices, save, uid_of


@pytest.fixture
def files(tmp_path):
    return find_results(save(ct_slices(), tmp_path / "ct"))


def send(url, files, **options):
    told = []
    StowClient(name="WEB", url=url, timeout_s=3, **options).send(
        files, lambda result, answer: told.append((result.sop_instance_uid, answer))
    )
    return told


@pytest.mark.skipif(not DICOMWEB.exists(), reason="Orthanc's DICOMweb plugin is not installed")
def test_every_instance_reaches_orthanc_and_a_second_time_changes_nothing(files, archive):
    for _ in range(2):
        told = send(archive.url + "/dicom-web", files)
        assert [answer.verdict for _, answer in told] == ["accepted"] * 5
        assert archive.instances() == [uid_of(n) for n in range(5)]


@pytest.mark.skipif(not DICOMWEB.exists(), reason="Orthanc's DICOMweb plugin is not installed")
def test_what_is_not_dicom_is_refused_and_the_rest_goes_on(files, archive):
    files[1].path.write_bytes(bytes(128) + b"DICM and nothing that follows")
    told = send(archive.url + "/dicom-web/", files)
    assert len(archive.instances()) == 4
    assert [answer.verdict for _, answer in told] == ["accepted", "refused", *["accepted"] * 3]


def test_nobody_there_is_told(files):
    with pytest.raises(DestinationError, match=r"WEB at 127.0.0.1:\d+ cannot be reached"):
        send(f"http://127.0.0.1:{free_port()}/dicom-web", files)


@pytest.fixture
def server():
    """Return a server that answers with `status`, and the requests it has had."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.requests.append((self.path, dict(self.headers), body))
            self.send_response(self.server.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as made:
        made.requests, made.status = [], 200
        thread = Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_the_file_travels_as_it_lies_in_a_multipart_body(files, server):
    url = f"http://127.0.0.1:{server.server_port}/dicom-web"
    send(url, files[:1], headers={"Authorization": "Bearer x"})
    ((path, headers, body),) = server.requests
    kind, _, boundary = headers["Content-Type"].partition("; boundary=")
    assert (path, kind) == ("/dicom-web/studies", 'multipart/related; type="application/dicom"')
    assert headers["Authorization"] == "Bearer x"
    head, _, rest = body.partition(b"\r\n\r\n")
    assert head == f"--{boundary}\r\nContent-Type: application/dicom".encode()
    assert rest == files[0].path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()


def test_who_does_not_let_us_in_is_asked_again_later(files, server):
    server.status = 401
    with pytest.raises(DestinationError, match="does not let us in"):
        send(f"http://127.0.0.1:{server.server_port}", files)


def failed(reason):
    return json.dumps({"00081198": {"Value": [{"00081197": {"Value": [reason]}}]}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (200, b"{}", "accepted"),
        (200, b"", "accepted"),
        (202, b"{}", "accepted"),
        (202, failed(0xA900), "refused"),
        (200, failed(0xC000), "refused"),
        (409, failed(0xA700), "busy"),
        (409, b"", "refused"),
        (413, b"", "refused"),
        (415, b"", "refused"),
        (503, b"<html>", "busy"),
        (429, b"", "busy"),
        (200, b"<html>", "refused"),
        (200, b"[]", "refused"),
        (200, b'[{"00081199": {}}]', "accepted"),
        (200, b"<NativeDicomModel><DicomAttribute tag='00081199'/></NativeDicomModel>", "accepted"),
        (202, b"<NativeDicomModel><DicomAttribute tag='00081198'/></NativeDicomModel>", "refused"),
        (504, b"", "busy"),
    ],
)
def test_only_what_is_told_to_be_stored_counts_as_stored(status, body, verdict):
    assert answer_of(status, body, "WEB").verdict == verdict
