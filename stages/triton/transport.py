"""How windows and the model's output travel to a Triton server and back, chosen by trying.

::

    cuda     CUDA shared memory: server on the same GPU; nothing is copied to the host
    system   shared memory in /dev/shm: server on the same host; one copy in, none back
    grpc     in the messages themselves, binary

The memory of an infer request is a shared-memory buffer; it is used again for the next. Where none is free,
or no shared memory is to be had, a request goes in a message.

References
----------
Triton's shared-memory extensions: ``extension_shared_memory.md`` of triton-inference-server/server.
"""

from __future__ import annotations

import logging
from typing import Literal, TypeAlias, get_args

from stages.errors import InferenceError, SettingsError
from stages.memory.shared import sweep
from stages.triton.buffers import CudaBuffer, SharedBuffer, SystemBuffer
from stages.triton.connection import ModelConnection, reason

logger = logging.getLogger(__name__)

Transport: TypeAlias = Literal["auto", "cuda", "system", "grpc"]
_DESCRIPTION = {
    "cuda": "CUDA shared memory",
    "system": "system shared memory",
    "grpc": "gRPC messages",
}


class BufferPool:
    """The shared-memory buffers of one predictor, of the first transport that works.

    Parameters
    ----------
    connection
        The server.
    transport
        Which to use; ``auto`` tries them in turn.

    Attributes
    ----------
    chosen
        The transport that is used; None before it is known.

    Raises
    ------
    SettingsError
        If the transport is unknown.
    """

    def __init__(self, connection: ModelConnection, transport: Transport) -> None:
        if transport not in get_args(Transport):
            raise SettingsError(
                f"transport {transport!r} is unknown; there are {', '.join(get_args(Transport))}"
            )
        self._connection = connection
        self._wanted = transport
        self._made: list[SharedBuffer] = []
        self._free: list[SharedBuffer] = []
        self.chosen: str | None = None

    def take(
        self, input_bytes: int, output_bytes: int, limit: int, *, on_device: bool
    ) -> SharedBuffer | None:
        """Return a free buffer that is large enough; None where the request goes in a message.

        Parameters
        ----------
        input_bytes, output_bytes
            What it must hold, bytes.
        limit
            How many buffers there may be.
        on_device
            Where the windows live, which decides which transports come into question.

        Raises
        ------
        InferenceError
            If the transport that is wanted does not work.
        """
        chosen = self.choose(on_device=on_device)
        if chosen == "grpc":
            return None
        for buffer in self._free:
            if buffer.input_bytes >= input_bytes and buffer.output_bytes >= output_bytes:
                self._free.remove(buffer)
                return buffer
        if self._free:  # of another size
            self._discard(self._free[0])
        if len(self._made) >= limit:
            return None
        try:
            return self._make(chosen, input_bytes, output_bytes)
        except _UnavailableTransportError as error:
            logger.warning("no more %s: %s; going on by messages", _DESCRIPTION[chosen], error)
            self.chosen = "grpc"
            return None

    def choose(self, *, on_device: bool) -> str:
        """Return the transport, tried with a small buffer the first time.

        Parameters
        ----------
        on_device
            Whether windows will lie on the CUDA device.

        Raises
        ------
        InferenceError
            If the transport that is wanted does not work.
        """
        if self.chosen is not None:
            return self.chosen
        sweep()
        candidates = ("cuda", "system") if on_device else ("system",)
        for transport in candidates if self._wanted == "auto" else (self._wanted,):
            if transport == "grpc":
                break
            try:
                self._discard(self._make(transport, 1, 0))
            except _UnavailableTransportError as error:
                if self._wanted != "auto":
                    raise InferenceError(
                        f"{self._connection.name} cannot be reached by {_DESCRIPTION[transport]}: {error}"
                    ) from error
                logger.info("no %s: %s", _DESCRIPTION[transport], error)
            else:
                return self._decide(transport)
        return self._decide("grpc")

    def give_back(self, buffer: SharedBuffer) -> None:
        """Allow a buffer to be used again.

        Parameters
        ----------
        buffer
            From `take`; nobody reads it any more.
        """
        if buffer in self._made:
            self._free.append(buffer)

    def register_again(self) -> None:
        """Register all buffers with a server that has forgotten them.

        Raises
        ------
        InferenceError
            If the server refuses.
        """
        for buffer in self._made:
            try:
                buffer.register()
            except self._connection.protocol.InferenceServerException as error:
                if "already" not in error.message():
                    raise self._connection.failed(error) from error

    def close(self) -> None:
        """Free all buffers."""
        for buffer in list(self._made):
            self._discard(buffer)

    def _decide(self, transport: str) -> str:
        self.chosen = transport
        logger.info("windows travel by %s", _DESCRIPTION[transport])
        return transport

    def _make(self, transport: str, input_bytes: int, output_bytes: int) -> SharedBuffer:
        """Make a buffer and register it.

        Raises
        ------
        _UnavailableTransportError
            If there is no such memory, or the server does not see it.
        """
        buffer: SharedBuffer
        try:
            buffer_type = CudaBuffer if transport == "cuda" else SystemBuffer
            buffer = buffer_type(self._connection, input_bytes, output_bytes)
        except Exception as error:  # CUDA raises anything
            raise _UnavailableTransportError(str(error) or type(error).__name__) from error
        try:
            buffer.register()
        except BaseException as error:
            buffer.close()
            if isinstance(error, self._connection.protocol.InferenceServerException):
                raise _UnavailableTransportError(reason(error)) from error
            raise
        self._made.append(buffer)
        return buffer

    def _discard(self, buffer: SharedBuffer) -> None:
        self._made.remove(buffer)
        if buffer in self._free:
            self._free.remove(buffer)
        buffer.close()


class _UnavailableTransportError(Exception):
    """A transport does not work here; the reason."""
