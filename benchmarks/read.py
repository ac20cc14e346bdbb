"""Time and memory of reading a CT series, against named peers: ``python benchmarks/read.py``.

Each reading is a process of its own; methods alternate and the median of the rounds counts. Every
method ends with one int16 array of Hounsfield units in slice order (dcm2niix: a NIfTI file); its bytes
must equal those of this reader. Memory is the highest resident size less what the process held before
it read. Imports and a first, small reading are not timed.
"""

from __future__ import annotations

import argparse
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
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))


_SETTLE_S = 0.3


def read_ours(folder: Path) -> Any:
    from dicom_reader import read_series

    return read_series(folder).array


def read_simpleitk(folder: Path) -> Any:
    import SimpleITK

    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = SimpleITK.ReadImage(names, SimpleITK.sitkInt16)
    return SimpleITK.GetArrayViewFromImage(image).view(_Keeping).keep(image)


class _Keeping(np.ndarray):
    """A view that keeps what it looks into."""

    def keep(self, what: object) -> _Keeping:
        self.kept = what
        return self


def read_dicomsdl(folder: Path) -> Any:
    import dicomsdl

    slices = []
    for path in folder.iterdir():
        dataset = dicomsdl.open(str(path))
        slices.append((dataset.ImagePositionPatient[2], dataset))
    slices.sort(key=lambda s: s[0])
    first = slices[0][1]
    hu = np.empty((len(slices), first.Rows, first.Columns), np.int16)
    for plane, (_, dataset) in zip(hu, slices, strict=True):
        dataset.copyFrameData(0, plane.view(np.uint16))
        plane += np.int16(dataset.RescaleIntercept)
    return hu


def read_pydicom(folder: Path) -> Any:
    from pydicom import dcmread

    slices = sorted((dcmread(p) for p in folder.iterdir()), key=lambda d: d.ImagePositionPatient[2])
    hu = np.empty((len(slices), slices[0].Rows, slices[0].Columns), np.int16)
    for plane, dataset in zip(hu, slices, strict=True):
        plane[...] = dataset.pixel_array
        plane += np.int16(dataset.RescaleIntercept)
    return hu


def read_highdicom(folder: Path) -> Any:
    import highdicom

    datasets = [highdicom.imread(p) for p in folder.iterdir()]
    return highdicom.get_volume_from_series(datasets, dtype=np.float32).array.astype(np.int16)


def read_monai(folder: Path) -> Any:
    from monai.data import PydicomReader

    reader = PydicomReader(swap_ij=False)
    array, _ = reader.get_data(reader.read(str(folder)))
    return np.moveaxis(np.asarray(array), -1, 0).astype(np.int16)


def read_dcm2niix(folder: Path) -> Any:
    with tempfile.TemporaryDirectory(dir=folder.parent) as out:
        subprocess.run(
            ["dcm2niix", "-z", "n", "-b", "n", "-o", out, str(folder)], check=True, capture_output=True
        )
        (path,) = Path(out).glob("*.nii")
        return path.stat().st_size


METHODS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "this reader": ("dicom_reader", read_ours),
    "dicomsdl": ("dicomsdl", read_dicomsdl),
    "pydicom": ("pydicom", read_pydicom),
    "SimpleITK": ("SimpleITK", read_simpleitk),
    "dcm2niix": ("dcm2niix", read_dcm2niix),
    "highdicom": ("highdicom", read_highdicom),
    "MONAI": ("monai", read_monai),
}


def installed(module: str) -> bool:
    return bool(shutil.which(module) or importlib.util.find_spec(module))


