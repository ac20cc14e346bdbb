"""From a folder to the headers of its DICOM images.

Which files are some, and the attributes that the reader needs of each.
"""
