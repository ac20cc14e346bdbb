"""ONNX Runtime on an NVIDIA GPU: inputs are taken, and outputs left, where they lie on the device."""

import ctypes
import importlib
import importlib.util
import sys
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import onnxruntime

from . import log
from .dlpack import Memory
from .onnx_cpu import session_options
from .settings import parameter, value
from .tensors import as_tensor, from_capsule
from .unfit import UnfitError

CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
SESSIONS = 4

_ERRORS = 3
"""Of ONNX Runtime's severities. Below it is a warning for each session that CUDA's provider is no plug-in."""

_OPTIONS = {
    # EXHAUSTIVE took three times as long, and its choice changed voxels
    "cudnn_conv_algo_search": "HEURISTIC",
    "use_tf32": "0",
    "arena_extend_strategy": "kSameAsRequested",
}
# What a parameter of the model's own may say, as Triton's ONNX Runtime backend reads it.
_PARAMETERS = {
    "cudnn_conv_algo_search": {"0": "EXHAUSTIVE", "1": "HEURISTIC", "2": "DEFAULT"},
    "arena_extend_strategy": {"0": "kNextPowerOfTwo", "1": "kSameAsRequested"},
    "gpu_mem_limit": {},
    "do_copy_in_default_stream": {},
    "use_tf32": {},
}
_TENSORRT_NAMES = {"max_workspace_size_bytes": "trt_max_workspace_size"}
_DTYPES = {
    "tensor(bool)": np.bool_,
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    **{
        f"tensor({kind}{bits})": np.dtype(f"{kind}{bits}").type
        for kind in ("int", "uint")
        for bits in (8, 16, 32, 64)
    },
}


