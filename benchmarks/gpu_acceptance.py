"""Check every GPU path against its CPU twin and time it: ``python benchmarks/gpu_acceptance.py``.

One command, no network, under three minutes. Needs CuPy and a CUDA device; exits with 1 if a result differs
or takes longer than it may, with 2 if there is no device. Windows go to a real Triton: the embedded model
server where it is installed (``clara-wf doctor``), or one of this machine that ``--server HOST:PORT`` names.
``--rehearse`` runs the script itself, small and without a device: it shows that the script works, no more.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from ai_livertumor import ModelDescription, segment  # noqa: E402
from benchmarks.acceptance_table import Table  # noqa: E402
from benchmarks.acceptance_volume import MODEL, SHAPE, by_intensity, ct_volume  # noqa: E402
from benchmarks.memory_peak import HostPeak, beside  # noqa: E402
from clara_wf.model_server.server import serve  # noqa: E402
from clara_wf.workspace import Places  # noqa: E402
from stages import Volume, arrays  # noqa: E402
from stages.arrays import Array, device_available, to_host  # noqa: E402
from stages.compute.components import fill_holes, keep_inside, keep_largest_component, remove_small  # noqa: E402
from stages.compute.resample import labels_from_scores  # noqa: E402
from stages.memory.gpu import CudaGpu, GpuMemory  # noqa: E402
from stages.memory.limits import host_limit, parse_size  # noqa: E402
from stages.segmentation.preprocess import ModelInput, preprocess  # noqa: E402
from stages.segmentation.segment import window_plan  # noqa: E402
from stages.triton.client import TritonPredictor  # noqa: E402
from stages.volume.io import read_volume, write_volume  # noqa: E402
from stages.windows.sliding import predict_in_windows  # noqa: E402

FEW_SLICES = 120
SMALL = (24, 128, 128)
REPEATS = 5
BATCH = 16
REFERENCE_MODEL = "segmentation_liver_v1"


def timed(work: Callable[[], Array], *, repeats: int = REPEATS) -> tuple[Array, float]:
    """Return a result and the median time of a few runs after one more, ms, the device's work included."""
    work()
    times = []
    for _ in range(repeats):
        synchronise()
        clock = time.perf_counter()
        result = work()
        synchronise()
        times.append((time.perf_counter() - clock) * 1000)
    return result, statistics.median(times)


def synchronise() -> None:
    """Wait until the device has done what it was asked."""
    if "cupy" in sys.modules:
        sys.modules["cupy"].cuda.get_current_stream().synchronize()


def difference(host: Array, device: Array, tolerance: float) -> tuple[str, bool]:
    """Return how far two results are apart, in words, and whether that is near enough."""
    expected, found = to_host(host), to_host(device)
    if expected.dtype == np.uint8:
        off = float((expected != found).mean())
        return f"{off:.1e} of the voxels differ", off <= tolerance
    off = float(np.abs(expected - found).max())
    return f"at most {off:.1e} apart", off <= tolerance


@dataclass(frozen=True)
class Bench:
    """The volume on both sides, and where lines go."""

    table: Table
    host: Volume
    device: Volume
    put: Callable[[Array], Array]

    def compare(
        self,
        name: str,
        on_host: Callable[[], Array],
        on_device: Callable[[], Array],
        *,
        tolerance: float = 0.0,
        wanted_ms: float | None = None,
    ) -> float:
        """Time both twins, print a line, and return the device's time, milliseconds."""
        host, host_ms = timed(on_host, repeats=2)
        device, device_ms = timed(on_device)
        text, agrees = difference(host, device, tolerance)
        self.table.row(
            name, host_ms=host_ms, device_ms=device_ms, wanted_ms=wanted_ms, difference=text, agrees=agrees
        )
        return device_ms


