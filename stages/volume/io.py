"""A volume to and from the shared folder.

MetaImage (``.mhd`` header beside an uncompressed ``.raw``) counts axes as x, y, z = column, row, slice and
lies in LPS millimetres, as DICOM does, so only the order of axes is turned; voxels are mapped, not copied.
The files of other programs go through SimpleITK.

References
----------
MetaImage: https://itk.org/Wiki/ITK/MetaIO/Documentation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.arrays import to_host
from stages.errors import InputError, OutputError, SettingsError, printable
from stages.runtime import atomic, job_files
from stages.volume import image_files
from stages.volume.geometry import Affine
from stages.volume.origin_file import read_origin
from stages.volume.volume import Volume

_ELEMENT_TYPES: dict[str, np.dtype[Any]] = {"MET_SHORT": np.dtype("<i2"), "MET_UCHAR": np.dtype("u1")}
_SUFFIXES = (".mhd", *image_files.SUFFIXES)
_WRITTEN = (".nii", ".nii.gz", ".nrrd", ".mha")
_LARGEST_HEADER = 1 << 20  # bytes


def find_volumes(folder: str | Path) -> list[Path]:
    """Return the volume files (.mhd, .nii, .nii.gz, .nrrd, .nhdr, .mha) of a folder, sorted by name.

    Hidden files (``.name``) are none of them.

    Parameters
    ----------
    folder
        The folder; those in it are not searched.

    Raises
    ------
    InputError
        If the folder does not exist or holds no volume.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file, a folder is expected" if folder.exists() else "does not exist"
        raise InputError(f"the input folder {printable(folder)} {what}")
    entries = list(folder.iterdir())
    found = sorted(p for p in entries if p.name.endswith(_SUFFIXES) and not p.name.startswith("."))
    if not found:
        raise InputError(
            f"no volume ({', '.join(_SUFFIXES)}) in {printable(folder)}, which holds {len(entries)} entries"
        )
    return found


def read_volume(path: str | Path) -> Volume:
    """Return the volume of a MetaImage, NIfTI or NRRD file.

    The voxels of an uncompressed ``.mhd`` are mapped from the file, not copied; the others are read by
    SimpleITK. Values that are neither int16 nor uint8 are rounded to int16.

    Parameters
    ----------
    path
        The volume's file; of a MetaImage or NRRD with detached voxels, the header.

    Raises
    ------
    GeometryError
        If it does not say where it lies in the patient, or has axes that are not perpendicular.
    InputError
        If the file is missing, damaged, or not of three axes and a known type.
    """
    return _read(Path(path), _as_int16)


def read_mask(path: str | Path) -> Volume:
    """Return the labels of a MetaImage, NIfTI or NRRD file: as `read_volume`, but no voxel is rounded to one.

    Parameters
    ----------
    path
        The mask's file; of a MetaImage or NRRD with detached voxels, the header.

    Raises
    ------
    GeometryError
        If it does not say where it lies in the patient, or has axes that are not perpendicular.
    InputError
        If the file is missing, damaged, not of three axes and a known type, or holds fractions, as scores do.
    """
    return _read(Path(path), _as_labels)


def write_volume(
    volume: Volume, folder: str | Path, *, with_origin: bool = True, suffix: str = ".mhd"
) -> Path:
    """Write ``<SeriesInstanceUID>.mhd``, ``.raw`` and, if asked, ``.json`` into the folder.

    Parameters
    ----------
    volume
        int16 HU or uint8 labels, on the host or on the device.
    folder
        Where the files go; made if missing.
    with_origin
        Whether the ``.json`` with `Volume.origin` is written too.
    suffix
        ``.mhd`` as the stages exchange it, or the kind of file that another program wants: ``.nii``,
        ``.nii.gz``, ``.nrrd`` or ``.mha``, the last three compressed. NIfTI keeps its place to seven digits.

    Returns
    -------
    Path
        The ``.mhd`` file, or that of the other kind.

    Raises
    ------
    GeometryError
        If another kind than ``.mhd`` is asked for and the axes are not perpendicular.
    OutputError
        If the array is neither int16 nor uint8, the series has no name that could be a file's, or a
        file cannot be written; what was written of it is removed.
    SettingsError
        If the suffix is none of these.
    """
    if suffix not in (".mhd", *_WRITTEN):
        raise SettingsError(f"a volume is written as .mhd, {', '.join(_WRITTEN)}, not as {suffix!r}")
    folder = Path(folder)
    name = _checked_file_name(volume.origin.file_name)
    if volume.array.dtype not in _ELEMENT_TYPES.values():
        raise OutputError(f"a volume is written as int16 or uint8, this one is {volume.array.dtype}")
    beside = {".json": json.dumps(asdict(volume.origin), indent=1).encode()} if with_origin else {}
    if suffix == ".mhd":
        array = np.ascontiguousarray(to_host(volume.array))
        header = _metaimage_header(array, volume.affine, raw_name=f"{name}.raw")
        contents = {".mhd": header.encode(), **beside, ".raw": array.data}
    else:
        contents = {suffix: volume.to_simpleitk(), **beside}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:  # the last to be begun is whole, and gets its name, as the first
            for ending, content in contents.items():
                stack.enter_context(_written(folder / f"{name}{ending}", content))
    except OSError as error:
        raise OutputError(
            f"cannot write the volume to {printable(folder)} ({volume.array.nbytes} bytes needed): {error}"
        ) from error
    return folder / f"{name}{suffix}"


