"""OpenVINO, on the CPU: half the time of ONNX Runtime, less where the processor has units for bfloat16.

It answers models of floating-point inputs, since it computes in 32 bits what has 64; and only those that it
answers as ONNX Runtime does, which is tried with a random window before it answers anything.
"""

import ctypes
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from .comparison import known_difference, require_same_answers, warm_up
from .settings import thread_count, value
from .tensors import as_array, as_tensor
from .unfit import UnfitError

try:
    import openvino
except ImportError as error:
    raise UnfitError(error) from error

_TYPES = {
    "boolean": "tensor(bool)",
    "f16": "tensor(float16)",
    "f32": "tensor(float)",
    "i8": "tensor(int8)",
    "i16": "tensor(int16)",
    "i32": "tensor(int32)",
    "i64": "tensor(int64)",
    "u8": "tensor(uint8)",
    "u16": "tensor(uint16)",
}
_NUMPY = {
    "tensor(bool)": np.bool_,
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    **{
        f"tensor({kind}{bits})": np.dtype(f"{kind}{bits}")
        for kind in ("int", "uint")
        for bits in (8, 16, 32, 64)
    },
}
_INPUTS = ("TYPE_FP16", "TYPE_FP32")
_KNOWN = 256
# Voxels. Batches of larger windows are answered one by one: it takes no longer, a third of the memory of
# three at once, and nothing is prepared anew for another number of them.
_SMALL_WINDOW = 2**15


class OpenvinoEngine:
    """A model in OpenVINO.

    Parameters
    ----------
    path
        The ONNX file.
    config
        The model's ``config.pbtxt``. By its parameter ``precision`` a model allows bfloat16, which is used
        where the processor multiplies matrices of it; ``intra_op_thread_count`` is the number of threads.
    """

    def __init__(self, path, config):
        _refuse_inputs(config)
        self._path, self._config, self._onnx_cpu = path, config, None
        core = openvino.Core()
        model = _read(core, path)
        self._model = model.clone()
        self._known = {}
        self._inputs = {name: n for n, port in enumerate(model.inputs) for name in port.names}
        self._outputs = {name: n for n, port in enumerate(model.outputs) for name in port.names}
        self.inputs = {name: _type_of(model.inputs[n]) for name, n in self._inputs.items()}
        self.outputs = {name: _type_of(model.outputs[n]) for name, n in self._outputs.items()}
        self._divides_batches = config["max_batch_size"] > 1 and _is_of_any_batch(model)
        *others, last = _precisions(core, config)
        remark = ""
        for precision in others:
            try:
                self._start(core, model, precision)
                return
            except UnfitError as error:
                remark = f" (in {precision}: {error})"
        self._start(core, model, last)
        self.name += remark

    def run(self, names, given):
        """Return the outputs of these names, of the inputs by name.

        ONNX Runtime answers what is not a number, or infinite, since some operators of OpenVINO make a number
        of it; and what OpenVINO does not answer, such as a window that is too small for it. Of what neither
        answers, such as inputs of which one lacks, the reason is ONNX Runtime's.
        """
        arrays = {name: np.ascontiguousarray(as_array(tensor)) for name, tensor in given.items()}
        results = None
        whole = {self._inputs[name] for name in arrays} == set(self._inputs.values())
        if whole and all(
            array.size and np.isfinite(array.sum(dtype=np.float32)) for array in arrays.values()
        ):
            with suppress(RuntimeError, UnfitError, ValueError):
                results = self.answer(names, arrays)
        if results is None:
            results = self._reference().answer(names, arrays)
        return [as_tensor(*pair) for pair in zip(names, results, strict=True)]

    def answer(self, names, arrays):
        """Return the outputs of these names as arrays that are the caller's own.

        Raises
        ------
        RuntimeError, ValueError
            If OpenVINO does not answer it.
        """
        windows = self._windows(arrays)
        shapes = [self._output_shapes(windows[0])[self._outputs[name]] for name in names]
        if len(windows) == 1:
            return self._infer(names, arrays)
        if any(shape is None or shape[0] != 1 for shape in shapes):
            raise ValueError("the first axis of an output is no batch")
        kinds = [_NUMPY[self.outputs[name]] for name in names]
        wholes = [
            np.empty((len(windows), *shape[1:]), kind) for shape, kind in zip(shapes, kinds, strict=True)
        ]
        for n, window in enumerate(windows):
            self._infer(names, window, into=[whole[n : n + 1] for whole in wholes])
        return wholes

    def _output_shapes(self, arrays):
        """Return the shape of each output, None where it depends on values.

        Sizes that do not fit are found here, once for each: where it computes in one thread, OpenVINO
        would answer something of another size, or end the process.
        """
        shapes = {self._inputs[name]: array.shape for name, array in arrays.items()}
        key = tuple(shapes.items())
        if key not in self._known:
            model = self._model.clone()
            model.reshape({n: list(shape) for n, shape in shapes.items()})
            if len(self._known) == _KNOWN:
                self._known.clear()
            ports = [port.partial_shape for port in model.outputs]
            self._known[key] = [tuple(port.to_shape()) if port.is_static else None for port in ports]
        return self._known[key]

    def _reference(self):
        if self._onnx_cpu is None:
            from .onnx_cpu import OnnxCpuEngine

            self._onnx_cpu = OnnxCpuEngine(self._path, self._config)
        return self._onnx_cpu

    def _start(self, core, model, precision):
        """Make the engine ready, or let it become so meanwhile where an earlier start showed that it will."""
        self.precision = precision
        self.name = f"OpenVINO {openvino.__version__.split('-')[0]} on the CPU in {precision}"
        thread = ThreadPoolExecutor(max_workers=1)
        self._compiled = thread.submit(_compile, core, model, precision, self._config)
        if known_difference(self, self._path, self._config) is None:
            self._compiled.result()
        require_same_answers(self, self._path, self._config)
        thread.submit(warm_up, self, self._config)

    def _windows(self, arrays):
        """Return the inputs of each infer request."""
        counts = {len(array) for array in arrays.values()} if self._divides_batches else {1}
        count = max(counts)
        if (
            len(counts) > 1
            or count < 2
            or max(array.size for array in arrays.values()) <= count * _SMALL_WINDOW
        ):
            return [arrays]
        return [{name: array[n : n + 1] for name, array in arrays.items()} for n in range(count)]

    def _infer(self, names, arrays, into=()):
        """Return outputs, written to given arrays if there are such.

        Each call is a request of its own, whose results live as long as somebody holds them; those of a
        request that is used again would be overwritten.
        """
        request = self._compiled.result().create_infer_request()
        for name, array in arrays.items():
            request.set_input_tensor(self._inputs[name], _shared(array))
        for name, array in zip(names, into, strict=False):
            request.set_output_tensor(self._outputs[name], _shared(array))
        request.infer()
        return [request.get_output_tensor(self._outputs[name]).data for name in names]


