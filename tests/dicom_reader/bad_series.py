"""Bad and odd series: name -> what makes it of a good one, how the reader ends, and what it says.

A maker is given a folder with the five slices of the phantom, written as IM000, IM007 and so on, and
damages them. IM014 is the third slice.
"""

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from tests import phantoms
from tests.dicom_files import hostile
from tests.dicom_reader.files.test_enhanced import enhanced

NOBODY = 65534


@dataclass(frozen=True)
class Case:
    """One series, the exit code it ends with, and a pattern of what is said."""

    make: Callable
    code: int
    says: str
    user: int | None = None
    largest_file: int | None = None


def third(folder):
    return next(folder.rglob("IM014"))


def slices_of(folder):
    return sorted(folder.rglob("IM*"))


def edited(change, *, every=False, **how):
    """Return a maker that changes the data set of the third slice, or of every slice."""

    def make(folder):
        for path in slices_of(folder) if every else [third(folder)]:
            ds = dcmread(path)
            ds.remove_private_tags()
            change(ds)
            dcmwrite(path, ds, **{"enforce_file_format": True, **how})

    return make


def without(keyword, *, meta=None):
    def change(ds):
        delattr(ds, keyword)
        if meta:
            delattr(ds.file_meta, meta)

    return edited(change, enforce_file_format=meta is None)


def with_value(keyword, value, *, every=False):
    return edited(lambda ds: setattr(ds, keyword, value), every=every)


def with_raw(keyword, raw, *, every=False):
    """Return a maker that writes a value as it is, whatever it is."""
    tag = Tag(keyword)
    pattern = tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little")
    value = raw + b" " * (len(raw) % 2)

    def make(folder):
        for path in slices_of(folder) if every else [third(folder)]:
            data = path.read_bytes()
            at = data.index(pattern, 300)
            length = int.from_bytes(data[at + 6 : at + 8], "little")
            new = data[at : at + 6] + len(value).to_bytes(2, "little") + value
            path.write_bytes(data[:at] + new + data[at + 8 + length :])

    return make


def cut(keep):
    def make(folder):
        path = third(folder)
        data = path.read_bytes()
        path.write_bytes(data[: keep(data)])

    return make


def patched(find, put, *, before=0):
    """Return a maker that writes bytes at what is found last in the third slice, or a little before."""

    def make(folder):
        path = third(folder)
        data = bytearray(path.read_bytes())
        at = bytes(data).rindex(find) + before
        data[at : at + len(put)] = put
        path.write_bytes(bytes(data))

    return make


def replaced(content):
    return lambda folder: third(folder).write_bytes(content)


def emptied(folder):
    for path in slices_of(folder):
        path.unlink()


def inflating(payload):
    """Return a maker that makes the third slice a deflated file of a payload that follows its header."""

    def make(folder):
        ds = dcmread(third(folder))
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dcmwrite(third(folder), ds, enforce_file_format=True)
        data = third(folder).read_bytes()
        end = 144 + int.from_bytes(data[140:144], "little")
        header = zlib.decompress(data[end:], wbits=-15)
        third(folder).write_bytes(data[:end] + payload(header))

    return make


def deflate(*parts):
    squeeze = zlib.compressobj(9, wbits=-15)
    return b"".join(squeeze.compress(part) for part in parts) + squeeze.flush()


def header_bomb(header):
    huge = bytes.fromhex("0900 0110 4f42 0000 00000070")  # a private value of 1.75 GiB before all others
    return deflate(huge, *[bytes(1 << 24)] * 40)


def pixel_bomb(header):
    at = header.rindex(b"\xe0\x7f\x10\x00")
    return deflate(header[:at] + b"\xe0\x7f\x10\x00OW\0\0\0\0\0\x70", *[bytes(1 << 24)] * 40)


