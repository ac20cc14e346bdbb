"""A header is parsed as far as a header goes: what is stuffed is refused while it is parsed, by its bound."""

import struct
import time

import pytest
from pydicom.uid import ExplicitVRLittleEndian

from dicom_adapter.storage.instance_header import read_header as read_instance
from dicom_files.dataset import open_dataset
from dicom_files.header import read_file_header
from stages import InputError
from tests import phantoms
from tests.dicom_files.hostile import FINE, STUFFED, items, long_element, stuffed

SECONDS = 2
WANTED = frozenset({0x00280010, 0x0020000D})
BOUND = r"more than \d+,000 elements and items|.* nested (more than 64 deep|deeper than can be read)"


@pytest.fixture
def one(tmp_path):
    """Return what writes a slice with more elements in its header, and gives its path."""

    def write(extra):
        phantoms.ct_slices((1, 16, 20))[0].save_as(tmp_path / "IM1", enforce_file_format=True)
        (tmp_path / "IM1").write_bytes(stuffed((tmp_path / "IM1").read_bytes(), extra))
        return tmp_path / "IM1"

    return write


@pytest.fixture(autouse=True)
def _soon():
    clock = time.process_time()
    yield
    assert time.process_time() - clock < SECONDS


@pytest.mark.parametrize("name", STUFFED)
def test_a_stuffed_header_is_refused_by_its_file_and_the_bound(one, name):
    with pytest.raises(InputError, match=rf"^IM1 is refused: its header has ({BOUND})"):
        read_file_header(one(STUFFED[name]), WANTED)


@pytest.mark.parametrize("name", STUFFED)
def test_a_stuffed_instance_is_refused_when_it_comes(one, name):
    data = one(STUFFED[name]).read_bytes()
    begin = 144 + int.from_bytes(data[140:144], "little")
    with pytest.raises(InputError, match=rf"the data set is refused: its header has ({BOUND})"):
        read_instance(data[begin:], ExplicitVRLittleEndian)


@pytest.mark.parametrize("name", FINE)
def test_what_a_header_may_have_is_read(one, name):
    path = one(FINE[name])
    assert read_file_header(path, WANTED).pixel_length == 640
    assert open_dataset(path).Rows == 16


@pytest.mark.parametrize("name", ["items", "nested", "items behind something odd"])
def test_a_stuffed_file_is_not_given_to_pydicom_either(one, name):
    with pytest.raises(InputError, match=rf"^IM1 is refused: its header has ({BOUND})"):
        open_dataset(one(STUFFED[name]))


def test_items_in_a_sequence_of_defined_length_are_counted_before_anybody_parses_them(one):
    content = items(60_000)
    with pytest.raises(InputError, match="more than 50,000 elements and items"):
        open_dataset(one(long_element(b"SQ", len(content)) + content))


def test_the_items_of_an_object_without_pixels_need_not_be_few(tmp_path):
    """Contours, reports and the like are not parsed behind the attributes that are wanted."""
    (ds,) = phantoms.ct_slices((1, 16, 20))
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(ds, keyword)
    ds.save_as(tmp_path / "IM1", enforce_file_format=True)
    contours = long_element(b"SQ", 0xFFFFFFFF, (0x3006, 0x0039)) + items(120_000)
    (tmp_path / "IM1").write_bytes((tmp_path / "IM1").read_bytes() + contours)
    assert read_file_header(tmp_path / "IM1", WANTED).pixel_offset is None


def test_a_wanted_value_of_megabytes_is_refused(one):
    description = long_element(b"UT", 1 << 20, (0x0020, 0x000D)) + bytes(1 << 20)
    with pytest.raises(InputError, match=r"IM1 is refused: its header has \(0020,000D\) of 1,048,576 bytes"):
        read_file_header(one(description), WANTED)


def test_a_huge_element_before_the_identity_is_stepped_over_without_a_copy(one, tmp_path):
    data = one(struct.pack("<HH2sHI", 0x19, 0x1010, b"OB", 0, 1 << 30)).read_bytes()
    at = data.index(struct.pack("<HH2sHI", 0x19, 0x1010, b"OB", 0, 1 << 30)) + 12
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write(data[:at])
        file.seek(1 << 30, 1)
        file.write(data[at:])
    assert read_file_header(path, WANTED).text(0x0020000D) == phantoms.STUDY
