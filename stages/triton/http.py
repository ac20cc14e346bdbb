"""A predictor that asks a Triton server over HTTP, where gRPC cannot pass; tensors travel binary.

References
----------
Open Inference Protocol (KServe V2), HTTP, and Triton's binary tensor data extension:
``extension_binary_data.md`` of triton-inference-server/server.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Any

import numpy as np

from stages.arrays import Array, array_namespace, to_device, to_host
from stages.errors import InferenceError
from stages.triton.connection import (
    CALL_DEADLINE_S,
    DEADLINE_S,
    PATIENCE_S,
    attempts,
    require_address,
    wait_until_ready,
)
from stages.triton.types import ServedModel, TensorSpec

_THREADS = 8


class HttpPredictor:
    """One model of one Triton server, over HTTP.

    Parameters
    ----------
    url
        ``host:port`` of the server's HTTP endpoint.
    model, deadline_s, patience_s
        As for `stages.triton.client.TritonPredictor`.

    Raises
    ------
    SettingsError
        If the address is not of the form ``host:port``.
    """

    transport = "http"

    def __init__(
        self, url: str, model: str, *, deadline_s: float = DEADLINE_S, patience_s: float = PATIENCE_S
    ) -> None:
        require_address(url, "HTTP, usually 8000")
        self._url = url
        self._model = model
        self._deadline_s = deadline_s
        self._patience_s = patience_s
        self._served: ServedModel | None = None
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="triton-http")
        self._open: set[http.client.HTTPConnection] = set()
        self._closed = False

    def __enter__(self) -> HttpPredictor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def name(self) -> str:
        """The model and the server, for a message."""
        return f"model {self._model!r} at {self._url}"

    def close(self) -> None:
        """Cancel what is open; the server finishes it all the same, since HTTP cannot cancel."""
        self._closed = True
        for connection in list(self._open):
            with suppress(OSError, AttributeError):  # not connected yet, or no more
                connection.sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it
        self._threads.shutdown(wait=False, cancel_futures=True)

    def is_ready(self) -> bool:
        """Return whether the server answers and has the model ready."""
        return self._why_not_ready(CALL_DEADLINE_S) is None

    def wait_until_ready(self, timeout_s: float) -> None:
        """Return when the server has the model ready.

        Parameters
        ----------
        timeout_s
            Longest wait, seconds.

        Raises
        ------
        InferenceError
            If it is not ready in time, with the last reason.
        """
        wait_until_ready(self._why_not_ready, name=self.name, timeout_s=timeout_s)

    def _why_not_ready(self, deadline_s: float) -> str | None:
        try:
            status, _, content = self._request("GET", f"/v2/models/{self._model}/ready", deadline_s)
        except (OSError, http.client.HTTPException) as error:
            return str(error) or type(error).__name__
        return None if status == 200 else content.decode(errors="replace")[:1000]

    def describe(self) -> ServedModel:
        """Return the model's tensors and parameters, as the server says them.

        Raises
        ------
        InferenceError
            If the server does not answer or does not know the model.
        """
        path = f"/v2/models/{self._model}"
        self._served = ServedModel.from_json(self._model, self._json(path), self._json(f"{path}/config"))
        return self._served

    def __call__(self, windows: Array) -> Array:
        """Return the model's output for windows, where the windows live.

        Parameters
        ----------
        windows
            In the shape of the model's input tensor; the values are cast to its data type.

        Raises
        ------
        InferenceError
            If the server does not answer in time, or refuses the windows.
        """
        return self.submit(windows).result()

    def choose_transport(self, *, on_device: bool) -> str:
        """Return how windows travel.

        Parameters
        ----------
        on_device
            Whether they will lie on the CUDA device; it makes no difference here.
        """
        return self.transport

    def submit(self, windows: Array) -> Future[Array]:
        """Send windows, NumPy or CuPy, to the model, and return at once.

        Parameters
        ----------
        windows
            In the shape of the model's input tensor; the values are cast to its data type.
        """
        served = self._served or self.describe()
        tensor = served.inputs[0]
        data = np.ascontiguousarray(to_host(windows), dtype=tensor.dtype)
        head = json.dumps(
            {
                "inputs": [
                    {
                        "name": tensor.name,
                        "shape": data.shape,
                        "datatype": tensor.datatype,
                        "parameters": {"binary_data_size": data.nbytes},
                    }
                ],
                "outputs": [{"name": served.outputs[0].name, "parameters": {"binary_data": True}}],
            }
        ).encode()
        on_host = array_namespace(windows) is np
        return self._threads.submit(self._infer, head, data, on_host)

    def _infer(self, head: bytes, data: np.ndarray[Any, Any], on_host: bool) -> Array:
        headers = {"Inference-Header-Content-Length": str(len(head))}
        path, body = f"/v2/models/{self._model}/infer", head + data.tobytes()
        answered, content = self._ask("POST", path, self._deadline_s, body, headers)
        length = int(answered.get("Inference-Header-Content-Length", len(content)))
        (output,) = json.loads(content[:length])["outputs"]
        dtype = TensorSpec.from_json(output).dtype
        found = np.frombuffer(content, dtype, offset=length).reshape(output["shape"])
        return found if on_host else to_device(found)

    def _json(self, path: str) -> Any:
        return json.loads(self._ask("GET", path, CALL_DEADLINE_S)[1])

    def _ask(
        self,
        method: str,
        path: str,
        deadline_s: float,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> tuple[Mapping[str, str], bytes]:
        """Ask the server; again after a pause while nobody listens or it is unavailable (503)."""
        why = ""
        for left_s in attempts(self._url, self._patience_s):
            try:
                status, answered, content = self._request(method, path, deadline_s, body, headers)
            except TimeoutError as error:
                raise InferenceError(
                    f"{self.name} did not answer within {deadline_s:g} s; "
                    f"the server is too slow or hangs (--deadline allows more time)"
                ) from error
            except (OSError, http.client.HTTPException) as error:
                why = str(error) or type(error).__name__
            else:
                if status == 200:
                    return answered, content
                why = f"HTTP {status}: {content.decode(errors='replace')[:1000]}"
                if status != 503:
                    break
            if self._closed or left_s <= 0:
                break
        raise InferenceError(f"{self.name}: {why}")

    def _request(
        self,
        method: str,
        path: str,
        deadline_s: float,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        connection = http.client.HTTPConnection(self._url, timeout=deadline_s)
        self._open.add(connection)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return response.status, dict(response.headers.items()), response.read()
        finally:
            self._open.discard(connection)
            connection.close()
