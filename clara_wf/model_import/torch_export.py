"""PyTorch models as ONNX: exported, and held against what they answer themselves."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clara_wf.model_import.checkpoint import Checkpoint, StoredTensor
from clara_wf.model_import.onnx_graph import IMAGE, OPSET, SCORES
from stages.errors import InputError, printable
from stages.runtime.extras import require_extra

_AT_MOST = 1e-3
"""How far the exported model's answer may be from the original's, as a share of the largest value."""


def load_script(path: Path) -> Any:
    """Return a TorchScript module, on the CPU and ready to answer.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    InputError
        If it is none.
    MissingExtraError
        If PyTorch is not installed.
    """
    require_extra("import-torch")
    import torch

    try:
        return torch.jit.load(str(path), map_location="cpu").eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(f"{printable(path)} is no TorchScript: {_short(error)}") from error


def load_network(target: str, arguments: Mapping[str, Any], weights: Path, *, trust_code: bool) -> Any:
    """Return a network of MONAI with weights, on the CPU and ready to answer.

    Parameters
    ----------
    target
        Name of its class in ``monai.networks.nets``.
    arguments
        Plain values for it.
    weights
        A checkpoint of PyTorch.
    trust_code
        Whether programs in the checkpoint are trusted.

    Raises
    ------
    InputError
        If MONAI has no such network, or the weights are of another one.
    MissingExtraError
        If PyTorch or MONAI is not installed.
    """
    require_extra("import-torch")
    import torch
    from monai.networks import nets

    kind = getattr(nets, target, None)
    if not isinstance(kind, type) or not issubclass(kind, torch.nn.Module):
        raise InputError(
            f"MONAI has no network {target!r}; put its TorchScript into models/model.ts, and add that"
        )
    try:
        network = kind(**_of_today(kind, arguments))
        network.load_state_dict(_state_of(weights, trust_code=trust_code))
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise InputError(
            f"{printable(weights)} does not fit the network {target}: {_short(error)}"
        ) from error
    return network.eval()


def _of_today(kind: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments without ``img_size``, where this version of MONAI finds it by itself."""
    import inspect

    known = inspect.signature(kind).parameters
    return {name: value for name, value in arguments.items() if name != "img_size" or name in known}


def _state_of(path: Path, *, trust_code: bool) -> dict[str, Any]:
    """Return the weights of a checkpoint, which may lie one level down."""
    import torch

    with Checkpoint(path, trust_code=trust_code) as checkpoint:
        state = checkpoint.content
        while isinstance(state, dict) and not any(isinstance(each, StoredTensor) for each in state.values()):
            inner = [
                state[key] for key in ("state_dict", "model", "network") if isinstance(state.get(key), dict)
            ]
            if not inner:
                raise InputError(f"{printable(path)} holds no weights; expected a state_dict of the network")
            state = inner[0]
        return {
            name.removeprefix("module."): torch.tensor(checkpoint.array(tensor))
            for name, tensor in state.items()
            if isinstance(tensor, StoredTensor)
        }


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What became of a network as ONNX.

    Attributes
    ----------
    channels
        Of its answer.
    apart, largest
        How far scores are from the original's, and the largest of them.
    """

    channels: int
    apart: float
    largest: float

    @property
    def text(self) -> str:
        """The comparison in a line."""
        return f"as ONNX its scores, up to {self.largest:.3g}, differ by {self.apart:.2g} from the original's"


def export(network: Any, path: Path, sizes: Sequence[int]) -> Exported:
    """Write a network as ONNX in batches of any size, and hold its answer against the original's.

    Parameters
    ----------
    network
        A module of PyTorch.
    path
        The file.
    sizes
        Of its input without the batch: channels, then axes.

    Raises
    ------
    InputError
        If it cannot be exported, or answers otherwise then.
    """
    import torch

    image = torch.from_numpy(np.random.default_rng(1).normal(0.3, 0.4, (1, *sizes)).astype(np.float32))
    try:
        with torch.inference_mode():
            wanted = network(image)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (image,),
                str(path),
                input_names=[IMAGE],
                output_names=[SCORES],
                dynamic_axes={IMAGE: {0: "batch"}, SCORES: {0: "batch"}},
                opset_version=OPSET,
                dynamo=False,
            )
    except (RuntimeError, TypeError, ValueError, torch.onnx.errors.OnnxExporterError) as error:
        raise InputError(f"the network cannot be exported as ONNX: {_short(error)}") from error
    if (
        not isinstance(wanted, torch.Tensor)
        or wanted.ndim != image.ndim
        or wanted.shape[2:] != image.shape[2:]
    ):
        raise InputError(
            f"the network answers {_shape(wanted)} to {list(image.shape)}; expected scores for each voxel"
        )
    return _compared(path, image.numpy(), wanted.numpy())


def _compared(path: Path, image: Any, wanted: Any) -> Exported:
    """Return how far the exported model's answer is from the original's; raise if too far."""
    from onnxruntime import InferenceSession

    try:
        (found,) = InferenceSession(str(path)).run(None, {IMAGE: image})
    except Exception as error:  # its own kinds of error have no common root
        raise InputError(f"the network was exported as ONNX, but does not run so: {_short(error)}") from error
    apart, largest = float(np.abs(found - wanted).max()), float(np.abs(wanted).max())
    if not apart <= _AT_MOST * max(largest, 1e-6):
        raise InputError(
            f"the exported network answers otherwise than the original: scores up to {largest:.3g} differ by "
            f"{apart:.2g}"
        )
    return Exported(channels=int(wanted.shape[1]), apart=apart, largest=largest)


def _shape(answer: Any) -> str:
    return str(list(answer.shape)) if hasattr(answer, "shape") else f"a {type(answer).__name__}"


def _short(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(" ".join(lines))[:300] or type(error).__name__
