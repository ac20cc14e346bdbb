"""An image of SimpleITK from an array, its affine and its origin, and back.

SimpleITK lies in LPS millimetres at voxel centres as this project does; it counts axes as x, y, z = column,
row, slice, so only their order is turned. An image keeps directions and spacings, no shear.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.arrays import Array, to_host
from stages.errors import GeometryError, InputError
from stages.runtime import job_files
from stages.volume.geometry import Affine
from stages.volume.origin import Origin
from stages.volume.origin_file import origin_of

_TAGS = {
    "series_instance_uid": "0020|000e",
    "study_instance_uid": "0020|000d",
    "frame_of_reference_uid": "0020|0052",
    "body_part": "0018|0015",
}
_KEYS = "clara-stages."
# longer than a header takes, or of a file
_NOT_CARRIED = ("slices", "correction", "selection", "pixel_sha256")
_NAME = "the image of SimpleITK"
_LARGEST_DEPARTURE = 2e-3  # of the cosines' products from 0 and 1, as of Image Orientation (Patient)


class _ImageMemory:
    """What an array stands on that lies in an image: the image that keeps the memory."""

    def __init__(self, image: Any) -> None:
        import SimpleITK

        # gives an image that shares its memory a copy of its own
        view = SimpleITK.GetArrayViewFromImage(image)
        self.image = SimpleITK.Image(image)  # shares it from now on, so nobody writes into it or frees it
        self.__array_interface__ = view.__array_interface__


def image_of(array: Array, affine: Affine, origin: Origin) -> Any:
    """Return an image of an array (slices, rows, columns) that lies where `affine` puts it.

    Parameters
    ----------
    array
        Shape (slices, rows, columns), NumPy or CuPy.
    affine
        4 x 4, index (slice, row, column, 1) to LPS mm at voxel centres.
    origin
        What the image's metadata shall say, as far as they can.

    Raises
    ------
    GeometryError
        If the axes are not perpendicular.
    InputError
        If SimpleITK knows no image of the array's type.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    cosines = affine[:3, :3] / spacing
    _require_perpendicular(cosines, "the volume")
    image = _image_of_voxels(array)
    image.SetSpacing(spacing[::-1].tolist())
    image.SetDirection(cosines[:, ::-1].ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    for key, text in _metadata(origin).items():
        image.SetMetaData(key, text)
    return image


def _image_of_voxels(array: Array) -> Any:
    import SimpleITK

    memory = getattr(array, "base", None)
    if isinstance(memory, _ImageMemory) and array.__array_interface__ == memory.__array_interface__:
        return SimpleITK.Image(memory.image)
    on_host = to_host(array)
    try:
        return SimpleITK.GetImageFromArray(on_host.astype(on_host.dtype.newbyteorder("="), copy=False))
    except (KeyError, TypeError) as error:
        raise InputError(f"SimpleITK has no image of voxels of type {on_host.dtype}") from error


def _metadata(origin: Origin) -> dict[str, str]:
    """Return an origin as short texts: a header of MetaImage with a long one cannot be read again."""
    stored = {name: value for name, value in asdict(origin).items() if value and name not in _NOT_CARRIED}
    texts = {tag: stored.pop(name) for name, tag in _TAGS.items() if name in stored}
    for n, label in enumerate(stored.pop("labels", ())):
        texts[f"{_KEYS}label-{n}"] = json.dumps(label)
    return texts | {f"{_KEYS}{name}": json.dumps(value) for name, value in stored.items()}


def parts_of(image: Any) -> tuple[NDArray[Any], Affine, Origin]:
    """Return the array of an image, its affine, and what its metadata say of where it came from.

    Parameters
    ----------
    image
        A ``SimpleITK.Image``.

    Returns
    -------
    array
        Shape (slices, rows, columns), read-only; the image's own memory unless another image shares it.
    affine
        4 x 4, LPS mm at voxel centres.
    origin
        Empty where the metadata say nothing.

    Raises
    ------
    GeometryError
        If the image's directions are not perpendicular.
    InputError
        If it has other than three axes or more than a number a voxel, or its metadata are damaged.
    """
    require_scalars(_NAME, image.GetSize(), image.GetPixelID())
    affine = affine_of(image, _NAME)
    return array_of(image), affine, _stated_origin(image)


def array_of(image: Any) -> NDArray[Any]:
    """Return the voxels of an image, (slices, rows, columns), read-only: its own memory, kept by them.

    Parameters
    ----------
    image
        A ``SimpleITK.Image`` of three axes and one number a voxel.
    """
    return np.asarray(_ImageMemory(image))


def require_scalars(name: str, size: Sequence[int], pixel_id: int) -> None:
    """Raise unless there are three axes and one real number a voxel.

    Parameters
    ----------
    name
        Of the image or its file, for the message.
    size
        Voxels along each axis.
    pixel_id
        SimpleITK's number of the type of its voxels.

    Raises
    ------
    InputError
        If there are not.
    """
    import SimpleITK

    if len(size) != 3:
        raise InputError(f"{name}: a volume has three axes, this one has shape {tuple(size)}")
    kind = SimpleITK.GetPixelIDValueAsString(pixel_id)
    if kind.startswith(("vector", "complex", "label")):
        raise InputError(f"{name}: voxels of type {kind} are no Hounsfield units and no labels")


def affine_of(image: Any, name: str) -> Affine:
    """Return the affine of an image, of (slice, row, column, 1) to LPS mm at voxel centres.

    Parameters
    ----------
    image
        A ``SimpleITK.Image`` of three axes.
    name
        Of the image or its file, for the message.

    Raises
    ------
    GeometryError
        If its directions are not perpendicular; the message begins with `name`.
    """
    cosines = np.array(image.GetDirection(), dtype=np.float64).reshape(3, 3)
    _require_perpendicular(cosines, name)
    affine = np.eye(4)
    affine[:3, :3] = (cosines * np.array(image.GetSpacing()))[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    return affine


def _require_perpendicular(cosines: NDArray[np.float64], name: str) -> None:
    if not np.abs(cosines.T @ cosines - np.eye(3)).max() <= _LARGEST_DEPARTURE:
        raise GeometryError(
            f"{name}: its axes are not perpendicular (directions {np.round(cosines, 4).tolist()}), which no "
            "image of SimpleITK keeps; resample it on a grid with perpendicular axes"
        )


def _stated_origin(image: Any) -> Origin:
    texts = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    stored: dict[str, Any] = {"series_instance_uid": "", "slices": [], "repairs": [], "labels": []}
    try:
        stored |= {name: texts[tag].strip(" \0") for name, tag in _TAGS.items() if tag in texts}
        for key in sorted(key for key in texts if key.startswith(_KEYS)):
            name, value = key.removeprefix(_KEYS), job_files.parsed(texts[key].encode())
            if name.startswith("label-"):
                stored["labels"].append(value)
            else:
                stored[name] = value
        return origin_of(stored)
    except ValueError as error:
        raise InputError(f"the metadata of the image of SimpleITK: {error}") from error