def worker(method: str, folder: Path, small: Path, cores: int) -> None:
    """Read once and print seconds, MiB, and what tells whether two arrays are equal."""
    from stages.memory.limits import resident_bytes
    from stages.runtime.processes import peak_memory_bytes

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    read = METHODS[method][1]
    read(small)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_bytes() / 2**20
    clock, cpu = time.perf_counter(), _cpu_seconds()
    array = read(folder)
    seconds, cpu = time.perf_counter() - clock, _cpu_seconds() - cpu
    peak = peak_memory_bytes() / 2**20 - before
    if isinstance(array, int):  # another program made a file of so many bytes
        peak, found = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, None
    else:
        found = [list(array.shape), str(array.dtype), int(np.asarray(array).astype(np.int64).sum())]
    print(json.dumps({"seconds": seconds, "cpu": cpu, "mib": peak, "found": found}))


def _cpu_seconds() -> float:
    """Return the processor time of this process, all its threads, and the programs it ran."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def measure(method: str, folder: Path, small: Path, cores: int) -> dict[str, Any] | None:
    time.sleep(_SETTLE_S)  # what the one before held is given back to the system first
    command = [sys.executable, __file__, "--worker", method, str(folder), str(small), str(cores)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"}
    )
    if done.returncode:
        return None
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compare(name: str, folder: Path, small: Path, *, methods: list[str], rounds: int, cores: int) -> None:
    results: dict[str, list[dict[str, Any]]] = {method: [] for method in methods}
    unable = set()
    for _ in range(rounds):
        for method in results:
            if method not in unable and (one := measure(method, folder, small, cores)):
                results[method].append(one)
            else:
                unable.add(method)
    count, size = len(list(folder.iterdir())), sum(p.stat().st_size for p in folder.iterdir()) / 2**20
    print(f"\n{count} slices, {name}, {size:.0f} MiB on disk, {cores} core(s), {rounds} rounds")
    print_table({method: r for method, r in results.items() if r}, volume_mib=count / 2)
    if unable:
        print(f"cannot read it: {', '.join(sorted(unable))}")


def print_table(results: dict[str, list[dict[str, Any]]], *, volume_mib: float) -> None:
    middle = {
        method: {key: statistics.median(one[key] for one in r) for key in ("seconds", "cpu", "mib")}
        for method, r in results.items()
    }
    print(f"{'':12}{'median s':>9}{'best s':>8}{'CPU s':>7} : SimpleITK : dicomsdl   MiB : volume  same")
    for method in sorted(middle, key=lambda m: middle[m]["seconds"]):
        of, best = middle[method], min(one["seconds"] for one in results[method])
        ratios = [
            f"{of['seconds'] / middle[peer]['seconds']:.2f}" if peer in middle else ""
            for peer in ("SimpleITK", "dicomsdl")
        ]
        found, ours = (results[m][0]["found"] for m in (method, "this reader"))
        same = "" if found is None else "yes" if found == ours else "NO"
        print(
            f"{method:12}{of['seconds']:9.3f}{best:8.3f}{of['cpu']:7.2f}{ratios[0]:>12}{ratios[1]:>11}"
            f"{of['mib']:6.0f}{of['mib'] / volume_mib:9.2f}  {same}".rstrip()
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help="where the series are made, and kept")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--syntax", action="append", help="only these")
    parser.add_argument("--only", action="append", help="only these methods")
    parser.add_argument(
        "--cores", type=int, action="append", help="default: 1 and all for compressed, all else"
    )
    args = parser.parse_args()
    if args.worker:
        worker(args.worker[0], Path(args.worker[1]), Path(args.worker[2]), int(args.worker[3]))
        return
    from read_series import SYNTAXES, make_series

    methods = [m for m, (module, _) in METHODS.items() if installed(module) and m in (args.only or METHODS)]
    with tempfile.TemporaryDirectory() as scratch:
        data = args.data or Path(scratch)
        every = len(os.sched_getaffinity(0))
        for name in args.syntax or SYNTAXES:
            folder, small = data / name.replace(" ", "-"), data / f"{name.replace(' ', '-')}-small"
            make_series(folder, name, 400 if name == "uncompressed" else 100)
            make_series(small, name, 3)
            for cores in args.cores or ([every] if name == "uncompressed" else [1, every]):
                compare(name, folder, small, methods=methods, rounds=args.rounds, cores=cores)


if __name__ == "__main__":
    main()
