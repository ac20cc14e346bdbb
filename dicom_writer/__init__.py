"""Mask + original series -> DICOM Segmentation, read back and verified before it gets its name."""

from dicom_writer.request.provenance import Provenance
from dicom_writer.write import write_results

__all__ = ["Provenance", "write_results"]
