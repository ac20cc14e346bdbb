"""Volume files of other programs, read and written by SimpleITK: NIfTI, NRRD, MetaImage other than ours.

NIfTI lies in RAS, NRRD in what its header says; SimpleITK turns both to LPS. A NIfTI file may say twice where
it lies (sform and qform), and SimpleITK follows now the one, now the other; where they differ it is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.errors import GeometryError, InputError, OutputError, printable
from stages.volume.geometry import Affine, points_at, spacing_of
from stages.volume.image_headers import StoredVoxels, voxels_of
from stages.volume.simpleitk_image import affine_of, array_of, require_scalars

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha")
"""What the names of such files end in; a ``.mhd`` is one of them where its voxels are compressed."""

_READERS = {".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO"}
_BYTES_OF_NIFTI = {2: 1, 4: 2, 8: 4, 16: 4, 64: 8, 256: 1, 512: 2, 768: 4, 1024: 8, 1280: 8}
_FLOATS_OF_NIFTI = (16, 64)
_LITTLE_ENDIAN = b"\x5c\x01\0\0"  # the size of the header, 348
_MOST_BEHIND = 1 << 20  # bytes that may follow the voxels
_MILLIMETRES = (0, 2)  # of xyzt_units; 0 says nothing
_LOOKED_AT = ("sform_code", "qform_code", "xyzt_units", "scl_slope", "scl_inter")
_ROUNDED_MM = 2e-3  # as far apart numbers of six digits may put a voxel
_LPS_OF_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_image(path: Path) -> tuple[NDArray[Any], Affine]:
    """Return the voxels of a file and where they lie.

    Parameters
    ----------
    path
        The file; a detached header names the file beside it.

    Returns
    -------
    array
        Shape (slices, rows, columns), of the file's type, read-only; float where the file has a factor by
        which its values are to be multiplied.
    affine
        4 x 4, LPS mm at voxel centres.

    Raises
    ------
    GeometryError
        If it does not say where it lies, or in a way that an image of SimpleITK cannot keep.
    InputError
        If it is missing, damaged, cut off, or has other than three axes and one number a voxel.
    """
    name = printable(path.name)
    with _errors_named(path):
        voxels, reader = voxels_of(path), _reader(path)
        reader.ReadImageInformation()
    require_scalars(name, reader.GetSize(), reader.GetPixelID())
    with _errors_named(path):
        _require_whole(voxels, reader, path)
        image = reader.Execute()
    return array_of(image), _nifti_affine(image, name) if _is_nifti(path) else affine_of(image, name)


def write_image(image: Any, path: Path) -> None:
    """Write an image of SimpleITK, compressed unless the name ends in ``.nii``, and compare what can be read.

    Parameters
    ----------
    image
        A ``SimpleITK.Image``.
    path
        The file to write; its suffix says the kind.

    Raises
    ------
    OutputError
        If it cannot be written, or other voxels are read than were written.
    """
    import SimpleITK

    try:
        with _errors_named(path):
            SimpleITK.WriteImage(image, str(path), useCompression=True)
        array, _ = read_image(path)
    except InputError as error:
        raise OutputError(f"{error}") from error
    if not np.array_equal(array, SimpleITK.GetArrayViewFromImage(image)):
        raise OutputError(f"other voxels are read from {printable(path.name)} than were written")


def _reader(path: Path) -> Any:
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("NiftiImageIO" if _is_nifti(path) else _READERS[path.suffix])
    reader.SetFileName(str(path))
    return reader


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    """Raise what SimpleITK raises as a sentence with the file's name; a name not in UTF-8 would kill it."""
    from SimpleITK import ProcessObject

    name = printable(path.name)
    warn = ProcessObject.GetGlobalWarningDisplay()
    ProcessObject.SetGlobalWarningDisplay(False)
    try:
        str(path).encode()
        yield
    except UnicodeEncodeError as error:
        raise InputError(f"cannot read {name}: SimpleITK takes names in UTF-8 only; rename it") from error
    except (RuntimeError, MemoryError) as error:
        if "orthonormal" in str(error) or "determinant" in str(error):
            raise GeometryError(
                f"{name}: its axes are not perpendicular or its affine is not invertible, which no image of "
                "SimpleITK keeps; resample it on a grid with perpendicular axes"
            ) from error
        raise InputError(f"cannot read {name}: {_sentence(error, path)}") from error
    except GeometryError:
        raise
    except InputError as error:
        raise InputError(f"cannot read {name}: {error}") from error
    finally:
        ProcessObject.SetGlobalWarningDisplay(warn)


