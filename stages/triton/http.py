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
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Any

import numpy as np

from stages.arrays import Array, array_namespace, to_device, to_host
from stages.errors import InferenceError, SettingsError
from stages.triton.client import DEADLINE_S, PATIENCE_S, ServedModel, TensorSpec, tensor_dtype
from stages.triton.connection import ADDRESS, CALL_DEADLINE_S, pauses

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
        if not ADDRESS.fullmatch(url):
            raise SettingsError(
                f"the inference server is named as HOST:PORT (HTTP, usually 8000), found {url!r}"
            )
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
        """Give up what is open; the server finishes it all the same, since HTTP cannot cancel."""
        self._closed = True
        for connection in list(self._open):
            with suppress(OSError, AttributeError):  # not connected yet, or no more
                connection.sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it
        self._threads.shutdown(wait=False, cancel_futures=True)

    def is_ready(self) -> bool:
        """Tell whether the server answers and has the model ready."""
        try:
            return self._request("GET", f"/v2/models/{self._model}/ready", CALL_DEADLINE_S)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def wait_until_ready(self, timeout_s: float) -> None:
        """Return when the server has the model ready.

        Raises
        ------
        InferenceError
            If it is not ready in time.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.is_ready():
                return
            time.sleep(0.1)
        raise InferenceError(
            f"{self.name} did not become ready within {timeout_s:g} s; "
            f"is the server running, and the model in its repository?"
        )

    def describe(self) -> ServedModel:
        """Ask the server for the model's tensors and parameters.

        Raises
        ------
        InferenceError
            If the server does not answer or does not know the model.
        """
        metadata = self._json(f"/v2/models/{self._model}")
        config = self._json(f"/v2/models/{self._model}/config")
        parameters = {key: each["string_value"] for key, each in config.get("parameters", {}).items()}
        self._served = ServedModel(
            name=self._model,
            version=(metadata.get("versions") or [""])[-1],
            inputs=tuple(_tensor(each) for each in metadata["inputs"]),
            outputs=tuple(_tensor(each) for each in metadata["outputs"]),
            parameters=parameters,
            max_batch_size=int(config.get("max_batch_size", 0)),
        )
        if len(self._served.inputs) != 1 or len(self._served.outputs) != 1:
            names = [each.name for each in (*self._served.inputs, *self._served.outputs)]
            raise InferenceError(f"{self.name} needs one input and one output tensor, it has {names}")
        return self._served

    def __call__(self, windows: Array) -> Array:
        """Return the answer about windows, where the windows live."""
        return self.submit(windows).result()

    def choose_transport(self, *, on_device: bool) -> str:
        """Return how windows travel."""
        return self.transport

    def submit(self, windows: Array) -> Future[Array]:
        """Ask about windows, NumPy or CuPy, and return at once."""
        served = self._served or self.describe()
        tensor = served.inputs[0]
        data = np.ascontiguousarray(to_host(windows), dtype=tensor_dtype(tensor))
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
        dtype = tensor_dtype(_tensor(output))
        answer = np.frombuffer(content, dtype, offset=length).reshape(output["shape"])
        return answer if on_host else to_device(answer)

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
        for left_s in pauses(self._url, self._patience_s):
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


def _tensor(tensor: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(
        name=tensor["name"], datatype=tensor["datatype"], shape=tuple(int(n) for n in tensor["shape"])
    )
