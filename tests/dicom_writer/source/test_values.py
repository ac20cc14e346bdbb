"""Values of the source that disobey their value representation: results obey, and identity is untouched."""

import numpy as np
import pydicom
import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from scipy.spatial.transform import Rotation

from dicom_reader import read_series
from dicom_writer import write_results
from dicom_writer.encoding import save
from dicom_writer.kinds import RESULT_KINDS
from dicom_writer.source.attributes import COPIED, GEOMETRY, raw_value
from dicom_writer.source.values import fit_headers, fit_text
from tests import phantoms
from tests.dicom_writer import letters
from tests.dicom_writer.test_kinds import KINDS, all_errors

NAMES = ("PatientName", "ReferringPhysicianName")
TEXTS = ("StudyDescription", "InstitutionName", "Manufacturer", "PositionReferenceIndicator")
CHARSETS = {
    "ISO_IR 144": "Люкceмбypг",
    "GB18030": "Wang^XiaoDong=王^小东",
    "\\ISO 2022 IR 149": "Hong^Gildong=洪^吉洞=홍^길동",
    "ISO_IR 13\\ISO 2022 IR 87": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
}
OVERLONG = {
    "PixelSpacing": b"0.80000000000000004\\0.60000000000000000",
    "ImageOrientationPatient": b"1.00000000000000000\\0\\0\\0\\1.00000000000000000\\0 ",
    "SliceThickness": b"2.500000000000000123",
    "SliceLocation": b"-0.000012345678901234567",
    "PatientWeight": b"70.123456789012345678",
    "PatientSize": b"1.7500000000000000",
    "StudyDescription": b"d" * 99,
    "InstitutionName": b"i" * 65,
    "StationName": b"a station with a long name",
    "Manufacturer": b"m" * 64 + b" x",
    "ManufacturerModelName": b"n" * 200,
    "DeviceSerialNumber": b"s" * 65,
    "SoftwareVersions": b"v" * 70 + b"\\1.2",
    "TimezoneOffsetFromUTC": b"+0100 (Central Europe)",
    "DeidentificationMethod": b"e" * 70 + b"\\b",
    "PositionReferenceIndicator": b"p" * 70,
    "BodyPartExamined": b"ABDOMENANDPELVISANDMORE",
    "PatientPosition": b"HEADFIRSTANDSUPINEHERE",
    "LossyImageCompressionRatio": b"10.00000000000000000000001",
    "LossyImageCompressionMethod": b"A_METHOD_WITH_A_LONG_NAME",
}
RAGGED = {
    "PixelSpacing": b" 0.8 \\0.6\0",
    "SliceThickness": b"2,5",
    "SliceLocation": b"1\\2 ",
    "PatientWeight": b"70,5",
    "PatientSize": b"about 1.75",
    "PatientAge": b"50",
    "StudyDescription": b"one\\two ",
    "InstitutionName": b"Clinic\0\0",
    "StationName": b" CT\t1\0",
    "Manufacturer": b"two\r\nlines",
    "ManufacturerModelName": b"\\\\",
    "SoftwareVersions": b"\\5.1",
    "PatientIdentityRemoved": b"yes?",
    "LossyImageCompression": b"01",
    "LossyImageCompressionRatio": b"10:1",
    "LossyImageCompressionMethod": b"iso_15444_1 ",
    "BodyPartExamined": b"Abdomen ",
    "Laterality": b"B ",
    "PatientPosition": b"hfs ",
}
EMPTY = dict.fromkeys(set(COPIED) - set(GEOMETRY), b"")


def put(dataset, keyword, value):
    """Give an attribute these very bytes."""
    tag = Tag(keyword)
    dataset[tag] = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)


def source_with(folder, values, **attributes):
    """Write a series whose images have these bytes, and return its folder."""
    source = folder / "source"
    source.mkdir()
    slices = phantoms.ct_slices(PatientIdentityRemoved="YES", LossyImageCompression="01", **attributes)
    for n, ds in enumerate(slices):
        ds["PixelData"].VR = "OW"
        for keyword in set(values) - {"DeidentificationMethodCodeSequence"}:
            put(ds, keyword, values[keyword])
        save(ds, source / f"IM{n}")
    return source


