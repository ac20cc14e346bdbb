"""ONNX Runtime's default provider."""

import onnxruntime

from .settings import parameter, thread_count
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
        results = self.answer(names, {name: as_array(tensor) for name, tensor in given.items()})
        return [as_tensor(*pair) for pair in zip(names, results, strict=True)]

    def answer(self, names, arrays):
        """Return the outputs of these names as arrays that are the caller's own."""
        return self._session.run(names, arrays)


def session_options(config):
    """Return options of a session of ONNX Runtime, as the model's parameters have them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = thread_count(config)
    options.inter_op_num_threads = int(parameter(config, "inter_op_thread_count", 0))
    # threads that spin after a run take the cores from the stage that the result is for
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options
