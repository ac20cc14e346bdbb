"""Each UID has the keyword that the standard gives it."""

import pytest
from pydicom.uid import UID

from dicom_files import uids

NAMED = {name: value for name, value in vars(uids).items() if name[0].isupper() and isinstance(value, str)}
NEWER_THAN_PYDICOM = {"LabelMapSegmentationStorage": "1.2.840.10008.5.1.4.1.1.66.7"}  # Supplement 243


@pytest.mark.parametrize("name", NAMED)
def test_uid_is_named_by_its_keyword(name):
    keyword = UID(NAMED[name]).keyword
    assert keyword == name or NEWER_THAN_PYDICOM.get(name) == NAMED[name]


@pytest.mark.parametrize(
    ("text", "known"),
    [("1.2.840", True), ("0.01", True), ("1." + "2" * 62, True), ("1." + "2" * 63, False), ("", False)]
    + [(text, False) for text in ("1..2", "1.2.", "1.2 ", "1.2\n", "a.b", "١.٢")],
)
def test_what_can_be_a_uid(text, known):
    assert uids.is_uid(text) == known
