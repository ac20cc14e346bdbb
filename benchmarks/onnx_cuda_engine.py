"""What the CUDA engine of the embedded server takes, without a server: ``benchmarks/onnx_cuda_engine.py``.

Run it with the Python of the server's installation for a GPU
(``<cache>/triton-*-gpu-*/python/bin/python``), or any that has onnxruntime-gpu.
One table: start, and the least and the median time of a request by its number
of windows, with and without TF32; of the same shape again and again, and of two by turns, which is what the
engine's sessions are for. ``--on cpu`` runs every step without a GPU.
"""

from __future__ import annotations

import argparse
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
    sys.path.insert(0, str(ROOT / "clara_wf/triton_backends/onnxruntime"))
    from engines import onnx_cuda, tensors

    tensors._set_capsule_name = lambda capsule, name: None
    for use_tf32 in ("0", "1"):
        clock = time.perf_counter()
        engine = onnx_cuda.OnnxCudaEngine(MODEL, config_with(use_tf32), on=arguments.on)
        print(f"{engine.name}, use_tf32 {use_tf32}: start and warm-up {time.perf_counter() - clock:.1f} s")
        for counts in ((1,), (2,), (3,), (4,), (4, 2)):
            first, *rest = times(engine, counts, arguments)
            print(
                f"  {' and '.join(map(str, counts)):>8} windows: first {first:7.1f} ms, then least "
                f"{min(rest):6.2f}, median {statistics.median(rest):6.2f} ms a request"
            )
        turns = times(engine, (4, 2), arguments, one_session=True)[2:]
        print(f"   4 and 2 windows with one session: median {statistics.median(turns):6.2f} ms a request")


def config_with(use_tf32: str) -> dict[str, Any]:
    return {
        "max_batch_size": 4,
        "input": [{"name": "image", "dims": ["1", "-1", "-1", "-1"]}],
        "parameters": {
            "window_shape": {"string_value": str(list(WINDOW[1:]))},
            "use_tf32": {"string_value": use_tf32},
        },
    }


def times(
    engine: Any, counts: tuple[int, ...], arguments: argparse.Namespace, *, one_session: bool = False
) -> list[float]:
    """Return milliseconds of requests whose numbers of windows go by turns."""
    if one_session:
        session = next(iter(engine._sessions.values()))
        engine._session_for = lambda shapes: session
    arrays = [np.random.default_rng(0).random((count, *WINDOW), np.float32) for count in counts]
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array, arguments.on, 0) for array in arrays]
    taken = []
    for turn in range(arguments.repeats * len(counts)):
        clock = time.perf_counter()
        engine.run(["scores"], {"image": Tensor(values[turn % len(values)])})
        taken.append(1e3 * (time.perf_counter() - clock))
    return taken


if __name__ == "__main__":
    main()
