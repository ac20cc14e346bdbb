"""What waits for something that was removed from the configuration is told."""

import logging

from dicom_adapter.config.blocks import Config
from dicom_adapter.service import _log_unconfigured
from dicom_adapter.status.unconfigured import unconfigured
from tests.dicom_adapter.offline_adapter import OfflineAdapter, destination


def test_what_waits_for_a_removed_destination_or_ae_title_is_told(tmp_path, caplog):
    inside = OfflineAdapter(tmp_path / "a", destination("PACS", 104, "PACS"))
    inside.done_job("PACS", results=3)
    inside.receive("1.2.9")
    assert unconfigured(inside.store, inside.config) == []
    inside.settings["dicom"]["scp"]["ae-titles"] = [{"ae-title": "OTHER"}]
    inside.settings["dicom"]["scu"]["destinations"] = [destination("PACS2", 104, "PACS")]
    with caplog.at_level(logging.WARNING):
        _log_unconfigured(inside.store, Config.model_validate(inside.settings))
    assert caplog.messages == [
        "3 results wait for PACS, which is not configured any more; add it again",
        "1 studies wait that were sent to CT_AI, which is not configured any more; add it again",
    ]
    inside.close()
