"""What the labels of a job's mask mean, for everything that this command shows of it."""

from __future__ import annotations

import logging

import numpy as np

from clara_wf.payload import Payload
from clara_wf.workflow import Workflow
from stages.errors import SettingsError
from stages.labels import Label, spoken_of
from stages.labels_file import SUFFIX, read_labels
from stages.volume import Volume

logger = logging.getLogger(__name__)


def labels_shown(
    mask: Volume, workflow: Workflow, payload: Payload
) -> tuple[tuple[Label, ...], tuple[int, ...]]:
    """Return the labels of a mask that are spoken of, and the values that nobody gave a meaning to.

    They are those that the job's results name: what the stage that wrote them states in its publish folder
    (`dicom-writer` does), else what the mask says, else what the workflow says.
    """
    stated = _stated(mask, payload)
    named, nameless = spoken_of(
        mask.origin.label_values, mask.origin.labels, stated=stated, otherwise=workflow.labels
    )
    known = {0, *nameless, *(label.value for label in named)}
    there = {int(value) for value in np.flatnonzero(np.bincount(mask.array.ravel(), minlength=256))}
    return named, tuple(sorted({*nameless, *(there - known)}))


def _stated(mask: Volume, payload: Payload) -> tuple[Label, ...]:
    for path in sorted(payload.publish_dir.glob(f"*/{mask.origin.file_name}{SUFFIX}")):
        try:
            return read_labels(path)
        except SettingsError as error:
            logger.warning("what a stage states of the labels is left out: %s", error)
    return ()
