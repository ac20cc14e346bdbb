"""Passing a volume, windows and their transport, blending: beside MONAI and JSON.

    python benchmarks/inference_windows.py [--repeats 5] [--long-volume]

Needs MONAI and torch for its peer, and starts the embedded model server with an identity model. Every row
is the median of a few runs, the methods taken in turn. ``--long-volume`` runs 2,000 slices under
whatever limit the process has been given (a control group, say) instead, and prints the peak.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from clara_wf.model_server.server import serve  # noqa: E402
from clara_wf.workspace import Places  # noqa: E402
from stages import Origin, Volume, read_volume, write_volume  # noqa: E402
from stages.memory.limits import MIB, host_limit, in_words, resident_bytes  # noqa: E402
from stages.runtime.processes import peak_memory_bytes  # noqa: E402
from stages.segmentation.memory_estimate import fit, stage_need  # noqa: E402
from stages.segmentation.server_side import RemoteWindows, write_windows_model  # noqa: E402
from stages.segmentation.slabs import labels_from_slabs, lazy_image  # noqa: E402
from stages.triton.client import TritonPredictor  # noqa: E402
from stages.volume.geometry import Grid  # noqa: E402
from stages.windows.plan import WindowPlan  # noqa: E402
from stages.windows.sliding import predict_in_windows, score_slabs  # noqa: E402

SHAPE = (267, 239, 239)  # 400 x 512 x 512 at 1.5 mm
WINDOW = (96, 96, 96)
CLASSES = 3
LONG = (2000, 512, 512)
NETWORK_BYTES_PER_S = 1e9 / 8

CONFIG = """
backend: "python"
max_batch_size: 0
input [ { name: "image" data_type: TYPE_FP32 dims: [ -1, 1, -1, -1, -1 ] } ]
output [ { name: "scores" data_type: TYPE_FP32 dims: [ -1, 3, -1, -1, -1 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""
MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        image = np.from_dlpack(pb_utils.get_input_tensor_by_name(request, "image"))
        scores = np.concatenate([image] * 3, axis=1)
        return pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("scores", scores.__dlpack__())])
"""


def medians(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median wall time of each way, seconds, all of them taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, run in ways.items():
            clock = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - clock)
    return {name: statistics.median(each) for name, each in times.items()}


@contextmanager
def slow_network(url: str) -> Iterator[str]:
    """Give another address of a server, whose every direction carries 1 Gbit/s."""
    host, port = url.split(":")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve_all() -> None:
            with suppress(OSError):  # closed
                while True:
                    here, _ = listening.accept()
                    there = socket.create_connection((host, int(port)))
                    for pair in ((here, there), (there, here)):
                        threading.Thread(target=carry, args=pair, daemon=True).start()

        threading.Thread(target=serve_all, daemon=True).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def carry(source: socket.socket, target: socket.socket) -> None:
    """Pass on what one end sends, no faster than the network would."""
    free_at = time.monotonic()
    with suppress(OSError):
        while piece := source.recv(2**18):
            free_at = max(free_at, time.monotonic() - 0.01) + len(piece) / NETWORK_BYTES_PER_S
            time.sleep(max(0.0, free_at - time.monotonic()))
            target.sendall(piece)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def row(name: str, seconds: float, peer: float, note: str = "") -> None:
    print(f"{name:46s} {seconds:8.3f} s {seconds / peer:8.2f}   {note}".rstrip(), flush=True)


def passing(folder: Path, repeats: int) -> None:
    """Pass a volume from one stage to the next."""
    array = np.random.default_rng(1).integers(-1000, 2000, (400, 512, 512), dtype=np.int16)
    volume = Volume(array=array, affine=np.eye(4), origin=Origin(series_instance_uid="2.25.1"))
    raw = folder / "raw"

    def plain() -> None:
        array.tofile(raw)
        np.fromfile(raw, np.int16).max()

    def ours() -> None:
        path = write_volume(volume, folder)
        read_volume(path).array.max()

    found = medians({"raw": plain, "ours": ours}, repeats)
    print("\npass a volume of 400 x 512 x 512 (write, read, look at each voxel): time, ratio to raw bytes")
    row("raw bytes (tofile, fromfile)", found["raw"], found["raw"])
    row("MetaImage + JSON, SHA-256, mapped", found["ours"], found["raw"])


def blending(repeats: int) -> None:
    """Blend the windows of a model that answers at once."""
    import torch
    from monai.inferers import sliding_window_inference

    image = np.random.default_rng(2).normal(size=SHAPE).astype(np.float32)
    answer = np.random.default_rng(3).random((1, CLASSES, *WINDOW), dtype=np.float32)
    plan = WindowPlan(shape=WINDOW, classes=CLASSES, overlap=0.5, placement="stepped")
    tensor, torch_answer = torch.from_numpy(image)[None, None], torch.from_numpy(answer)

    def slabs() -> None:
        for _ in score_slabs(image, lambda windows: answer, windows=plan):
            pass

    def whole() -> np.ndarray:
        return predict_in_windows(image, lambda windows: answer, windows=plan)

    def monai() -> np.ndarray:
        scores = sliding_window_inference(
            tensor, WINDOW, 1, lambda windows: torch_answer.clone(), overlap=0.5, mode="gaussian"
        )
        return scores[0].numpy()

    found = medians({"monai": monai, "slabs": slabs, "whole": whole}, repeats)
    count = np.prod([len(along) for along in plan.starts(SHAPE)])
    off = np.abs(whole() - monai()).max()
    print(f"\nblend {count} windows of 96^3, 3 classes, identity model: time, ratio to MONAI")
    row("MONAI sliding_window_inference", found["monai"], found["monai"])
    row("slab by slab, as the stage does", found["slabs"], found["monai"], f"largest difference {off:.1e}")
    row("all scores at once", found["whole"], found["monai"])
    share = found["slabs"] / count / 0.050
    print(f"of a model that takes 50 ms a window, the blending is {100 * share:.0f} %")


def transport(folder: Path, repeats: int) -> None:
    """Send windows to a server and take the answers back, by each way.

    JSON goes in 27 requests of 32^3 each: Triton 2.51 crashes on JSON of a few megabytes.
    """
    repository = folder / "models"
    (repository / "identity/1").mkdir(parents=True)
    (repository / "identity/config.pbtxt").write_text(CONFIG)
    (repository / "identity/1/model.py").write_text(MODEL)
    write_windows_model(repository)
    cache = Places.here(os.environ).cache
    with serve(repository, cache=cache, log=folder / "log", on_progress=lambda line: None) as server:
        one_window(server.grpc_url, server.http_url, repeats)
        all_windows(server.grpc_url, repeats)


def one_window(url: str, http_url: str, repeats: int) -> None:
    window = np.random.default_rng(4).normal(size=(1, 1, *WINDOW)).astype(np.float32)

    def as_json() -> np.ndarray:
        sent.clear()
        scores = np.empty((1, CLASSES, *WINDOW), np.float32)
        for z, y, x in itertools.product(range(0, 96, 32), repeat=3):
            place = (slice(None), slice(None), slice(z, z + 32), slice(y, y + 32), slice(x, x + 32))
            scores[place] = ask(window[place])
        return scores

    def ask(part: np.ndarray) -> np.ndarray:
        data = {"name": "image", "shape": part.shape, "datatype": "FP32", "data": part.ravel().tolist()}
        body = json.dumps({"inputs": [data]}).encode()
        sent.append(len(body))
        request = urllib.request.Request(f"http://{http_url}/v2/models/identity/infer", body)
        with urllib.request.urlopen(request) as response:
            output = json.load(response)["outputs"][0]
        return np.array(output["data"], np.float32).reshape(output["shape"])

    sent: list[int] = []
    with (
        TritonPredictor(url, "identity") as shared,
        TritonPredictor(url, "identity", transport="grpc") as messages,
    ):
        for predictor in (shared, messages):
            predictor(window)  # from here on the size of the answers is known
        assert np.array_equal(shared(window), as_json())
        ways = {
            "json": as_json,
            "grpc": lambda: messages(window),
            "shared": lambda: release(shared.submit(window)),
        }
        found = medians(ways, repeats)
    print("\none window of 96^3 there, 3 classes back: time, ratio to JSON, bytes sent")
    row("JSON text over HTTP", found["json"], found["json"], f"{sum(sent) / 1e6:.1f} MB")
    row("gRPC messages", found["grpc"], found["json"], f"{window.nbytes / 1e6:.1f} MB")
    row("system shared memory", found["shared"], found["json"], "0 MB")


def release(request: object) -> None:
    request.result()  # type: ignore[attr-defined]
    request.release()  # type: ignore[attr-defined]


def all_windows(url: str, repeats: int) -> None:
    image = np.random.default_rng(5).normal(size=SHAPE).astype(np.float32)
    plan = WindowPlan(shape=WINDOW, classes=CLASSES, overlap=0.5)
    with TritonPredictor(url, "identity") as predictor:
        served = predictor.describe()
        expected = predict_in_windows(image, predictor, windows=plan)

    def by_windows(address: str, way: str, in_flight: int) -> Callable[[], None]:
        def run() -> None:
            with TritonPredictor(address, "identity", transport=way) as predictor:  # type: ignore[arg-type]
                for _ in score_slabs(image, predictor, windows=replace(plan, in_flight=in_flight)):
                    pass

        return run

    def beside(address: str) -> Callable[[], float]:
        def run() -> float:
            with RemoteWindows(address, served, transport="grpc") as remote:
                (slab,) = remote.score_slabs(image, windows=plan)
                return float(np.abs(slab.scores - expected).max())

        return run

    with slow_network(url) as far:
        off = beside(url)()
        here = medians(
            {
                "grpc 1": by_windows(url, "grpc", 1),
                "grpc 2": by_windows(url, "grpc", 2),
                "shared 1": by_windows(url, "system", 1),
                "shared 2": by_windows(url, "system", 2),
                "beside": beside(url),
            },
            repeats,
        )
        there = medians({"grpc 2": by_windows(far, "grpc", 2), "beside": beside(far)}, min(repeats, 3))
    count = int(np.prod([len(along) for along in plan.starts(SHAPE)]))
    windows_mb, image_mb = count * 4 * np.prod(WINDOW) / 1e6, image.nbytes / 1e6
    print(f"\nan image of 267 x 239 x 239, {count} windows, server on this machine: time, ratio, bytes sent")
    sent = f"{windows_mb:.0f} MB, {3 * windows_mb:.0f} MB back"
    row("gRPC messages, one at a time", here["grpc 1"], here["grpc 1"], sent)
    row("gRPC messages, two in flight", here["grpc 2"], here["grpc 1"], sent)
    row("system shared memory, one at a time", here["shared 1"], here["grpc 1"], "0 MB")
    row("system shared memory, two in flight", here["shared 2"], here["grpc 1"], "0 MB")
    once = f"{image_mb:.0f} MB, {3 * image_mb:.0f} MB back"
    row("image once, windows cut beside the model", here["beside"], here["grpc 1"], once)
    print("\nthe same over a network of 1 Gbit/s: time, ratio, bytes sent")
    row("gRPC messages, two in flight", there["grpc 2"], there["grpc 2"], sent)
    note = f"{once}; largest difference {off:.1e}"
    row("image once, windows cut beside the model", there["beside"], there["grpc 2"], note)


def long_volume(folder: Path) -> None:
    """Make labels of 2,000 slices at full resolution, and print what was predicted and what it took."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    raw = np.memmap(folder / "raw", np.int16, "w+", shape=LONG)
    for n in range(0, LONG[0], 100):
        raw[n : n + 100] = np.random.default_rng(n).integers(-1000, 2000, (100, *LONG[1:]), dtype=np.int16)
    raw.flush()
    volume = np.memmap(folder / "raw", np.int16, "r", shape=LONG)
    grid = Grid(LONG, np.diag([1.0, 0.7, 0.7, 1.0]))

    def image(part: Grid) -> np.ndarray:
        first = round(float(part.affine[0, 3]))
        return volume[first : first + part.shape[0]].astype(np.float32) / 1000

    def labels(scores: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
        return scores[:, -target.shape[0] :].argmax(axis=0).astype(np.uint8)

    def model(windows: np.ndarray) -> np.ndarray:
        return np.concatenate([0 * windows, windows - 1, windows - 2], axis=1)

    plan = WindowPlan(shape=(96, 160, 160), classes=CLASSES, overlap=0.25, in_flight=4, batch=2)
    held = resident_bytes()
    plan = fit(
        plan, lambda each: stage_need(each, LONG, LONG, on_device=False, held_bytes=held), host_limit()
    )
    clock = time.monotonic()
    slabs = score_slabs(lazy_image(grid, image), model, windows=plan, shared_slice=True)
    found = labels_from_slabs(slabs, grid, grid, labels)
    predicted = stage_need(plan, LONG, LONG, on_device=False, held_bytes=held).host_bytes
    print(
        f"2,000 x 512 x 512: {np.bincount(found[::100].ravel(), minlength=3).tolist()} of every 100th slice, "
        f"{time.monotonic() - clock:.0f} s, predicted {in_words(predicted)}, "
        f"peak {in_words(peak_memory_bytes())}, of which up to {volume.nbytes // MIB} MiB are the mapped file"
    )


def main() -> None:
    """Print every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--long-volume", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.long_volume:
            long_volume(folder)
            return
        passing(folder, given.repeats)
        blending(given.repeats)
        transport(folder, given.repeats)


if __name__ == "__main__":
    main()
