"""A mask written: its result request, the files of each kind, each verified, then released together."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from dicom_files.damage import parse_errors
from dicom_files.pydicom_warnings import warnings_by_kind
from dicom_writer.kinds import RESULT_KINDS, are_of_volume, with_required, without_empty
from dicom_writer.mask.measure import Measurement
from dicom_writer.request.provenance import Provenance
from dicom_writer.request.result_request import Options, ResultRequest
from dicom_writer.wording import summary
from stages import InputError, OutputError, StageError, Volume
from stages.runtime import atomic
from stages.runtime.logs import printable
from stages.volume.labels import Label
from stages.volume.wording import volume_text

logger = logging.getLogger(__name__)


@warnings_by_kind()
def write_results(
    mask: Volume,
    source: str | Path,
    output: str | Path,
    *,
    results: Sequence[str] = ("seg",),
    labels: Sequence[Label] = (),
    provenance: Provenance | None = None,
    options: Options | None = None,
) -> list[Path]:
    """Write a mask as DICOM, read it back, and give it its name only when it says what the mask says.

    Parameters
    ----------
    mask
        Integer label values on the grid of the volume; its origin names the series, and says how the
        original slices lie on that grid. Every result lies on the original slices.
    source
        Folder with the original images, at any depth, among any other files.
    output
        Folder to write to.
    results
        Which kinds of result, of `kinds.RESULT_KINDS`; ``volume`` alone writes a CT volume, not a mask.
        ``report`` brings ``seg`` with it, to which it refers.
    labels
        What labels mean, where it is something else than the mask itself says, label by label. What is
        written speaks of the labels that the mask's `Origin.label_values` has, whether or not a voxel has
        them; where it has none, of those that have a meaning.
    provenance
        Which job made it, by which algorithm.
    options
        How it is written.

    Returns
    -------
    list of Path
        The files written, ``<SeriesInstanceUID of the source>.seg.dcm`` and so on (as the volume is
        named). Either all of them are there, or none. Of a mask without a voxel there is no ``rtstruct``.

    Raises
    ------
    SettingsError
        If there is no kind of result of a name.
    InputError
        If a label has no meaning, or the mask does not fit its source images.
    GeometryError
        If the mask does not lie where its source images lie.
    OutputError
        If a file cannot be written, or says something else than the mask; nothing is left of it.
    """
    from dicom_writer.request.mask_request import request_of_mask
    from dicom_writer.request.volume_request import request_of_volume

    began = time.monotonic()
    results = with_required(results)
    if are_of_volume(results):
        request = request_of_volume(mask, Path(source))
    else:
        request = request_of_mask(
            mask, Path(source), results=results, labels=labels, provenance=provenance, options=options
        )
    return _write_verified(request, Path(output), began=began)


def _write_verified(asked: ResultRequest, output: Path, *, began: float) -> list[Path]:
    """Write what a request wants, and release all of it when each file says what the mask says."""
    request = without_empty(asked)
    logger.info(
        "series %s: found its %d source images", request.mask.origin.series_instance_uid, len(request.sources)
    )
    with _hidden_folder(output) as hidden:
        made = {name: _make(name, request, hidden / name) for name in request.wanted}
        for name, paths in made.items():
            verify(name, request, paths)
        released = _release(made, hidden, output)
        for name in set(asked.wanted) - set(made):
            _remove_earlier(output / f"{request.file_name}.{name}.dcm")
    _log(request, released, time.monotonic() - began)
    return released


@contextmanager
def _hidden_folder(output: Path) -> Iterator[Path]:
    """Yield a fresh folder inside the output folder, for what is not verified; it is removed in any case."""
    with _as_output_error(output):
        output.mkdir(parents=True, exist_ok=True)
        hidden = Path(tempfile.mkdtemp(prefix=".unverified-", dir=output))
    try:
        yield hidden
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _make(name: str, request: ResultRequest, folder: Path) -> list[Path]:
    with _as_output_error(folder.parent.parent):
        folder.mkdir()
        try:
            return RESULT_KINDS[name].make(request, folder)
        except (AttributeError, KeyError, TypeError, ValueError, NotImplementedError) as error:
            if isinstance(error, StageError):
                raise
            logger.debug("the result %s could not be made", name, exc_info=True)
            raise InputError(
                f"the source series cannot be described in a result {name!r} ({type(error).__name__}); "
                "an attribute of patient, study or image is damaged"
            ) from error


def verify(name: str, request: ResultRequest, paths: Sequence[Path]) -> Mapping[int, Measurement]:
    """Read the files of one kind of result back, and return what they say of each label.

    Parameters
    ----------
    name
        Of the kind of result.
    request
        What should have been written.
    paths
        The files, as `make` returned them.

    Raises
    ------
    OutputError
        If they cannot be read, or say something else than the mask.
    """
    if not paths:
        raise OutputError(f"the result {name} has no file")
    try:
        return RESULT_KINDS[name].verify(request, paths)
    except StageError:
        raise
    except parse_errors() as error:
        logger.debug("the result %s could not be read back", name, exc_info=True)
        raise OutputError(
            f"the written {name} cannot be read back: {type(error).__name__}: {error}"
        ) from error


def _release(made: Mapping[str, Sequence[Path]], hidden: Path, output: Path) -> list[Path]:
    """Rename every file to its final name; a folder of an earlier run is replaced whole."""
    released = []
    with _as_output_error(output):
        for name, paths in made.items():
            for entry in sorted((hidden / name).iterdir()):
                atomic.rename(entry, output / entry.name, durable=False)
            released += [output / path.relative_to(hidden / name) for path in paths]
    return released


def _remove_earlier(path: Path) -> None:
    """Remove what an earlier run wrote, where this one has nothing to write in its place."""
    with _as_output_error(path.parent):
        path.unlink(missing_ok=True)


@contextmanager
def _as_output_error(output: Path) -> Iterator[None]:
    try:
        yield
    except StageError:  # also the driver's, when it stops the stage
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write results to {printable(output)}: {error.strerror or error}"
        ) from error


def _log(request: ResultRequest, released: Sequence[Path], seconds: float) -> None:
    if request.labels:
        volumes = ", ".join(
            f"{x.name} {volume_text(request.measured[x.value].volume_ml)}" for x in request.labels
        )
        logger.info("%s: %s", summary(request.labels, request.measured), volumes)
    logger.info(
        "wrote %s (%d files) and verified each file against the mask, in %.2f s",
        ", ".join(request.wanted) or "nothing", len(released), seconds,
    )  # fmt: skip
