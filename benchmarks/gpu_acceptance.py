"""Check every GPU path against its CPU twin and print timings: ``python benchmarks/gpu_acceptance.py``.

One command, no network, a few minutes at most. Needs CuPy and a CUDA device; exits with 1 if a result
differs or pre- and post-processing take longer than they may, with 2 if there is no device. Windows go to a
real Triton where the embedded model server is installed (``clara-wf doctor``).
``--rehearse`` runs the script itself, small and without a device: it shows that the script works, no more.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from ai_livertumor import ModelDescription, segment  # noqa: E402
from clara_wf.model_server import ModelServer, serve  # noqa: E402
from clara_wf.places import Places  # noqa: E402
from dicom_reader import nvimgcodec  # noqa: E402
from dicom_reader.decoders import decode  # noqa: E402
from dicom_reader.find import find_headers  # noqa: E402
from dicom_reader.hounsfield import Encoding  # noqa: E402
from stages import Origin, Volume, arrays  # noqa: E402
from stages.arrays import Array, array_namespace, device_available, to_host  # noqa: E402
from stages.components import fill_holes, keep_inside, keep_largest_component, remove_small  # noqa: E402
from stages.memory import in_words  # noqa: E402
from stages.preprocess import preprocess  # noqa: E402
from stages.resample import labels_from_scores  # noqa: E402
from stages.segmentation import window_plan  # noqa: E402
from stages.sliding_window import predict_in_windows  # noqa: E402
from stages.triton import TritonPredictor  # noqa: E402

SHAPE = (400, 512, 512)
SMALL = (24, 128, 128)
SPACING_MM = (1.0, 0.78, 0.78)
REPEATS = 5
MOST_MS = 25.0  # before and behind the model, 400 x 512 x 512, after upload

MODEL = ModelDescription(
    orientation="SPL",
    spacing_mm=(3.0, 3.0, 3.0),
    intensity_clip_hu=(-160, 240),
    intensity_scale=(0, 1),
    padding_value_hu=-1000,
    window_shape=(64, 96, 96),
    overlap=0.25,
    blending="gaussian",
    activation="softmax",
    channel_labels=(0, 1, 2),
    largest_component=(1, 2),
    inside={2: 1},
)


def ct_volume(shape: tuple[int, int, int]) -> Volume:
    """A body of 0 HU with an organ of 100 HU, two lesions of 200 HU and a stray blob, with noise."""
    z, y, x = (np.arange(n, dtype=np.float32) * whole / n for n, whole in zip(shape, SHAPE, strict=True))
    axes = z[:, None, None], y[None, :, None], x[None, None, :]
    hu = np.random.default_rng(1).normal(0, 15, shape).astype(np.float32)
    for centre, radii, value in (
        ((200, 250, 170), (90, 110, 100), 100),
        ((220, 220, 150), (15, 18, 18), 100),
        ((180, 270, 200), (12, 14, 14), 100),
        ((60, 400, 400), (20, 20, 20), 150),
    ):
        inside = sum(((g - c) / r) ** 2 for g, c, r in zip(axes, centre, radii, strict=True)) < 1
        hu += value * inside
    affine = np.eye(4)
    affine[:3, :3] = np.diag(SPACING_MM)[::-1]
    return Volume(array=hu.astype(np.int16), affine=affine, origin=Origin(series_instance_uid="2.25.1"))


def by_intensity(windows: Array) -> Array:
    """A predictor whose answer is known: logits from the intensity alone, on host or device."""
    xp = array_namespace(windows)
    hu = windows[:, 0] * 400 - 160
    return xp.stack([40 - hu, 40 - xp.abs(hu - 100), hu - 160], axis=1).astype(np.float32)


def timed(work: Callable[[], Array]) -> tuple[Array, float]:
    """Return a result and the median time of a few runs, milliseconds, the device's work included."""
    times = []
    for _ in range(REPEATS):
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


def components(labels: Array) -> Array:
    """Apply every rule about components to a copy."""
    labels = labels.copy()
    keep_largest_component(labels, (1, 2))
    keep_inside(labels, 2, 1)
    remove_small(labels, 2, 30)
    fill_holes(labels, 1)
    return labels


def report(name: str, host: tuple[Array, float], device: tuple[Array, float], *, tolerance: float) -> bool:
    """Print one line and tell whether the two results agree."""
    expected, found = to_host(host[0]), to_host(device[0])
    if expected.dtype == np.uint8:
        off = float((expected != found).mean())
        what = f"{off:.2e} of the voxels differ"
    else:
        off = float(np.abs(expected - found).max())
        what = f"largest difference {off:.2e}"
    good = off <= tolerance
    times = f"host {host[1]:9.1f} ms   device {device[1]:8.2f} ms"
    print(f"{name:34s} {times}   {what}   {'ok' if good else 'WRONG'}")
    return good


def decoding_agrees(syntax: str) -> bool:
    """Decode 100 compressed slices on the device, by nvImageCodec, and on one core of the host."""
    from read_series import make_series

    with tempfile.TemporaryDirectory() as folder:
        make_series(Path(folder), syntax, 100)
        headers = find_headers(Path(folder)).headers
        if not nvimgcodec.takes(headers):
            print(f"{syntax:34s} nvImageCodec (extra nvimgcodec) is not installed: not checked")
            return True
        encodings = [Encoding.from_header(header) for header in headers]
        stored, twin = np.zeros((2, 100, 512, 512), np.int16)

        def on_host() -> Array:
            for header, encoding, plane in zip(headers, encodings, stored, strict=True):
                decode(header, encoding, plane, frames=1)
            return stored

        def on_device() -> Array:
            if not nvimgcodec.decode_series(headers, encodings, twin):
                twin.fill(-1)
            return twin

        return report(f"{syntax}, 100 slices", timed(on_host), timed(on_device), tolerance=0.0)


