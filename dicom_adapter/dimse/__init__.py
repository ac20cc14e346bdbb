"""DICOM's messages as bytes, for both sides of an association: command sets and protocol data units."""
