"""The room dicom."""
