"""The demonstration job: a synthetic abdominal CT as a real DICOM series, and its ground truth."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from phantoms import AbdomenPhantom, make_demo
from stages.errors import OutputError
from stages.runtime import atomic
from stages.volume.geometry import Affine
from stages.volume.io import find_volumes, read_volume, write_volume
from stages.volume.labels import Code, Label
from stages.volume.origin import Origin
from stages.volume.volume import Volume

DEMO_JOB = "11111111-1111-1111-1111-111111111111"
_LIVER = Code("10200004", "SCT", "Liver")
TRUE_LABELS = (
    Label(value=1, name="Liver", type=_LIVER, rgb=(221, 130, 101)),
    Label(
        value=2,
        name="Liver tumour",
        category=Code("49755003", "SCT", "Morphologically Abnormal Structure"),
        type=Code("108369006", "SCT", "Neoplasm"),
        region=_LIVER,
        rgb=(255, 205, 60),
    ),
)
"""What the true labels of a phantom mean."""


def make_demo_job(job_folder: Path, input_folder: str) -> None:
    """Make what the first stage reads in ``<job>/<input folder>``, and the truth in ``<job>/truth``.

    ``dicom-reader`` gets the phantom as a DICOM series, ``dicom-writer`` the true mask and the series
    it belongs to, any other stage the CT as a volume. What is interrupted leaves no half input behind.

    Parameters
    ----------
    job_folder
        The job's folder.
    input_folder
        The folder that the first stage reads, relative to the job's.

    Raises
    ------
    OutputError
        If the files cannot be written.
    """
    beside = job_folder.with_name(f".{job_folder.name}.unfinished")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        _write_input(input_folder.split("/")[0], beside)
        for made, place in (("truth", "truth"), ("input", input_folder)):
            target = job_folder / place
            target.parent.mkdir(parents=True, exist_ok=True)
            atomic.rename(beside / made, target, durable=False)
        shutil.rmtree(beside)
    except OSError as error:
        raise OutputError(f"cannot write the phantom to {job_folder}: {error}") from error


def _write_input(stage: str, folder: Path) -> None:
    phantom, given, series = make_demo(), folder / "input", folder / "series"
    write_phantom(phantom, series, truth_folder=folder / "truth")
    truth = read_volume(find_volumes(folder / "truth")[0])
    if stage == "dicom-reader":
        series.rename(given)
    elif stage == "dicom-writer":
        series.rename(given)
        write_volume(truth, given)
    else:
        write_volume(
            Volume(array=phantom.hu, affine=truth.affine, origin=replace(truth.origin, labels=())), given
        )


def write_phantom(phantom: AbdomenPhantom, folder: Path, *, truth_folder: Path) -> None:
    """Write a phantom as a DICOM series, and its truth as a mask named after the series.

    Parameters
    ----------
    phantom, folder, truth_folder
        The phantom, where the series is written and where the mask is written.
    """
    from pydicom import dcmread

    from phantoms.dicom_series import write_series

    files = write_series(
        phantom.hu, folder, spacing_mm=phantom.spacing_mm, first_mm=phantom.first_mm, seed=phantom.seed
    )
    uid = str(dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID)
    origin = Origin(series_instance_uid=uid, labels=TRUE_LABELS)
    write_volume(Volume(array=phantom.truth, affine=_affine(phantom), origin=origin), truth_folder)


def _affine(phantom: AbdomenPhantom) -> Affine:
    affine = np.eye(4)
    affine[:3, :3] = np.diag(phantom.spacing_mm)[::-1]
    affine[:3, 3] = phantom.first_mm[::-1]
    return affine