def _refuse_inputs(config):
    for tensor in config["input"]:
        if tensor["data_type"] not in _INPUTS:
            raise UnfitError(f"input {tensor['name']!r} is {tensor['data_type']}")


def _read(core, path):
    try:
        model = core.read_model(str(path))
    except RuntimeError as error:
        raise UnfitError(f"it could not read the model: {_text(error)}") from error
    if any(port.element_type == openvino.Type.f64 for node in model.get_ops() for port in node.outputs()):
        raise UnfitError("the model computes in 64 bits")
    return model


def _is_of_any_batch(model):
    shapes = [port.partial_shape for port in (*model.inputs, *model.outputs)]
    return all(shape.rank.is_static and len(shape) > 0 and shape[0].is_dynamic for shape in shapes)


def _precisions(core, config):
    """Return in which precisions to compute, the first that does; emulated, bfloat16 would be slower."""
    able = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    units = "amx_bf16" in Path("/proc/cpuinfo").read_text().split()
    return ["bf16", "f32"] if value(config, "precision") == "bf16" and able and units else ["f32"]


def _compile(core, model, precision, config):
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": thread_count(config),
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # or several models would compute on the same cores
    }
    try:
        return core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise UnfitError(f"it could not compile the model: {_text(error)}") from error


def _type_of(port):
    name = port.element_type.to_string()
    return _TYPES.get(name, name)


def _shared(array):
    """Return a tensor in the memory of an array, which must outlive it.

    What comes by DLPack is read-only for NumPy, and OpenVINO takes no such array, though it only reads.
    """
    if not array.flags.writeable and array.size:
        memory = (ctypes.c_char * array.nbytes).from_address(array.ctypes.data)
        array = np.frombuffer(memory, array.dtype).reshape(array.shape)
    return openvino.Tensor(array, shared_memory=True)


def _text(error):
    """Return what OpenVINO says, without the lines that name places in its sources."""
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("Exception from")) or str(error)
