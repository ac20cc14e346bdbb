"""What tests of deliveries share: an adapter without its network, and delivery workers that look often."""

import pytest

from dicom_adapter.delivery import workers
from tests.dicom_adapter.offline_adapter import OfflineAdapter


@pytest.fixture(autouse=True)
def looks_often(monkeypatch):
    monkeypatch.setattr(workers, "_LOOK_S", 0.02)


@pytest.fixture
def offline(tmp_path):
    """Return what makes an adapter without its network, with some destinations."""
    made = []

    def make(*destinations, **options):
        made.append(OfflineAdapter(tmp_path / "adapter", *destinations, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()
