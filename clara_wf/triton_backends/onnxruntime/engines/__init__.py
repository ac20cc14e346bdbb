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


def choose(path, config, environ=os.environ):
    """Return the engine for a model; of each that is not for it, a line in the server's log says why.

    Parameters
    ----------
    path
        The ONNX file.
    config
        The model's ``config.pbtxt``, as Triton gives it. Its parameter ``engine`` allows only one.
    environ
        ``CLARA_ONNX_ENGINE`` allows only one to the models whose configuration does not say.

    Raises
    ------
    ValueError
        If there is no engine of that name, or it is not for the model.
    """
    wanted = parameter(config, "engine") or environ.get("CLARA_ONNX_ENGINE", "")
    if wanted and wanted not in _ENGINES:
        raise ValueError(f"there is no engine {wanted!r}; there are {', '.join(_ENGINES)}")
    for engine in [wanted] if wanted else _ENGINES:
        try:
            return _ENGINES[engine](path, config)
        except UnfitError as error:
            if wanted:
                raise ValueError(f"engine {engine!r} is not for this model: {error}") from error
            log(f"model {config['name']} is not answered by {engine}: {error}")
    raise AssertionError("the last engine is for every model")


def log(line):
    """Say something in the server's log."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _openvino(path, config):
    from .openvino import OpenvinoEngine

    return OpenvinoEngine(path, config)


def _onnx_cpu(path, config):
    from .onnx_cpu import OnnxCpuEngine

    return OnnxCpuEngine(path, config)


_ENGINES = {"openvino": _openvino, "onnxruntime": _onnx_cpu}  # the fastest first; the last is for every model