@contextmanager
def _written(path: Path, content: Any) -> Iterator[None]:
    """Write a file, which gets its name when the block has ended well."""
    if isinstance(content, bytes | memoryview):
        with atomic.writing(path, durable=False) as file:
            file.write(content)  # not tofile, which forgets the last bytes on a full disk
            yield
        return
    made = path.with_name(f".part.{path.name}")  # SimpleITK goes by how a name ends
    try:
        image_files.write_image(content, made)
        yield
        atomic.rename(made, path, durable=False)
    finally:
        made.unlink(missing_ok=True)


def pixel_sha256(array: NDArray[Any]) -> str:
    """Return the SHA-256 of an array's bytes in C order.

    Parameters
    ----------
    array
        Of any shape and type, on the host.
    """
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _checked_file_name(name: str) -> str:
    if not name or name.startswith(".") or "/" in name or not name.isprintable():
        raise OutputError(f"a volume's files are named after its series; {name!r} cannot be a file name")
    return name


def _metaimage_header(array: NDArray[Any], affine: Affine, *, raw_name: str) -> str:
    names = {dtype: name for name, dtype in _ELEMENT_TYPES.items()}
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


def _read(path: Path, as_voxels: Callable[[NDArray[Any], str], NDArray[Any]]) -> Volume:
    fields = _metaimage_fields(path) if path.suffix == ".mhd" else None
    if fields is not None and fields.get("CompressedData", "False") != "True":
        return _read_metaimage(path, fields)
    array, affine = image_files.read_image(path)
    return Volume(array=as_voxels(array, printable(path.name)), affine=affine, origin=read_origin(path))


def _read_metaimage(path: Path, fields: Mapping[str, str]) -> Volume:
    name = printable(path.name)
    try:
        shape = _metaimage_shape(fields["DimSize"])
        dtype = _ELEMENT_TYPES[fields["ElementType"]]
        affine = _metaimage_affine(fields)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{name}: not a MetaImage of three axes and type {' or '.join(_ELEMENT_TYPES)}: {error}"
        ) from error
    if fields.get("BinaryDataByteOrderMSB", "False") == "True":
        raise InputError(f"{name}: big endian MetaImage; write it little endian")
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


def _as_int16(array: NDArray[Any], name: str) -> NDArray[Any]:
    if array.dtype in _ELEMENT_TYPES.values():
        return array
    lowest, highest = array.min(), array.max()  # not a number where a voxel is none
    if not (lowest >= -32768 and highest <= 32767):
        raise InputError(f"{name}: values from {lowest} to {highest} do not fit int16")
    rounded = np.empty(array.shape, np.int16)
    for one, of_array in zip(rounded, array, strict=True):  # slice by slice, for the memory
        one[...] = np.rint(of_array)
    return rounded


def _as_labels(array: NDArray[Any], name: str) -> NDArray[Any]:
    if array.dtype.kind == "f":
        _require_whole_numbers(array, name)
    return _as_int16(array, name)


def _require_whole_numbers(array: NDArray[Any], name: str) -> None:
    fractions = np.concatenate([one[one != np.rint(one)] for one in array])
    if fractions.size:
        raise InputError(
            f"{name}: a mask holds whole numbers, this one {fractions.size} others such as "
            f"{float(fractions[0]):g}; scores are no labels: write 0 and the values of labels"
        )
