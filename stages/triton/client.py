"""A predictor that asks a Triton server: windows in, the model's output back, nothing else.

References
----------
Open Inference Protocol (KServe V2), gRPC: https://github.com/kserve/open-inference-protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, cast

import numpy as np

from stages.arrays import Array, array_namespace
from stages.errors import SettingsError
from stages.triton.buffers import WriteWindows
from stages.triton.connection import DEADLINE_S, PATIENCE_S, ModelConnection
from stages.triton.request import InferRequest, RequestSender
from stages.triton.transport import BufferPool, Transport
from stages.triton.types import ServedModel

if TYPE_CHECKING:
    from stages.triton.http import HttpPredictor

TRANSPORTS = ("auto", "cuda", "system", "grpc", "http")


def connect(
    url: str,
    model: str,
    *,
    transport: str = "auto",
    deadline_s: float = DEADLINE_S,
    patience_s: float = PATIENCE_S,
) -> TritonPredictor | HttpPredictor:
    """Return a predictor for a model of a server.

    Parameters
    ----------
    url
        ``host:port`` of the server's gRPC endpoint.
    model
        Name of the model.
    transport
        One of `TRANSPORTS`; for ``http`` the address is that of the server's HTTP endpoint.
    deadline_s
        Longest time for the output of one request, seconds.
    patience_s
        How long the server may be unavailable (it restarts, say), seconds.

    Raises
    ------
    SettingsError
        If the address is not of the form ``host:port``, or the transport is unknown.
    """
    if transport == "http":
        from stages.triton.http import HttpPredictor

        return HttpPredictor(url, model, deadline_s=deadline_s, patience_s=patience_s)
    if transport not in TRANSPORTS:
        raise SettingsError(f"transport {transport!r} is unknown; there are {', '.join(TRANSPORTS)}")
    chosen = cast(Transport, transport)
    return TritonPredictor(url, model, deadline_s=deadline_s, patience_s=patience_s, transport=chosen)


class TritonPredictor:
    """One model of one Triton server, over gRPC and shared memory.

    Parameters
    ----------
    url
        ``host:port`` of the server's gRPC endpoint.
    model
        Name of the model.
    deadline_s
        Longest time for the output of one request, seconds; what was asked before it has its own.
    patience_s
        How long the server may be unavailable (it restarts, say), seconds.
    transport
        How windows travel; ``auto`` takes the fastest that works (`stages.triton.transport`).

    Raises
    ------
    SettingsError
        If the address is not of the form ``host:port``, or the transport is unknown.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        deadline_s: float = DEADLINE_S,
        patience_s: float = PATIENCE_S,
        transport: Transport = "auto",
    ) -> None:
        self._connection = ModelConnection(url, model, patience_s=patience_s)
        self._buffers = BufferPool(self._connection, transport)
        self._sender = RequestSender(self._connection, self._buffers)
        self._deadline_s = deadline_s
        self._served: ServedModel | None = None

    def __enter__(self) -> TritonPredictor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The server's address."""
        return self._connection.url

    @property
    def transport(self) -> str | None:
        """How windows travel: ``cuda``, ``system`` or ``grpc``; None before the first."""
        return self._buffers.chosen

    def close(self) -> None:
        """Cancel what is open, free the shared memory, close the connection."""
        try:
            self._sender.cancel()
        finally:
            try:
                self._buffers.close()
            finally:
                self._connection.close()

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
        self._connection.wait_until_ready(timeout_s)

    def describe(self) -> ServedModel:
        """Return the model's tensors and parameters, as the server says them.

        Raises
        ------
        InferenceError
            If the server does not answer or does not know the model.
        """
        self._served = self._connection.describe()
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
        request = self.submit(windows)
        output = request.result()
        if request.buffer is not None:
            output = output.copy()
            request.release()
        return output

    def is_ready(self) -> bool:
        """Return whether the server answers and has the model ready."""
        return self._connection.is_ready()

    def choose_transport(self, *, on_device: bool) -> str:
        """Try how windows can travel, before there is one, and return which it will be.

        Parameters
        ----------
        on_device
            Whether they will lie on the CUDA device.

        Raises
        ------
        InferenceError
            If the transport that is wanted does not work.
        """
        return self._buffers.choose(on_device=on_device)

    def submit(
        self, windows: Array, *, parameters: Mapping[str, str] | None = None, deadline_s: float | None = None
    ) -> InferRequest:
        """Send windows, NumPy or CuPy, to the model, and return at once.

        Parameters
        ----------
        windows
            In the shape of the model's input tensor; the values are cast to its data type.
        parameters
            What the model is told with the windows.
        deadline_s
            Longest time for this output, seconds; default: the predictor's.
        """
        return self.submit_into(
            windows.shape,
            partial(_copy, windows),
            on_device=array_namespace(windows) is not np,
            parameters=parameters,
            deadline_s=deadline_s,
        )

    def submit_into(
        self,
        shape: tuple[int, ...],
        write: WriteWindows,
        *,
        on_device: bool,
        parameters: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> InferRequest:
        """Have windows written into the memory that they travel in, send them, and return at once.

        Parameters
        ----------
        shape
            Of the windows, in the layout of the model's input tensor.
        write
            Writes them into an array of this shape and of the tensor's data type.
        on_device
            Whether it writes to the CUDA device, where the output then is wanted too.
        parameters, deadline_s
            As for `submit`.
        """
        return self._sender.submit(
            self._served or self.describe(),
            shape,
            write,
            on_device=on_device,
            parameters=parameters,
            deadline_s=deadline_s or self._deadline_s,
        )


def _copy(windows: Array, out: Array) -> None:
    array_namespace(windows).copyto(out, windows, casting="same_kind")
