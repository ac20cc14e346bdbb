"""What a result takes over from its source and what is its own: UIDs, equipment, algorithm.

References
----------
DICOM PS3.3 C.7.1.1, Patient; C.7.2.1, General Study; C.7.5.2, Enhanced General Equipment;
PS3.5 B.2, UUID Derived UID.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import stages
from stages.errors import SettingsError
from stages.volume.volume import Algorithm

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MANUFACTURER = "clara-stages"
MODEL_NAME = "dicom-writer"
_NAMESPACE = uuid.UUID("6a4a6f5b-54c2-5f0c-8f6d-0a3b7b0f8c52")

IDENTITY = (
    "SpecificCharacterSet",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
"""Copied from the source exactly as they are, valid or not: a PACS files the result by them."""


def software_version() -> str:
    """Return the version of this project, for *Software Versions* (0018,1020)."""
    return stages.__version__


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Which algorithm made a result.

    Attributes
    ----------
    algorithm_name, algorithm_version
        *Algorithm Name* (0066,0036) and *Algorithm Version* (0066,0031); version of this software
        where that is empty.
    manufacturer
        Who makes the algorithm; this software where that is empty.
    weights_sha256, configuration_sha256
        Which weights and which configuration, hexadecimal; empty where unknown.
    """

    algorithm_name: str = "clara-stages liver tumour segmentation"
    algorithm_version: str = ""
    manufacturer: str = ""
    weights_sha256: str = ""
    configuration_sha256: str = ""

    def __post_init__(self) -> None:
        for what, text in (("name", self.algorithm_name), ("version", self.algorithm_version)):
            if len(text) > 64 or "\\" in text or not (text.isascii() and text.isprintable()):
                raise SettingsError(
                    f"the {what} of the algorithm is written as at most 64 ASCII characters, without a "
                    f"backslash (results keep the character set of their source); found {text[:80]!a}"
                )

    @classmethod
    def of(cls, algorithm: Algorithm | None, **stated: str) -> Provenance:
        """Return what the stage that made the mask says, less what is stated otherwise by keyword."""
        known: dict[str, str] = {}
        if algorithm is not None:
            known = {
                "algorithm_name": algorithm.name,
                "algorithm_version": algorithm.version,
                "weights_sha256": algorithm.weights_sha256,
                "configuration_sha256": algorithm.configuration_sha256,
            }
        return cls(**{**known, **stated})

    @property
    def version(self) -> str:
        """The version that is written: the algorithm's, or that of this software."""
        return self.algorithm_version or software_version()

    @property
    def parameters(self) -> str:
        """*Algorithm Parameters* (0066,0032): the hashes that are known, in one line."""
        known = {"weights": self.weights_sha256, "configuration": self.configuration_sha256}
        return "; ".join(f"{what} sha256:{digest}" for what, digest in known.items() if digest)


class UidMaker:
    """Make UIDs of what is written and of nothing else: equal content has equal UIDs, whenever it is written.

    Parameters
    ----------
    source
        Digest of what is taken over from the source, see `values.digest_of`.
    array
        The voxels, shape (slices, rows, columns).
    settings
        Text of everything else that changes what is written, such as labels and algorithm.
    """

    def __init__(self, source: str, array: NDArray[Any], settings: str = "") -> None:
        digest = hashlib.sha256()
        for n, plane in enumerate(array):
            if plane.any():
                digest.update(f"{n}:".encode())
                digest.update(np.ascontiguousarray(plane).data)
        parts = (source, str(array.shape), digest.hexdigest(), software_version(), settings)
        self._seed = "\n".join(parts)

    def uid(self, what: str) -> str:
        """Return the UID of one thing, such as "series" or "instance"."""
        return f"2.25.{uuid.uuid5(_NAMESPACE, f'{what}{chr(10)}{self._seed}').int}"


def result_series_number(source: Dataset, *, offset: int) -> int:
    """Return a *Series Number* (0020,0011) beside the source's: its own times 100, plus an offset."""
    try:
        number = int(source.get("SeriesNumber") or 0)
    except (TypeError, ValueError):
        number = 0
    return number * 100 + offset if 0 < number < 20_000_000 else 9000 + offset
