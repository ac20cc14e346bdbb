"""What a model made of a phantom when it was added: the case by which a change is noticed."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clara_wf.models.repository import GOLDEN as GOLDEN
from phantoms import make_abdomen
from stages.errors import InferenceError, InputError
from stages.runtime import atomic
from stages.volume.geometry import Affine
from stages.volume.origin import Origin
from stages.volume.overlap import dice
from stages.volume.volume import Volume

LEAST_DICE = 0.99
_SHAPE, _SPACING_MM, _SEED = (84, 128, 128), (2.5, 3.12, 3.12), 20_240_109


def make_phantom() -> Volume:
    """Make the CT of the golden cases: an abdomen of 84 slices of 2.5 mm, 128 x 128 pixels of 3.12 mm."""
    phantom = make_abdomen(_SEED, shape=_SHAPE, spacing_mm=_SPACING_MM)
    affine = axial(phantom.spacing_mm)
    affine[:3, 3] = phantom.first_mm[::-1]
    return Volume(array=phantom.hu, affine=affine, origin=Origin(series_instance_uid="phantom"))


def axial(spacing_mm: tuple[float, float, float]) -> Affine:
    """Return the affine of slices that run from feet to head.

    Parameters
    ----------
    spacing_mm
        Millimetres, ``(slice, row, column)``.
    """
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = spacing_mm
    affine[3, 3] = 1
    return affine


def record(folder: Path, mask: NDArray[np.uint8]) -> None:
    """Keep the phantom's mask in a model's folder.

    Parameters
    ----------
    folder
        The model's folder.
    mask
        Label of each voxel, ``[slice, row, column]``.
    """
    with atomic.writing(folder / GOLDEN) as file:
        np.savez_compressed(file, mask=mask, seed=_SEED)


def agreement(folder: Path, mask: NDArray[np.uint8]) -> dict[int, float] | None:
    """Return, by label, the Dice of a mask with that of the golden case; None where none is recorded.

    Parameters
    ----------
    folder
        The model's folder.
    mask
        Label of each voxel, ``[slice, row, column]``.

    Raises
    ------
    InputError
        If what is recorded cannot be read, or is of another phantom.
    """
    path = folder / GOLDEN
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            golden, seed = stored["mask"], int(stored["seed"])
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is no golden case: {error}; record it anew with --record") from error
    if seed != _SEED or golden.shape != mask.shape:
        raise InputError(f"{path} is of another phantom; record it anew with --record")
    labels = sorted({int(label) for label in (*np.unique(golden), *np.unique(mask))} - {0})
    return {label: dice(golden == label, mask == label) for label in labels}


def require_agreement(found: Mapping[int, float]) -> None:
    """Return if a mask is that of the golden case.

    Parameters
    ----------
    found
        Dice by label.

    Raises
    ------
    InferenceError
        If it is not.
    """
    if other := [f"label {label}: {dice:.3f}" for label, dice in found.items() if dice < LEAST_DICE]:
        raise InferenceError(
            f"the model does not answer as it did when its golden case was recorded: Dice of "
            f"{', '.join(other)}, expected {LEAST_DICE} or more; if that is meant, record it with --record"
        )
