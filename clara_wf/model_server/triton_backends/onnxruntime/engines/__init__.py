"""What computes an ONNX model's answers; `choose` takes the fastest that can.

An engine is a class with

- ``name``: what answers, for a person: a library, its version, where it runs, how precisely;
- ``inputs`` and ``outputs``: ONNX type of each tensor by its name;
- ``run(names, given)``: the output tensors of these names, of the input tensors by name, both as Triton's.

One that is not for a model, or not for this machine, raises `UnfitError` when it is made.
"""

import os
import sys

from .settings import parameter
from .unfit import UnfitError


def choose(path, config, environ=os.environ, device_id=None):
    """Return the engine for a model; of each that is not for it, a line in the server's log says why.

    Parameters
    ----------
    path
        The ONNX file.
    config
        The model's ``config.pbtxt``, as Triton gives it. Its parameter ``engine`` allows only one.
    environ
        ``CLARA_ONNX_ENGINE`` allows only one to the models whose configuration does not say.
    device_id
        Number of the CUDA device that an instance of ``KIND_GPU`` is for; None for one on the CPU. What is
        for a device gets its tensors there, so that no engine of the CPU can stand in for the GPU's.

    Raises
    ------
    ValueError
        If there is no engine of that name, or none is for the model where it is to run.
    """
    wanted = parameter(config, "engine") or environ.get("CLARA_ONNX_ENGINE", "")
    if wanted and wanted not in _ON_CPU | _ON_GPU:
        raise ValueError(f"there is no engine {wanted!r}; there are {', '.join(_ON_CPU | _ON_GPU)}")
    there = _ON_CPU if device_id is None else _ON_GPU
    if wanted and wanted not in there:
        raise ValueError(f"engine {wanted!r} does not run on the {'CPU' if device_id is None else 'GPU'}")
    for engine in [wanted] if wanted else there:
        try:
            return there[engine](path, config, device_id)
        except UnfitError as error:
            if wanted or device_id is not None:
                raise ValueError(f"engine {engine!r} is not for this model: {error}") from error
            log(f"model {config['name']} is not answered by {engine}: {error}")
    raise AssertionError("the last engine is for every model")


def log(line):
    """Write a line to the server's log."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _onnx_cuda(path, config, device_id):
    from .onnx_cuda import OnnxCudaEngine

    return OnnxCudaEngine(path, config, device_id)


def _openvino(path, config, device_id):
    from .openvino import OpenvinoEngine

    return OpenvinoEngine(path, config)


def _onnx_cpu(path, config, device_id):
    from .onnx_cpu import OnnxCpuEngine

    return OnnxCpuEngine(path, config)


_ON_GPU = {"cuda": _onnx_cuda}
_ON_CPU = {"openvino": _openvino, "onnxruntime": _onnx_cpu}  # the fastest first; the last is for every model
