"""What the labels of a job's mask mean, for everything that this command shows of it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from clara_wf.definitions.workflow import Workflow
from clara_wf.payload import Payload
from stages.errors import SettingsError
from stages.volume.labels import Label, spoken_of
from stages.volume.labels_file import SUFFIX, read_labels
from stages.volume.volume import Volume

logger = logging.getLogger(__name__)


def labels_shown(
    mask: Volume, workflow: Workflow, payload: Payload, *, stages: Collection[str]
) -> tuple[tuple[Label, ...], tuple[int, ...]]:
    """Return the labels of a mask that are spoken of, and the values that nobody gave a meaning to.

    They are those that the job's results name: what the stage that wrote them states in its publish folder
    (`dicom-writer` does), else what the mask says, else what the workflow says.

    Parameters
    ----------
    mask, workflow, payload
        The mask, the workflow and the job's folders.
    stages
        Those that have finished; what others left is of an earlier run.
    """
    stated = _stated(mask, [payload.publish_dir / name for name in sorted(stages)])
    named, nameless = spoken_of(
        mask.origin.label_values, mask.origin.labels, stated=stated, otherwise=workflow.labels
    )
    known = {0, *nameless, *(label.value for label in named)}
    is_there = np.zeros(256, dtype=bool)
    is_there[mask.array.ravel()] = True
    there = {int(value) for value in np.flatnonzero(is_there)}
    return named, tuple(sorted({*nameless, *(there - known)}))


def _stated(mask: Volume, folders: Sequence[Path]) -> tuple[Label, ...]:
    paths = [folder / f"{mask.origin.file_name}{SUFFIX}" for folder in folders]
    for path in filter(Path.is_file, paths):
        try:
            return read_labels(path)
        except SettingsError as error:
            logger.warning("what a stage states of the labels is left out: %s", error)
    return ()
