"""DICOM folder -> volume: the best series by rules, in Hounsfield units, with its place in the patient."""

from typing import TYPE_CHECKING

from stages.runtime.extras import front_door

if TYPE_CHECKING:
    from dicom_reader.read import read_all_series, read_series

__all__ = ["read_all_series", "read_series"]

__getattr__ = front_door(__name__, dict.fromkeys(__all__, "dicom_reader.read"))