def written(folder, source):
    """Write every kind of result of a source, and return the first file of each."""
    paths = write_results(phantoms.mask(), source, folder / "out", results=KINDS)
    paths += write_results(read_series(source), source, folder / "out", results=["volume"])
    first = {path.parent if path.name.startswith("0") else path: path for path in reversed(paths)}
    assert len(first) == len(RESULT_KINDS)
    return list(first.values())


def stored(path, keywords):
    """Return the bytes that a file has of attributes, less padding."""
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    return [raw_value(dataset, keyword) for keyword in keywords]


@pytest.mark.parametrize("values", [OVERLONG, RAGGED, EMPTY], ids=["overlong", "ragged", "empty"])
def test_every_kind_is_valid_whatever_the_source_says(tmp_path, dciodvfy_errors, values):
    paths = written(tmp_path, source_with(tmp_path, values))
    assert all_errors(paths, dciodvfy_errors) == set()


@pytest.mark.parametrize("charset", CHARSETS)
def test_every_kind_has_the_names_byte_for_byte_in_any_character_set(tmp_path, dciodvfy_errors, charset):
    name = CHARSETS[charset]
    words = dict.fromkeys(TEXTS, name.split("=")[-1].replace("^", " "))
    names = dict.fromkeys(NAMES, name)
    source = source_with(tmp_path, {}, SpecificCharacterSet=charset.split("\\"), **names, **words)
    paths = written(tmp_path, source)
    for path in paths:
        assert stored(path, NAMES) == stored(source / "IM0", NAMES), path.name
        assert stored(path, TEXTS[:1]) == stored(source / "IM0", TEXTS[:1]), path.name
    assert all_errors(paths, dciodvfy_errors) == set()


@pytest.mark.filterwarnings("ignore:Failed to decode")
def test_identity_that_is_not_valid_is_copied_as_it_is_and_told_without_its_value(
    tmp_path, caplog, dciodvfy_errors
):
    identity = {
        "SpecificCharacterSet": b"ISO_IR 192",
        "PatientName": "M\u00fcller".encode("latin-1") + b"^J" * 40,
        "PatientID": b"SECRET-\xe9" + b"7" * 70 + b"\\8",
        "PatientBirthDate": b"1950-01-01",
        "PatientSex": b"female",
        "AccessionNumber": b"A" * 25,
        "StudyID": b"S" * 17,
        "StudyDate": b"2026.01.02",
        "StudyTime": b"10:15",
    }
    source = source_with(tmp_path, {**identity, "StudyDescription": b"M\xd6RBIDE MORBID "})
    paths = written(tmp_path, source)
    for path in paths:
        assert stored(path, identity) == stored(source / "IM0", identity), path.name
        assert "StudyDescription" not in pydicom.dcmread(path)
    assert all_errors(paths, dciodvfy_errors) - set(dciodvfy_errors(source / "IM0")) == set()
    assert "Patient ID (0010,0020) of the source is not valid: it is copied as it is" in caplog.text
    assert "Study Description (0008,1030) of the source is not valid: it is left out" in caplog.text
    assert "SECRET" not in caplog.text
    assert "ORBID" not in caplog.text


@pytest.mark.parametrize(
    ("keyword", "text", "fitted", "remark"),
    [
        ("PixelSpacing", "0.78125000000000000\\0.78125", "0.78125\\0.78125", ""),
        ("PixelSpacing", "0.12345678901234567\\1", "0.12345678901235\\1", "is rounded to 16 characters"),
        ("SliceLocation", "-0.00000123456789012345", "-1.2345678901e-6", "is rounded to 16 characters"),
        ("SliceLocation", "-123456789.123456789", "-123456789.12346", "is rounded to 16 characters"),
        ("PatientWeight", " +7.0E1 \0", "+7.0E1", ""),
        ("StudyDescription", "d" * 65, "d" * 64, "is shortened"),
        ("StudyDescription", "\u00fc" * 64, "\u00fc" * 64, ""),
        ("StudyDescription", "one\\two", "one", "has several values, of which the first is written"),
        ("InstitutionName", "a\tb\x85c", "a b c", "has control characters, now spaces"),
        ("SoftwareVersions", "5.1\\\\x", "5.1\\\\x", ""),
        ("BodyPartExamined", "Abdomen", "ABDOMEN", "is written in capitals"),
        ("PatientAge", "050Y ", "050Y", ""),
        ("StudyDescription", " \0", "", ""),
    ],
)
def test_a_value_that_can_obey_is_made_to(keyword, text, fitted, remark):
    assert fit_text(Tag(keyword), text) == (fitted, remark)


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        *(
            ("PatientWeight", text)
            for text in ("70,5", "70\\71", "1e400", "NaN", "inf", "1_0", "0x10", "7 0", "\u0667")
        ),
        *(("PatientAge", text) for text in ("50", "050y", "50Y", "0050Y")),
        *(("BodyPartExamined", text) for text in ("LEFT/RIGHT", "ABDOMENANDPELVISX", "\u00dcBER")),
        *(("Laterality", text) for text in ("B", "LR")),
        *(("PixelSpacing", text) for text in ("0.5", "0.5\\0.5\\0.5", "0.5\\x")),
    ],
)
def test_a_value_that_cannot_obey_is_refused(keyword, text):
    with pytest.raises(ValueError, match="it "):
        fit_text(Tag(keyword), text)


