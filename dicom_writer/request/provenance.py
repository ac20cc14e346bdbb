"""What made a result: this software, and the algorithm that made the mask.

References
----------
DICOM PS3.3 C.7.5.2, Enhanced General Equipment; C.7.6.16.1.3, Algorithm Identification Macro.
"""

from __future__ import annotations

from dataclasses import dataclass

import stages
from stages.errors import SettingsError
from stages.volume.origin import Algorithm

MANUFACTURER = "clara-stages"
MODEL_NAME = "dicom-writer"


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
        """Return what the stage that made the mask says, less what is stated otherwise by keyword.

        Parameters
        ----------
        algorithm
            As the origin of the mask has it; None where it has none.
        stated
            Attributes of `Provenance` that take precedence.
        """
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
