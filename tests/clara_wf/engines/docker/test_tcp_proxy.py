"""The door of containers to a server that runs elsewhere."""

import socket
import socketserver
import threading

import pytest

from clara_wf.engines.docker.tcp_proxy import relay


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)


@pytest.fixture
def echo():
    """Return host:port of a server that answers with what it is sent."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def connect(url):
    host, port = url.split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def received(client, count):
    """Return so many bytes, or what came until the end."""
    parts = b""
    while len(parts) < count and (data := client.recv(count - len(parts))):
        parts += data
    return parts


def test_what_is_sent_arrives_and_the_answer_comes_back_whole(echo):
    sent = bytes(range(256)) * 20_000
    with relay("127.0.0.1", echo) as url, connect(url) as one, connect(url) as other:
        threading.Thread(target=one.sendall, args=(sent,)).start()
        other.sendall(b"hello")
        assert received(other, 5) == b"hello"
        assert received(one, len(sent)) == sent


def test_a_server_that_is_not_there_is_a_connection_that_ends():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with relay("127.0.0.1", f"127.0.0.1:{closed.getsockname()[1]}") as url, connect(url) as client:
            assert client.recv(1) == b""


def test_nothing_listens_after_the_block(echo):
    with relay("127.0.0.1", echo) as url, connect(url) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
    with pytest.raises(ConnectionRefusedError):
        connect(url)


def test_an_address_that_is_not_this_machines_is_refused(echo):
    with pytest.raises(OSError, match="assign"), relay("192.0.2.1", echo):
        pass
