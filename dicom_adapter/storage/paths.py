"""Where the adapter keeps what it receives, and its database; no name from the network leads out of it.

::

    <root>/
      adapter.sqlite             the database, see `dicom_adapter.database.store`
      audit.jsonl                the audit trail
      incoming/                  half-received files; swept at each start
      studies/<AE>/<study UID>/<SOPInstanceUID>.dcm
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from stages.errors import InputError

_UID = re.compile(r"[0-2](\.[0-9]+)+", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z0-9_-]")
SUFFIX = ".dcm"


@dataclass(frozen=True, kw_only=True)
class AdapterPaths:
    """The adapter's folders.

    Attributes
    ----------
    root
        All of them lie in it, on the file system of the payloads.
    """

    root: Path

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.root / "adapter.sqlite"

    @property
    def audit(self) -> Path:
        """The audit trail."""
        return self.root / "audit.jsonl"

    @property
    def incoming(self) -> Path:
        """Where files are written before they are whole."""
        return self.root / "incoming"

    @property
    def studies(self) -> Path:
        """Where whole files are kept."""
        return self.root / "studies"

    def study(self, ae_title: str, study_uid: str) -> Path:
        """Return the folder of a study that came under an AE title.

        Parameters
        ----------
        ae_title
            The AE title that it came under.
        study_uid
            Of the study.

        Raises
        ------
        InputError
            If the UID is none.
        """
        return self.studies / folder_of(ae_title) / checked_uid(study_uid, "StudyInstanceUID")


def checked_uid(value: object, name: str) -> str:
    """Return a UID as it is: two that differ in a character are two, and none is a path.

    Zeros may lead a component, which PS3.5 9.1 forbids and devices send.

    Parameters
    ----------
    value
        The value of the element.
    name
        The attribute, for the message.

    Raises
    ------
    InputError
        If it is not of 1 to 64 characters, numbers with dots between them.
    """
    text = str(value or "")
    if len(text) > 64 or not _UID.fullmatch(text):
        raise InputError(f"{name} is no UID (PS3.5 9.1): {_oddity(text)}; the instance is not taken")
    return text


def _oddity(text: str) -> str:
    """Return what keeps a text from being a UID, without the text, which may be anything."""
    if not text:
        return "it is missing or empty"
    if len(text) > 64:
        return f"it has {len(text)} characters, 64 are allowed"
    odd = next((each for each in text if each not in "0123456789."), "")
    return f"it holds {odd!r}" if odd else "its dots or its first number are wrong"


def folder_of(ae_title: str) -> str:
    """Return a name for the folder of an AE title; any other title has another one.

    Parameters
    ----------
    ae_title
        The AE title.
    """
    return "".join(c if _PLAIN.fullmatch(c) else f"%{ord(c):02X}" for c in ae_title)


def ae_title_of(folder: str) -> str:
    """Return the AE title that a folder is named after.

    Parameters
    ----------
    folder
        Its name.
    """
    return re.sub(r"%([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), folder)