def check_transfer(bench: Bench) -> None:
    """Bring the volume of a mapped file to the device, and a mask back into memory made ready before."""
    from stages.compute.cuda.transfer import download_place, stream_event, upload

    with tempfile.TemporaryDirectory() as folder:
        mapped = read_volume(write_volume(bench.host, Path(folder))).array

        def arrive() -> Array:
            with upload(mapped) as arriving:
                arriving.wait_for(arriving.array)
            return arriving.array

        bench.compare("upload of the mapped volume", lambda: bench.host.array, arrive, wanted_ms=8)
    mask = (bench.device.array > 0).astype(np.uint8)
    places = [download_place(mask.shape, np.uint8) for _ in range(REPEATS + 1)]
    time.sleep(0.5)
    bench.compare(
        "the mask's way back",
        lambda: to_host(mask),
        lambda: places.pop().fill(mask, after=stream_event()),
    )


def check_steps(bench: Bench) -> None:
    """Check what stands before and behind the model, one step after the other."""
    host, device, put = bench.host, bench.device, bench.put
    before = bench.compare(
        "preprocess",
        lambda: preprocess(host, MODEL).image,
        lambda: preprocess(device, MODEL).image,
        tolerance=1e-5,
    )
    prepared, twin = preprocess(host, MODEL), preprocess(device, MODEL)
    scores = predict_in_windows(prepared.image, by_intensity, windows=window_plan(prepared, MODEL))
    scores_twin, grids = put(scores), (prepared.grid, prepared.source_grid)
    behind = bench.compare(
        "scores to labels, original grid",
        lambda: labels_from_scores(scores, *grids, labels=(0, 1, 2)),
        lambda: labels_from_scores(scores_twin, *grids, labels=(0, 1, 2)),
        tolerance=1e-6,
    )
    labels = labels_from_scores(scores, *grids, labels=(0, 1, 2))
    behind += check_components(bench, labels)
    bench.table.row("before and behind the model", device_ms=before + behind, wanted_ms=10)
    check_blending(bench, prepared, twin)
    bench.compare(
        "segment by a formula, on the device",
        lambda: segment(host, by_intensity, model=MODEL).array,
        lambda: segment(device, by_intensity, model=MODEL).array,
        tolerance=1e-5,
    )


RULES: dict[str, Callable[[Array], None]] = {
    "largest component": lambda labels: keep_largest_component(labels, (1, 2)),
    "inside another label": lambda labels: keep_inside(labels, 2, 1),
    "small ones removed": lambda labels: remove_small(labels, 2, 30),
    "holes filled": lambda labels: fill_holes(labels, 1),
}


def check_components(bench: Bench, labels: Array) -> float:
    """Check each rule about components, and return the time of all four, milliseconds."""
    twin = bench.put(labels)

    def apply(mask: Array, *rules: Callable[[Array], None]) -> Array:
        mask = mask.copy()
        for rule in rules:
            rule(mask)
        return mask

    for name, rule in RULES.items():
        bench.compare(name, partial(apply, labels, rule), partial(apply, twin, rule))
    every = tuple(RULES.values())
    noise = (np.random.default_rng(3).random(labels.shape, np.float32) < 0.3).astype(np.uint8)
    there = bench.put(noise)
    bench.compare(
        "the same of noise (0.3 of the voxels)", partial(apply, noise, *every), partial(apply, there, *every)
    )
    return bench.compare(
        "all four", partial(apply, labels, *every), partial(apply, twin, *every), wanted_ms=5
    )


def check_blending(bench: Bench, prepared: ModelInput, twin: ModelInput) -> None:
    """Check how windows are cut, weighted and added, by a formula; then time that alone."""
    windows = window_plan(prepared, MODEL)
    bench.compare(
        "windows, by a formula, blended",
        lambda: predict_in_windows(prepared.image, by_intensity, windows=windows),
        lambda: predict_in_windows(twin.image, by_intensity, windows=windows),
        tolerance=1e-4,
    )
    for spacing_mm, wanted_ms in ((3.0, 3), (1.5, 15)):
        model = MODEL.model_copy(update={"spacing_mm": (spacing_mm,) * 3})
        image = preprocess(bench.device, model)
        plan = replace(window_plan(image, model), batch=BATCH)
        known = bench.put(np.random.default_rng(2).random((BATCH, 3, *plan.shape), np.float32))
        count = plan.count(image.grid.shape)
        _, spent = timed(
            lambda image=image, known=known, plan=plan: predict_in_windows(
                image.image, lambda windows: known[: len(windows)], windows=plan
            )
        )
        bench.table.row(f"{count} windows cut and blended, no model", device_ms=spent, wanted_ms=wanted_ms)


