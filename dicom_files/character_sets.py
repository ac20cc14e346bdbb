"""Texts in the character sets of DICOM, and in no other.

*Specific Character Set* (0008,0005) is a text that a sender makes up. pydicom asks Python's registry of
codecs for a name that it does not know, and there are codecs in it that are no character sets: some make
lone surrogates, which no file, database or log takes, some take minutes, some fail whatever they are asked.
Its tables are imported only where a text is not ASCII.

References
----------
DICOM PS3.3 C.12.1.1.2, Specific Character Set; PS3.5 6.1.
"""

from __future__ import annotations

import re

_ESCAPE = b"\x1b"
_FRAGMENTS = re.compile(rb"^[^\x1b]+|\x1b[^\x1b]*")
_MISSPELT = re.compile(r"ISO.(2022.)?IR.(\d{1,3})")
_AT_MOST = 8  # character sets of a data set


def decode_only_dicom_character_sets() -> None:
    """Keep pydicom, in this process, from decoding with any codec that is no character set of DICOM."""
    from pydicom import charset

    look_up = charset._python_encoding_for_corrected_encoding
    known = frozenset(charset.python_encoding.values())  # it passes on what it has looked up before

    def corrected(encoding: str) -> str:
        if encoding in known or _MISSPELT.fullmatch(encoding):
            return look_up(encoding)
        charset._warn_about_invalid_encoding(encoding)
        return charset.default_encoding

    charset._python_encoding_for_corrected_encoding = corrected


def decoded(value: bytes, stated: bytes = b"") -> str:
    """Return a text on one line: what cannot be printed is a space.

    Parameters
    ----------
    value
        As encoded.
    stated
        The encoded *Specific Character Set* (0008,0005). Where it is none of DICOM's, or the text is not of
        it, every byte is a character of Latin-1, so that texts that differ stay different.
    """
    if value.isascii() and _ESCAPE not in value:
        text = value.decode("ascii")
    else:
        text = _in_its_set(value, stated.decode("ascii", "replace"))
    return "".join(c if c.isprintable() else " " for c in text).strip()


def _in_its_set(value: bytes, stated: str) -> str:
    try:
        encodings = [_encoding(name.strip("\0 ")) for name in stated.split("\\")[:_AT_MOST]]
        return "".join(_fragment(each, encodings) for each in _FRAGMENTS.findall(value))
    except (LookupError, ValueError):
        return value.decode("latin-1")


def _encoding(name: str) -> str:
    """Return Python's name of a character set of DICOM; KeyError for any other."""
    from pydicom import charset

    if name not in charset.python_encoding and (misspelt := _MISSPELT.fullmatch(name)):
        name = f"ISO 2022 IR {misspelt[2]}" if misspelt[1] else f"ISO_IR {misspelt[2]}"
    return charset.python_encoding[name]


def _fragment(value: bytes, encodings: list[str]) -> str:
    """Decode up to the next escape sequence (PS3.5 6.1.2.5.3)."""
    from pydicom import charset
    from pydicom.valuerep import TEXT_VR_DELIMS

    if not value.startswith(_ESCAPE):
        return value.decode(encodings[0])
    size = 4 if value.startswith((b"\x1b$(", b"\x1b$)")) else 3
    encoding = charset.CODES_TO_ENCODINGS[value[:size]]
    if encoding in charset.handled_encodings:  # Python knows the sequence
        return value.decode(encoding)
    text = value[size:]
    end = next((n for n, each in enumerate(text) if each in TEXT_VR_DELIMS), len(text))
    return text[:end].decode(encoding) + text[end:].decode(encodings[0])
