"""DICOM folder -> volume: the largest axial CT series, in Hounsfield units, with its place in the patient."""

from dicom_reader.read import read_series

__all__ = ["read_series"]
