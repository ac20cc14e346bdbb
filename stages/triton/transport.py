"""How windows and answers travel to a Triton server and back, chosen by trying.

::

    cuda     CUDA shared memory: server on the same GPU; nothing is copied to the host
    system   shared memory in /dev/shm: server on the same host; one copy in, none back
    grpc     in the messages themselves, binary

The memory of a question is a slot; it is used again for the next. Where none is free, or no shared memory
is to be had, a question goes in a message.

References
----------
Triton's shared-memory extensions: ``extension_shared_memory.md`` of triton-inference-server/server.
"""

from __future__ import annotations

import logging
from typing import Literal, TypeAlias, get_args

from stages.errors import InferenceError, SettingsError
from stages.memory.shared import sweep
from stages.triton.buffers import CudaSlot, Slot, SystemSlot
from stages.triton.connection import Connection, reason

logger = logging.getLogger(__name__)

Transport: TypeAlias = Literal["auto", "cuda", "system", "grpc"]
_DESCRIPTION = {
    "cuda": "CUDA shared memory",
    "system": "system shared memory",
    "grpc": "gRPC messages",
}


class Slots:
    """The slots of one predictor, of the first transport that works.

    Parameters
    ----------
    connection
        The server.
    transport
        Which to use; ``auto`` tries them in turn.
    """

    def __init__(self, connection: Connection, transport: Transport) -> None:
        if transport not in get_args(Transport):
            raise SettingsError(
                f"transport {transport!r} is unknown; there are {', '.join(get_args(Transport))}"
            )
        self._connection = connection
        self._wanted = transport
        self._made: list[Slot] = []
        self._free: list[Slot] = []
        self.chosen: str | None = None

    def take(self, question_bytes: int, answer_bytes: int, limit: int, *, on_device: bool) -> Slot | None:
        """Return a free slot that is large enough; None where the question goes in a message.

        Parameters
        ----------
        question_bytes, answer_bytes
            What it must hold.
        limit
            How many slots there may be.
        on_device
            Where the windows live, which decides which transports come into question.
        """
        chosen = self.choose(on_device=on_device)
        if chosen == "grpc":
            return None
        for slot in self._free:
            if slot.question_bytes >= question_bytes and slot.answer_bytes >= answer_bytes:
                self._free.remove(slot)
                return slot
        if self._free:  # of another size
            self._discard(self._free[0])
        if len(self._made) >= limit:
            return None
        try:
            return self._make(chosen, question_bytes, answer_bytes)
        except _RefusedError as error:
            logger.warning("no more %s: %s; going on by messages", _DESCRIPTION[chosen], error)
            self.chosen = "grpc"
            return None

    def choose(self, *, on_device: bool) -> str:
        """Return the transport, tried with a small slot the first time.

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
            except _RefusedError as error:
                if self._wanted != "auto":
                    raise InferenceError(
                        f"{self._connection.name} cannot be reached by {_DESCRIPTION[transport]}: {error}"
                    ) from error
                logger.info("no %s: %s", _DESCRIPTION[transport], error)
            else:
                return self._decide(transport)
        return self._decide("grpc")

    def give_back(self, slot: Slot) -> None:
        """Let a slot be used again."""
        if slot in self._made:
            self._free.append(slot)

    def register_again(self) -> None:
        """Tell a server that has forgotten them of the slots."""
        for slot in self._made:
            try:
                slot.register()
            except self._connection.protocol.InferenceServerException as error:
                if "already" not in error.message():
                    raise self._connection.failed(error) from error

    def close(self) -> None:
        """Free all slots."""
        for slot in list(self._made):
            self._discard(slot)

    def _decide(self, transport: str) -> str:
        self.chosen = transport
        logger.info("windows travel by %s", _DESCRIPTION[transport])
        return transport

    def _make(self, transport: str, question_bytes: int, answer_bytes: int) -> Slot:
        """Make a slot and register it.

        Raises
        ------
        _RefusedError
            If there is no such memory, or the server does not see it.
        """
        slot: Slot
        try:
            slot_type = CudaSlot if transport == "cuda" else SystemSlot
            slot = slot_type(self._connection, question_bytes, answer_bytes)
        except Exception as error:  # CUDA raises anything
            raise _RefusedError(str(error) or type(error).__name__) from error
        try:
            slot.register()
        except BaseException as error:
            slot.close()
            if isinstance(error, self._connection.protocol.InferenceServerException):
                raise _RefusedError(reason(error)) from error
            raise
        self._made.append(slot)
        return slot

    def _discard(self, slot: Slot) -> None:
        self._made.remove(slot)
        if slot in self._free:
            self._free.remove(slot)
        slot.close()


class _RefusedError(Exception):
    """A transport does not work here; the reason."""
