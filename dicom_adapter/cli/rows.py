"""What commands show of jobs, results and what is set aside, a row each."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from clara_wf.commands.options import print_line, print_table
from dicom_adapter.cli.open_store import OpenStore
from stages.errors import OutputError

if TYPE_CHECKING:
    from dicom_adapter.database.records import JobRecord
    from dicom_adapter.database.set_aside import SetAside
    from dicom_adapter.database.store import Store

ASIDE = "aside-"


def aside_row(item: SetAside) -> dict[str, object]:
    """Return what is shown of something that is set aside.

    Parameters
    ----------
    item
        What is set aside.
    """
    from clara_wf.report.logs import without_uids

    return {
        "item": f"{ASIDE}{item.id}",
        "kind": item.kind,
        "what": without_uids(item.item),
        "study": item.study,
        "since": item.since,
        "reason": without_uids(item.reason),
    }


def dead_result_rows(store: Store) -> list[dict[str, object]]:
    """Return what could not be delivered: a row for each job, destination, kind and reason."""
    counted = Counter(
        (each.job_id, each.destination, _kind_of(each.path), each.tries, each.status, each.message)
        for each in store.deliveries("dead")
    )
    return [
        {
            "job": job,
            "destination": destination,
            "results": count,
            "kind": kind,
            "tries": tries,
            "last answer": status,
            "reason": reason,
        }
        for (job, destination, kind, tries, status, reason), count in counted.items()
    ]


def _kind_of(path: Path) -> str:
    from pydicom.uid import UID

    from dicom_adapter.storage.results import read_result

    try:
        return UID(read_result(path).sop_class_uid).name
    except OutputError:
        return "a file that cannot be read"


def job_row(opened: OpenStore, job: JobRecord) -> dict[str, object]:
    """Return what is shown of a job.

    Parameters
    ----------
    opened
        The database, and the configuration.
    job
        The job.
    """
    from dicom_adapter.jobs.job_input import why_pending
    from dicom_adapter.observability.pseudonym import study_hash

    pending = why_pending(job, opened.config.storage.payloads)
    return {
        "job": job.id,
        "workflow": job.rule,
        "study": study_hash(opened.store.study(job.study_id).study_uid),
        "state": "pending" if pending else job.state,
        "tries": job.tries,
        "exit code": job.exit_code,
        "last failure": job.reason,
        "pending": pending,
    }


def show_rows(rows: list[dict[str, object]], nothing: str) -> None:
    """Print rows as a table, or what is said where there is none.

    Parameters
    ----------
    rows
        Column and value of each row.
    nothing
        What is said where there is none.
    """
    if not rows:
        print_line(nothing)
        return
    cells = [["" if cell is None else str(cell) for cell in row.values()] for row in rows]
    print_table(list(rows[0]), cells, whole=("job", "study", "item"))
