"""The UIDs of results, made of what is written.

References
----------
DICOM PS3.5 B.2, UUID Derived UID.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_writer.request.provenance import software_version
from dicom_writer.source.attributes import digest_of
from stages import Volume

_NAMESPACE = uuid.UUID("6a4a6f5b-54c2-5f0c-8f6d-0a3b7b0f8c52")


class UidMaker:
    """Make UIDs of what is written and of nothing else: equal content has equal UIDs, whenever it is written.

    Parameters
    ----------
    source
        Digest of what is taken over from the source, see `attributes.digest_of`.
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
        """Return the UID of one thing, such as "series" or "instance".

        Parameters
        ----------
        what
            Names the thing among all things of one result request.
        """
        return f"2.25.{uuid.uuid5(_NAMESPACE, f'{what}{chr(10)}{self._seed}').int}"


def uid_maker(
    volume: Volume, written: NDArray[Any], sources: Sequence[Dataset], *, settings: object
) -> UidMaker:
    """Return what makes the UIDs of results: of the source, the voxels, and all else that is written.

    Parameters
    ----------
    volume
        As it came; its warnings and corrections are written.
    written
        The voxels that are written, shape (slices, rows, columns).
    sources
        Header of the source image of each slice, in slice order.
    settings
        All else; its `repr` says it whole.
    """
    correction = volume.origin.correction
    described = (settings, volume.origin.warnings, correction.kinds if correction else ())
    return UidMaker(digest_of(sources), written, repr(described))
