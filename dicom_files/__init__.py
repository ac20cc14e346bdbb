"""DICOM as bytes, for reader, writer and adapter: found, read within bounds, and written.

::

    uids  codestreams  character_sets  pydicom_warnings  damage
    in   elements ─▶ file_meta  deflate  frames ─▶ header (a few values of a file)
                                                   header_stream (a few values, as they come)
                                                   dataset (all of them, by pydicom)
    out  encoding ─▶ file_meta  deflate
"""
