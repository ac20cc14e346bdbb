"""What results take over from their source, made to obey its value representation: the one place for that.

After `fit_headers` each attribute that a result copies is valid or gone. Identity is not touched, see
`attributes.IDENTITY`; `attributes.copy_elements` copies bytes as they are where they need no change.

References
----------
DICOM PS3.5 6.2, Value Representation; 6.4, Value Multiplicity; 6.1.2, Graphic Characters.
"""

from __future__ import annotations

import logging
import math
import re
import warnings
from collections.abc import Iterable, Sequence
from decimal import Decimal

from pydicom import config
from pydicom.charset import decode_bytes, default_encoding
from pydicom.datadict import (
    dictionary_description,
    dictionary_VM,
    dictionary_VR,
    keyword_for_tag,
)
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.valuerep import TEXT_VR_DELIMS

from dicom_writer.encoding import encodings_of
from dicom_writer.source.attributes import (
    BINARY_VRS,
    COPIED_TAGS,
    GEOMETRY_TAGS,
    IDENTITY_TAGS,
    PADDING,
    VR_OF,
    present_tags,
    unpadded,
)

logger = logging.getLogger(__name__)


_ENUMERATED = {
    "PatientIdentityRemoved": {"YES", "NO"},
    "LossyImageCompression": {"00", "01"},
    "Laterality": {"R", "L"},
}
_CODE = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
_LONGEST = {"SH": 16, "LO": 64, "ST": 1024, "LT": 10240, "UT": 1 << 32, "UC": 1 << 32}  # characters
_UNDIVIDED = frozenset({"ST", "LT", "UT"})  # a backslash is a character there, and a line may end
_PATTERNS = {
    "AS": re.compile(r"[0-9]{3}[DWMY]"),
    "CS": re.compile(r"[A-Z0-9 _]{1,16}"),
    "DA": re.compile(r"[0-9]{4}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])"),
    "DS": re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?"),
    "TM": re.compile(r"([01][0-9]|2[0-3])([0-5][0-9](([0-5][0-9]|60)(\.[0-9]{1,6})?)?)?"),
}
_UNREADABLE = re.compile("[\ufffd\ud800-\udfff]")
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f]")
_CONTROL_IN_LINES = re.compile("[\0-\x08\x0b\x0e-\x1f\x7f-\x9f]")
_LEFT_OUT, _SHORTENED, _ROUNDED = "is left out", "is shortened", "is rounded to 16 characters"
_FIRST, _SPACED = "has several values, of which the first is written", "has control characters, now spaces"
_CAPITALS, _AS_IT_IS = "is written in capitals", "is copied as it is, since a PACS files results by it"


class _InvalidError(ValueError):
    """A value that cannot be made to obey."""


def fit_headers(headers: Iterable[Dataset]) -> None:
    """Change what results copy of headers so that it obeys its value representation, in place.

    Decimal strings are rounded to the nearest that fits, text is cut and loses control characters, code
    strings are put in capitals; of several texts where one is allowed the first stays. What is no value of
    its kind is removed. Identity stays as it is. Each attribute that changes, or is not valid and stays, is
    logged once, by name and tag, never by value; padding is no change.

    Parameters
    ----------
    headers
        Of the source images of one series. Their place (`GEOMETRY`) is rounded where it must be and never
        removed.
    """
    fitting = _Fitting()
    with config.disable_value_validation():
        for header in headers:
            for tag in present_tags(COPIED_TAGS, header):
                fitting.fit(header, tag)
            if _lacks_deidentification_method(header):
                header.DeidentificationMethod = "not stated in the source"
                fitting.remark(Tag("DeidentificationMethod"), "is empty, and results say so")


