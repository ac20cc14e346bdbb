"""A volume to and from the shared folder; the only place that converts conventions.

MetaImage (``.mhd`` header beside an uncompressed ``.raw``) counts axes as x, y, z = column, row,
slice and lies in LPS millimetres, as DICOM does, so only the order of axes is turned. NIfTI lies
in RAS, so x and y change sign as well.

References
----------
MetaImage: https://itk.org/Wiki/ITK/MetaIO/Documentation. NIfTI-1: https://nifti.nimh.nih.gov/nifti-1.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.arrays import to_host
from stages.errors import InputError, OutputError, printable
from stages.runtime import atomic, job_files
from stages.volume.geometry import Affine
from stages.volume.origin_file import read_origin
from stages.volume.volume import Origin, Volume

_ELEMENT_TYPES: dict[str, np.dtype[Any]] = {"MET_SHORT": np.dtype("<i2"), "MET_UCHAR": np.dtype("u1")}
_NIFTI_SUFFIXES = (".nii", ".nii.gz")
_LARGEST_HEADER = 1 << 20  # bytes
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def find_volumes(folder: str | Path) -> list[Path]:
    """Return the volume files (.mhd, .nii, .nii.gz) of a folder, sorted by name.

    Raises
    ------
    InputError
        If the folder does not exist or holds no volume.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file, a folder is expected" if folder.exists() else "does not exist"
        raise InputError(f"the input folder {printable(folder)} {what}")
    found = sorted(p for p in folder.iterdir() if p.name.endswith((".mhd", *_NIFTI_SUFFIXES)))
    if not found:
        entries = len(list(folder.iterdir()))
        raise InputError(
            f"no volume (.mhd, .nii or .nii.gz) in {printable(folder)}, which holds {entries} entries"
        )
    return found


def read_volume(path: str | Path) -> Volume:
    """Read a MetaImage or NIfTI file; a MetaImage's voxels are mapped from the file, not copied.

    Raises
    ------
    InputError
        If the file is missing, damaged, or not of three axes and a known type.
    """
    path = Path(path)
    if path.name.endswith(_NIFTI_SUFFIXES):
        return _read_nifti(path, _as_int16)
    return _read_metaimage(path)


def read_mask(path: str | Path) -> Volume:
    """Read a MetaImage or NIfTI file as labels: as `read_volume`, but no voxel is rounded to one.

    Raises
    ------
    InputError
        If the file is missing, damaged, not of three axes and a known type, or holds fractions, as scores do.
    """
    path = Path(path)
    if path.name.endswith(_NIFTI_SUFFIXES):
        return _read_nifti(path, _as_labels)
    return _read_metaimage(path)


def write_volume(volume: Volume, folder: str | Path, *, with_origin: bool = True) -> Path:
    """Write ``<SeriesInstanceUID>.mhd``, ``.raw`` and, if asked, ``.json`` into the folder.

    Returns
    -------
    Path
        The ``.mhd`` file.

    Raises
    ------
    OutputError
        If the array is neither int16 nor uint8, the series has no name that could be a file's, or a
        file cannot be written; what was written of it is removed.
    """
    folder = Path(folder)
    array = np.ascontiguousarray(to_host(volume.array))
    name = _checked_file_name(volume.origin.file_name)
    header = _metaimage_header(array, volume.affine, raw_name=f"{name}.raw")
    files: dict[Path, Any] = {folder / f"{name}.mhd": header.encode()}  # the last to appear
    if with_origin:
        files[folder / f"{name}.json"] = json.dumps(asdict(volume.origin), indent=1).encode()
    files[folder / f"{name}.raw"] = array.data
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:  # each gets its name when all are whole, the last to be begun first
            for path, content in files.items():
                file = stack.enter_context(atomic.writing(path, durable=False))
                file.write(content)  # not tofile, which forgets the last bytes on a full disk
    except OSError as error:
        raise OutputError(
            f"cannot write the volume to {printable(folder)} ({array.nbytes} bytes needed): {error}"
        ) from error
    return folder / f"{name}.mhd"


