"""A question to a Triton server that is on its way, and its answer when it is there."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

from stages.arrays import Array
from stages.triton.buffers import Slot

if TYPE_CHECKING:
    from stages.triton.client import TritonPredictor


class Question:
    """Windows that were sent to the server, and their answer when it is there.

    The answer may lie in shared memory: it holds until `release`.
    """

    def __init__(
        self, predictor: TritonPredictor, shape: tuple[int, ...], on_host: bool, slot: Slot | None
    ) -> None:
        self.shape = shape
        self.on_host = on_host
        self.slot = slot
        self.tensors: Any = None
        self.answer_in_slot = False
        self.parameters: dict[str, str] | None = None
        self.deadline_s = 0.0
        self._predictor = predictor
        self._arrived = threading.Event()
        self._call: Any = None
        self._sent_before = 0
        self._result: Any = None
        self._error: Any = None

    def send(self) -> None:
        """Ask the server."""
        self._arrived.clear()
        self._call = self._predictor._send(self)

    def arrived(self, sent_before: int, result: Any, error: Any) -> None:
        """Take the answer; called by a thread of gRPC."""
        self._sent_before, self._result, self._error = sent_before, result, error
        self._arrived.set()

    def result(self) -> Array:
        """Wait for the answer and return it.

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
            self._predictor._make_ready_again(
                self._error, sent_before=self._sent_before, since=failed_first, attempt=attempt
            )
            self.send()
            self._arrived.wait()
        answer = self._predictor._answer(self, self._result)
        self._predictor._open.discard(self)
        return answer

    def cancel(self) -> None:
        """Give up the question; the server stops working on it."""
        self._predictor._open.discard(self)
        if self._call is not None:
            self._call.cancel()

    def release(self) -> None:
        """Let the memory of the answer be used again."""
        slot, self.slot = self.slot, None
        if slot is not None:
            self._predictor._slots.give_back(slot)
