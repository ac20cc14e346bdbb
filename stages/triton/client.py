"""A predictor that asks a Triton server: windows in, scores out, nothing else.

References
----------
Open Inference Protocol (KServe V2), gRPC: https://github.com/kserve/open-inference-protocol.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from stages.arrays import Array, array_namespace, to_device, to_host
from stages.errors import InferenceError, SettingsError
from stages.triton.buffers import Write, on_host
from stages.triton.connection import CALL_DEADLINE_S, Connection
from stages.triton.request import Question
from stages.triton.transport import Slots, Transport
from stages.volume.origin import Algorithm

if TYPE_CHECKING:
    from stages.triton.http import HttpPredictor

logger = logging.getLogger(__name__)

TRANSPORTS = ("auto", "cuda", "system", "grpc", "http")
DEADLINE_S = 120.0
PATIENCE_S = 60.0
_MOST_SLOTS = 16
_DTYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    **{f"UINT{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
}
_MOST_ATTEMPTS = 5
_FORGOTTEN = "shared memory region"  # in the error of a server that was started anew


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
    max_batch_size
        The largest batch; 0 for a model without a batch axis of Triton's own.
    """

    name: str
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: Mapping[str, str]
    max_batch_size: int = 0

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
    transport
        One of `TRANSPORTS`; for ``http`` the address is that of the server's HTTP endpoint.
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
        Longest time for one answer, seconds; what was asked before it has its own.
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
        self._connection = Connection(url, model, patience_s=patience_s)
        self._slots = Slots(self._connection, transport)
        self._deadline_s = deadline_s
        self._served: ServedModel | None = None
        self._answer_bytes: dict[tuple[int, ...], int] = {}
        self._open: set[Question] = set()

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
        return self._slots.chosen

    def close(self) -> None:
        """Cancel what is open, free the shared memory, close the connection."""
        try:
            for question in list(self._open):
                question.cancel()
        finally:
            try:
                self._slots.close()
            finally:
                self._connection.close()

    def wait_until_ready(self, timeout_s: float) -> None:
        """Return when the server has the model ready.

        Raises
        ------
        InferenceError
            If it is not ready in time, with the last reason.
        """
        self._connection.wait_until_ready(timeout_s)

    def describe(self) -> ServedModel:
        """Ask the server for the model's tensors and parameters.

        Raises
        ------
        InferenceError
            If the server does not answer or does not know the model.
        """
        line, name = self._connection, self._connection.model
        metadata = line.call(lambda: line.client.get_model_metadata(name, client_timeout=CALL_DEADLINE_S))
        config = line.call(lambda: line.client.get_model_config(name, client_timeout=CALL_DEADLINE_S)).config
        model = ServedModel(
            name=name,
            version=metadata.versions[-1] if metadata.versions else "",
            inputs=tuple(_tensor(t) for t in metadata.inputs),
            outputs=tuple(_tensor(t) for t in metadata.outputs),
            parameters={key: value.string_value for key, value in config.parameters.items()},
            max_batch_size=int(config.max_batch_size),
        )
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            names = [t.name for t in (*model.inputs, *model.outputs)]
            raise InferenceError(f"model {name!r} needs one input and one output tensor, it has {names}")
        self._served = model
        return model

    def __call__(self, windows: Array) -> Array:
        """Return the answer about windows, where the windows live.

        Raises
        ------
        InferenceError
            If the server does not answer in time, or refuses the windows.
        """
        question = self.submit(windows)
        answer = question.result()
        if question.slot is not None:
            answer = answer.copy()
            question.release()
        return answer

    def is_ready(self) -> bool:
        """Tell whether the server answers and has the model ready."""
        return self._connection.is_ready()

    def choose_transport(self, *, on_device: bool) -> str:
        """Try how windows can travel, before there is one, and return which it will be.

        Parameters
        ----------
        on_device
            Whether they will lie on the CUDA device.
        """
        return self._slots.choose(on_device=on_device)

    def submit(
        self, windows: Array, *, parameters: Mapping[str, str] | None = None, deadline_s: float | None = None
    ) -> Question:
        """Ask about windows, NumPy or CuPy, and return at once.

        Parameters
        ----------
        windows
            In the shape of the model's input tensor; the values are cast to its data type.
        parameters
            What the model is told with the windows.
        deadline_s
            Longest time for this answer; default: the predictor's.
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
        write: Write,
        *,
        on_device: bool,
        parameters: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Question:
        """Have windows written into the memory that they travel in, ask about them, and return at once.

        Parameters
        ----------
        shape
            Of the windows, in the layout of the model's input tensor.
        write
            Writes them into an array of this shape and of the tensor's data type.
        on_device
            Whether it writes to the CUDA device, where the answer then is wanted too.
        parameters, deadline_s
            As for `submit`.
        """
        served = self._served or self.describe()
        dtype = tensor_dtype(served.inputs[0])
        answer_bytes = self._answer_bytes.get(shape) or _expected_bytes(served, shape)
        size = math.prod(shape) * dtype.itemsize
        slot = self._slots.take(size, answer_bytes, _MOST_SLOTS, on_device=on_device)
        question = Question(self, shape, not on_device, slot)
        question.answer_in_slot = slot is not None and answer_bytes > 0
        question.tensors = self._tensors(served, question, dtype, write)
        question.parameters = dict(parameters) if parameters else None
        question.deadline_s = deadline_s or self._deadline_s
        self._open.add(question)
        question.send()
        return question

    # What a question needs

    def _tensors(
        self, served: ServedModel, question: Question, dtype: np.dtype[Any], write: Write
    ) -> tuple[Any, Any]:
        """Return the input, filled, and the output that is wanted."""
        entry, exit_ = served.inputs[0], served.outputs[0]
        protocol = self._connection.protocol
        tensor = protocol.InferInput(entry.name, list(question.shape), entry.datatype)
        wanted = protocol.InferRequestedOutput(exit_.name)
        slot, on_device = question.slot, not question.on_host
        if slot is None:
            tensor.set_data_from_numpy(on_host(write, question.shape, dtype, on_device=on_device))
            return tensor, wanted
        slot.put(write, question.shape, dtype, on_device=on_device)
        tensor.set_shared_memory(slot.name, math.prod(question.shape) * dtype.itemsize)
        if question.answer_in_slot:
            wanted.set_shared_memory(slot.name, slot.answer_bytes, slot.question_bytes)
        return tensor, wanted

    def _send(self, question: Question) -> Any:
        tensor, wanted = question.tensors
        return self._connection.client.async_infer(
            self._connection.model,
            [tensor],
            partial(question.arrived, self._connection.recoveries),
            outputs=[wanted],
            client_timeout=question.deadline_s * max(1, len(self._open)),
            parameters=question.parameters,
        )

    def _answer(self, question: Question, result: Any) -> Array:
        assert self._served is not None
        name = self._served.outputs[0].name
        output = result.get_output(name)
        if output is None:
            raise InferenceError(f"{self._connection.name} answered without its output {name!r}")
        dtype = tensor_dtype(TensorSpec(name=name, datatype=output.datatype, shape=()))
        shape = tuple(int(n) for n in output.shape)
        self._answer_bytes[question.shape] = int(np.prod(shape)) * dtype.itemsize
        if question.slot is not None and question.answer_in_slot:
            answer = question.slot.answer(shape, dtype)
        else:
            answer = result.as_numpy(name)
        return to_host(answer) if question.on_host else to_device(answer)

    def _make_ready_again(self, error: Any, *, sent_before: int, since: float, attempt: int) -> None:
        """Return when a question that ended with an error may be asked again."""
        if _FORGOTTEN in error.message() and attempt < _MOST_ATTEMPTS and self._slots.chosen != "grpc":
            restarted = sent_before == self._connection.recoveries  # and nobody had noticed
            self._connection.recoveries += restarted
        else:
            restarted = self._connection.recover(error, sent_before=sent_before, since=since, attempt=attempt)
        if restarted:
            logger.warning("%s is back, asking again", self._connection.url)
            self._slots.register_again()


def _expected_bytes(served: ServedModel, shape: tuple[int, ...]) -> int:
    """Return the size of the answer about windows of a shape whose every voxel it is about; 0 if unknown."""
    entry, exit_ = served.inputs[0], served.outputs[0]
    if not len(exit_.shape) == len(entry.shape) == len(shape):
        return 0
    axes = zip(exit_.shape, entry.shape, shape, strict=True)
    sizes = [size if of_output == of_input == -1 else of_output for of_output, of_input, size in axes]
    return math.prod(sizes) * tensor_dtype(exit_).itemsize if min(sizes) > 0 else 0


def _copy(windows: Array, out: Array) -> None:
    array_namespace(windows).copyto(out, windows, casting="same_kind")


def tensor_dtype(tensor: TensorSpec) -> np.dtype[Any]:
    """Return NumPy's type of a tensor.

    Raises
    ------
    InferenceError
        If its values are no numbers that NumPy knows.
    """
    dtype = _DTYPES.get(tensor.datatype)
    if dtype is None:
        raise InferenceError(
            f"tensor {tensor.name!r} is {tensor.datatype}, expected one of {', '.join(_DTYPES)}"
        )
    found: np.dtype[Any] = np.dtype(dtype)
    return found


def _tensor(tensor: Any) -> TensorSpec:
    return TensorSpec(name=tensor.name, datatype=tensor.datatype, shape=tuple(int(n) for n in tensor.shape))
