"""Every ONNX model of the embedded server: a Triton backend named onnxruntime, written in Python.

It stands for the backend of that name in the official Triton image, so that the same model folder
serves on both. It runs in the server's own Python environment, not in the project's.
"""

import ctypes
import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

_ONNX_TYPES = {
    "TYPE_BOOL": "tensor(bool)",
    "TYPE_UINT8": "tensor(uint8)",
    "TYPE_UINT16": "tensor(uint16)",
    "TYPE_UINT32": "tensor(uint32)",
    "TYPE_UINT64": "tensor(uint64)",
    "TYPE_INT8": "tensor(int8)",
    "TYPE_INT16": "tensor(int16)",
    "TYPE_INT32": "tensor(int32)",
    "TYPE_INT64": "tensor(int64)",
    "TYPE_FP16": "tensor(float16)",
    "TYPE_FP32": "tensor(float)",
    "TYPE_FP64": "tensor(double)",
}

_USED = b"used_dltensor"
_set_capsule_name = ctypes.pythonapi.PyCapsule_SetName
_set_capsule_name.argtypes = [ctypes.py_object, ctypes.c_char_p]


class TritonPythonModel:
    """One model of the repository, as Triton calls it."""

    def initialize(self, args):
        """Load ``<model>/<version>/model.onnx``; what is wrong with it is Triton's reason not to load it."""
        config = json.loads(args["model_config"])
        file_name = config.get("default_model_filename") or "model.onnx"
        path = Path(args["model_repository"], args["model_version"], file_name)
        self._session = onnxruntime.InferenceSession(
            str(path), _session_options(config), providers=["CPUExecutionProvider"]
        )
        _check_tensors("input", config["input"], self._session.get_inputs())
        _check_tensors("output", config["output"], self._session.get_outputs())
        self._inputs = [tensor["name"] for tensor in config["input"]]

    def execute(self, requests):
        """Answer each request by itself, with the batch that it brings."""
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        try:
            given = {name: pb_utils.get_input_tensor_by_name(request, name) for name in self._inputs}
            arrays = {name: np.from_dlpack(tensor) for name, tensor in given.items() if tensor is not None}
            names = list(request.requested_output_names())
            results = self._session.run(names, arrays)
            return pb_utils.InferenceResponse([_tensor(*pair) for pair in zip(names, results, strict=True)])
        except Exception as error:  # one request that fails must not end the model
            reason = pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=reason)


def _tensor(name, array):
    """Hand an array to Triton, and its memory with it.

    Triton marks the capsule as used by a name that NumPy does not know, which NumPy would report as an
    error each time it is freed; so it gets the name that the DLPack protocol gives it.
    """
    capsule = np.ascontiguousarray(array).__dlpack__()
    tensor = pb_utils.Tensor.from_dlpack(name, capsule)
    _set_capsule_name(capsule, _USED)
    return tensor


def _session_options(config):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _parameter(config, "intra_op_thread_count") or _usable_cores()
    options.inter_op_num_threads = _parameter(config, "inter_op_thread_count")
    # threads that spin after a run take the cores from the stage that the result is for
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _parameter(config, name):
    return int(config.get("parameters", {}).get(name, {}).get("string_value") or 0)


def _usable_cores():
    """Return how many cores this process may use: its affinity, and its container's share of time."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no control group of version 2, or no limit ("max")
        return cores


def _check_tensors(kind, configured, present):
    """Refuse a configuration that names tensors which the model does not have, or of other types."""
    types = {tensor.name: tensor.type for tensor in present}
    for tensor in configured:
        name, wanted = tensor["name"], _ONNX_TYPES.get(tensor["data_type"])
        if wanted is None:
            raise pb_utils.TritonModelException(
                f"{kind} {name!r} is {tensor['data_type']}, which this server does not support"
            )
        if types.get(name) != wanted:
            found = f"of type {types[name]}" if name in types else "missing"
            raise pb_utils.TritonModelException(
                f"{kind} {name!r} is {tensor['data_type']} in config.pbtxt and {found} in the model, "
                f"whose {kind}s are {types}"
            )