def nested(levels):
    """Return a maker that puts sequences in sequences, of undefined length."""

    def make(folder):
        data = third(folder).read_bytes()
        at = data.index(b"\x08\x00\x60\x00CS")
        opening = bytes.fromhex("0800 4011 5351 0000 ffffffff feff 00e0 ffffffff")
        closing = bytes.fromhex("feff 0de0 00000000 feff dde0 00000000")
        third(folder).write_bytes(data[:at] + opening * levels + closing * levels + data[at:])

    return make


def stuffed_with(extra):
    return lambda folder: third(folder).write_bytes(hostile.stuffed(third(folder).read_bytes(), extra))


def compress_all(encode, uid, change=lambda frame: frame):
    """Return a maker that compresses every slice, and changes the frame of the third."""

    def make(folder):
        for path in slices_of(folder):
            ds = dcmread(path)
            stored = np.frombuffer(ds.PixelData, np.uint16).reshape(ds.Rows, ds.Columns)
            frame = bytes(encode(stored))
            ds.file_meta.TransferSyntaxUID = uid
            ds.PixelData = encapsulate([change(frame) if path == third(folder) else frame])
            ds["PixelData"].VR = "OB"
            dcmwrite(path, ds, enforce_file_format=True)

    return make


def run_lengths(change=lambda frame: frame):
    from pydicom.pixels.encoders import RLELosslessEncoder

    def encode(stored):
        return RLELosslessEncoder.encode(
            stored,
            rows=16,
            columns=20,
            samples_per_pixel=1,
            bits_allocated=16,
            bits_stored=12,
            pixel_representation=0,
            photometric_interpretation="MONOCHROME2",
            number_of_frames=1,
            encoding_plugin="pydicom",
        )

    return compress_all(encode, RLELossless, change)


def jpeg_ls(change=lambda frame: frame):
    imagecodecs = pytest.importorskip("imagecodecs")
    return compress_all(imagecodecs.jpegls_encode, "1.2.840.10008.1.2.4.80", change)


def saying_another_size(frame):
    at = frame.index(b"\xff\xf7")
    return frame[: at + 5] + b"\xff\xff\xff\xff" + frame[at + 9 :]


def declared(uid):
    """Return a maker that only changes what the third file says of its transfer syntax."""

    def make(folder):
        path = third(folder)
        data = path.read_bytes()
        at = data.index(b"\x02\x00\x10\x00UI")
        length = int.from_bytes(data[at + 6 : at + 8], "little")
        value = uid.encode() + b"\0" * (len(uid) % 2)
        new = data[at : at + 6] + len(value).to_bytes(2, "little") + value
        meta = int.from_bytes(data[140:144], "little") + len(value) - length
        path.write_bytes(
            data[:140] + meta.to_bytes(4, "little") + data[144:at] + new + data[at + 8 + length :]
        )

    return make


def one_enhanced(change):
    def make(folder):
        emptied(folder)
        ds = enhanced()
        change(ds)
        dcmwrite(folder / "IM014", ds, enforce_file_format=True)

    return make


def stored(values, **attributes):
    def change(ds):
        plane = np.zeros((16, 20), values.dtype)
        plane[3, 4] = values
        phantoms.put_pixels(ds, plane)
        for keyword, value in attributes.items():
            setattr(ds, keyword, value)

    return edited(change)


def second_patient(folder, *, issuer="", **attributes):
    if issuer:
        with_value("IssuerOfPatientID", issuer, every=True)(folder)
    phantoms.save(
        phantoms.ct_slices(series="1.2.3.77", **{"PatientID": "P-2"} | attributes), folder / "other"
    )


def dicomdir_only(folder):
    emptied(folder)
    from tests.dicom_reader.files.test_folder import dicomdir

    dicomdir(folder / "DICOMDIR")


def with_broken_text(folder):
    """Give every slice an unknown character set and a name that is none in any."""
    with_raw("PatientName", b"\xff\xfe\x1b$B^\x80Doe", every=True)(folder)
    for path in slices_of(folder):
        data = path.read_bytes()
        at = data.index(b"\x08\x00\x08\x00CS")
        unknown = b"\x08\x00\x05\x00CS\x10\x00ISO 2022 IR 999 "
        path.write_bytes(data[:at] + unknown + data[at:])


