"""Data elements as bytes, little endian: explicit VR unless the name says otherwise.

References
----------
DICOM PS3.5 7.1, Data Elements; 7.5, Nesting of Data Sets; A.4, encapsulated pixel data.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

_LONG = frozenset({"OB", "OW", "SQ", "UN", "UT", "UC", "UR"})
_ITEM = struct.Struct("<HHL")
_UNDEFINED = 0xFFFFFFFF


def element(tag: int, vr: str, value: bytes) -> bytes:
    """Return one data element.

    Parameters
    ----------
    tag
        Group and element as one number, such as 0x00100020.
    vr
        Value representation, two letters.
    value
        The encoded value; one of odd length is padded as its VR asks for.
    """
    if len(value) % 2:
        value += b"\0" if vr in ("UI", "OB", "UN") else b" "
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    size = struct.pack("<2xL" if vr in _LONG else "<H", len(value))
    return head + size + value


def text(tag: int, vr: str, *values: object) -> bytes:
    """Return an element of characters.

    Parameters
    ----------
    tag, vr
        As of `element`.
    values
        Several are separated by backslashes; ASCII.
    """
    return element(tag, vr, "\\".join(map(str, values)).encode("ascii"))


def numbers(tag: int, vr: str, *values: int) -> bytes:
    """Return an element of unsigned integers.

    Parameters
    ----------
    tag
        As of `element`.
    vr
        US or UL.
    values
        In their order.
    """
    return element(tag, vr, struct.pack(f"<{len(values)}{'H' if vr == 'US' else 'L'}", *values))


def item(content: bytes) -> bytes:
    """Return an item of a sequence, of defined length.

    Parameters
    ----------
    content
        Its encoded elements, or the fragment of a frame.
    """
    return _ITEM.pack(0xFFFE, 0xE000, len(content)) + content


def sequence(tag: int, *contents: bytes) -> bytes:
    """Return a sequence.

    Parameters
    ----------
    tag
        As of `element`.
    contents
        The encoded elements of each item.
    """
    return element(tag, "SQ", b"".join(map(item, contents)))


def code(tag: int, value: str, scheme: str, meaning: str) -> bytes:
    """Return a code sequence of one item.

    Parameters
    ----------
    tag
        As of `element`.
    value, scheme, meaning
        *Code Value* (0008,0100), *Coding Scheme Designator* (0008,0102), *Code Meaning* (0008,0104).
    """
    coded = text(0x00080100, "SH", value) + text(0x00080102, "SH", scheme) + text(0x00080104, "LO", meaning)
    return sequence(tag, coded)


def implicit_element(tag: int, value: bytes) -> bytes:
    """Return one data element, implicit VR.

    Parameters
    ----------
    tag
        As of `element`.
    value
        The encoded value; one of odd length is padded by a space.
    """
    return _ITEM.pack(tag >> 16, tag & 0xFFFF, len(value) + len(value) % 2) + value + b" " * (len(value) % 2)


def implicit_sequence(tag: int, items: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
    """Yield a sequence, implicit VR, of undefined length.

    Parameters
    ----------
    tag
        As of `element`.
    items
        The encoded elements of each item, written as they come.
    """
    yield _ITEM.pack(tag >> 16, tag & 0xFFFF, _UNDEFINED)
    for content in items:
        yield _ITEM.pack(0xFFFE, 0xE000, _UNDEFINED)
        yield from content
        yield _ITEM.pack(0xFFFE, 0xE00D, 0)
    yield _ITEM.pack(0xFFFE, 0xE0DD, 0)


def command_set(values: Iterable[tuple[int, bytes]]) -> bytes:
    """Return a command set (PS3.7 6.3.1): implicit VR, with its group length.

    Parameters
    ----------
    values
        Tags of group 0000, and encoded values of even length, in the order of tags.
    """
    body = b"".join(implicit_element(tag, value) for tag, value in values)
    return implicit_element(0x00000000, struct.pack("<L", len(body))) + body


def uid_value(uid: str) -> bytes:
    """Return a UID as a value, padded to even length.

    Parameters
    ----------
    uid
        What is no ASCII in it becomes a question mark.
    """
    value = uid.encode("ascii", "replace")
    return value + b"\0" * (len(value) % 2)


def pixel_data(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield *Pixel Data* (7FE0,0010), uncompressed.

    Parameters
    ----------
    chunks
        Its bytes, written as they come.
    size
        How many there are in all; an odd number is padded.
    """
    yield struct.pack("<HH2s2xL", 0x7FE0, 0x0010, b"OB", size + size % 2)
    yield from chunks
    yield bytes(size % 2)


def encapsulated_pixel_data(frames: Iterable[bytes]) -> Iterator[bytes]:
    """Yield *Pixel Data* (7FE0,0010), compressed, with an empty offset table.

    Parameters
    ----------
    frames
        The codestream of each frame, of even length: one fragment a frame.
    """
    yield struct.pack("<HH2s2xL", 0x7FE0, 0x0010, b"OB", _UNDEFINED) + item(b"")
    yield from map(item, frames)
    yield _ITEM.pack(0xFFFE, 0xE0DD, 0)
