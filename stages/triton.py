"""A predictor that asks a Triton server: windows in, scores out, nothing else.

References
----------
Open Inference Protocol (KServe V2), gRPC: https://github.com/kserve/open-inference-protocol.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from stages.arrays import Array, array_namespace, to_device, to_host
from stages.errors import InferenceError, SettingsError
from stages.volume import Algorithm

logger = logging.getLogger(__name__)

_RETRY_DELAYS_S = (0.2, 0.5, 1.0, 2.0)
_CALL_DEADLINE_S = 10.0
_ADDRESS = re.compile(r"([^\s/:]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}")
_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """A tensor of a model: its name, Triton data type, and shape (-1 where it is free)."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """What the server says of a model.

    Attributes
    ----------
    name, version
        The model, and the version that answers.
    inputs, outputs
        Its tensors, the batch axis included.
    parameters
        The ``parameters`` of its ``config.pbtxt``, as text.
    """

    name: str
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: Mapping[str, str]

    @property
    def algorithm(self) -> Algorithm:
        """The model as a mask's description names it, with the hash of what is said of it here.

        The hash of its weights is what its parameter ``weights_sha256`` (JSON) says, if there is one.
        """
        said = repr((self.name, self.version, self.inputs, self.outputs, sorted(self.parameters.items())))
        return Algorithm(
            name=self.name,
            version=self.version,
            weights_sha256=self.parameters.get("weights_sha256", "").strip('"'),
            configuration_sha256=hashlib.sha256(said.encode()).hexdigest(),
        )


class TritonPredictor:
    """One model of one Triton server, over gRPC.

    Parameters
    ----------
    url
        ``host:port`` of the server's gRPC endpoint.
    model
        Name of the model.
    deadline_s
        Longest time for one answer, seconds.

    Raises
    ------
    SettingsError
        If the address is not of the form ``host:port``.
    """

    def __init__(self, url: str, model: str, *, deadline_s: float = 120.0) -> None:
        if not _ADDRESS.fullmatch(url):
            raise SettingsError(
                f"the inference server is named as HOST:PORT (gRPC, usually 8001), found {url!r}"
            )
        import tritonclient.grpc as protocol

        self._protocol = protocol
        self._url = url
        self._model = model
        self._deadline_s = deadline_s
        self._client = protocol.InferenceServerClient(url, channel_args=_channel_options(url))
        self._tensors: tuple[TensorSpec, TensorSpec] | None = None

    def __enter__(self) -> TritonPredictor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def wait_until_ready(self, timeout_s: float) -> None:
        """Return when the server has the model ready.

        Raises
        ------
        InferenceError
            If it is not ready in time, with the last reason.
        """
        deadline = time.monotonic() + timeout_s
        reason = "it is not ready"
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                if self._client.is_model_ready(self._model, client_timeout=min(left_s, _CALL_DEADLINE_S)):
                    return
            except self._protocol.InferenceServerException as error:
                reason = _reason(error)
            time.sleep(0.1)
        raise InferenceError(
            f"model {self._model!r} at {self._url} did not become ready within {timeout_s:g} s: {reason}; "
            f"is the server running, and the model in its repository?"
        )

    def describe(self) -> ServedModel:
        """Ask the server for the model's tensors and parameters.

        Raises
        ------
        InferenceError
            If the server does not answer or does not know the model.
        """
        metadata = self._ask(
            lambda: self._client.get_model_metadata(self._model, client_timeout=_CALL_DEADLINE_S)
        )
        config = self._ask(
            lambda: self._client.get_model_config(self._model, client_timeout=_CALL_DEADLINE_S)
        ).config
        model = ServedModel(
            name=self._model,
            version=metadata.versions[-1] if metadata.versions else "",
            inputs=tuple(_tensor(t) for t in metadata.inputs),
            outputs=tuple(_tensor(t) for t in metadata.outputs),
            parameters={key: value.string_value for key, value in config.parameters.items()},
        )
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            names = [t.name for t in (*model.inputs, *model.outputs)]
            raise InferenceError(
                f"model {self._model!r} needs one input and one output tensor, it has {names}"
            )
        self._tensors = model.inputs[0], model.outputs[0]
        return model

    def __call__(self, windows: Array) -> Array:
        """Return the scores of windows, where the windows live.

        Parameters
        ----------
        windows
            Shape (batch, channels, slices, rows, columns), float32, NumPy or CuPy.

        Raises
        ------
        InferenceError
            If the server does not answer in time, or refuses the windows.
        """
        if self._tensors is None:
            self.describe()
        assert self._tensors is not None
        entry, exit_ = self._tensors
        host = to_host(windows)
        tensor = self._protocol.InferInput(entry.name, list(host.shape), entry.datatype)
        tensor.set_data_from_numpy(host)
        wanted = [self._protocol.InferRequestedOutput(exit_.name)]
        answer = self._ask(
            lambda: self._client.infer(self._model, [tensor], outputs=wanted, client_timeout=self._deadline_s)
        ).as_numpy(exit_.name)
        return answer if array_namespace(windows).__name__ == "numpy" else to_device(answer)

    def _ask(self, call: Callable[[], Any]) -> Any:
        """Call the server; again after a pause while it is unavailable."""
        for delay in (*_RETRY_DELAYS_S, None):
            try:
                return call()
            except self._protocol.InferenceServerException as error:
                if delay is None or "UNAVAILABLE" not in str(error.status()):
                    raise InferenceError(f"model {self._model!r} at {self._url}: {_reason(error)}") from error
                logger.warning("%s is unavailable, asking again in %.1f s", self._url, delay)
                time.sleep(delay)
        raise AssertionError("unreachable")


def _channel_options(url: str) -> list[tuple[str, int]]:
    """Allow messages of any size, and reach this machine without the proxy that gRPC takes for the rest."""
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    host = url.rpartition(":")[0].strip("[]")
    if host == "localhost" or host == "::1" or host.startswith("127."):
        options.append(("grpc.enable_http_proxy", 0))
    return options


def _tensor(tensor: Any) -> TensorSpec:
    return TensorSpec(name=tensor.name, datatype=tensor.datatype, shape=tuple(int(n) for n in tensor.shape))


def _reason(error: Any) -> str:
    status = f"{error.status()}: " if error.status() else ""
    return f"{status}{error.message()}"