def _sentence(error: Exception, path: Path) -> str:
    """Return what SimpleITK says without places in its sources and in memory."""
    said = " ".join(str(error).rpartition("ITK ERROR: ")[2].split()).replace(str(path), "the file")
    return re.sub(r"^\w+\(0x[0-9a-f]+\): ", "", said) or "the memory does not suffice"


def _is_nifti(path: Path) -> bool:
    return path.name.endswith((".nii", ".nii.gz"))


def _require_whole(voxels: StoredVoxels, reader: Any, path: Path) -> None:
    """Count the bytes and look at the checksum and for what is no number, since SimpleITK does not."""
    offset, bytes_a_voxel, is_float = _stored_type(reader, path)
    needed = offset + math.prod(reader.GetSize()) * bytes_a_voxel
    is_nifti_of_floats = is_float and _is_nifti(path)
    if not voxels.compression and not is_nifti_of_floats:
        found = voxels.path.stat().st_size - voxels.offset
    else:
        found = 0
        chunks = voxels.chunks()
        for chunk in _finite(chunks, offset, bytes_a_voxel) if is_nifti_of_floats else chunks:
            found += len(chunk)
            if found > needed + _MOST_BEHIND:
                raise InputError("its voxels go on where they should end")
    if found < needed:
        raise InputError(f"it has {found} bytes and needs {needed}")


def _stored_type(reader: Any, path: Path) -> tuple[int, int, bool]:
    """Return after how many bytes the voxels begin, how many bytes one takes, and whether it is a float."""
    import SimpleITK

    if _is_nifti(path):
        code = int(reader.GetMetaData("datatype"))
        return int(float(reader.GetMetaData("vox_offset"))), _BYTES_OF_NIFTI[code], code in _FLOATS_OF_NIFTI
    one = SimpleITK.Image([1, 1, 1], reader.GetPixelID())
    return 0, int(one.GetSizeOfPixelComponent()), "float" in one.GetPixelIDTypeAsString()


def _finite(chunks: Iterator[bytes], offset: int, bytes_a_voxel: int) -> Iterator[bytes]:
    """Yield the bytes of a NIfTI file of floats; SimpleITK would put 0 where a voxel is no number."""
    order, rest = "", b""
    for chunk in chunks:
        order = order or ("<" if chunk.startswith(_LITTLE_ENDIAN) else ">")
        rest += chunk[offset:]
        offset = max(0, offset - len(chunk))
        whole = len(rest) - len(rest) % bytes_a_voxel
        if not np.isfinite(np.frombuffer(rest[:whole], f"{order}f{bytes_a_voxel}")).all():
            raise InputError("values that are no numbers (NaN, infinite) do not fit int16")
        rest = rest[whole:]
        yield chunk


def _nifti_affine(image: Any, name: str) -> Affine:
    """Return where a NIfTI file says it lies: by its sform where it has one, else by its qform."""
    _require_plain(image, name)
    affine = affine_of(image, name)
    if int(image.GetMetaData("sform_code")) <= 0:
        return affine
    rows = [image.GetMetaData(f"srow_{axis}").split() for axis in "xyz"]
    stated = _LPS_OF_RAS @ np.array([*rows, [0, 0, 0, 1]], dtype=np.float64)[:, [2, 1, 0, 3]]
    corners = list(product(*((0, n - 1) for n in image.GetSize()[::-1])))
    apart_mm = np.abs(points_at(affine, corners) - points_at(stated, corners)).max()
    if not apart_mm <= min(spacing_of(affine)) / 2:
        raise GeometryError(
            f"{name}: its sform and its qform put voxels up to {apart_mm:.4g} mm apart, and programs differ "
            "in which they follow; save it with the right one in both"
        )
    return affine if apart_mm <= _ROUNDED_MM else stated


def _require_plain(image: Any, name: str) -> None:
    """Raise where a NIfTI file says of place and values that programs understand differently."""
    number = {key: float(image.GetMetaData(key)) for key in _LOOKED_AT}
    if number["sform_code"] <= 0 and number["qform_code"] <= 0:
        raise GeometryError(f"{name}: it does not say where it lies (sform and qform have code 0)")
    if int(number["xyzt_units"]) & 7 not in _MILLIMETRES:
        raise GeometryError(f"{name}: its lengths are in metres or micrometres; save it in millimetres")
    if number["scl_slope"] == 0 and number["scl_inter"] != 0:  # SimpleITK adds it, the standard does not
        raise InputError(
            f"{name}: it has an intercept ({number['scl_inter']:g}) and no slope; save it with both"
        )
