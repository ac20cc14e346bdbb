"""ONNX Runtime's default provider."""

import os
from pathlib import Path

import onnxruntime

from .tensors import as_array, as_tensor


class OnnxCpuEngine:
    """A model in ONNX Runtime, on the CPU.

    Parameters
    ----------
    path
        The ONNX file.
    config
        The model's ``config.pbtxt``; its parameters ``intra_op_thread_count`` and ``inter_op_thread_count``
        say how many threads there are, by default one a core.
    """

    name = f"ONNX Runtime {onnxruntime.__version__} on the CPU"

    def __init__(self, path, config):
        options = session_options(config)
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = {tensor.name: tensor.type for tensor in self._session.get_inputs()}
        self.outputs = {tensor.name: tensor.type for tensor in self._session.get_outputs()}

    def run(self, names, given):
        """Return the outputs of these names, of the inputs by name."""
        results = self._session.run(names, {name: as_array(tensor) for name, tensor in given.items()})
        return [as_tensor(*pair) for pair in zip(names, results, strict=True)]


def usable_cores():
    """Return how many cores this process may use: its affinity, and its container's share of time."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no control group of version 2, or no limit ("max")
        return cores


def parameter(config, name, default=""):
    """Return a parameter of the model's configuration, as text."""
    return config.get("parameters", {}).get(name, {}).get("string_value") or default


def session_options(config):
    """Return options of a session of ONNX Runtime, as the model's parameters have them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(parameter(config, "intra_op_thread_count", usable_cores()))
    options.inter_op_num_threads = int(parameter(config, "inter_op_thread_count", 0))
    # threads that spin after a run take the cores from the stage that the result is for
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options
