"""Whatever a file says of its texts, only the character sets of DICOM are decoded."""

import warnings

import pytest
from pydicom.dataset import Dataset

from dicom_files import dataset as _  # noqa: F401 - keeps pydicom from Python's codecs
from dicom_files.character_sets import decoded

CODECS = (
    *("raw_unicode_escape", "unicode_escape", "utf-16", "utf-7", "utf_8_sig", "rot13", "base64", "zlib"),
    *("undefined", "punycode", "idna", "mbcs", "cp500"),
)


@pytest.mark.parametrize(
    ("stated", "value", "text"),
    [
        (b"ISO_IR 100", "Größe".encode("latin-1"), "Größe"),
        (b"ISO-IR 100", "Größe".encode("latin-1"), "Größe"),
        (b"ISO_IR 192", "Größe".encode(), "Größe"),
        (b"\\ISO 2022 IR 87", b"\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "山田^太郎"),
        (b"\\ISO 2022 IR 149", b"\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7", "洪^吉洞"),
        (b"GB18030", b"\xcd\xf5^\xd0\xa1", "王^小"),
    ],
)
def test_a_text_is_read_in_the_character_set_that_is_stated(stated, value, text):
    assert decoded(value, stated) == text


@pytest.mark.parametrize("codec", CODECS)
def test_a_codec_of_python_is_no_character_set(codec):
    assert decoded(b"liver \\ud800 \xe4", codec.encode()) == "liver \\ud800 ä"


@pytest.mark.parametrize("codec", CODECS)
def test_pydicom_does_not_ask_python_for_a_codec_either(codec):
    found = Dataset()
    with warnings.catch_warnings(action="ignore"):
        found.SpecificCharacterSet = codec
        assert found._character_set == ["iso8859"]


@pytest.mark.parametrize(
    ("stated", "value"),
    [
        (b"ISO_IR 192", b"\xed\xa0\x80"),  # a surrogate, said to be UTF-8
        (b"ISO_IR 192", b"\xff\xfe\x00\xd8"),
        (b"ISO 2022 IR 87", b"\x1b$B\xff"),
        (b"ISO 2022 IR 6", b"\x1b%/1abc"),  # an escape sequence of nobody's
        (b"ISO 2022 IR 6", b"\x1b"),  # and nothing behind it
        (b"\xff\xff", b"\x81\x30\x81"),
        (b"\\" * 5000, bytes(range(256))),
    ],
)
def test_a_text_that_is_not_of_its_character_set_can_be_stored_and_differs_from_others(stated, value):
    text = decoded(value, stated)
    assert text.encode() is not None
    assert text.isprintable()
    assert decoded(value + b"x", stated) != text
