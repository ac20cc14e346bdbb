"""The kinds of result that there are, by name, and which of them a run writes."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from dicom_writer.request.result_kind import ResultKind
from dicom_writer.request.result_request import ResultRequest
from stages import SettingsError

logger = logging.getLogger(__name__)


class _KindsByName(Mapping[str, ResultKind]):
    """The kinds of result by name; each module is imported when it is asked for."""

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._modules = modules

    def __getitem__(self, name: str) -> ResultKind:
        kind: ResultKind = importlib.import_module(self._modules[name]).KIND
        return kind

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)


RESULT_KINDS: Mapping[str, ResultKind] = _KindsByName(
    {  # one line a kind, in the order in which they are made
        "seg": "dicom_writer.seg.segmentation",
        "labelmap": "dicom_writer.seg.labelmap",
        "series": "dicom_writer.series.mask_series",
        "rtstruct": "dicom_writer.rtstruct.structure_set",
        "report": "dicom_writer.sr.report",
        "capture": "dicom_writer.capture.capture",
        "pdf": "dicom_writer.pdf.document",
        "volume": "dicom_writer.series.volume_series",
    }
)
_OF_VOLUME = "volume"  # the one kind of a CT volume; all others are of a mask


def kinds_named(text: str) -> tuple[str, ...]:
    """Return the names in a list such as ``seg,series``, each once, in the order of `RESULT_KINDS`.

    With them come those that one of them refers to, see `with_required`.

    Parameters
    ----------
    text
        As ``--results`` has it: names with commas between them.

    Raises
    ------
    SettingsError
        If there is none, one is unknown, or ``volume``, which is no mask, stands beside others.
    """
    asked = [name.strip() for name in text.split(",") if name.strip()]
    if not asked:
        raise SettingsError(f"--results {text!r}: it names none; choose from {','.join(RESULT_KINDS)}")
    if _OF_VOLUME in asked and len(set(asked)) > 1:
        raise SettingsError(
            f"--results {text!r}: volume is of a CT volume, the others of a mask; ask for one"
        )
    return with_required(asked)


def are_of_volume(names: Sequence[str]) -> bool:
    """Return whether results are of a CT volume, not of a mask.

    Parameters
    ----------
    names
        Of the kinds of result.
    """
    return tuple(names) == (_OF_VOLUME,)


def with_required(names: Sequence[str]) -> tuple[str, ...]:
    """Return names and those of the kinds that they refer to: a report refers to the segmentation.

    Parameters
    ----------
    names
        Of kinds of result, as asked for.

    Raises
    ------
    SettingsError
        If there is no kind of a name.
    """
    unknown = [name for name in names if name not in RESULT_KINDS]
    if unknown:
        raise SettingsError(f"there is no result {unknown[0]!r}; choose from {','.join(RESULT_KINDS)}")
    required = {other for name in names for other in RESULT_KINDS[name].requires} - set(names)
    for name in required:
        logger.info("the result %s is written as well: another one that was asked for refers to it", name)
    return tuple(name for name in RESULT_KINDS if name in {*names, *required})


def without_empty(request: ResultRequest) -> ResultRequest:
    """Return a request without the kinds that cannot say that nothing was found: contours of nothing.

    Each is logged. The other kinds say of an empty mask that it was examined.

    Parameters
    ----------
    request
        What was asked for.
    """
    left_out = [name for name in request.wanted if request.is_empty and not RESULT_KINDS[name].can_be_empty]
    for name in left_out:
        logger.warning(
            "nothing to write as %s: no label has a voxel, and viewers do not open one without; "
            "seg, report and all other kinds say that nothing was found", name,
        )  # fmt: skip
    return replace(request, wanted=tuple(name for name in request.wanted if name not in left_out))
