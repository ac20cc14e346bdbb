"""Check every GPU path against its CPU twin and print timings: ``python benchmarks/gpu_acceptance.py``.

One command, no network, a few minutes at most. Needs CuPy and a CUDA device; exits with 1 if a result
differs, with 2 if there is no device.
"""

from __future__ import annotations

import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ai_livertumor import ModelDescription, segment
from ai_livertumor.infer import infer, softmax
from ai_livertumor.postprocess import keep_inside, keep_largest_component
from ai_livertumor.preprocess import preprocess
from dicom_reader import nvimgcodec
from dicom_reader.decoders import decode
from dicom_reader.find import find_headers
from dicom_reader.hounsfield import Encoding
from stages import Origin, Volume
from stages.arrays import Array, array_namespace, device_available, to_device, to_host
from stages.resample import labels_from_scores

SHAPE = (400, 512, 512)
SPACING_MM = (1.0, 0.78, 0.78)
REPEATS = 5

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


def ct_volume() -> Volume:
    """A body of 0 HU with an organ of 100 HU, two lesions of 200 HU and a stray blob, with noise."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    hu = np.random.default_rng(1).normal(0, 15, SHAPE).astype(np.float32)
    for centre, radii, value in (
        ((200, 250, 170), (90, 110, 100), 100),
        ((220, 220, 150), (15, 18, 18), 100),
        ((180, 270, 200), (8, 10, 10), 100),
        ((60, 400, 400), (12, 12, 12), 150),
    ):
        inside = sum(((g - c) / r) ** 2 for g, c, r in zip((z, y, x), centre, radii, strict=True)) < 1
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
    import cupy

    cupy.cuda.get_current_stream().synchronize()


def components(labels: Array) -> Array:
    """Apply both component rules to a copy."""
    labels = labels.copy()
    keep_largest_component(labels, (1, 2))
    keep_inside(labels, 2, 1)
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


def main() -> int:
    """Run every check."""
    if not device_available():
        print("no CUDA device, or no CuPy (extras cuda12, cuda13): nothing was checked", file=sys.stderr)
        return 2
    import cupy

    device = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    print(
        f"{device}, CuPy {cupy.__version__}, {platform.machine()}, volume {SHAPE} int16, medians of {REPEATS}"
    )
    host = ct_volume()
    on_device, upload_ms = timed(lambda: to_device(host.array))
    print(f"{'upload of the volume':34s} {'':17s}   device {upload_ms:8.2f} ms")
    twin = Volume(array=on_device, affine=host.affine, origin=host.origin)
    prepared, prepared_twin = preprocess(host, MODEL), preprocess(twin, MODEL)
    scores = softmax(by_intensity(prepared.image[None, None]))[0]
    scores_twin = to_device(scores)
    to_labels = (prepared.grid, prepared.source_grid)
    labels = labels_from_scores(scores, *to_labels, labels=(0, 1, 2))
    labels_twin = to_device(labels)
    checks: list[tuple[str, Callable[[], Array], Callable[[], Array], float]] = [
        ("preprocess", lambda: preprocess(host, MODEL).image, lambda: preprocess(twin, MODEL).image, 1e-5),
        (
            "windows, blended",
            lambda: infer(prepared.image, by_intensity, MODEL),
            lambda: infer(prepared_twin.image, by_intensity, MODEL),
            1e-4,
        ),
        (
            "scores to labels, original grid",
            lambda: labels_from_scores(scores, *to_labels, labels=(0, 1, 2)),
            lambda: labels_from_scores(scores_twin, *to_labels, labels=(0, 1, 2)),
            1e-6,
        ),
        ("components", lambda: components(labels), lambda: components(labels_twin), 0.0),
        (
            "segment, all of it",
            lambda: segment(host, by_intensity, model=MODEL).array,
            lambda: segment(twin, by_intensity, model=MODEL).array,
            1e-5,
        ),
    ]
    good = [report(name, timed(cpu), timed(gpu), tolerance=limit) for name, cpu, gpu, limit in checks]
    good += [decoding_agrees(syntax) for syntax in ("JPEG 2000", "HTJ2K")]
    print(f"peak device memory {cupy.get_default_memory_pool().total_bytes() / 2**20:.0f} MiB")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
