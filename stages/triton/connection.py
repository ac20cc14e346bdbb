"""The connection to one model of a Triton server: its calls, its deadlines, and what to do when it is down.

A call is repeated only while the server is UNAVAILABLE (it restarts, or the network is down), with growing
waits, and not for longer than the patience. Every call has a deadline.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from stages.errors import InferenceError, SettingsError
from stages.runtime import retry
from stages.triton.types import ServedModel

logger = logging.getLogger(__name__)

DEADLINE_S = 120.0
"""Longest time for the output of one infer request unless somebody says otherwise, seconds."""
PATIENCE_S = 60.0
"""How long a server may be unavailable unless somebody says otherwise, seconds."""
CALL_DEADLINE_S = 10.0
"""Longest time for any other call, seconds."""
_BACKOFF = retry.Backoff(first_s=0.1, longest_s=2.0, jitter=0)
_ADDRESS = re.compile(r"([^\s/:]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}")
_Result = TypeVar("_Result")


class ModelConnection:
    """A gRPC channel to a server, and the model that is asked.

    Parameters
    ----------
    url
        ``host:port`` of the server's gRPC endpoint.
    model
        Name of the model.
    patience_s
        How long the server may be unavailable, seconds.

    Raises
    ------
    SettingsError
        If the address is not of the form ``host:port``.
    """

    def __init__(self, url: str, model: str, *, patience_s: float) -> None:
        require_address(url, "gRPC, usually 8001")
        import tritonclient.grpc as protocol

        self.protocol = protocol
        self.client = protocol.InferenceServerClient(url, channel_args=_channel_options(url))
        self.url = url
        self.model = model
        self.recoveries = 0
        self._patience_s = patience_s

    @property
    def name(self) -> str:
        """The model and the server, for a message."""
        return f"model {self.model!r} at {self.url}"

    def close(self) -> None:
        """Close the channel."""
        self.client.close()

    def failed(self, error: Any) -> InferenceError:
        """Return the error to raise for an error of the server.

        Parameters
        ----------
        error
            A `tritonclient` exception.
        """
        return InferenceError(f"{self.name}: {reason(error)}{_advice(error)}")

    def call(self, call: Callable[[], _Result]) -> _Result:
        """Call the server; again after a pause while it is unavailable.

        Parameters
        ----------
        call
            Makes the call and returns its result.

        Raises
        ------
        InferenceError
            If it refuses, does not answer in time, or stays unavailable.
        """
        for left_s in attempts(self.url, self._patience_s):
            try:
                return call()
            except self.protocol.InferenceServerException as error:
                self._raise_unless_unavailable(error, left_s)
        raise AssertionError("unreachable")

    def recover(self, error: Any, *, sent_before: int, since: float, attempt: int) -> bool:
        """Return when an infer request that the server was unavailable for may be sent again.

        Parameters
        ----------
        error
            What the request ended with.
        sent_before
            `recoveries` when the request was sent.
        since
            When the request failed for the first time, by `time.monotonic`.
        attempt
            How often it has failed.

        Returns
        -------
        bool
            Whether this call is the first to see the server again, which may have been restarted.

        Raises
        ------
        InferenceError
            If the error is another, the model is no longer loaded, or the server does not come back.
        """
        for left_s in attempts(self.url, self._patience_s, since=since, tries=attempt):
            self._raise_unless_unavailable(error, left_s)
            if sent_before < self.recoveries:
                return False  # another request has seen it come back
            try:
                if self.client.is_model_ready(self.model, client_timeout=min(CALL_DEADLINE_S, left_s + 0.1)):
                    self.recoveries += 1
                    return True
            except self.protocol.InferenceServerException as again:
                error = again
        raise AssertionError("unreachable")

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
            if self.client.is_model_ready(self.model, client_timeout=deadline_s):
                return None
            return self._state()
        except self.protocol.InferenceServerException as error:
            return reason(error)

    def describe(self) -> ServedModel:
        """Return the model's tensors and parameters, as the server says them.

        Raises
        ------
        InferenceError
            If the server does not answer or does not know the model.
        """
        client, name = self.client, self.model
        metadata = self.call(
            lambda: client.get_model_metadata(name, as_json=True, client_timeout=CALL_DEADLINE_S)
        )
        config = self.call(
            lambda: client.get_model_config(name, as_json=True, client_timeout=CALL_DEADLINE_S)
        )
        return ServedModel.from_json(name, metadata, config["config"])

    def is_ready(self) -> bool:
        """Return whether the server answers and has the model ready."""
        try:
            return bool(self.client.is_model_ready(self.model, client_timeout=CALL_DEADLINE_S))
        except self.protocol.InferenceServerException:
            return False

    def _raise_unless_unavailable(self, error: Any, left_s: float) -> None:
        if "UNAVAILABLE" not in str(error.status()) and "unknown model" not in error.message():
            raise self.failed(error) from error
        self._raise_if_unloaded()
        if left_s <= 0 or "UNAVAILABLE" not in str(error.status()):
            raise self.failed(error) from error

    def _raise_if_unloaded(self) -> None:
        state = self._state()
        if state:
            raise InferenceError(
                f"{self.name} is not loaded ({state}), though the server runs; "
                f"load it again, and run the stage again"
            )

    def _state(self) -> str:
        """Return why the server does not have the model loaded; nothing if it has, or does not tell."""
        try:
            index = self.client.get_model_repository_index(client_timeout=CALL_DEADLINE_S)
        except self.protocol.InferenceServerException:
            return ""
        found = [model for model in index.models if model.name == self.model]
        if not found:
            return "the server's repository has no model of this name"
        if any(model.state in ("READY", "LOADING") for model in found):
            return ""
        told = [text for model in found for text in (model.state, model.reason) if text]
        return ": ".join(told) or "it was not asked to load it"


def attempts(url: str, patience_s: float, *, since: float | None = None, tries: int = 0) -> Iterator[float]:
    """Yield for each attempt to ask a server how much time is left, after a wait that is logged; at last 0.

    Parameters
    ----------
    url
        The server, for the log.
    patience_s, since, tries
        As for `stages.runtime.retry.attempts`.
    """

    def log(wait_s: float) -> None:
        logger.warning("%s is unavailable, asking again in %.1f s", url, wait_s)

    return retry.attempts(_BACKOFF, patience_s, since=since, tries=tries, on_wait=log)


def require_address(url: str, kind: str) -> None:
    """Check that an address is of the form ``host:port``.

    Parameters
    ----------
    url
        The address.
    kind
        Protocol and usual port, for the message.

    Raises
    ------
    SettingsError
        If it is not.
    """
    if not _ADDRESS.fullmatch(url):
        raise SettingsError(f"the inference server is named as HOST:PORT ({kind}), found {url!r}")


def wait_until_ready(why_not: Callable[[float], str | None], *, name: str, timeout_s: float) -> None:
    """Return when a server has a model ready.

    Parameters
    ----------
    why_not
        Asks the server, within so many seconds; returns None if the model is ready, else the reason, which is
        empty where the server does not say it.
    name
        The model and the server, for the message.
    timeout_s
        Longest wait, seconds.

    Raises
    ------
    InferenceError
        If it is not ready in time, with the last reason.
    """
    deadline = time.monotonic() + timeout_s
    last = "it is not ready"
    while (left_s := deadline - time.monotonic()) > 0:
        why = why_not(min(left_s, CALL_DEADLINE_S))
        if why is None:
            return
        last = why or last
        time.sleep(0.1)
    raise InferenceError(
        f"{name} did not become ready within {timeout_s:g} s: {last}; "
        f"is the server running, and the model in its repository?"
    )


def reason(error: Any) -> str:
    """Return what a server's error says.

    Parameters
    ----------
    error
        A `tritonclient` exception.
    """
    status = f"{error.status()}: " if error.status() else ""
    return f"{status}{error.message()}"


def _advice(error: Any) -> str:
    if "DEADLINE_EXCEEDED" in str(error.status()):
        return "; the server is too slow or hangs (--deadline allows more time)"
    return ""


def _channel_options(url: str) -> list[tuple[str, int]]:
    """Allow messages of any size, try a server that is down every second, and need no proxy on this machine.

    gRPC takes the proxy of the environment for any address, this machine's own included.
    """
    options = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]
    host = url.rpartition(":")[0].strip("[]")
    if host == "localhost" or host == "::1" or host.startswith("127."):
        options.append(("grpc.enable_http_proxy", 0))
    return options
