"""A data set that comes in pieces tells the same as one that is whole, however it is cut."""

import struct

import pytest

from dicom_files.damage import ExcessError
from dicom_files.element_stream import ElementStream
from dicom_files.elements import UNDEFINED

STUDY, SERIES, PATIENT = 0x0020000D, 0x0020000E, 0x00100020


def element(tag, vr, value, *, length=None):
    form = "<HH2sxxL" if vr in (b"SQ", b"OB", b"UN") else "<HH2sH"
    length = len(value) if length is None else length
    return struct.pack(form, tag >> 16, tag & 0xFFFF, vr, length) + value


def item(value=b"", *, length=None, tag=0xFFFEE000):
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


ENDS = {"item": item(tag=0xFFFEE00D), "sequence": item(tag=0xFFFEE0DD)}
INSIDE = item(element(STUDY, b"UI", b"6.6.66") + ENDS["item"], length=UNDEFINED)
DATA = b"".join(
    (
        element(0x00081140, b"SQ", INSIDE + ENDS["sequence"], length=UNDEFINED),
        element(0x00091010, b"OB", bytes(100)),
        element(0x00091011, b"UN", item(item(b"", tag=0x00080060)) + ENDS["sequence"], length=UNDEFINED),
        element(STUDY, b"UI", b"1.2.34"),
        element(SERIES, b"UI", b"1.2.3.4\0"),
        element(0x00280010, b"US", b"\1\0"),
    )
)


def stream(**more):
    return ElementStream(implicit=False, end=SERIES + 1, wanted=frozenset({STUDY, SERIES}), **more)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 11, 12, 13, 64, 1000])
def test_what_comes_in_pieces_of_any_size_tells_the_same(size):
    found = stream()
    for at in range(0, len(DATA), size):
        found.feed(DATA[at : at + size])
    assert found.values == {STUDY: b"1.2.34", SERIES: b"1.2.3.4\0"}
    assert found.is_done


def test_who_can_skip_what_lies_ahead_may():
    found = stream()
    begin = DATA.index(b"OB") + 8
    found.feed(DATA[:begin])
    assert found.ahead == 100
    found.ahead -= 100
    found.feed(DATA[begin + 100 :])
    assert found.is_done


def test_an_end_of_what_never_began_ends_the_header():
    found = stream()
    found.feed(element(STUDY, b"UI", b"1.2.34") + ENDS["sequence"] + element(SERIES, b"UI", b"1.2.3.4\0"))
    assert (found.is_done, found.values) == (True, {STUDY: b"1.2.34"})


def test_it_holds_no_value_that_nobody_wants():
    found = stream()
    found.feed(element(0x00091010, b"OB", b"", length=1 << 30))
    for _ in range(1 << 10):
        found.feed(memoryview(bytes(1 << 20)))
    assert (found.ahead, found._rest) == (0, b"")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (element(0x00091010, b"LO", b"") * 101, "more than 100 elements"),
        (element(0x00081140, b"SQ", b"", length=UNDEFINED) + item() * 101, "more than 100 elements"),
        (element(STUDY, b"UN", b"", length=(1 << 16) + 1), "of 65,537 bytes"),
        (element(STUDY, b"UI", b"1.2.34") + element(STUDY, b"UI", b"6.6.66"), "twice, and they differ"),
        ((element(0x00081140, b"SQ", b"", length=UNDEFINED) + item(length=UNDEFINED)) * 40, "nested"),
    ],
)
def test_what_is_too_much_is_refused_when_it_comes(data, why):
    with pytest.raises(ExcessError, match=why):
        feed_in_fives(stream(most=100), data)


def feed_in_fives(found, data):
    for at in range(0, len(data), 5):
        found.feed(data[at : at + 5])
