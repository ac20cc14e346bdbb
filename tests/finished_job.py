"""The folders that a liver-seg job leaves behind, with a CT and a mask whose answers are known.

The CT is fat (-100 HU) with a bright block (1000 HU) at the patient's left, anterior and head end, a cube
of 40 mm. The mask holds liver (1), a block at the patient's right, and in it tumour (2).
"""

import json
from dataclasses import dataclass, replace

import numpy as np

from clara_wf.definitions.workflow import load_workflows
from clara_wf.engines.engine import Outcome, StageStatus
from clara_wf.payload import Payload
from clara_wf.report.measure import compare
from clara_wf.report.page import FinishedJob
from clara_wf.workspace import Places
from stages.lifecycle import locks
from stages.volume.geometry import reorient
from stages.volume.origin import Origin
from stages.volume.volume import Volume
from tests.phantoms import LABELS

LIVER_SEG = "fd3ee8bf-b9f3-4808-bd60-243f870ff9bd"
SERIES = "1.2.826.0.1.3680043.9.7433.1.2.3"
OTHER_SERIES = "1.2.826.0.1.3680043.9.7433.4.5.6"
CUBE_MM = 40.0
AXIAL = np.array([[0, 0, 2.0, -60.0], [0, 2.0, 0, -50.0], [5.0, 0, 0, 100.0], [0, 0, 0, 1]])
SHAPE = (20, 50, 60)


def ct_and_mask(*, orientation="SPL", origin=None):
    """Return both on a grid of 20 x 50 x 60 voxels of 5 x 2 x 2 mm, stored in some orientation."""
    hu = np.full(SHAPE, -100, dtype=np.int16)
    hu[12:20, 0:20, 40:60] = 1000  # head, anterior, left
    hu[:, 45:, 50:] = np.arange(-150, 50, 10)[:, None, None]  # no two slices are alike
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[5:15, 10:40, 5:30] = 1
    labels[8:10, 20:26, 10:16] = 2
    origin = replace(origin or Origin(series_instance_uid=SERIES), labels=LABELS)
    turned = []
    for array in (hu, labels):
        view, affine = reorient(array, AXIAL, orientation)
        turned.append(Volume(array=np.ascontiguousarray(view), affine=affine, origin=origin))
    return turned[0], turned[1]


@dataclass(frozen=True)
class _Times:
    """Seconds after 12:00:00 at which a stage began and ended."""

    started: float
    finished: float


_STAGES = {"dicom-reader": _Times(1, 3), "ai-livertumor": _Times(4, 8), "dicom-writer": _Times(8, 10)}


def clock(seconds):
    return f"2026-03-04T12:00:{seconds:06.3f}+00:00"


def finished_job(root, *, failed=None, message="", log_lines=(), results=()):
    """Make the payload of a job whose stages took as long as `_STAGES` says, up to the one that failed."""
    workflow = load_workflows(Places.here({}).values)[LIVER_SEG]
    payload = Payload(root=root / "job-1", job_id="job-1")
    payload.make_folders(workflow)
    payload.record.write_text(json.dumps({"started": clock(0)}))
    locks.publish(payload.lock_dir / "input.lock", locks.Lock(job="job-1", stage="input", finished=clock(0)))
    statuses = []
    for name, times in _STAGES.items():
        if failed in {status.name for status in statuses}:
            statuses.append(_failure(payload, name, 5, f"upstream failed: {failed}", times, root=failed))
        elif name == failed:
            statuses.append(_failure(payload, name, 3, message, times, root=name))
        else:
            statuses.append(_success(payload, name, times))
    payload.log("dicom-reader").write_text("".join(f"{line}\n" for line in log_lines))
    payload.log("ai-livertumor").write_text(
        "2026-03-04T12:00:01Z INFO ai_livertumor: model small_liver version 3 at 127.0.0.1:8001 is ready\n"
    )
    files = []
    for name in results:
        files.append(payload.folder("dicom-writer/output") / name)
        files[-1].write_bytes(b"x" * 2048)
    origin = Origin(
        series_instance_uid=SERIES,
        repairs=("spacing made even",),
        selection={
            SERIES: "chosen: 20 axial CT slices",
            OTHER_SERIES: "not chosen, fewer slices: 3 axial CT slices",
        },
    )
    image, mask = (None, None) if failed else ct_and_mask(origin=origin)
    culprit = next((status for status in statuses if status.name == failed), None)
    return FinishedJob(
        workflow=workflow,
        payload=payload,
        outcome=Outcome(statuses=tuple(statuses), culprit=culprit, engine="process", images={}),
        seconds=10.25,
        findings=() if mask is None else compare(mask, LABELS),
        image=image,
        mask=mask,
        results=files,
    )


def _success(payload, name, times):
    lock = locks.Lock(job="job-1", stage=name, started=clock(times.started), finished=clock(times.finished))
    locks.publish(payload.lock_dir / f"{name}.lock", lock)
    return StageStatus(name=name, state="done", seconds=1.0, peak_memory_bytes=2**20, exit_code=0)


def _failure(payload, name, code, message, times, *, root):
    failure = locks.Failure(
        job="job-1",
        stage=name,
        started=clock(0),
        finished=clock(times.finished),
        error="InputError",
        exit_code=code,
        message=message,
        root_stage=root,
        root_message=message,
    )
    locks.publish(payload.lock_dir / f"{name}.failed", failure)
    return StageStatus(name=name, state="failed", message=message, exit_code=code)
