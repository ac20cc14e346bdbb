"""An enhanced multi-frame CT file: each frame a slice with its own place and rescale.

What the frames share and what each has for itself lies in functional groups; the header of a frame is
that of the file with the values of its groups in it, as if it had been a file of its own. Legacy
converted images are read the same way.

References
----------
DICOM PS3.3 C.7.6.16, Multi-frame Functional Groups; A.38, Enhanced CT; A.70, Legacy Converted Enhanced CT.
"""

from __future__ import annotations

from dataclasses import replace

from dicom_files.damage import PARSE_ERRORS, ExcessError, too_large, unreadable
from dicom_files.frames import read_functional_groups
from dicom_files.uids import EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage
from dicom_reader.files.headers import ATTRIBUTES, ImageHeader
from stages import InputError

_OF_THE_FILE = frozenset({0x00080016, 0x00080018})
_WANTED = frozenset(tag for tag, _ in ATTRIBUTES.values()) - _OF_THE_FILE


def is_enhanced(header: ImageHeader) -> bool:
    """Return whether a file is an enhanced, or legacy converted enhanced, CT image.

    Parameters
    ----------
    header
        Of the file.
    """
    return header.text("SOPClassUID") in (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)


def split_frames(header: ImageHeader) -> list[ImageHeader]:
    """Return a header for each frame of an enhanced image, in the order of the file.

    Parameters
    ----------
    header
        Of the file, all frames of it.

    Raises
    ------
    InputError
        If the functional groups are missing or damaged, or are not as many as the frames.
    """
    count = _number_of_frames(header)
    try:
        shared, frames = read_functional_groups(
            header.path, header.transfer_syntax, wanted=_WANTED, at_most=count + 1
        )
    except ExcessError as error:
        raise too_large(header.name, error) from error
    except OSError as error:
        raise unreadable(header.name, error) from error
    except PARSE_ERRORS as error:
        raise InputError(
            f"{header.name} is damaged: {type(error).__name__} in its functional groups"
        ) from error
    if count != len(frames):
        found = f"{len(frames)} item(s)" if len(frames) < count else "more items"
        raise header.refuse(
            "NumberOfFrames", f"is {count}, Per-Frame Functional Groups Sequence (5200,9230) has {found}"
        )
    return [
        replace(header, values={**header.values, **shared, **own}, frame=n, frames=count)
        for n, own in enumerate(frames, 1)
    ]


def _number_of_frames(header: ImageHeader) -> int:
    (count,) = header.numbers("NumberOfFrames", 1)
    if count < 1 or not count.is_integer():
        raise header.refuse("NumberOfFrames", f"must be 1 or more, found {count:g}")
    return int(count)
