"""Time, size and peak memory of writing results, against named peers: ``python benchmarks/write.py``.

Each writing is a process of its own; methods alternate and the median of the rounds counts. Imports, a
first small writing, and reading the headers of the source are not timed, except where a method is a
program that does all of it. Memory is the highest resident size less what the process held before.

``write`` is making the files; ``and verify`` is all that is done between the source's headers and the
final names: drawing the mask on the slices, measuring it, writing, reading back, comparing. ``road`` is
that and finding the source images as well.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

KINDS = ("seg", "labelmap", "series", "rtstruct", "report", "capture", "pdf")
_SETTLE_S = 0.3


class Task:
    """A mask, its source images, and an empty folder to write to."""

    def __init__(self, data: Path, out: Path) -> None:
        from dicom_writer.source.images import find_source
        from stages import find_volumes, read_volume

        self.folder, self.out, self.volumes = data / "source", out, data / "mask"
        self.mask = read_volume(find_volumes(self.volumes)[0])
        self.sources = find_source(self.folder, self.mask)


def ours(kind: str, how: str) -> Callable[[Task], Callable[[], Any]]:
    """Return what gets a task ready for one kind of result, and gives what is timed."""

    def ready(task: Task) -> Callable[[], Any]:
        from dicom_writer import write_results
        from dicom_writer.kinds import RESULT_KINDS
        from dicom_writer.request import mask_request
        from dicom_writer.write import verify

        if how == "road":
            return lambda: write_results(task.mask, task.folder, task.out, results=[kind])
        if how == "write":
            request = mask_request.request_on_sources(
                task.mask, task.sources, results=[kind], labels=task.mask.origin.labels
            )
            return lambda: RESULT_KINDS[kind].make(request, task.out)

        def write_and_verify() -> None:
            request = mask_request.request_on_sources(
                task.mask, task.sources, results=[kind], labels=task.mask.origin.labels
            )
            verify(kind, request, RESULT_KINDS[kind].make(request, task.out))

        return write_and_verify

    return ready


def highdicom_seg(kind: str) -> Callable[[Task], Callable[[], Any]]:
    def ready(task: Task) -> Callable[[], Any]:
        import highdicom as hd
        from pydicom.sr.codedict import codes
        from pydicom.uid import ExplicitVRLittleEndian, RLELossless

        for source in task.sources:  # it takes no source that lacks one of these
            for keyword in ("AccessionNumber", "ReferringPhysicianName", "PatientBirthDate", "StudyTime"):
                setattr(source, keyword, source.get(keyword) or "")
        syntax = ExplicitVRLittleEndian if kind == "BINARY" else RLELossless

        def describe(number: int) -> Any:
            return hd.seg.SegmentDescription(
                number,
                f"segment {number}",
                codes.SCT.Organ,
                codes.SCT.Liver,
                hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                hd.AlgorithmIdentificationSequence("model", codes.DCM.ArtificialIntelligence, "1"),
            )

        def write() -> None:
            hd.seg.Segmentation(
                source_images=task.sources,
                pixel_array=np.asarray(task.mask.array),
                segmentation_type=kind,
                segment_descriptions=[describe(1), describe(2)],
                series_instance_uid=hd.UID(),
                series_number=1,
                sop_instance_uid=hd.UID(),
                instance_number=1,
                manufacturer="m",
                manufacturer_model_name="m",
                software_versions="1",
                device_serial_number="1",
                transfer_syntax_uid=syntax,
            ).save_as(task.out / "result.dcm")

        return write

    return ready


def dcmqi(task: Task) -> Callable[[], Any]:
    """Each label is a file, as the program takes them; it reads source and mask itself."""
    import SimpleITK

    header = {
        "ContentCreatorName": "B",
        "ClinicalTrialSeriesID": "1",
        "ClinicalTrialTimePointID": "1",
        "SeriesDescription": "S",
        "SeriesNumber": "1",
        "InstanceNumber": "1",
        "segmentAttributes": [
            [
                {
                    "labelID": label,
                    "SegmentDescription": f"segment {label}",
                    "SegmentAlgorithmType": "AUTOMATIC",
                    "SegmentAlgorithmName": "a",
                    "SegmentedPropertyCategoryCodeSequence": _code("123037004", "Anatomical Structure"),
                    "SegmentedPropertyTypeCodeSequence": _code("10200004", "Liver"),
                }
                for label in (1, 2)
            ]
        ],
    }
    meta, labels = task.out / "meta.json", task.out / "labels.nrrd"
    meta.write_text(json.dumps(header))
    image = SimpleITK.ReadImage(str(next(task.volumes.glob("*.mhd"))))
    SimpleITK.WriteImage(image, str(labels))
    command = [
        "itkimage2segimage",
        "--inputDICOMDirectory",
        str(task.folder),
        "--inputImageList",
        str(labels),
    ]
    command += ["--inputMetadata", str(meta), "--outputDICOM", str(task.out / "result.dcm"), "--skip"]

    def write() -> None:
        subprocess.run(command, check=True, capture_output=True)
        meta.unlink(), labels.unlink()

    return write


def _code(value: str, meaning: str) -> dict[str, str]:
    return {"CodeValue": value, "CodingSchemeDesignator": "SCT", "CodeMeaning": meaning}


def pydicom_deepcopy(task: Task) -> Callable[[], Any]:
    """Copy each source image, give it new UIDs and pixels, and save it."""
    from pydicom.uid import generate_uid

    def write() -> None:
        series = generate_uid()
        for n, (source, plane) in enumerate(zip(task.sources, task.mask.array, strict=True)):
            image = copy.deepcopy(source)
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            image.SeriesInstanceUID = series
            image.RescaleIntercept = 0
            image.PixelData = plane.astype("<u2").tobytes()
            image["PixelData"].VR = "OW"
            image.save_as(task.out / f"{n:04d}.dcm")

    return write


def rt_utils(task: Task) -> Callable[[], Any]:
    from rt_utils import RTStructBuilder

    def write() -> None:
        struct = RTStructBuilder.create_new(dicom_series_path=str(task.folder))
        for label in (1, 2):
            struct.add_roi(mask=np.moveaxis(task.mask.array == label, 0, -1), name=str(label))
        struct.save(str(task.out / "result"))

    return write


PEERS: dict[str, tuple[str, str, Callable[[Task], Callable[[], Any]]]] = {
    "highdicom": ("seg", "highdicom", highdicom_seg("BINARY")),
    "dcmqi": ("seg", "itkimage2segimage", dcmqi),
    "highdicom label map": ("labelmap", "highdicom", highdicom_seg("LABELMAP")),
    "pydicom deepcopy": ("series", "pydicom", pydicom_deepcopy),
    "rt-utils": ("rtstruct", "rt_utils", rt_utils),
}


def methods_of(kind: str) -> dict[str, Callable[[Task], Callable[[], Any]]]:
    """Return the methods for one kind of result, ours first."""
    if importlib.util.find_spec(f"dicom_writer.{'segmentation' if kind == 'seg' else kind}") is None:
        return {}
    found = {how: ours(kind, how) for how in ("write", "and verify", "road")}
    peers = {n: ready for n, (of, needs, ready) in PEERS.items() if of == kind and _installed(needs)}
    return {**found, **peers}


def _installed(name: str) -> bool:
    return bool(shutil.which(name) or importlib.util.find_spec(name))


def worker(kind: str, method: str, data: Path, small: Path) -> None:
    """Write once and print seconds, MiB of memory, and MiB of files."""
    from stages.memory.limits import resident_bytes
    from stages.runtime.processes import peak_memory_bytes

    ready = methods_of(kind)[method]
    with tempfile.TemporaryDirectory(dir=data.parent) as out:
        ready(Task(small, Path(out)))()
    with tempfile.TemporaryDirectory(dir=data.parent) as out:
        write = ready(Task(data, Path(out)))
        Path("/proc/self/clear_refs").write_text("5")
        before = resident_bytes() / 2**20
        clock = time.perf_counter()
        write()
        seconds = time.perf_counter() - clock
        peak = peak_memory_bytes() / 2**20 - before
        child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        files = sum(p.stat().st_size for p in Path(out).rglob("*") if p.is_file()) / 2**20
    print(json.dumps({"seconds": seconds, "mib": max(peak, child), "files": files}))


def measure(kind: str, method: str, data: Path, small: Path) -> dict[str, float] | None:
    time.sleep(_SETTLE_S)
    command = [sys.executable, __file__, "--worker", kind, method, str(data), str(small)]
    environ = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, env=environ)
    if done.returncode:
        print(f"{kind}, {method}: cannot: {done.stderr.splitlines()[-1]}")
        return None
    return dict(json.loads(done.stdout.splitlines()[-1]))


def make_task(data: Path, count: int) -> None:
    """Make source and mask, if they are not there: an ellipsoid of a liver and three tumours in it."""
    from read_series import make_series

    from clara_wf.run.demo import TRUE_LABELS
    from dicom_reader import read_series
    from stages import write_volume

    make_series(data / "source", "uncompressed", count)
    if (data / "mask").is_dir():
        return
    ct = read_series(data / "source")
    mask = np.zeros(ct.array.shape, np.uint8)
    for label, (k, r, c), (a, b, d) in (
        (1, (0.45, 0.48, 0.35), (0.33, 0.24, 0.21)),
        (2, (0.4, 0.45, 0.3), (0.05, 0.04, 0.04)),
        (2, (0.55, 0.5, 0.4), (0.02, 0.02, 0.02)),
        (2, (0.3, 0.5, 0.38), (0.015, 0.02, 0.015)),
    ):
        shape = np.array(mask.shape)
        axes = [
            (np.arange(n) / n - at) / size for n, at, size in zip(shape, (k, r, c), (a, b, d), strict=True)
        ]
        far = axes[0][:, None, None] ** 2 + axes[1][None, :, None] ** 2 + axes[2][None, None] ** 2
        mask[far < 1] = label
    origin = replace(ct.origin, labels=TRUE_LABELS)
    write_volume(replace(ct, array=mask, origin=origin), data / "mask")


def compare(kind: str, data: Path, small: Path, rounds: int) -> None:
    results: dict[str, list[dict[str, float]]] = {method: [] for method in methods_of(kind)}
    for _ in range(rounds):
        for method in list(results):
            if one := measure(kind, method, data, small):
                results[method].append(one)
            else:
                del results[method]
    middle = {
        method: {key: statistics.median(one[key] for one in found) for key in found[0]}
        for method, found in results.items()
    }
    peer = next((method for method in PEERS if method in middle), None)
    for method, of in middle.items():
        ratio = f"{of['seconds'] / middle[peer]['seconds']:.2f} x {peer}" if peer else ""
        print(
            f"{kind:9} {method:20}{of['seconds']:8.3f} s {of['files']:8.2f} MiB on disk"
            f" {of['mib']:6.0f} MiB more memory  {ratio}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help="where source and mask are made, and kept")
    parser.add_argument("--slices", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--result", action="append", choices=KINDS, help="only these")
    args = parser.parse_args()
    if args.worker:
        kind, method, data, small = args.worker
        worker(kind, method, Path(data), Path(small))
        return
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # programs of its packages
    with tempfile.TemporaryDirectory() as scratch:
        root = args.data or Path(scratch)
        data, small = root / f"write-{args.slices}", root / "write-3"
        make_task(data, args.slices)
        make_task(small, 3)
        print(f"{args.slices} slices of 512 x 512, {os.cpu_count()} cores, median of {args.rounds} rounds")
        for kind in args.result or KINDS:
            compare(kind, data, small, args.rounds)


if __name__ == "__main__":
    main()
