"""What computes an ONNX model's answers; `choose` takes the fastest that can.

An engine is a class with

- ``name``: what answers, for a person: a library, its version, where it runs;
- ``inputs`` and ``outputs``: ONNX type of each tensor by its name;
- ``run(names, given)``: the output tensors of these names, of the input tensors by name, both as Triton's.
"""

from .onnx_cpu import OnnxCpuEngine


def choose(path, config):
    """Return the engine for a model.

    Parameters
    ----------
    path
        The ONNX file.
    config
        The model's ``config.pbtxt``, as Triton gives it.
    """
    return OnnxCpuEngine(path, config)
