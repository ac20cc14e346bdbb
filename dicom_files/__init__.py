"""DICOM as bytes, for reader, writer and adapter: what opens a file, finds its elements, and bounds both.

::

    uids  elements  deflate  damage  ─▶  header (a few values)  ─▶  dataset (all of them, by pydicom)
"""
