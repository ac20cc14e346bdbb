"""DICOM folder -> volume: the best series by rules, in Hounsfield units, with its place in the patient."""

from dicom_reader.read import read_all_series, read_series
from dicom_reader.rules import Rules, read_rules

__all__ = ["Rules", "read_all_series", "read_rules", "read_series"]
