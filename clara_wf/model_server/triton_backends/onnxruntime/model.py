"""Every ONNX model of the embedded server: a Triton backend named onnxruntime, written in Python.

It stands for the backend of that name in the official Triton image, so that the same model folder
serves on both. It runs in the server's own Python environment, not in the project's.
"""

import json
import sys
from pathlib import Path

import triton_python_backend_utils as pb_utils

sys.path.insert(0, str(Path(__file__).parent))

import engines

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


class TritonPythonModel:
    """One model of the repository, as Triton calls it."""

    def initialize(self, args):
        """Load ``<model>/<version>/model.onnx``; what is wrong with it is Triton's reason not to load it."""
        config = json.loads(args["model_config"])
        file_name = config.get("default_model_filename") or "model.onnx"
        path = Path(args["model_repository"], args["model_version"], file_name)
        device_id = int(args["model_instance_device_id"]) if args["model_instance_kind"] == "GPU" else None
        self._engine = engines.choose(path, config, device_id=device_id)
        engines.log(f"model {args['model_name']} is answered by {self._engine.name}")
        _check_tensors("input", config["input"], self._engine.inputs)
        _check_tensors("output", config["output"], self._engine.outputs)
        self._inputs = [tensor["name"] for tensor in config["input"]]

    def execute(self, requests):
        """Answer each request by itself, with the batch that it brings."""
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        try:
            found = {name: pb_utils.get_input_tensor_by_name(request, name) for name in self._inputs}
            given = {name: tensor for name, tensor in found.items() if tensor is not None}
            names = list(request.requested_output_names())
            return pb_utils.InferenceResponse(self._engine.run(names, given))
        except Exception as error:  # one request that fails must not end the model
            reason = pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=reason)


def _check_tensors(kind, configured, types):
    """Refuse a configuration that names tensors which the model does not have, or of other types."""
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