@contextmanager
def any_server(url: str | None) -> Iterator[tuple[str, str]]:
    """Serve the reference model, or take the server that is named; give its address and what it is."""
    if url:
        yield url, f"Triton at {url}"
        return
    places = Places.here(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "server.log")
        with serve(
            places.models, models=[REFERENCE_MODEL], cache=places.cache, log=log, on_progress=print
        ) as server:
            yield server.grpc_url, "\n".join(engine_lines(log.read_text(errors="replace")))


def engine_lines(log: str) -> list[str]:
    """Return what a server's log says of what computes the model, and how long its start took."""
    lines = [line for line in log.splitlines() if "answered by" in line or "warmed up" in line]
    return [line.partition("] ")[2].strip('"') or line for line in lines]


def check_triton(bench: Bench, url: str, *, on_device: bool) -> None:
    """Segment by the reference model, each way that windows can travel."""
    ways = [("grpc", bench.host), ("system", bench.host), ("cuda" if on_device else "system", bench.device)]
    first: Array = None
    for transport, volume in ways:
        with asked(url, transport, on_device=volume is bench.device and on_device) as run:
            clock = time.perf_counter()
            run(volume)
            cold_ms = (time.perf_counter() - clock) * 1000
            mask, spent = timed(lambda run=run, volume=volume: run(volume).array)
        text, agrees = difference(mask if first is None else first, mask, 1e-5)
        first = mask if first is None else first
        bench.table.row(
            f"Triton by {transport}, first {cold_ms:.0f} ms",
            device_ms=spent,
            difference=f"{text} from grpc",
            agrees=agrees,
        )


@contextmanager
def asked(
    url: str, transport: str, *, on_device: bool, gpu: GpuMemory | None = None
) -> Iterator[Callable[..., Volume]]:
    """Give what segments a volume by the reference model."""
    with closing(TritonPredictor(url, REFERENCE_MODEL, transport=transport)) as predictor:
        predictor.wait_until_ready(60)
        predictor.choose_transport(on_device=on_device)
        served = predictor.describe()
        model = ModelDescription.from_server(served)
        tensors = model.tensors_of(served)
        yield partial(segment, predictor=predictor, model=model, tensors=tensors, limit=host_limit(), gpu=gpu)


def check_road(bench: Bench, url: str, *, on_device: bool) -> None:
    """Time all of the AI stage between the mapped volume and the mask on the host."""
    few = replace(bench.host, array=np.ascontiguousarray(bench.host.array[:FEW_SLICES]))
    for volume, wanted_ms in ((bench.host, 60), (few, 25)):
        gpu = GpuMemory(CudaGpu()) if on_device else None
        transport = "cuda" if on_device else "system"
        with (
            tempfile.TemporaryDirectory() as folder,
            asked(url, transport, on_device=on_device, gpu=gpu) as run,
        ):
            mapped = read_volume(write_volume(volume, Path(folder)))
            _, spent = timed(lambda run=run, mapped=mapped: run(mapped, on_device=on_device).array)
        shape = " x ".join(map(str, volume.array.shape))
        bench.table.row(f"mapped volume to mask, {shape}", device_ms=spent, wanted_ms=wanted_ms)
        if gpu is not None:
            gpu.close()