REQUIRED = {
    "ImagePositionPatient": r"Image Position \(Patient\) \(0020,0032\)",
    "ImageOrientationPatient": r"Image Orientation \(Patient\) \(0020,0037\)",
    "PixelSpacing": r"Pixel Spacing \(0028,0030\)",
    "Rows": r"Rows \(0028,0010\)",
    "Columns": r"Columns \(0028,0011\)",
    "BitsAllocated": r"Bits Allocated \(0028,0100\)",
    "BitsStored": r"Bits Stored \(0028,0101\)",
    "HighBit": r"High Bit \(0028,0102\)",
    "PixelRepresentation": r"Pixel Representation \(0028,0103\)",
    "SamplesPerPixel": r"Samples per Pixel \(0028,0002\)",
    "RescaleSlope": r"Rescale Slope \(0028,1053\)",
    "RescaleIntercept": r"Rescale Intercept \(0028,1052\)",
    "PixelData": r"Pixel Data \(7FE0,0010\)",
    "SeriesInstanceUID": r"Series Instance UID \(0020,000E\)",
    "StudyInstanceUID": r"Study Instance UID \(0020,000D\)",
    "FrameOfReferenceUID": r"Frame of Reference UID \(0020,0052\)",
    "PatientID": r"Patient ID \(0010,0020\)",
}
CASES = {
    f"without {keyword}": Case(without(keyword), 3, f"IM0.*{name}") for keyword, name in REQUIRED.items()
}
CASES |= {
    "without Modality": Case(without("Modality"), 3, r"IM014: Modality \(0008,0060\) is missing"),
    "without SOP instance": Case(
        without("SOPInstanceUID", meta="MediaStorageSOPInstanceUID"),
        3,
        r"IM014: SOP Instance UID \(0008,0018\) is missing",
    ),
    "empty folder": Case(emptied, 3, "no DICOM image in the input folder"),
    "only a DICOMDIR": Case(
        dicomdir_only, 3, r"no DICOM image in the input folder, which holds 1 other file"
    ),
    "text under the name of a slice": Case(replaced(b"text"), 3, r"missing|apart|uneven"),
    "empty file among slices": Case(lambda f: (f / "x.dcm").touch(), 0, r"ignored 1 file.*x\.dcm"),
    "folder named as a slice": Case(lambda f: (f / "IM099.dcm").mkdir(), 0, "wrote"),
    "pipe": Case(lambda f: os.mkfifo(f / "pipe"), 0, r"ignored 1 file.*pipe"),
    "link in a circle": Case(lambda f: (f / "loop").symlink_to(f), 0, r"ignored 1 file.*loop"),
    "unreadable file": Case(lambda f: third(f).chmod(0), 3, "cannot read IM014: Permission denied", NOBODY),
    "unreadable folder": Case(
        lambda f: (f / "deeper").chmod(0), 3, "cannot read the folder deeper of the input: Permission", NOBODY
    ),
    "only the preamble": Case(replaced(bytes(128) + b"DICM"), 3, "IM014 is damaged"),
    "noise after the preamble": Case(
        replaced(bytes(128) + b"DICM" + np.random.default_rng(1).bytes(4000)), 3, "IM014"
    ),
    "cut off in the meta information": Case(cut(lambda d: 200), 3, "IM014"),
    "cut off in the header": Case(cut(lambda d: 700), 3, "IM014"),
    "cut off before the pixels": Case(
        cut(lambda d: d.rindex(b"\xe0\x7f\x10\x00")), 3, r"IM014 has no Pixel Data \(7FE0,0010\)"
    ),
    "cut off in the pixels": Case(
        cut(lambda d: len(d) - 100), 3, r"IM014 is truncated: 540 of 640 bytes of Pixel Data \(7FE0,0010\)"
    ),
    "pixel length too long": Case(
        patched(b"OW\0\0\x80\x02", b"\x80\x20", before=4), 3, r"IM014: Pixel Data .* has 8320 .* needs 640"
    ),
    "pixel length too short": Case(
        patched(b"OW\0\0\x80\x02", b"\x80\x01", before=4), 3, r"IM014: Pixel Data .* has 384 .* needs 640"
    ),
    "pixel length undefined": Case(
        patched(b"OW\0\0\x80\x02\0\0", b"\xff\xff\xff\xff", before=4), 3, r"IM014: Pixel Data .* undefined"
    ),
    "element longer than the file": Case(patched(b"\x28\x00\x10\x00US", b"\xff\xff", before=6), 3, "IM014"),
    "element of 4 GiB": Case(
        patched(b"\x28\x00\x02\x00US\x02\x00", b"OB\0\0\xf0\xff\xff\xff", before=4), 3, "IM014"
    ),
    "spacing NaN": Case(with_raw("PixelSpacing", b"nan\\0.6"), 3, r"IM014: Pixel Spacing .* finite"),
    "spacing zero": Case(with_raw("PixelSpacing", b"0\\0.6"), 3, r"IM014: Pixel Spacing .* must be positive"),
    "spacing negative": Case(with_raw("PixelSpacing", b"-1\\0.6"), 3, r"IM014: Pixel Spacing .* positive"),
    "spacing of one number": Case(with_raw("PixelSpacing", b"0.8"), 3, r"IM014: Pixel Spacing .* 2 finite"),
    "spacing in words": Case(with_raw("PixelSpacing", b"wide\\1"), 3, r"IM014: Pixel Spacing .* 'wide"),
    "position infinite": Case(
        with_raw("ImagePositionPatient", b"inf\\0\\0"), 3, r"IM014: Image Position .* finite"
    ),
    "position of 1e308 mm": Case(
        with_raw("ImagePositionPatient", b"1e308\\-1e308\\1e308"), 3, r"IM014|slice"
    ),
    "orientation zero": Case(with_raw("ImageOrientationPatient", b"0\\0\\0\\0\\0\\0"), 3, "IM014"),
    "orientation skewed": Case(with_raw("ImageOrientationPatient", b"1\\0\\0\\1\\1\\0"), 3, "IM014"),
    "orientation of another plane": Case(
        with_raw("ImageOrientationPatient", b"0\\1\\0\\0\\0\\-1"), 3, "IM0.*orientation"
    ),
    "no rows": Case(with_value("Rows", 0), 3, r"IM014: Rows \(0028,0010\) must be 2 to 8192, found 0"),
    "65535 rows": Case(with_value("Rows", 65535), 3, r"IM014: Rows \(0028,0010\) .* found 65535"),
    "65535 columns": Case(
        with_value("Columns", 65535, every=True), 3, r"Columns \(0028,0011\) .* found 65535"
    ),
    "8192 x 8192 in every slice": Case(
        edited(lambda ds: (setattr(ds, "Rows", 8192), setattr(ds, "Columns", 8192)), every=True),
        3,
        r"IM0\d\d: Pixel Data \(7FE0,0010\) has 640 bytes, its matrix needs 134217728",
    ),
    "8192 x 8192 compressed": Case(
        lambda f: (
            jpeg_ls()(f),
            edited(lambda ds: (setattr(ds, "Rows", 8192), setattr(ds, "Columns", 8192)), every=True)(f),
        ),
        3,
        r"IM0.*it has 16 x 20 pixels .* say 8192 x 8192",
    ),
    "rows as text": Case(
        patched(b"\x28\x00\x10\x00US\x02\x00\x10\x00", b"IS\x02\x0016", before=4), 3, r"IM014"
    ),
    "one slice of another matrix": Case(
        edited(lambda ds: phantoms.put_pixels(ds, np.zeros((16, 22), np.uint16), bits_stored=12)),
        3,
        "IM0.*matrix",
    ),
    "frames without end": Case(
        with_value("NumberOfFrames", 2147483647), 3, r"IM014: Number of Frames \(0028,0008\) must be 1"
    ),
    "enhanced, frames without end": Case(
        one_enhanced(lambda ds: setattr(ds, "NumberOfFrames", 2147483647)),
        3,
        r"IM014: Number of Frames \(0028,0008\) is 2147483647, .* has 4 item",
    ),
    "enhanced without groups": Case(
        one_enhanced(lambda ds: delattr(ds, "PerFrameFunctionalGroupsSequence")),
        3,
        r"\(5200,9230\) has 0 item",
    ),
    "enhanced, pixels cut off": Case(
        lambda f: (one_enhanced(lambda ds: None)(f), cut(lambda d: len(d) - 100)(f)),
        3,
        r"IM014 frame . is truncated",
    ),
    "32 bits allocated": Case(with_value("BitsAllocated", 32), 3, r"IM014: Bits Allocated \(0028,0100\)"),
    "no bits stored": Case(with_value("BitsStored", 0), 3, r"IM014: Bits Stored \(0028,0101\)"),
    "17 bits stored": Case(with_value("BitsStored", 17), 3, r"IM014: Bits Stored \(0028,0101\)"),
    "high bit too low": Case(with_value("HighBit", 3), 3, r"IM014: High Bit \(0028,0102\)"),
    "in colour": Case(with_value("SamplesPerPixel", 3), 3, r"IM014|apart|missing"),
    "slope zero": Case(
        with_value("RescaleSlope", 0), 3, r"IM014: Rescale Slope \(0028,1053\) must be positive, found 0"
    ),
    "slope NaN": Case(with_raw("RescaleSlope", b"nan"), 3, r"IM014: Rescale Slope \(0028,1053\)"),
    "slope of 1e300": Case(with_raw("RescaleSlope", b"1e300"), 3, r"IM014: .* HU .*Rescale Slope"),
    "intercept beyond int16": Case(
        with_value("RescaleIntercept", 70000), 3, r"IM014: 7\d+ HU at row 0, column 0 .*does not fit int16"
    ),
    "value beyond int16": Case(
        stored(np.uint16(65535)), 3, r"IM014: 64511 HU at row 3, column 4 \(stored value 65535\)"
    ),
    "value beyond bits stored": Case(
        stored(np.uint16(5000), BitsStored=12, HighBit=11), 0, r"IM014: bits above High Bit .* left out"
    ),
    "series UID as a path": Case(
        with_raw("SeriesInstanceUID", b"../../../../tmp/evil"),
        3,
        r"IM0.*Series Instance UID \(0020,000E\)|apart",
    ),
    "series UID as a path in every slice": Case(
        with_raw("SeriesInstanceUID", b"../../x", every=True),
        3,
        r"Series Instance UID \(0020,000E\) is no UID: '../../x'",
    ),
    "instance UID as a path": Case(
        with_raw("SOPInstanceUID", b"/etc/passwd"), 3, r"IM014: SOP Instance UID \(0008,0018\) is no UID"
    ),
    "UID of 100 digits": Case(
        with_raw("SeriesInstanceUID", b"1." + b"2" * 100, every=True),
        3,
        r"Series Instance UID \(0020,000E\) is no UID",
    ),
    "unknown character set": Case(with_broken_text, 0, "wrote 1.2.3.2.mhd"),
    "slice of another patient": Case(
        with_value("PatientID", "P-9"), 3, r"IM0.*Patient ID \(0010,0020\) differs"
    ),
    "slice of another study": Case(
        with_value("StudyInstanceUID", "1.2.9"), 3, r"Study Instance UID .* differs"
    ),
    "slice of another frame of reference": Case(
        with_value("FrameOfReferenceUID", "1.2.9"), 3, r"Frame of Reference UID .* differs"
    ),
    "slice of another series": Case(with_value("SeriesInstanceUID", "1.2.9"), 3, r"apart|missing"),
    "two patients in one folder": Case(
        second_patient,
        3,
        r"IM0\d\d: Patient ID \(0010,0020\) differs from that of IM0\d\d, of series 1\.2\.3\.2, "
        r"while this is of series 1\.2\.3\.77; .*send each in a job of its own",
    ),
    "one patient's ID from two issuers": Case(
        lambda f: second_patient(f, PatientID="P-1", IssuerOfPatientID="clinic", issuer="hospital"),
        3,
        r"Issuer of Patient ID \(0010,0021\) differs",
    ),
    "slice twice": Case(
        lambda f: (f / "copy").write_bytes(third(f).read_bytes()), 0, r"same instance|identical|copy"
    ),
    "two slices at one place": Case(
        with_raw("ImagePositionPatient", b"-30\\40\\102.5"), 3, r"IM0.*same position|IM0"
    ),
    "deflate bomb in the header": Case(inflating(header_bomb), 3, "IM014"),
    "deflate bomb in the pixels": Case(
        inflating(pixel_bomb), 3, r"IM014: Pixel Data \(7FE0,0010\) has 1879048192 bytes"
    ),
    "deflated noise": Case(
        inflating(lambda header: b"\x07" * 500), 3, "IM014 is damaged: it cannot be inflated"
    ),
    "deflated, cut off": Case(
        inflating(lambda header: deflate(header)[:-60]), 3, r"IM014 is truncated|IM014 is damaged"
    ),
    "20000 sequences in each other": Case(
        nested(20000), 3, r"IM014 is refused: its header has .* nested more than 64 deep"
    ),
    "a name that a terminal would obey": Case(
        lambda f: (f / "a\x1b]0;x\x07\nb\u202e").write_bytes(bytes(128) + b"DICM"),
        3,
        r"ERROR stages.lifecycle.driver: a\\x1b\]0;x\\x07\\nb\\u202e is damaged",
    ),
    "a name that is no UTF-8": Case(
        lambda f: (f / os.fsdecode(b"IM\xff")).write_bytes(bytes(128) + b"DICM"), 3, r"IM\\xff is damaged"
    ),
    "3 million items in a sequence": Case(
        stuffed_with(hostile.SEQUENCE + hostile.items(3_000_000)),
        3,
        "IM014 is refused: .* and items",
    ),
    "an element behind the end of the file": Case(
        stuffed_with(hostile.long_element(b"OB", 0xFFFFFFFE)), 3, "IM014 is damaged: .* in its header|IM014: "
    ),
    "15 sequences in each other": Case(nested(15), 0, "wrote"),
    "unknown transfer syntax": Case(
        declared("1.2.840.10008.1.2.4.999"), 3, r"IM014: transfer syntax .*0002,0010"
    ),
    "compressed, it says": Case(
        declared("1.2.840.10008.1.2.4.90"),
        3,
        r"IM014: Pixel Data \(7FE0,0010\) is compressed, .* not in fragments",
    ),
    "uncompressed, it says": Case(
        lambda f: (run_lengths()(f), declared(ExplicitVRLittleEndian)(f)),
        3,
        r"IM014: Pixel Data \(7FE0,0010\) has an undefined number",
    ),
    "implicit, it says": Case(declared(ImplicitVRLittleEndian), 3, "IM014"),
    "big endian, it says": Case(declared("1.2.840.10008.1.2.2"), 3, "IM014"),
    "compressed, another size": Case(
        jpeg_ls(saying_another_size),
        3,
        r"IM014: .*65535 x 65535 pixels",
    ),
    "compressed, cut off": Case(jpeg_ls(lambda frame: frame[:-60]), 3, r"IM014: its compressed Pixel Data"),
    "run lengths cut off": Case(
        run_lengths(lambda frame: frame[:-60]), 3, r"IM014: its compressed Pixel Data"
    ),
    "fragments cut off": Case(
        lambda f: (run_lengths()(f), cut(lambda d: len(d) - 40)(f)),
        3,
        r"IM014: the fragments of its Pixel Data \(7FE0,0010\) are damaged",
    ),
    "disk full": Case(lambda f: None, 7, r"cannot write the volume to .* \(3200 bytes needed\)", None, 2000),
    "without preamble": Case(
        lambda f: third(f).write_bytes(third(f).read_bytes()[132:]), 0, "wrote 1.2.3.2.mhd"
    ),
}