Check = tuple[str, Callable[[], Array], Callable[[], Array], float]


def checks_of(host: Volume, twin: Volume, put: Callable[[Array], Array]) -> list[Check]:
    """Return each step: its name, on the host, on the device, and how far apart they may be."""
    prepared, prepared_twin = preprocess(host, MODEL), preprocess(twin, MODEL)
    windows = window_plan(prepared, MODEL)
    scores = predict_in_windows(prepared.image, by_intensity, windows=windows)
    scores_twin, grids = put(scores), (prepared.grid, prepared.source_grid)
    labels = labels_from_scores(scores, *grids, labels=(0, 1, 2))
    labels_twin = put(labels)
    return [
        ("preprocess", lambda: preprocess(host, MODEL).image, lambda: preprocess(twin, MODEL).image, 1e-5),
        (
            "windows, blended",
            lambda: predict_in_windows(prepared.image, by_intensity, windows=windows),
            lambda: predict_in_windows(prepared_twin.image, by_intensity, windows=windows),
            1e-4,
        ),
        (
            "scores to labels, original grid",
            lambda: labels_from_scores(scores, *grids, labels=(0, 1, 2)),
            lambda: labels_from_scores(scores_twin, *grids, labels=(0, 1, 2)),
            1e-6,
        ),
        ("components and holes", lambda: components(labels), lambda: components(labels_twin), 0.0),
        (
            "segment, all of it",
            lambda: segment(host, by_intensity, model=MODEL).array,
            lambda: segment(twin, by_intensity, model=MODEL).array,
            1e-5,
        ),
    ]


def soon_enough(host: Volume, twin: Volume, put: Callable[[Array], Array]) -> bool:
    """Print how long what stands before and behind the model takes on the device, components included."""
    _, before = timed(lambda: preprocess(twin, MODEL).image)
    prepared = preprocess(host, MODEL)
    scores = put(predict_in_windows(prepared.image, by_intensity, windows=window_plan(prepared, MODEL)))
    _, behind = timed(
        lambda: components(labels_from_scores(scores, prepared.grid, prepared.source_grid, labels=(0, 1, 2)))
    )
    good = before + behind <= MOST_MS
    name = "before and behind the model"
    print(f"{name:34s} {before:.1f} + {behind:.1f} ms, at most {MOST_MS:.0f} ms wanted")
    return good


def triton_agrees(server: ModelServer, host: Volume, twin: Volume, *, on_device: bool) -> bool:
    """Segment by the reference model on a real Triton, each way that windows can travel."""
    results: dict[str, tuple[Array, float]] = {}
    ways = [("grpc", host), ("system", host), ("cuda" if on_device else "system", twin)]
    for transport, volume in ways:
        with closing(TritonPredictor(server.grpc_url, "segmentation_liver_v1", transport=transport)) as asked:
            asked.wait_until_ready(60)
            asked.choose_transport(on_device=volume is twin and on_device)
            served = asked.describe()
            model = ModelDescription.from_server(served)
            tensors = model.tensors_of(served)

            run = partial(segment, volume, asked, model=model, tensors=tensors)
            results[transport] = timed(lambda run=run: run().array)
    first = results["grpc"]
    return all(
        report(f"Triton, {way} against grpc", first, found, tolerance=1e-5) for way, found in results.items()
    )


def main() -> int:
    """Run every check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rehearse", action="store_true", help="small, on the host twice; proves nothing")
    rehearsal = parser.parse_args().rehearse
    if rehearsal:
        print("REHEARSAL: no device is used, and what follows says nothing about one")
    elif not device_available():
        print("no CUDA device, or no CuPy (extras cuda12, cuda13): nothing was checked", file=sys.stderr)
        return 2
    host = ct_volume(SMALL if rehearsal else SHAPE)
    put = np.copy if rehearsal else arrays.to_device
    if not rehearsal:
        tell_the_device(host)
    on_device, upload_ms = timed(lambda: put(host.array))
    print(f"{'upload of the volume':34s} {'':17s}   device {upload_ms:8.2f} ms")
    twin = Volume(array=on_device, affine=host.affine, origin=host.origin)
    good = [
        report(name, timed(cpu), timed(gpu), tolerance=limit)
        for name, cpu, gpu, limit in checks_of(host, twin, put)
    ]
    good.append(soon_enough(host, twin, put) or rehearsal)
    places = Places.of_checkout(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "server.log")
        with serve(places.models, cache=places.cache, log=log, on_progress=print) as server:
            good.append(triton_agrees(server, host, twin, on_device=not rehearsal))
    if not rehearsal:
        good += [decoding_agrees(syntax) for syntax in ("JPEG 2000", "HTJ2K")]
        tell_the_peak()
    print("all good" if all(good) else "SOMETHING IS WRONG, see above")
    return 0 if all(good) else 1


def tell_the_device(host: Volume) -> None:
    """Print what everything runs on."""
    import cupy

    device = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    print(f"{device}, CuPy {cupy.__version__}, {platform.machine()}, volume {host.array.shape} int16")
    print(f"medians of {REPEATS}")


def tell_the_peak() -> None:
    """Print the most memory that the device held for this process."""
    import cupy

    print(f"peak device memory {in_words(cupy.get_default_memory_pool().total_bytes())}")


if __name__ == "__main__":
    sys.exit(main())