class OnnxCudaEngine:
    """A model in ONNX Runtime, on a CUDA device.

    cuDNN's plans are for one shape, and ONNX Runtime keeps only those of the last; so there is a session
    for each shape that is asked for, up to `SESSIONS`, and beyond that the one that was unused the longest
    changes its shape.

    Parameters
    ----------
    path
        The ONNX file.
    config
        The model's ``config.pbtxt``. `cuda_options` says what of it counts here.
    device_id
        Number of the CUDA device.
    on
        ``"cpu"`` runs every step without a GPU, on the CPU provider and host memory.

    Raises
    ------
    UnfitError
        If the provider does not start, with the reason.
    """

    def __init__(self, path, config, device_id=0, *, on="cuda"):
        self._path, self._config, self._device, self._device_id = path, config, on, device_id
        self._providers = _cpu_providers() if on == "cpu" else _providers(config, device_id)
        if on != "cpu":
            onnxruntime.set_default_logger_severity(_ERRORS)
            _preload()
        self._sessions = OrderedDict()
        first = self._new_session()
        self._spare = [first]
        self.inputs = {tensor.name: tensor.type for tensor in first.get_inputs()}
        self.outputs = {tensor.name: tensor.type for tensor in first.get_outputs()}
        used = first.get_providers()[0].removesuffix("ExecutionProvider")
        rounded = ", with TF32" if self._providers[0][1].get("use_tf32") == "1" else ""
        self.name = f"ONNX Runtime {onnxruntime.__version__} on {used}, device {device_id}{rounded}"
        self._warm_up(first)

    def run(self, names, given):
        """Return the outputs of these names, of the inputs by name.

        Triton calls it when its inputs are complete, and ONNX Runtime returns when its stream has finished;
        so neither needs to know the stream of the other.
        """
        capsules = {name: tensor.to_dlpack() for name, tensor in given.items()}
        memories = {name: Memory(capsule) for name, capsule in capsules.items()}
        shapes = tuple((name, memory.shape) for name, memory in memories.items())
        try:
            outputs = self._answer(self._session_for(shapes), names, memories)
        except Exception as error:
            if not (self._sessions and _tells_lack_of_memory(error)):
                raise
            log(f"{self.name}: memory of the device ran out; the sessions of other shapes give theirs back")
            outputs = self._answer(self._only_session_for(shapes), names, memories)
        return [self._tensor(*pair) for pair in zip(names, outputs, strict=True)]

    def _answer(self, session, names, memories):
        """Return the values of the outputs; the memories of the inputs are only read meanwhile."""
        binding = session.io_binding()
        for name, memory in memories.items():
            place = ("cuda", memory.device_id) if memory.on_device else ("cpu", 0)
            binding.bind_input(name, *place, _DTYPES[self.inputs[name]], memory.shape, memory.pointer)
        if not all(memory.on_device for memory in memories.values()):
            binding.synchronize_inputs()
        for name in names:
            place = ("cpu", 0) if self._is_for_the_host(name) else (self._device, self._device_id)
            binding.bind_output(name, *place)
        session.run_with_iobinding(binding)
        return binding.get_outputs()

    def _tensor(self, name, output):
        if self._is_for_the_host(name):
            return as_tensor(name, output.numpy())
        return from_capsule(name, output.__dlpack__())  # which keeps the value, and its memory, alive

    def _is_for_the_host(self, name):
        """Whether an output cannot stay on the device: ONNX Runtime before 1.32 hands out bool as uint8."""
        return self.outputs[name] == "tensor(bool)"

    def _session_for(self, shapes):
        session = self._sessions.pop(shapes, None) or self._unused_session()
        self._sessions[shapes] = session
        return session

    def _only_session_for(self, shapes):
        """Return a session for shapes, after all of them have given back what they held."""
        self._sessions.clear()
        self._spare.clear()
        return self._session_for(shapes)

    def _unused_session(self):
        if self._spare:
            return self._spare.pop()
        if len(self._sessions) < SESSIONS:
            return self._new_session()
        return self._sessions.popitem(last=False)[1]

    def _new_session(self):
        options, wanted = session_options(self._config), self._providers[0][0]
        try:
            session = onnxruntime.InferenceSession(
                str(self._path), options, providers=self._providers, enable_fallback=0
            )
        except Exception as error:  # of each kind of fault ONNX Runtime has an exception of its own
            reason = str(error).rpartition("[ONNXRuntimeError] : ")[2]
            raise UnfitError(f"ONNX Runtime's {wanted} does not take it: {reason}") from error
        if session.get_providers()[0] != wanted:
            raise UnfitError(f"ONNX Runtime's {wanted} does not start: {_why_not(wanted)}")
        return session

    def _warm_up(self, session):
        """Run the model once on shapes that its parameters name, so that no request pays for what that takes.

        The session is then that of the last of them, if that is what is asked for first.
        """
        for shapes in warm_up_shapes(self._config):
            started = time.monotonic()
            try:
                self._try(session, shapes)
                outcome = f"warmed up in {time.monotonic() - started:.1f} s"
            except Exception as error:  # what is wrong is told to whoever asks for such a shape
                outcome = f"could not be warmed up: {error}"
            told = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
            log(f"{self.name}: {told} {outcome}")

    def _try(self, session, shapes):
        arrays = {name: np.zeros(shape, _DTYPES[self.inputs[name]]) for name, shape in shapes.items()}
        capsules = {name: array.__dlpack__() for name, array in arrays.items()}
        self._answer(
            session, list(self.outputs), {name: Memory(capsule) for name, capsule in capsules.items()}
        )


def cuda_options(config, device_id):
    """Return what ONNX Runtime's CUDA provider is asked for.

    Later ones count more: this module's own choice; what the model's ``precision`` allows; parameters of
    the model such as ``use_tf32``; those of the accelerator ``cuda`` of its ``optimization``.
    """
    options = dict(_OPTIONS)
    if value(config, "precision") in ("bf16", "f16", "tf32"):
        options["use_tf32"] = "1"  # ten bits of a fraction, as f16 has; bf16 has seven
    for name, meanings in _PARAMETERS.items():
        if said := parameter(config, name):
            options[name] = meanings.get(said, said)
    options |= accelerator(config, "cuda") or {}
    return options | {"device_id": str(device_id)}


def accelerator(config, name):
    """Return the parameters of one of the model's GPU accelerators; None where it does not ask for it."""
    accelerators = config.get("optimization", {}).get("execution_accelerators", {})
    asked = accelerators.get("gpu_execution_accelerator", [])
    return next((dict(each.get("parameters", {})) for each in asked if each.get("name") == name), None)


