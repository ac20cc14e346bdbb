"""What computes an ONNX model's answers; `choose` takes the fastest that can.

An engine is a class with

- ``name``: what answers, for a person: a library, its version, where it runs;
- ``inputs`` and ``outputs``: ONNX type of each tensor by its name;
- ``run(names, given)``: the output tensors of these names, of the input tensors by name, both as Triton's.
"""

from .onnx_cpu import OnnxCpuEngine


def choose(path, config, device_id=None):
    """Return the engine for a model.

    Parameters
    ----------
    path
        The ONNX file.
    config
        The model's ``config.pbtxt``, as Triton gives it.
    device_id
        Number of the CUDA device that an instance of ``KIND_GPU`` is for; None for one on the CPU. What is
        for a device gets its tensors there, so no engine of the CPU can stand in for one that fails.

    Raises
    ------
    RuntimeError
        If the device cannot be used, with the reason.
    """
    if device_id is not None:
        from .onnx_cuda import OnnxCudaEngine

        return OnnxCudaEngine(path, config, device_id)
    return OnnxCpuEngine(path, config)
