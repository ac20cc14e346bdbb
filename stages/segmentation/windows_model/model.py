"""A model that asks another one: the image comes once, its windows are cut and blended beside the model.

It runs in the server's own Python environment and needs NumPy only. The modules of `stages` beside this file
are copies of those that the stage itself uses, so both ways give the same scores.

References
----------
Business logic scripting: the README of triton-inference-server/python_backend.
"""

import asyncio
import ctypes
import json
import sys
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

sys.path.insert(0, str(Path(__file__).parent))

from stages.windows.plan import GaussianShape, WindowPlan
from stages.windows.sliding import predict_in_windows

_NUMPY_2 = int(np.__version__.split(".")[0]) >= 2
_DTYPES = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64}
_USED = b"used_dltensor"
_set_capsule_name = ctypes.pythonapi.PyCapsule_SetName
_set_capsule_name.argtypes = [ctypes.py_object, ctypes.c_char_p]


class TritonPythonModel:
    """The model as Triton calls it."""

    async def execute(self, requests):
        """Return the responses to requests, one after the other; within one, several windows are in flight.

        Parameters
        ----------
        requests
            Each with an image and the parameter ``task``, JSON.
        """
        return [await self._answer(request) for request in requests]

    async def _answer(self, request):
        loop = asyncio.get_running_loop()
        try:
            task = json.loads(json.loads(request.parameters())["task"])
            image = _array(pb_utils.get_input_tensor_by_name(request, "image"))
            predictor = _Predictor(task["model"], request, loop)
            plan = _plan(task["windows"])
            scores = await loop.run_in_executor(
                None, lambda: predict_in_windows(image, predictor, windows=plan)
            )
            return pb_utils.InferenceResponse([_tensor("scores", scores)])
        except Exception as error:  # one request that fails must not end the model
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))


class _Predictor:
    """The model that gets the windows, from a thread of its own."""

    def __init__(self, model, request, loop):
        self._model = model
        self._request = request
        self._loop = loop

    def submit(self, windows):
        if self._request.is_cancelled():
            raise RuntimeError("cancelled")
        return asyncio.run_coroutine_threadsafe(self._ask(windows), self._loop)

    async def _ask(self, windows):
        model = self._model
        dtype = _DTYPES[model["datatype"]]
        inference = pb_utils.InferenceRequest(
            model_name=model["name"],
            requested_output_names=[model["output"]],
            inputs=[_tensor(model["input"], np.ascontiguousarray(windows, dtype=dtype))],
            preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0),
        )
        response = await inference.async_exec()
        if response.has_error():
            raise RuntimeError(f"model {model['name']!r}: {response.error().message()}")
        return _array(pb_utils.get_output_tensor_by_name(response, model["output"]))


def _plan(values):
    lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    return WindowPlan(**{**values, **lists, "gaussian": GaussianShape(**values["gaussian"])})


def _array(tensor):
    """Return a tensor's values; builds of the backend before NumPy 2 garble them otherwise."""
    return np.from_dlpack(tensor) if _NUMPY_2 else tensor.as_numpy()


def _tensor(name, array):
    """Hand an array to Triton, and its memory with it; see the backend named onnxruntime."""
    if not _NUMPY_2:
        return pb_utils.Tensor(name, array)
    capsule = np.require(array, requirements=("C", "W")).__dlpack__()
    tensor = pb_utils.Tensor.from_dlpack(name, capsule)
    _set_capsule_name(capsule, _USED)
    return tensor
