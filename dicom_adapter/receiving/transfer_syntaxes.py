"""The transfer syntaxes that are taken: all that the standard has for files, since nothing is decoded."""

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import AllTransferSyntaxes

TRANSFER_SYNTAXES = sorted(
    {
        *map(str, AllTransferSyntaxes),
        *(uid for uid, told in UID_dictionary.items() if told[1] == "Transfer Syntax"),
    }
)
"""Retired ones are among them; SMPTE streams, which are no files, do no harm."""