def check_stage(table: Table, volume: Volume, url: str) -> None:
    """Run the stage as a process: what it told of memory before, and what it took of host and device."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "in"), Path(folder, "out")
        given.mkdir()
        write_volume(volume, given)
        command = [sys.executable, "-m", "ai_livertumor", "--input", given, "--output", made, "--server", url]
        clock = time.perf_counter()
        with (
            subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as stage,
            HostPeak(stage.pid) as held,
        ):
            log = stage.stderr.read() if stage.stderr else ""
        table.row(
            f"the stage as a process, {len(volume.array)} slices",
            device_ms=(time.perf_counter() - clock) * 1000,
            agrees=stage.returncode == 0,
        )
    sizes = (
        r"at most ([0-9.]+ [MG]iB) of .*on the GPU ([0-9.]+ [MG]iB) of",
        r"memory: ([0-9.]+ [MG]iB) of the GPU",
    )
    told, taken = (re.search(each, log) for each in sizes)
    if told is None or taken is None:
        table.row("memory", difference=log[-500:], agrees=False)
        return
    for where, before, after in (
        ("host", parse_size(told[1]), held.bytes),
        ("GPU", parse_size(told[2]), parse_size(taken[1])),
    ):
        off = abs(before / after - 1)
        table.row(f"memory of the {where}", difference=beside(before, after), agrees=off <= 0.15)


def check_decoding(table: Table, syntax: str) -> None:
    """Decode 100 compressed slices on the device, by nvImageCodec, and on one core of the host."""
    try:
        from read_series import make_series
    except ImportError as error:
        print(f"{syntax}: not checked, {error}")
        return
    from dicom_reader.files.folder import find_headers
    from dicom_reader.pixels import nvimgcodec
    from dicom_reader.pixels.decoders import decode
    from dicom_reader.pixels.hounsfield import PixelEncoding

    with tempfile.TemporaryDirectory() as folder:
        make_series(Path(folder), syntax, 100)
        headers = find_headers(Path(folder)).headers
        if not nvimgcodec.takes(headers):
            print(f"{syntax}: nvImageCodec (extra nvimgcodec-cuda12, -cuda13) is not installed: not checked")
            return
        encodings = [PixelEncoding.from_header(header) for header in headers]
        stored, twin = np.zeros((2, 100, 512, 512), np.int16)

        def on_host() -> Array:
            for header, encoding, plane in zip(headers, encodings, stored, strict=True):
                decode(header, encoding, plane, frames=1)
            return stored

        def on_device() -> Array:
            if not nvimgcodec.decode_series(headers, encodings, twin):
                twin.fill(-1)
            return twin

        (host, host_ms), (device, device_ms) = timed(on_host, repeats=1), timed(on_device)
        text, agrees = difference(host, device, 0.0)
        table.row(
            f"{syntax}, 100 slices", host_ms=host_ms, device_ms=device_ms, difference=text, agrees=agrees
        )


def main() -> int:
    """Run every check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rehearse", action="store_true", help="small, on the host twice; proves nothing")
    parser.add_argument(
        "--server", metavar="HOST:PORT", help="a Triton on this machine with the reference model"
    )
    arguments = parser.parse_args()
    rehearsal = arguments.rehearse
    if rehearsal:
        print("REHEARSAL: no device is used, and what follows says nothing about one")
    elif not device_available():
        print("no CUDA device, or no CuPy (extras cuda12, cuda13): nothing was checked", file=sys.stderr)
        return 2
    host = ct_volume(SMALL if rehearsal else SHAPE)
    put = np.copy if rehearsal else arrays.to_device
    if not rehearsal:
        tell_the_device(host)
    table = Table(counts_time=not rehearsal)
    table.head()
    bench = Bench(table, host, replace(host, array=put(host.array)), put)
    if not rehearsal:
        check_transfer(bench)
    check_steps(bench)
    with any_server(arguments.server) as (url, said):
        print(said)
        check_triton(bench, url, on_device=not rehearsal)
        check_road(bench, url, on_device=not rehearsal)
        if not rehearsal:
            for volume in (host, replace(host, array=host.array[:FEW_SLICES])):
                check_stage(table, volume, url)
    if not rehearsal:
        for syntax in ("JPEG 2000", "HTJ2K"):
            check_decoding(table, syntax)
    print("all good" if not table.failed else f"NOT GOOD: {', '.join(table.failed)}")
    return 1 if table.failed else 0


def tell_the_device(host: Volume) -> None:
    """Print what everything runs on."""
    import cupy

    device = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    commit = subprocess.run(
        ["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    driver = cupy.cuda.runtime.driverGetVersion()
    print(
        f"{device}, CuPy {cupy.__version__}, driver for CUDA {driver // 1000}.{driver % 1000 // 10}, "
        f"Python {platform.python_version()}, commit {commit.stdout.strip() or 'unknown'}"
    )
    print(f"volume {' x '.join(map(str, host.array.shape))} {host.array.dtype}; medians of {REPEATS}")


if __name__ == "__main__":
    sys.exit(main())
