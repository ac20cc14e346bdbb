"""Which engine of the embedded server answers a model, and how far its answers are from ONNX Runtime's."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clara_wf.model_server.server import serve
from clara_wf.models.config_pbtxt import CONFIG
from stages.model.tensors import ModelTensors
from stages.triton.client import TritonPredictor

REFERENCE = "onnxruntime"
"""The engine that is for every model, by the name that the parameter ``engine`` has for it."""

_READY_S = 60.0


@dataclass(frozen=True, kw_only=True)
class OnnxEngine:
    """What computes a model's answers, as the server's log has it.

    Attributes
    ----------
    name
        For a person: library, version, where it runs, how precisely.
    others
        Why faster ones do not, a sentence each.
    """

    name: str
    others: tuple[str, ...]

    @property
    def is_reference(self) -> bool:
        """Whether it is the one that others are compared with."""
        return self.name.startswith("ONNX Runtime") and "CPU" in self.name

    @classmethod
    def of_log(cls, log: Path, model: str) -> OnnxEngine | None:
        """Return the engine of a model; None where the log does not say, as of another backend's.

        Parameters
        ----------
        log, model
            The server's log file and the model's name.
        """
        text, name = log.read_text(errors="replace"), re.escape(model)
        answers = re.findall(rf"^model {name} is answered by (.+)$", text, re.MULTILINE)
        others = re.findall(rf"^model {name} is (not answered by .+)$", text, re.MULTILINE)
        return cls(name=answers[-1], others=tuple(dict.fromkeys(others))) if answers else None


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How two engines' answers to one window differ.

    Attributes
    ----------
    reference
        Name of the engine that is compared with.
    largest_difference, largest_value
        Of the scores; 0 where the model answers labels.
    labels_that_differ
        Share of the voxels whose highest score, or label, is another.
    """

    reference: str
    largest_difference: float
    largest_value: float
    labels_that_differ: float


def parity_with_reference(
    folder: Path,
    window: NDArray[np.float32],
    predictor: TritonPredictor,
    tensors: ModelTensors,
    *,
    cache: Path,
    log: Path,
    print_line: Callable[[str], None],
) -> Parity:
    """Return how a served model's answer differs from that of ONNX Runtime on the CPU.

    Parameters
    ----------
    folder
        The model.
    window
        What it is asked: one window, with the axes of its input tensor.
    predictor
        The server that is compared.
    tensors
        What its inputs and outputs are.
    cache
        Where the model server is installed, of which another is started.
    log
        File for the output of that other one.
    print_line
        Called with a line for the user before what takes a while.
    """
    served = predictor.describe()
    asked = np.ascontiguousarray(window, served.inputs[0].dtype)
    found = np.array(predictor(asked))
    with tempfile.TemporaryDirectory(prefix="clara-model-parity-") as beside:
        _copy_for_reference(folder, Path(beside, "models"))
        with (
            serve(Path(beside, "models"), cache=cache, log=log, on_progress=print_line) as server,
            TritonPredictor(server.grpc_url, folder.name) as reference,
        ):
            reference.wait_until_ready(_READY_S)
            reference.describe()
            wanted = np.array(reference(asked))
            engine = OnnxEngine.of_log(log, folder.name)
    return parity_of(engine.name if engine else REFERENCE, found, wanted, tensors.output_layout)


def _copy_for_reference(folder: Path, repository: Path) -> None:
    """Make a repository with the same model, on the CPU and by no engine but ONNX Runtime."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    made = repository / folder.name
    made.mkdir(parents=True)
    for part in (path for path in folder.resolve().iterdir() if path.name != CONFIG):
        (made / part.name).symlink_to(part)  # versions, and what the configuration names, such as labels
    text = (folder / CONFIG).read_text(encoding="utf-8")
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    config.parameters["engine"].string_value = REFERENCE
    del config.instance_group[:]
    config.instance_group.add(kind=model_config_pb2.ModelInstanceGroup.KIND_CPU, count=1)
    (made / CONFIG).write_text(text_format.MessageToString(config), encoding="utf-8")


def parity_of(reference: str, found: NDArray[np.generic], wanted: NDArray[np.generic], layout: str) -> Parity:
    """Return how two answers differ.

    Parameters
    ----------
    reference
        Name of the engine whose answer is wanted.
    found, wanted
        Answers of one shape, scores or labels.
    layout
        The order of their axes, ``c`` for the channels.
    """
    if wanted.dtype.kind != "f":
        share = float((found != wanted).mean())
        return Parity(
            reference=reference, largest_difference=0.0, largest_value=0.0, labels_that_differ=share
        )
    with np.errstate(invalid="ignore"):  # of infinities
        apart = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
    apart[found == wanted] = 0
    channels = layout.index("c")
    return Parity(
        reference=reference,
        largest_difference=float(np.nan_to_num(apart, nan=np.inf).max()),
        largest_value=float(np.abs(wanted).max()),
        labels_that_differ=float((found.argmax(channels) != wanted.argmax(channels)).mean()),
    )