class _Fitting:
    """What was seen while headers are fitted: equal values are looked at once, and logged once."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, bytes, str], tuple[str, str | None, str]] = {}
        self._logged: set[int] = set()

    def fit(self, header: Dataset, tag: int) -> None:
        """Change one attribute so that it obeys its value representation."""
        text, fitted, remark = self._look(header, tag)
        if remark:
            self.remark(tag, _AS_IT_IS if tag in IDENTITY_TAGS else remark)
        if tag in IDENTITY_TAGS or fitted == text or (fitted is None and tag in GEOMETRY_TAGS):
            return
        if fitted is None:
            del header[tag]
        else:
            parts = [fitted] if VR_OF[tag] in _UNDIVIDED else fitted.split("\\")
            header[tag] = DataElement(tag, VR_OF[tag], parts[0] if len(parts) == 1 else parts)

    def remark(self, tag: int, remark: str) -> None:
        """Log what is done with an attribute, the first time."""
        if tag not in self._logged:
            self._logged.add(tag)
            logger.warning(
                "%s (%04X,%04X) of the source is not valid: it %s",
                *(dictionary_description(tag), tag >> 16, tag & 0xFFFF, remark),
            )

    def _look(self, header: Dataset, tag: int) -> tuple[str, str | None, str]:
        """Return a text, what is written in its place (None: nothing), and a remark."""
        if VR_OF[tag] == "SQ":
            return ("", "", "") if _are_codes(header, tag) else ("", None, _LEFT_OUT)
        item, charset = header.get_item(tag), str(header.get("SpecificCharacterSet") or "")
        if not isinstance(item, RawDataElement) or item.VR in BINARY_VRS:
            return _fitted(header, tag)
        key = (tag, item.value or b"", charset)
        if key not in self._known:
            self._known[key] = _fitted(header, tag)
        return self._known[key]


def _fitted(header: Dataset, tag: int) -> tuple[str, str | None, str]:
    text = ""
    try:
        text = _text_of(header, tag)
        return (text, *fit_text(tag, text))
    except ValueError:  # also pydicom's, of a binary value
        return text, None, _LEFT_OUT


def _text_of(header: Dataset, tag: int) -> str:
    """Return the values of an attribute as text, without padding behind.

    Raises
    ------
    ValueError
        If they are not of its character set.
    """
    item = header.get_item(tag)
    if not isinstance(item, RawDataElement) or item.VR in BINARY_VRS:
        value = header[tag].value
        many = isinstance(value, Sequence) and not isinstance(value, str)
        return "\\".join(map(str, value)) if many else str("" if value is None else value)
    raw = unpadded(item)
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii")
    encodings = encodings_of(header)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what cannot be read is found below
        text = decode_bytes(raw, list(encodings), TEXT_VR_DELIMS)
    if encodings == (default_encoding,) or _UNREADABLE.search(text):
        raise _InvalidError("it is not of the character set")
    return text


def fit_text(tag: int, text: str) -> tuple[str, str]:
    r"""Return the text of an attribute as it obeys its value representation, and a remark or nothing.

    Parameters
    ----------
    tag
        Which attribute.
    text
        Its values, separated by backslashes.

    Raises
    ------
    ValueError
        If it cannot obey.
    """
    vr, multiplicity = dictionary_VR(tag), dictionary_VM(tag)
    parts = [text] if vr in _UNDIVIDED else text.split("\\")
    if not any(part.strip(PADDING) for part in parts):
        return "", ""
    remarks = []
    if not _allows(multiplicity, len(parts)):
        if vr not in _LONGEST or multiplicity != "1":
            raise _InvalidError("it has another number of values")
        parts, remarks = parts[:1], [_FIRST]
    fitted = [_fit_part(vr, part.strip(PADDING)) for part in parts]
    allowed = _ENUMERATED.get(keyword_for_tag(tag))
    if allowed and not allowed.issuperset(part for part, _ in fitted):
        raise _InvalidError("it is none of the values that are defined")
    remarks += [remark for _, remark in fitted if remark]
    return "\\".join(part for part, _ in fitted), remarks[0] if remarks else ""


def _fit_part(vr: str, part: str) -> tuple[str, str]:
    """Return one value as it obeys its value representation, and a remark."""
    if vr in _LONGEST:
        return _fit_words(part, _LONGEST[vr], _CONTROL_IN_LINES if vr in _UNDIVIDED else _CONTROL)
    if vr == "PN" and (part.count("=") > 2 or any(len(group) > 64 for group in part.split("="))):
        raise _InvalidError("it is too long")
    upper = part.upper() if vr == "CS" else part
    if vr in _PATTERNS and part and not _PATTERNS[vr].fullmatch(upper):
        raise _InvalidError("it is none of its kind")
    if vr == "DS" and part:
        return _fit_decimal(part)
    return upper, "" if upper == part else _CAPITALS


def _fit_decimal(part: str) -> tuple[str, str]:
    if not math.isfinite(float(part)):
        raise _InvalidError("it is too large")
    if len(part) <= 16:
        return part, ""
    short = decimal_string(float(part))
    return short, "" if Decimal(short) == Decimal(part) else _ROUNDED


def decimal_string(number: float) -> str:
    """Return a finite number as a decimal string of at most 16 characters, with as many digits as fit.

    Parameters
    ----------
    number
        A finite number.
    """
    for digits in range(17, 0, -1):
        mantissa, _, exponent = f"{number:.{digits}g}".partition("e")
        short = f"{mantissa}e{int(exponent)}" if exponent else mantissa
        if len(short) <= 16 and (digits < 17 or float(short) == number):
            break
    return short


def _fit_words(part: str, most: int, control: re.Pattern[str]) -> tuple[str, str]:
    spaced = control.sub(" ", part).strip()
    if len(spaced) > most:
        return spaced[:most].rstrip(), _SHORTENED
    return spaced, _SPACED if control.search(part) else ""


def _allows(multiplicity: str, count: int) -> bool:
    """Return whether a multiplicity such as 1, 2-n or 1-3 allows a number of values."""
    least, _, most = multiplicity.partition("-")
    return int(least) <= count and (most == "n" or count <= int(most or least))


def _are_codes(header: Dataset, tag: int) -> bool:
    """Return whether a sequence holds codes only, each with valid value, scheme and meaning."""
    try:
        return all(
            str(item[keyword].value) and fit_text(Tag(keyword), str(item[keyword].value))[1] == ""
            for item in header[tag].value
            for keyword in _CODE
        )
    except (KeyError, TypeError, ValueError):
        return False


def _lacks_deidentification_method(header: Dataset) -> bool:
    stated = header.get("DeidentificationMethod") or header.get("DeidentificationMethodCodeSequence")
    return header.get("PatientIdentityRemoved") == "YES" and not stated


def decimal(value: object) -> str:
    """Return a decimal string, as the source had it where it had one.

    Parameters
    ----------
    value
        A number, or what pydicom read of a decimal string.
    """
    original = getattr(value, "original_string", "")
    return original if 0 < len(original) <= 16 else decimal_string(float(value))  # type: ignore[arg-type]
