"""A listening side that ends with its test."""

import pytest

from tests.dicom_adapter.storage_service import Service


@pytest.fixture
def service(tmp_path):
    made = []

    def start(**settings):
        made.append(Service(tmp_path / f"adapter{len(made)}", **settings))
        return made[-1]

    yield start
    for each in made:
        each.scp.stop()
