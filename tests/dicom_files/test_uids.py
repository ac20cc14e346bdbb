"""Each UID has the keyword that the standard gives it."""

import pytest
from pydicom.uid import UID

from dicom_files import uids

NAMED = {
    name: value for name, value in vars(uids).items() if not name.startswith("__") and isinstance(value, str)
}
NEWER_THAN_PYDICOM = {"LabelMapSegmentationStorage": "1.2.840.10008.5.1.4.1.1.66.7"}  # Supplement 243


@pytest.mark.parametrize("name", NAMED)
def test_uid_is_named_by_its_keyword(name):
    keyword = UID(NAMED[name]).keyword
    assert keyword == name or NEWER_THAN_PYDICOM.get(name) == NAMED[name]
