"""DICOM folder -> volume: the best series by rules, in Hounsfield units, with its place in the patient."""

from dicom_reader.read import read_all_series, read_series

__all__ = ["read_all_series", "read_series"]
