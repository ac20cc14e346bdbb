"""The file meta information of a received instance.

References
----------
DICOM PS3.10 7.1; always Explicit VR Little Endian.
"""

from __future__ import annotations

import struct

from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION

_LONGEST_UID = 64  # who sends another is refused, once all has come
_VERSION = b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01"


def file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax: str, source: bytes) -> bytes:
    """Return the file meta information, as it stands behind the preamble and ``DICM``.

    Parameters
    ----------
    source
        Source Application Entity Title (0002,0016): who sent it.
    """
    body = b"".join(
        (
            _VERSION,
            _uid(0x0002, sop_class_uid),
            _uid(0x0003, sop_instance_uid),
            _uid(0x0010, transfer_syntax),
            _uid(0x0012, PYNETDICOM_IMPLEMENTATION_UID),
            _element(0x0013, b"SH", PYNETDICOM_IMPLEMENTATION_VERSION.encode("ascii"), b" "),
            _element(0x0016, b"AE", source, b" "),
        )
    )
    return _element(0x0000, b"UL", struct.pack("<L", len(body)), b"") + body


def _uid(element: int, value: str) -> bytes:
    return _element(element, b"UI", value.encode("ascii", "replace")[:_LONGEST_UID], b"\0")


def _element(element: int, vr: bytes, value: bytes, padding: bytes) -> bytes:
    value += padding * (len(value) % 2)
    return struct.pack("<HH2sH", 0x0002, element, vr, len(value)) + value
