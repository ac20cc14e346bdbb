"""What the CUDA engine of the embedded server takes, without a server: ``benchmarks/onnx_cuda_engine.py``.

Run it with the Python of the server's installation for a GPU
(``<cache>/triton-*-gpu-*/python/bin/python``), or any that has onnxruntime-gpu.
A table for each way to ask CUDA's provider: start; how far the answer is from the CPU's; the least and the
median time of a request by its number of windows, of one shape again and again, and of two by turns, which is
what the engine's sessions are for. ``--on cpu`` runs every step without a GPU.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "models/segmentation_liver_v1/1/model.onnx"
WINDOW = (1, 64, 96, 96)
COUNTS = (1, 2, 3, 4, 8, 16)
VARIANTS = (
    {},
    {"use_tf32": "1"},
    {"use_tf32": "1", "prefer_nhwc": "1"},
    {"use_tf32": "1", "cudnn_conv_algo_search": "EXHAUSTIVE"},
)


class Tensor:
    """A tensor of Triton's, as far as the engine sees it."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def to_dlpack(self) -> Any:
        return self._value.__dlpack__()

    @staticmethod
    def from_dlpack(name: str, capsule: Any) -> Any:
        return capsule  # it frees the memory when it goes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--on", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    sys.modules["triton_python_backend_utils"] = SimpleNamespace(Tensor=Tensor)
    sys.path.insert(0, str(ROOT / "clara_wf/model_server/triton_backends/onnxruntime"))
    from engines import onnx_cuda, tensors

    tensors._set_capsule_name = lambda capsule, name: None
    reference = onnxruntime.InferenceSession(str(MODEL), providers=["CPUExecutionProvider"])
    asked = windows(4)
    (wanted,) = reference.run(["scores"], {"image": asked})
    for options in VARIANTS[:1] if arguments.on == "cpu" else VARIANTS:
        try:
            measure(onnx_cuda, options, asked, wanted, arguments)
        except RuntimeError as error:  # not every model stands every option
            print(f"{options}: {str(error)[:160]}")


def measure(onnx_cuda: Any, options: dict[str, str], asked: Any, wanted: Any, arguments: Any) -> None:
    """Print what the engine takes with some options of the provider."""
    clock = time.perf_counter()
    engine = onnx_cuda.OnnxCudaEngine(MODEL, config_with(options), on=arguments.on)
    print(f"{engine.name} {options or ''}: start and warm-up {time.perf_counter() - clock:.1f} s")
    (capsule,) = engine.run(["scores"], {"image": tensor_of(asked, arguments.on)})
    found = onnxruntime.OrtValue.from_dlpack(capsule).numpy()
    apart, labels = np.abs(found - wanted).max(), (found.argmax(1) != wanted.argmax(1)).mean()
    print(f"  beside the CPU: {apart:.1e} of {np.abs(wanted).max():.1f} apart, {labels:.1e} of the labels")
    print(f"  of the device {taken_mib(arguments.on)} MiB are taken, with one session")
    for counts in [*((count,) for count in COUNTS), (4, 2)]:
        first, *rest = times(engine, counts, arguments)
        print(
            f"  {' and '.join(map(str, counts)):>8} windows: first {first:7.1f} ms, then least "
            f"{min(rest):6.2f}, median {statistics.median(rest):6.2f} ms a request"
        )
    print(f"  of the device {taken_mib(arguments.on)} MiB are taken, with four sessions")
    turns = times(engine, (4, 2), arguments, one_session=True)[2:]
    print(f"   4 and 2 windows with one session: median {statistics.median(turns):6.2f} ms a request")


def taken_mib(on: str) -> int:
    """Return how much memory of the device is taken, by whomever."""
    if on == "cpu":
        return 0
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    runtime = ctypes.CDLL(f"libcudart.so.{onnxruntime.cuda_version.partition('.')[0]}")
    runtime.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    return (total.value - free.value) >> 20


def windows(count: int) -> Any:
    return np.random.default_rng(0).random((count, *WINDOW), np.float32)


def tensor_of(array: Any, on: str) -> Tensor:
    return Tensor(onnxruntime.OrtValue.ortvalue_from_numpy(array, on, 0))


def config_with(options: dict[str, str]) -> dict[str, Any]:
    asked = [{"name": "cuda", "parameters": options}]
    return {
        "max_batch_size": 4,
        "input": [{"name": "image", "dims": ["1", "-1", "-1", "-1"]}],
        "parameters": {"window_shape": {"string_value": str(list(WINDOW[1:]))}},
        "optimization": {"execution_accelerators": {"gpu_execution_accelerator": asked}},
    }


def times(
    engine: Any, counts: tuple[int, ...], arguments: argparse.Namespace, *, one_session: bool = False
) -> list[float]:
    """Return milliseconds of requests whose numbers of windows go by turns."""
    if one_session:
        session = next(iter(engine._sessions.values()))
        engine._session_for = lambda shapes: session
    values = [tensor_of(windows(count), arguments.on) for count in counts]
    taken = []
    for turn in range(arguments.repeats * len(counts)):
        clock = time.perf_counter()
        engine.run(["scores"], {"image": values[turn % len(values)]})
        taken.append(1e3 * (time.perf_counter() - clock))
    return taken


if __name__ == "__main__":
    main()
