"""Elements that a header may be stuffed with: name -> their bytes, explicit little endian."""

import struct

UNDEFINED = 0xFFFFFFFF


def long_element(vr, length, tag=(0x0018, 0x9346)):
    """Return the head of an element with a long length."""
    return struct.pack("<HH2sHI", *tag, vr, 0, length)


def items(count, content=b""):
    return (struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content) * count


SEQUENCE = long_element(b"SQ", UNDEFINED)
ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED)
ITEM_END = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
ODD = struct.pack("<HH2sH", 0x0019, 0x1001, b"ZZ", 0)  # only pydicom reads on

STUFFED = {
    "items": SEQUENCE + items(120_000) + END,
    "items with an element": SEQUENCE + items(120_000, struct.pack("<HH2sH", 8, 0x60, b"CS", 0)) + END,
    "elements": b"".join(struct.pack("<HH2sH", 0x19, n & 0xFFFF, b"LO", 0) for n in range(120_000)),
    "sequences side by side": (SEQUENCE + END) * 60_000,
    "elements of unknown representation": (long_element(b"UN", UNDEFINED) + END) * 60_000,
    "nested": (SEQUENCE + ITEM) * 50_000,
    "nested just too deep": (SEQUENCE + ITEM) * 33 + (ITEM_END + END) * 33,
    "items behind something odd": ODD + SEQUENCE + items(120_000) + END,
    "elements behind something odd": ODD * 120_000,
    "nested behind something odd": ODD + (SEQUENCE + ITEM) * 50_000,
}
FINE = {
    "items": SEQUENCE + items(5_000) + END,
    "nested": (SEQUENCE + ITEM) * 32 + (ITEM_END + END) * 32,
    "odd": ODD * 100,
}


def stuffed(data, extra):
    """Return a file of the phantom with elements before its Study Instance UID."""
    at = data.index(struct.pack("<HH2s", 0x20, 0x0D, b"UI"))
    return data[:at] + extra + data[at:]
