"""The kinds `seg` and `labelmap`: a result request in, one verified DICOM Segmentation out."""
