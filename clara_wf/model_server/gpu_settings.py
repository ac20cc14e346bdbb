"""What the embedded model server is told so that its models run on the GPU, or do without one.

The repository stays as it is, since the official Triton serves it too. The server is started on a view of it,
in which a model's ``config.pbtxt`` says besides where its instances are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clara_wf.model_server import gpu
from clara_wf.model_server.gpu import NvidiaGpu

CUDA = (13, 0)
"""Of the ONNX Runtime that `packages` installs for a GPU."""
COMPUTE_CAPABILITY = (7, 5)
"""The oldest that it has machine code for."""

_BACKEND = "onnxruntime"
_ON_DEVICE = "FORCE_CPU_ONLY_INPUT_TENSORS"


def usable_gpu(environ: Mapping[str, str] | None) -> tuple[NvidiaGpu | None, str]:
    """Return the GPU that the server can use, or None and why not; without any there is no reason."""
    found = gpu.find_gpu(environ)
    lack = gpu.unfit_reason(found, cuda=CUDA, compute_capability=COMPUTE_CAPABILITY) if found else None
    return (None, lack) if lack else (found, "")


def view_of(repository: Path, *, on_gpu: bool) -> dict[str, str]:
    """Return the configurations that the server shall read in place of those in the repository.

    On a GPU, a model without ``instance_group`` gets one instance on the first device, and one whose
    instances are all on GPUs gets its inputs there. Without a GPU, instances that ask for one are on the CPU.

    Parameters
    ----------
    repository
        A Triton model repository.
    on_gpu
        Whether the server has one.

    Returns
    -------
    dict
        Text of ``config.pbtxt`` by the name of the model's folder, of those that differ.
    """
    paths = repository.glob("*/config.pbtxt")
    changed = {path.parent.name: _changed(path, on_gpu=on_gpu) for path in paths}
    return {name: text for name, text in changed.items() if text is not None}


def _changed(path: Path, *, on_gpu: bool) -> str | None:
    """Return what a configuration becomes; None if it stays, or if the server must say what is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None
    if not on_gpu and "KIND_GPU" not in text:
        return None
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    try:
        config = text_format.Parse(text, model_config_pb2.ModelConfig())
    except (text_format.ParseError, RecursionError):
        return None
    if (config.backend or config.platform.partition("_")[0]) != _BACKEND:
        return None
    changed = _put_on_gpu(config) if on_gpu else _put_on_cpu(config)
    return str(text_format.MessageToString(config)) if changed else None


def _put_on_gpu(config: Any) -> bool:
    """Return whether a configuration has its instances on GPUs, and now its inputs too."""
    if not config.instance_group:
        config.instance_group.add(kind="KIND_GPU", count=1, gpus=[0])
    kinds = type(config.instance_group[0])
    for group in config.instance_group:
        if group.kind == kinds.KIND_AUTO:
            group.kind = kinds.KIND_GPU
    if any(group.kind != kinds.KIND_GPU for group in config.instance_group):
        return False
    if _ON_DEVICE not in config.parameters:
        config.parameters[_ON_DEVICE].string_value = "no"
    return True


def _put_on_cpu(config: Any) -> bool:
    """Return whether a configuration had instances on GPUs."""
    changed = False
    for group in config.instance_group:
        if group.kind == type(group).KIND_GPU:
            group.kind = type(group).KIND_CPU
            del group.gpus[:]
            changed = True
    return changed
