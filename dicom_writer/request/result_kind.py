"""What a kind of result is: an object that writes files, and reads them back.

Each has a room of its own. Its module holds the one object `KIND`; `kinds.RESULT_KINDS` names the module.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pydicom import config

from dicom_writer.mask.measure import Measurement
from dicom_writer.request.result_request import ResultRequest


class ResultKind(ABC):
    """One kind of result.

    Attributes
    ----------
    name
        As ``--results`` has it. Names of files end with it, and its UIDs are made of it.
    series_number_offset
        Tells its *Series Number* (0020,0011) from those of all other kinds, so each has its own.
    requires
        Names of the kinds that it refers to; they are written with it.
    can_be_empty
        Whether it can say that no label has a voxel. A kind that cannot is left out then.
    """

    name: ClassVar[str]
    series_number_offset: ClassVar[int]
    requires: ClassVar[tuple[str, ...]] = ()
    can_be_empty: ClassVar[bool] = True

    @abstractmethod
    def make(self, request: ResultRequest, folder: Path) -> list[Path]:
        """Write files into a fresh folder, and return them; they are released when all are verified.

        Parameters
        ----------
        request
            What is written.
        folder
            Where to. Names begin with ``request.file_name`` and say the kind, such as ``<...>.seg.dcm``;
            many files lie in a folder ``<...>.series``.
        """

    @abstractmethod
    def verify(self, request: ResultRequest, paths: Sequence[Path]) -> Mapping[int, Measurement]:
        """Read the files back, and return what they say of each label (empty if they say no numbers).

        Parameters
        ----------
        request
            What should have been written.
        paths
            The files, as `make` returned them.

        Raises
        ------
        OutputError
            At the first thing that differs from the mask, its place in the patient, or the source.
        """


class OneFileKind(ResultKind):
    """A kind of result of one file, ``<...>.<name>.dcm``."""

    def make(self, request: ResultRequest, folder: Path) -> list[Path]:
        """Write the one file."""
        path = folder / f"{request.file_name}.{self.name}.dcm"
        with config.disable_value_validation():
            self.write(request, path)
        return [path]

    def verify(self, request: ResultRequest, paths: Sequence[Path]) -> Mapping[int, Measurement]:
        """Read the one file back."""
        (path,) = paths
        return self.read_back(path, request)

    @abstractmethod
    def write(self, request: ResultRequest, path: Path) -> None:
        """Write the file.

        Parameters
        ----------
        request
            What is written.
        path
            The file, which is not there.
        """

    @abstractmethod
    def read_back(self, path: Path, request: ResultRequest) -> Mapping[int, Measurement]:
        """Read the file, and return what it says of each label, as `verify` does.

        Parameters
        ----------
        path
            The file.
        request
            What should have been written.
        """
