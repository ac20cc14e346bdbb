"""What a destination says of an instance that was sent to it, whatever the protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from dicom_adapter.storage.results import ResultFile
from stages.errors import StageError

DeliveryVerdict: TypeAlias = Literal["accepted", "busy", "refused"]


class DestinationError(StageError):
    """A destination cannot be reached, does not answer us, or went away in the middle.

    Attributes
    ----------
    message
        Why, a sentence.
    in_flight
        SOPInstanceUID of what had gone out and was not answered, so that it may have arrived; "" for none.
    """

    retryable = True

    def __init__(self, message: str, *, in_flight: str = "") -> None:
        super().__init__(message)
        self.in_flight = in_flight


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a destination said of one instance.

    Attributes
    ----------
    verdict
        ``accepted``: it is there; ``busy``: not now (out of resources); ``refused``: not as it is.
    status
        The DICOM or HTTP status as text, such as ``0xA700`` or ``HTTP 503``.
    message
        For people; never holds a patient's identity.
    may_be_there
        Whether it may have arrived all the same, so that the destination is asked before it is sent again.
    """

    verdict: DeliveryVerdict
    status: str
    message: str = ""
    may_be_there: bool = False


OnAnswer: TypeAlias = Callable[[ResultFile, Answer], None]


class Sender(Protocol):
    """One way to send to one destination."""

    def send(self, results: Sequence[ResultFile], on_answer: OnAnswer) -> None:
        """Send files, and tell of each what the destination said, as soon as it has.

        Parameters
        ----------
        results
            The files.
        on_answer
            Is called with each file and what was said of it.

        Raises
        ------
        DestinationError
            If the destination cannot be reached or went away; those not told of were not accepted.
        """
