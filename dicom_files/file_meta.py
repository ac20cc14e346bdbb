"""The beginning of a file, read and written: preamble and meta information.

Of a file that is read each is there or not, and so is what tells how the rest is encoded.

References
----------
DICOM PS3.10 7.1, DICOM File Meta Information.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from dicom_files import encoding
from dicom_files.elements import VRS, Data, Elements
from dicom_files.uids import LONGEST, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

PREAMBLE = bytes(128) + b"DICM"
META_TAGS = frozenset({0x00020002, 0x00020003, 0x00020010})
END_OF_META = 0x00030000


class Beginning(NamedTuple):
    """What is known before the first element of a data set.

    Attributes
    ----------
    meta
        Encoded *Media Storage SOP Class UID* (0002,0002) and *Instance UID* (0002,0003), and *Transfer
        Syntax UID* (0002,0010), by tag, as far as they are there.
    transfer_syntax
        As the meta information says, or else as the first element looks.
    start
        Where the first element begins.
    """

    meta: Mapping[int, bytes]
    transfer_syntax: str
    start: int

    def elements(self, data: Data) -> Elements:
        """Return what steps over the elements of the data set.

        Parameters
        ----------
        data
            The bytes of the file.
        """
        syntax = self.transfer_syntax
        return Elements(data, implicit=syntax == ImplicitVRLittleEndian, big=syntax == ExplicitVRBigEndian)


def looks_like_dicom(head: bytes) -> bool:
    """Return whether a file may be DICOM: it has the preamble, or begins with group 0002 or 0008.

    Parameters
    ----------
    head
        The first bytes of the file, 136 or more.
    """
    if head[128:132] == b"DICM":
        return True
    # without preamble: a small element number as well
    return len(head) > 132 and head[:2] in (b"\x02\x00", b"\x08\x00") and head[3] == 0 and head[2] <= 0x18


def beginning_of(data: Data) -> Beginning:
    """Return what stands before the data set of a file.

    Parameters
    ----------
    data
        The bytes of the file, or its first ones.

    Raises
    ------
    ExcessError, ValueError, struct.error
        As `dicom_files.elements.Elements.values`.
    """
    start = 132 if data[128:132] == b"DICM" else 0
    meta, start = Elements(data, implicit=False).values(start, end=END_OF_META, wanted=META_TAGS)
    syntax = meta.get(0x00020010, b"").decode("ascii").strip("\0 ")
    return Beginning(meta, syntax or _guessed(bytes(data[start : start + 6])), start)


def _guessed(element: bytes) -> str:
    if element[4:] not in VRS:
        return ImplicitVRLittleEndian
    return ExplicitVRBigEndian if element[0] == 0 else ExplicitVRLittleEndian


def encoded_meta(
    *,
    sop_class_uid: str,
    sop_instance_uid: str,
    transfer_syntax: str,
    implementation_class_uid: str,
    implementation_version: str,
    source_ae_title: bytes = b"",
) -> bytes:
    """Return file meta information, as it stands behind the preamble.

    Parameters
    ----------
    sop_class_uid, sop_instance_uid, transfer_syntax
        *Media Storage SOP Class UID* (0002,0002) and *Instance UID* (0002,0003), *Transfer Syntax UID*
        (0002,0010); cut at 64 characters.
    implementation_class_uid, implementation_version
        *Implementation Class UID* (0002,0012), *Implementation Version Name* (0002,0013): who writes it.
    source_ae_title
        *Source Application Entity Title* (0002,0016): who sent it; left out if empty.
    """
    uids = {0x00020002: sop_class_uid, 0x00020003: sop_instance_uid, 0x00020010: transfer_syntax}
    body = [
        encoding.element(0x00020001, "OB", b"\0\1"),
        *(encoding.element(tag, "UI", encoding.uid_value(uid[:LONGEST])) for tag, uid in uids.items()),
        encoding.text(0x00020012, "UI", implementation_class_uid),
        encoding.text(0x00020013, "SH", implementation_version),
        encoding.element(0x00020016, "AE", source_ae_title) if source_ae_title else b"",
    ]
    return encoding.numbers(0x00020000, "UL", sum(map(len, body))) + b"".join(body)