def warm_up_shapes(config):
    """Return shapes of all inputs by name: a single window, then a full batch of them.

    None are known where the model's parameter ``window_shape`` does not say every size that is left open.
    """
    window = value(config, "window_shape") or []
    dims = {tensor["name"]: [int(each) for each in tensor["dims"]] for tensor in config["input"]}
    filled = {name: _filled(sizes, window) for name, sizes in dims.items()}
    if any(-1 in sizes for sizes in filled.values()):
        return []
    batch = int(config.get("max_batch_size", 0))
    if not batch:
        return [filled]
    return [{name: (count, *sizes) for name, sizes in filled.items()} for count in sorted({1, batch})]


def _filled(sizes, window):
    """Return sizes with the open ones taken from a window, where they are as many; one more is a batch."""
    open_at = [index for index, size in enumerate(sizes) if size == -1]
    if len(open_at) == len(window) + 1 and open_at[0] == 0:
        sizes, open_at = [1, *sizes[1:]], open_at[1:]
    if len(open_at) != len(window):
        return tuple(sizes)
    known = dict(zip(open_at, window, strict=True))
    return tuple(int(known.get(index, size)) for index, size in enumerate(sizes))


def _cpu_providers():
    return [("CPUExecutionProvider", {})]


def _providers(config, device_id):
    """Return the providers that are asked for, with their options; the CPU's is always the last."""
    found = onnxruntime.get_available_providers()
    if CUDA not in found:
        raise UnfitError(f"ONNX Runtime {onnxruntime.__version__} of this installation has no CUDA provider")
    providers = [(CUDA, cuda_options(config, device_id))]
    tensorrt = accelerator(config, "tensorrt")
    if tensorrt is not None:
        providers.insert(0, (TENSORRT, _tensorrt_options(tensorrt, device_id)))
    return providers


def _tensorrt_options(asked, device_id):
    """Return the options of TensorRT's provider, from those of Triton's accelerator."""
    if importlib.util.find_spec("tensorrt_libs"):
        importlib.import_module("tensorrt_libs")  # which loads them
    elif not _loads("libnvinfer.so.10"):
        raise UnfitError("the model asks for TensorRT (gpu_execution_accelerator), which is not installed")
    precision = asked.pop("precision_mode", "FP32")
    options = {_TENSORRT_NAMES.get(name, name): said for name, said in asked.items()}
    kept = Path(sys.prefix).parent / "tensorrt"  # engines take minutes to make
    cached = {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(kept),
        "trt_timing_cache_enable": "1",
        "trt_fp16_enable": str(int(precision == "FP16")),
        "trt_int8_enable": str(int(precision == "INT8")),
    }
    return cached | options | {"device_id": str(device_id)}


def _preload():
    """Load the libraries of CUDA and cuDNN: of the nvidia wheels that Python sees, else of the system."""
    found = importlib.util.find_spec("nvidia")
    folders = [Path(folder) for folder in (found.submodule_search_locations if found else [])]
    major = onnxruntime.cuda_version.partition(".")[0]
    for part, which in ((f"cu{major}", {"cudnn": False}), ("cudnn", {"cuda": False})):
        places = [folder / part / "lib" for folder in folders if (folder / part / "lib").is_dir()]
        onnxruntime.preload_dlls(**which, directory=str(places[0]) if places else None)


def _why_not(provider):
    """Return what the loader says of a provider's library, or where else to look."""
    folder = Path(onnxruntime.__file__).parent / "capi"
    library = {CUDA: "libonnxruntime_providers_cuda.so", TENSORRT: "libonnxruntime_providers_tensorrt.so"}
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / library[provider]))
    except OSError as error:
        return str(error)
    return "its reason is in the server's log"


def _tells_lack_of_memory(error):
    """Whether an error of ONNX Runtime, CUDA or cuDNN is about memory."""
    text = str(error).lower()
    return any(words in text for words in ("failed to allocate memory", "out of memory", "alloc_failed"))


def _loads(library):
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