def test_the_place_of_an_image_is_rounded_but_never_removed():
    header = Dataset()
    put(header, "PixelSpacing", b"0.5\\x ")
    put(header, "ImagePositionPatient", b"-123.45678901234567\\0\\0 ")
    put(header, "SliceLocation", b"x ")
    fit_headers([header])
    assert header.get_item(Tag("PixelSpacing")).value == b"0.5\\x "
    assert str(header.ImagePositionPatient[0]) == "-123.45678901235"
    assert "SliceLocation" not in header


def test_text_beyond_ascii_is_left_out_where_no_character_set_is_named():
    header = Dataset()
    put(header, "StudyDescription", b"L\xe9sion")
    put(header, "InstitutionName", b"Clinic")
    fit_headers([header])
    assert "StudyDescription" not in header
    assert header.InstitutionName == "Clinic"


def test_a_change_is_told_once_for_all_slices(caplog):
    headers = [Dataset() for _ in range(3)]
    for n, header in enumerate(headers):
        put(header, "StationName", b"STATION" * 3 + b"%d" % n)
    fit_headers(headers)
    assert [header.StationName for header in headers] == ["STATIONSTATIONST"] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "Station Name (0008,1010) of the source is not valid: it is shortened"
    ]


def test_codes_of_the_deidentification_are_copied_only_if_all_are_valid():
    good, bad = Dataset(), Dataset()
    for item in (good, bad):
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "113100", "DCM", "Basic"
    header = Dataset()
    header.PatientIdentityRemoved, header.DeidentificationMethodCodeSequence = "YES", [good]
    fit_headers([header])
    assert len(header.DeidentificationMethodCodeSequence) == 1
    put(bad, "CodeMeaning", b"m" * 65)
    header.DeidentificationMethodCodeSequence = [good, bad]
    fit_headers([header])
    assert "DeidentificationMethodCodeSequence" not in header
    assert header.DeidentificationMethod == "not stated in the source"


@pytest.mark.parametrize("angle", [0.123456789, 1.0, 2.9])
def test_an_oblique_series_with_long_cosines_stays_in_its_place_and_regular(tmp_path, dciodvfy_errors, angle):
    rotation = Rotation.from_euler("xyz", [angle, angle / 2, -angle / 3]).as_matrix()
    cosines = [float(v) for v in rotation[:, :2].T.ravel()]
    source, mask = letters.series_and_mask(tmp_path / "source", cosines)
    for path in source.iterdir():
        ds = pydicom.dcmread(path)
        put(ds, "ImageOrientationPatient", "\\".join(f"{v:.17f}" for v in cosines).encode())
        save(ds, path)
    (seg,) = write_results(mask, source, tmp_path / "out")
    dataset = pydicom.dcmread(seg)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    found = [float(v) for v in shared.PlaneOrientationSequence[0].ImageOrientationPatient]
    assert np.abs(np.subtract(found, cosines)).max() < 1e-13
    positions = {
        tuple(map(float, g.PlanePositionSequence[0].ImagePositionPatient))
        for g in dataset.PerFrameFunctionalGroupsSequence
    }
    heights = np.diff(sorted(np.array(list(positions)) @ np.cross(found[:3], found[3:])))
    assert np.abs(heights - letters.SPACING[0]).max() < 1e-5
    assert dciodvfy_errors(seg) == []
