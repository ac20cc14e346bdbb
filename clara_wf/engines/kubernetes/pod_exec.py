"""A program run in a container of a Pod, with its standard streams as bytes (the exec of the API)."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from stages.errors import SettingsError

_STDIN, _STDOUT, _STDERR, _STATUS = 0, 1, 2, 3
_SILENCE_S = 20.0
_CHUNK = 1 << 18
_MOST_ERRORS = 1 << 16  # bytes of what it says on standard error, the last
_FORBIDDEN = "Handshake status 403"
_HANDSHAKE = re.compile(r"Handshake status (\d+ [^-{]*)")


class PodExec:
    """A connection to a running program.

    Reading belongs to one thread; any thread may write. What fails raises ConnectionError.

    Parameters
    ----------
    socket
        The websocket of the connection.
    """

    def __init__(self, socket: Any) -> None:
        self._socket, self._ended = socket, False
        self._out = bytearray()
        self._errors = bytearray()
        self._status = bytearray()
        socket.settimeout(_SILENCE_S)

    @classmethod
    def start(
        cls, configuration: Any, namespace: str, pod: str, container: str, command: Sequence[str]
    ) -> PodExec:
        """Start a program.

        Parameters
        ----------
        configuration, namespace, pod
            That of the Kubernetes client, the namespace and the Pod's name.
        container
            The container's name.
        command
            The program and its arguments.

        Raises
        ------
        ConnectionError
            If the Pod's node does not answer the cluster, or the cluster does not answer us.
        SettingsError
            If this user may not do so.
        """
        from kubernetes.client.exceptions import ApiException

        def connect() -> Any:
            return _connect(configuration, pod, namespace, container=container, command=list(command))

        try:
            return cls(_within(_SILENCE_S, connect))
        except (ApiException, OSError) as error:
            reason = getattr(error, "reason", None) or error
            why = _in_one_line(reason)
            if _FORBIDDEN in str(reason):
                raise SettingsError(
                    "this user may not run a program in a Pod; ask the cluster's administrator for the right "
                    f"to create and get pods/exec ({why})"
                ) from error
            raise ConnectionError(f"cannot run a program in {container} of {pod}: {why}") from error

    def __enter__(self) -> PodExec:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def write(self, data: bytes) -> None:
        """Send bytes to its standard input.

        Parameters
        ----------
        data
            The bytes.
        """
        from websocket import ABNF, WebSocketException

        try:
            for start in range(0, len(data), _CHUNK):
                piece = data[start : start + _CHUNK]
                self._socket.send(bytes([_STDIN]) + piece, opcode=ABNF.OPCODE_BINARY)
        except (WebSocketException, OSError) as error:
            raise ConnectionError(f"the connection to the Pod broke: {error}") from error

    def read(self, size: int) -> bytes:
        """Return exactly so many bytes of its standard output, or b"" when it has ended before.

        Parameters
        ----------
        size
            How many.
        """
        while len(self._out) < size and not self._ended:
            self._receive()
        if len(self._out) < size:
            return b""
        data = bytes(self._out[:size])
        del self._out[:size]
        return data

    def said(self) -> str:
        """Return the last line it said on standard error; "" for nothing."""
        lines = self._errors.decode("utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def problem(self) -> str:
        """Return what it said on standard error, or how it ended; "" if all was well."""
        try:
            status = json.loads(self._status) if self._status else {}
        except ValueError:
            status = {}
        if status.get("status") == "Success":
            return ""
        return self.said() or str(status.get("message", "the connection to the Pod broke"))

    def close(self) -> None:
        """End the connection."""
        self._ended = True
        self._socket.close()

    def _receive(self) -> None:
        from websocket import ABNF, WebSocketException

        try:
            code, frame = self._socket.recv_data_frame(True)
        except (WebSocketException, OSError) as error:
            self._ended = True
            raise ConnectionError(f"the connection to the Pod broke: {error}") from error
        if code == ABNF.OPCODE_CLOSE:
            self._ended = True
        elif code in (ABNF.OPCODE_BINARY, ABNF.OPCODE_TEXT) and frame.data:
            target = {_STDOUT: self._out, _STDERR: self._errors, _STATUS: self._status}.get(frame.data[0])
            if target is not None:
                target += frame.data[1:]
                del self._errors[:-_MOST_ERRORS]


def _connect(configuration: Any, pod: str, namespace: str, **program: Any) -> Any:
    """Return the socket of a connection to a program that was started."""
    from kubernetes import client
    from kubernetes.stream import stream

    own = client.ApiClient(configuration)  # stream() bends the client it is given, so it gets one of its own
    streams: dict[str, Any] = {"stdin": True, "stdout": True, "stderr": True, "tty": False, "binary": True}
    call = client.CoreV1Api(own).connect_get_namespaced_pod_exec
    return stream(call, pod, namespace, **program, **streams, _preload_content=False).sock


def _within(seconds: float, connect: Callable[[], Any]) -> Any:
    """Return a connection if it is made in time; the client has no deadline of its own for that."""
    outcome: Future[Any] = Future()

    def run() -> None:
        try:
            outcome.set_result(connect())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name="connection to the Pod", daemon=True).start()
    try:
        return outcome.result(seconds)
    except FutureTimeoutError:
        outcome.add_done_callback(_close_late)
        raise TimeoutError(f"no answer within {seconds:g} s") from None


def _close_late(outcome: Future[Any]) -> None:
    """Close a connection that was made when nobody waited for it any more."""
    if outcome.exception() is None:
        outcome.result().close()


def _in_one_line(reason: object) -> str:
    """Return why no connection was made: what the API server says, without the client's account of it."""
    text = " ".join(str(reason).split())
    handshake = _HANDSHAKE.search(text)
    if handshake is None:
        return text
    message = re.search(r'"message":\s*"((?:[^"\\]|\\.)*)"', text)
    return re.sub(r'\\+"', '"', message[1]) if message else handshake[1].strip()