def pixel_sha256(array: NDArray[Any]) -> str:
    """Return the SHA-256 of an array's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _checked_file_name(name: str) -> str:
    if not name or name.startswith(".") or "/" in name or not name.isprintable():
        raise OutputError(f"a volume's files are named after its series; {name!r} cannot be a file name")
    return name


def _metaimage_header(array: NDArray[Any], affine: Affine, *, raw_name: str) -> str:
    names = {dtype: name for name, dtype in _ELEMENT_TYPES.items()}
    if array.dtype not in names:
        raise OutputError(f"a volume is written as int16 or uint8, this one is {array.dtype}")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    cosines = affine[:3, :3] / spacing
    fields = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": _numbers(cosines.T[::-1].ravel()),
        "Offset": _numbers(affine[:3, 3]),
        "CenterOfRotation": "0 0 0",
        "ElementSpacing": _numbers(spacing[::-1]),
        "DimSize": " ".join(str(n) for n in array.shape[::-1]),
        "ElementType": names[array.dtype],
        "ElementDataFile": raw_name,
    }
    return "".join(f"{key} = {value}\n" for key, value in fields.items())


def _numbers(values: NDArray[np.float64]) -> str:
    return " ".join(repr(float(v) + 0.0) for v in values)


def _read_metaimage(path: Path) -> Volume:
    fields, name = _metaimage_fields(path), printable(path.name)
    try:
        shape = _metaimage_shape(fields["DimSize"])
        dtype = _ELEMENT_TYPES[fields["ElementType"]]
        affine = _metaimage_affine(fields)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{name}: not a MetaImage of three axes and type {' or '.join(_ELEMENT_TYPES)}: {error}"
        ) from error
    if (
        fields.get("CompressedData", "False") == "True"
        or fields.get("BinaryDataByteOrderMSB", "False") == "True"
    ):
        raise InputError(
            f"{name}: compressed or big endian MetaImage; write it uncompressed and little endian"
        )
    raw = path.parent / Path(fields.get("ElementDataFile", "")).name
    expected = int(np.prod(shape)) * dtype.itemsize
    found = raw.stat().st_size if raw.is_file() else -1
    if found != expected:
        raise InputError(
            f"{printable(raw.name)}: {max(found, 0)} bytes beside {name}, which needs {expected}"
        )
    array = np.memmap(raw, dtype=dtype, mode="r", shape=shape)
    return Volume(array=array, affine=affine, origin=read_origin(path))


def _metaimage_fields(path: Path) -> dict[str, str]:
    try:
        content = job_files.read(path, most_bytes=_LARGEST_HEADER, follow=True)
        if content is None:
            raise FileNotFoundError("there is no such file")
        lines = content.decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read {printable(path.name)} in {printable(path.parent)}: {error}"
        ) from error
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _metaimage_shape(text: str) -> tuple[int, ...]:
    shape = tuple(int(n) for n in text.split())[::-1]
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"DimSize = {text}")
    return shape


def _metaimage_affine(fields: Mapping[str, str]) -> Affine:
    cosines = np.array(fields["TransformMatrix"].split(), dtype=np.float64).reshape(3, 3)[::-1].T
    spacing = np.array(fields["ElementSpacing"].split(), dtype=np.float64)[::-1]
    affine = np.eye(4)
    affine[:3, :3] = cosines * spacing
    affine[:3, 3] = np.array(fields["Offset"].split(), dtype=np.float64)
    return affine


def _read_nifti(path: Path, as_voxels: Callable[[NDArray[Any], str], NDArray[Any]]) -> Volume:
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    damages = (OSError, ValueError, EOFError, OverflowError, zlib.error, ImageFileError, HeaderDataError)
    name = path.name.removesuffix(".gz").removesuffix(".nii")
    _require_file(path)
    try:
        image = nibabel.load(path)
        stored = np.asanyarray(image.dataobj)
        affine = _RAS_TO_LPS @ np.asarray(image.affine, dtype=np.float64)
    except damages as error:
        raise InputError(f"cannot read {printable(path.name)} as NIfTI: {error}") from error
    if stored.ndim != 3:
        raise InputError(
            f"{printable(path.name)}: a NIfTI volume has three axes, this one has shape {stored.shape}"
        )
    array = stored.transpose(2, 1, 0)
    return Volume(
        array=as_voxels(array, printable(path.name)),
        affine=affine[:, [2, 1, 0, 3]],
        origin=Origin(series_instance_uid=name),
    )


def _require_file(path: Path) -> None:
    """Refuse what would be waited for without end, such as a FIFO; a link may lead to a file."""
    file = job_files.open_to_read(path, follow=True)
    if file is not None:
        file.close()


def _as_int16(array: NDArray[Any], name: str) -> NDArray[Any]:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "iuf":
        raise InputError(f"{name}: voxels of type {array.dtype} are no Hounsfield units and no labels")
    if not np.isfinite(array).all() or array.min() < -32768 or array.max() > 32767:
        raise InputError(f"{name}: values from {array.min()} to {array.max()} do not fit int16")
    return np.asarray(np.rint(array), dtype=np.int16)


def _as_labels(array: NDArray[Any], name: str) -> NDArray[Any]:
    if array.dtype.kind == "f" and (fractions := array[array != np.rint(array)]).size:
        raise InputError(
            f"{name}: a mask holds whole numbers, this one {fractions.size} others such as "
            f"{float(fractions[0]):g}; scores are no labels: write 0 and the values of labels"
        )
    return _as_int16(array, name)
