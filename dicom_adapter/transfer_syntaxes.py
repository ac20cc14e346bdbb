"""The transfer syntaxes that are taken: all that the standard has for files, since nothing is decoded."""

from pydicom.uid import UID, AllTransferSyntaxes, UID_dictionary

TRANSFER_SYNTAXES = sorted(
    {
        *(str(uid) for uid in AllTransferSyntaxes),
        *(str(UID(uid)) for uid, told in UID_dictionary.items() if told[1] == "Transfer Syntax"),
    }
)
"""Papyrus and GE's private one are among them; SMPTE streams, which are no files, do no harm."""
