"""Mask + original series -> DICOM Segmentation, read back and verified before it gets its name."""

from typing import TYPE_CHECKING

from stages.runtime.extras import front_door

if TYPE_CHECKING:
    from dicom_writer.request.provenance import Provenance
    from dicom_writer.write import write_results

__all__ = ["Provenance", "write_results"]

__getattr__ = front_door(
    __name__, {"Provenance": "dicom_writer.request.provenance", "write_results": "dicom_writer.write"}
)
