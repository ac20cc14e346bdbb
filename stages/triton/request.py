"""An infer request to a Triton server that is on its way, and the model's output when it is there.

A request is sent again after the server was unavailable; so each of them knows the sender, which keeps the
connection, the buffers and what else is open.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from stages.arrays import Array, to_device, to_host
from stages.errors import InferenceError
from stages.triton.buffers import SharedBuffer, WriteWindows, written_on_host
from stages.triton.connection import ModelConnection
from stages.triton.transport import BufferPool
from stages.triton.types import ServedModel, TensorSpec

logger = logging.getLogger(__name__)

_MOST_BUFFERS = 16
_MOST_ATTEMPTS = 5
_FORGOTTEN = "shared memory region"  # in the error of a server that was started anew


@dataclass(frozen=True, kw_only=True)
class InferMessage:
    """What an infer request says, ready to be sent.

    Attributes
    ----------
    shape
        Of the windows, in the layout of the model's input tensor.
    on_device
        Whether the output is wanted on the CUDA device.
    output_in_buffer
        Whether the output will lie in the shared-memory buffer.
    tensor, wanted
        The input, filled, and the output that is wanted, as `tritonclient` has them.
    output_name
        Of the model's output tensor.
    parameters
        What the model is told with the windows.
    deadline_s
        Longest time for the output, seconds; what was asked before has its own.
    """

    shape: tuple[int, ...]
    on_device: bool
    output_in_buffer: bool
    tensor: Any
    wanted: Any
    output_name: str
    parameters: dict[str, str] | None
    deadline_s: float


class InferRequest:
    """Windows that were sent to the server, and the model's output for them when it is there.

    The output may lie in shared memory: it holds until `release`.

    Parameters
    ----------
    sender
        Sends it.
    message
        What it says.
    buffer
        The shared-memory buffer that holds the windows, or will hold the output; None without one.
    """

    def __init__(self, sender: RequestSender, message: InferMessage, buffer: SharedBuffer | None) -> None:
        self.message = message
        self._sender = sender
        self._buffer = buffer
        self._arrived = threading.Event()
        self._call: Any = None
        self._sent_before = 0
        self._result: Any = None
        self._error: Any = None

    @property
    def buffer(self) -> SharedBuffer | None:
        """The shared-memory buffer; None without one, or when it was released."""
        return self._buffer

    def send(self) -> None:
        """Send it."""
        self._arrived.clear()
        self._call = self._sender.call(self)

    def arrived(self, sent_before: int, result: Any, error: Any) -> None:
        """Take the server's response; called by a thread of gRPC.

        Parameters
        ----------
        sent_before
            `ModelConnection.recoveries` when the request was sent.
        result, error
            What came: one of them is None.
        """
        self._sent_before, self._result, self._error = sent_before, result, error
        self._arrived.set()

    def result(self) -> Array:
        """Wait for the model's output and return it.

        Raises
        ------
        InferenceError
            If the server does not answer in time, refuses the windows, or does not come back.
        """
        self._arrived.wait()
        failed_first = time.monotonic()
        for attempt in itertools.count():
            if self._error is None:
                break
            self._sender.recover(
                self._error, sent_before=self._sent_before, since=failed_first, attempt=attempt
            )
            self.send()
            self._arrived.wait()
        output = self._sender.output_of(self, self._result)
        self._sender.forget(self)
        return output

    def cancel(self) -> None:
        """Cancel the request; the server stops working on it."""
        self._sender.forget(self)
        if self._call is not None:
            self._call.cancel()

    def release(self) -> None:
        """Allow the memory of the output to be used again."""
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            self._sender.give_back(buffer)


class RequestSender:
    """Sends infer requests to one model, and again to a server that was restarted; knows which are open.

    Parameters
    ----------
    connection
        The server and the model.
    buffers
        Where windows and output may lie.
    """

    def __init__(self, connection: ModelConnection, buffers: BufferPool) -> None:
        self._connection = connection
        self._buffers = buffers
        self._output_bytes: dict[tuple[int, ...], int] = {}
        self._open: set[InferRequest] = set()

    def submit(
        self,
        served: ServedModel,
        shape: tuple[int, ...],
        write: WriteWindows,
        *,
        on_device: bool,
        parameters: Mapping[str, str] | None,
        deadline_s: float,
    ) -> InferRequest:
        """Have windows written into the memory that they travel in, send them, and return at once.

        Parameters
        ----------
        served
            The model.
        shape
            Of the windows, in the layout of the model's input tensor.
        write
            Writes them into an array of this shape and of the tensor's data type.
        on_device
            Whether it writes to the CUDA device, where the output then is wanted too.
        parameters
            What the model is told with the windows.
        deadline_s
            Longest time for the output, seconds.
        """
        entry, exit_ = served.inputs[0], served.outputs[0]
        protocol, dtype = self._connection.protocol, entry.dtype
        size = math.prod(shape) * dtype.itemsize
        output_bytes = self._output_bytes.get(shape) or served.output_bytes(shape)
        buffer = self._buffers.take(size, output_bytes, _MOST_BUFFERS, on_device=on_device)
        tensor = protocol.InferInput(entry.name, list(shape), entry.datatype)
        wanted = protocol.InferRequestedOutput(exit_.name)
        output_in_buffer = buffer is not None and output_bytes > 0
        if buffer is None:
            tensor.set_data_from_numpy(written_on_host(write, shape, dtype, on_device=on_device))
        else:
            buffer.write_input(write, shape, dtype, on_device=on_device)
            tensor.set_shared_memory(buffer.name, size)
            if output_in_buffer:
                wanted.set_shared_memory(buffer.name, buffer.output_bytes, buffer.input_bytes)
        message = InferMessage(
            shape=shape,
            on_device=on_device,
            output_in_buffer=output_in_buffer,
            tensor=tensor,
            wanted=wanted,
            output_name=exit_.name,
            parameters=dict(parameters) if parameters else None,
            deadline_s=deadline_s,
        )
        request = InferRequest(self, message, buffer)
        self._open.add(request)
        request.send()
        return request

    def cancel(self) -> None:
        """Cancel all open requests."""
        for request in list(self._open):
            request.cancel()

    def call(self, request: InferRequest) -> Any:
        """Send a request, and return what cancels it.

        Parameters
        ----------
        request
            Its `arrived` is called with the response.
        """
        message = request.message
        return self._connection.client.async_infer(
            self._connection.model,
            [message.tensor],
            partial(request.arrived, self._connection.recoveries),
            outputs=[message.wanted],
            client_timeout=message.deadline_s * max(1, len(self._open)),
            parameters=message.parameters,
        )

    def output_of(self, request: InferRequest, result: Any) -> Array:
        """Return the model's output, on the host or on the device as the request wants it.

        Parameters
        ----------
        request
            The request.
        result
            The response to it, as `tritonclient` has it.

        Raises
        ------
        InferenceError
            If the output is not in it, or of a type that NumPy does not know.
        """
        message = request.message
        output = result.get_output(message.output_name)
        if output is None:
            raise InferenceError(
                f"{self._connection.name} answered without its output {message.output_name!r}"
            )
        shape = tuple(int(n) for n in output.shape)
        dtype = TensorSpec(name=message.output_name, datatype=output.datatype, shape=shape).dtype
        self._output_bytes[message.shape] = math.prod(shape) * dtype.itemsize
        if request.buffer is not None and message.output_in_buffer:
            answer = request.buffer.output(shape, dtype)
        else:
            answer = result.as_numpy(message.output_name)
        return to_device(answer) if message.on_device else to_host(answer)

    def recover(self, error: Any, *, sent_before: int, since: float, attempt: int) -> None:
        """Return when a request that ended with an error may be sent again.

        Parameters
        ----------
        error, sent_before, since, attempt
            As for `stages.triton.connection.ModelConnection.recover`.

        Raises
        ------
        InferenceError
            If it is an error that does not pass, or the server does not come back.
        """
        connection = self._connection
        if _FORGOTTEN in error.message() and attempt < _MOST_ATTEMPTS and self._buffers.chosen != "grpc":
            restarted = sent_before == connection.recoveries  # and nobody had noticed
            connection.recoveries += restarted
        else:
            restarted = connection.recover(error, sent_before=sent_before, since=since, attempt=attempt)
        if restarted:
            logger.warning("%s is back, asking again", connection.url)
            self._buffers.register_again()

    def forget(self, request: InferRequest) -> None:
        """Count a request as open no more.

        Parameters
        ----------
        request
            One that has ended.
        """
        self._open.discard(request)

    def give_back(self, buffer: SharedBuffer) -> None:
        """Allow a buffer to be used again.

        Parameters
        ----------
        buffer
            Of a request whose output nobody reads any more.
        """
        self._buffers.give_back(buffer)
