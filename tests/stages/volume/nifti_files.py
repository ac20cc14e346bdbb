"""NIfTI-1 files byte by byte, as programs write them and as they should not.

References
----------
NIfTI-1: https://nifti.nimh.nih.gov/nifti-1.
"""

import gzip

import numpy as np

HEADER = [
    ("sizeof_hdr", "i4"),
    ("unused", "V36"),
    ("dim", "i2", 8),
    ("intent", "V14"),
    ("datatype", "i2"),
    ("bitpix", "i2"),
    ("slice_start", "i2"),
    ("pixdim", "f4", 8),
    ("vox_offset", "f4"),
    ("scl_slope", "f4"),
    ("scl_inter", "f4"),
    ("slice_end", "i2"),
    ("slice_code", "u1"),
    ("xyzt_units", "u1"),
    ("more", "V128"),
    ("qform_code", "i2"),
    ("sform_code", "i2"),
    ("quatern", "f4", 3),
    ("qoffset", "f4", 3),
    ("srow", "f4", (3, 4)),
    ("intent_name", "V16"),
    ("magic", "S4"),
]
TYPES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "c8": 32, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "V3": 128}
MILLIMETRES = 2


def nifti(array_xyz, affine_ras, *, byte_order="<", **fields):
    """Return the bytes of a file; `fields` of its header by name, else an sform of code 2."""
    array = np.asarray(array_xyz)
    kind = "V3" if array.dtype.names else array.dtype.str[1:]
    spacing = np.linalg.norm(np.asarray(affine_ras)[:3, :3], axis=0)
    header = np.zeros((), np.dtype(HEADER).newbyteorder(byte_order))
    stated = {
        "sizeof_hdr": 348,
        "dim": [array.ndim, *array.shape, *[1] * (7 - array.ndim)],
        "datatype": TYPES[kind],
        "bitpix": array.dtype.itemsize * 8,
        "pixdim": [1, *spacing, 1, 1, 1, 1],
        "vox_offset": 352,
        "scl_slope": 1,
        "xyzt_units": MILLIMETRES,
        "sform_code": 2,
        "srow": np.asarray(affine_ras)[:3],
        "magic": b"n+1",
    }
    for name, value in {**stated, **fields}.items():
        header[name] = value
    voxels = array if kind == "V3" else array.astype(array.dtype.newbyteorder(byte_order))
    return header.tobytes() + bytes(4) + voxels.tobytes(order="F")


def save_nifti(path, array_xyz, affine_ras, **fields):
    """Write a file, compressed where its name says so, and return its path."""
    content = nifti(array_xyz, affine_ras, **fields)
    path.write_bytes(gzip.compress(content) if path.name.endswith(".gz") else content)
    return path
