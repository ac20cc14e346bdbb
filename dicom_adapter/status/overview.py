"""The adapter at a glance: what its status page shows and what its metrics count, read from the database."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from clara_wf.report.job_report import PAGE, REPORT
from clara_wf.report.logs import without_uids
from dicom_adapter.context import AdapterContext
from dicom_adapter.database import set_aside
from dicom_adapter.database.counts import counts, counts_by_destination, deliveries_of, last_messages
from dicom_adapter.database.records import JobRecord, StateError, StudyRecord
from dicom_adapter.jobs.job_input import why_pending
from dicom_adapter.observability.metrics import Queue
from dicom_adapter.observability.pseudonym import study_hash
from dicom_adapter.status.page import Cell, Page, Table
from dicom_adapter.status.unconfigured import unconfigured
from stages.lifecycle.locks import now
from stages.runtime import job_files

_MOST, _MOST_LABELS = 50, 3
_WAITS = ("waiting", "uncommitted", "dead")
_THERE = ("delivered", "unchanged")


def queue_of(context: AdapterContext) -> Queue:
    """Return how much there is to do at this moment."""
    counted = counts(context.store)
    deliveries, oldest = counts_by_destination(context.store)
    return Queue(
        studies=counted["studies"],
        jobs=counted["jobs"],
        deliveries=deliveries,
        oldest_delivery_s=oldest,
        free_bytes=shutil.disk_usage(context.config().storage.root).free,
        set_aside=set_aside.count(context.store),
        workers=context.supervisor.states(),
    )


def why_not_ready(context: AdapterContext) -> str:
    """Return why no study can be taken now; "" if one can."""
    if why := context.supervisor.why_not_ready():
        return without_uids(why)
    storage = context.config().storage
    free = shutil.disk_usage(storage.root).free
    if free < storage.minimum_free:
        return f"{free >> 20} MiB are free where images are kept, {storage.minimum_free >> 20} must be"
    return context.store.trouble or context.trail.trouble


def why_unhealthy(context: AdapterContext) -> str:
    """Return which workers are dead or stuck, so that the adapter is to be started again; "" if none is."""
    return without_uids(context.supervisor.why_unhealthy())


def report_of(context: AdapterContext, job: str) -> Path | None:
    """Return the page of a job, if there is such a job and page.

    Parameters
    ----------
    context, job
        What the adapter's parts work with and the job's ID.
    """
    try:
        known = context.store.job(job)
    except StateError:
        return None
    page = _page_of(context, known)
    return page if page.is_file() else None


def page_of(context: AdapterContext) -> Page:
    """Return what the status page shows."""
    queue = queue_of(context)
    studies, jobs = context.store.studies(most=_MOST), context.store.jobs(most=_MOST)[::-1]
    by_id = {each.id: each for each in studies}
    for job in jobs:
        if job.study_id not in by_id:
            by_id[job.study_id] = context.store.study(job.study_id)
    return Page(
        ae_title=", ".join(each.ae_title for each in context.config().dicom.scp.ae_titles),
        time=_shown(now()),
        facts=_facts(queue),
        problems=_problems(context, queue),
        tables=(
            _jobs(context, jobs, by_id, more=sum(queue.jobs.values()) - len(jobs)),
            _deliveries(context, jobs),
            _destinations(context, queue),
            *_set_aside(context),
            _studies(studies, more=sum(queue.studies.values()) - len(studies)),
        ),
    )


def _facts(queue: Queue) -> list[tuple[str, str]]:
    undelivered = sum(n for (_, state), n in queue.deliveries.items() if state in _WAITS)
    return [
        ("studies being received", str(queue.studies.get("receiving", 0))),
        ("jobs queued", str(queue.jobs.get("queued", 0))),
        ("jobs running", str(queue.jobs.get("running", 0))),
        ("results to deliver", str(undelivered)),
        ("disk free", f"{queue.free_bytes / 2**30:.1f} GiB"),
    ]


def _problems(context: AdapterContext, queue: Queue) -> list[str]:
    problems = [why_not_ready(context)]
    if dead := queue.jobs.get("dead", 0):
        problems.append(f"{dead} jobs are dead letters; they run again with: clara-wf adapter replay")
    if held := queue.studies.get("held", 0):
        problems.append(f"{held} studies are held (instances late or set aside): clara-wf adapter release")
    if aside := sum(queue.set_aside.values()):
        problems.append(f"{aside} items are set aside; they are tried again with: clara-wf adapter replay")
    for (destination, state), count in sorted(queue.deliveries.items()):
        if state == "dead":
            problems.append(f"{count} results for {destination} are dead letters: clara-wf adapter replay")
    return [each for each in (*problems, *unconfigured(context.store, context.config())) if each]


def _jobs(
    context: AdapterContext, jobs: Sequence[JobRecord], studies: Mapping[int, StudyRecord], *, more: int
) -> Table:
    payloads = context.config().storage.payloads
    pending = {job.id: why_pending(job, payloads) for job in jobs}
    rows = [
        (
            Cell(text=job.id[:8], kind="code"),
            Cell(text=job.rule),
            Cell(text=study_hash(studies[job.study_id].study_uid), kind="code"),
            Cell(text="pending" if pending[job.id] else job.state, kind="state"),
            Cell(text=str(job.tries), kind="number"),
            Cell(text=_shown(job.changed), kind="time"),
            Cell(text=without_uids(pending[job.id] or job.reason), kind="message"),
            Cell(text=found_in(_page_of(context, job).with_name(REPORT)), kind="message"),
            Cell(
                text=f"report of {job.id[:8]}",
                kind="link",
                href=f"reports/{job.id}" if _page_of(context, job).is_file() else "",
            ),
        )
        for job in jobs
    ]
    headings = ("job", "workflow", "study", "state", "tries", "since", "why", "found", "report")
    return Table(key="jobs", title="Jobs", headings=headings, rows=rows, more=max(0, more))


def _deliveries(context: AdapterContext, jobs: Sequence[JobRecord]) -> Table:
    found = deliveries_of(context.store, [job.id for job in jobs])
    rows = [
        (
            Cell(text=job[:8], kind="code"),
            Cell(text=destination),
            Cell(text=_worst(states), kind="state"),
            Cell(text=f"{sum(states.get(s, 0) for s in _THERE)} of {sum(states.values())}", kind="number"),
        )
        for (job, destination), states in found.items()
    ]
    headings = ("job", "destination", "state", "delivered")
    return Table(key="deliveries", title="Deliveries", headings=headings, rows=rows)


def _set_aside(context: AdapterContext) -> list[Table]:
    """Return the table of what is set aside, if anything is."""
    rows = [
        (
            Cell(text=f"aside-{each.id}", kind="code"),
            Cell(text=each.kind),
            Cell(text=each.study, kind="code"),
            Cell(text=_shown(each.since), kind="time"),
            Cell(text=without_uids(each.reason), kind="message"),
        )
        for each in set_aside.all_items(context.store)
    ]
    headings = ("item", "kind", "study", "since", "reason")
    shown = Table(key="set-aside", title="Set aside", headings=headings, rows=rows[-_MOST:])
    return [replace(shown, more=max(0, len(rows) - _MOST))] if rows else []


def _destinations(context: AdapterContext, queue: Queue) -> Table:
    messages = last_messages(context.store)
    names = [each.name for each in context.config().dicom.scu.destinations]
    names += sorted({name for name, _ in queue.deliveries} - set(names))
    rows = [
        (
            Cell(text=name),
            *(
                Cell(text=str(queue.deliveries.get((name, state), 0)), kind="number")
                for state in ("delivered", "unchanged", "waiting", "uncommitted", "dead")
            ),
            Cell(text=without_uids(messages.get(name, "")), kind="message"),
        )
        for name in names
    ]
    headings = (
        *("destination", "delivered", "unchanged", "waiting", "not committed", "dead letters"),
        "last failure",
    )
    return Table(key="destinations", title="Destinations", headings=headings, rows=rows)


def _studies(studies: Sequence[StudyRecord], *, more: int) -> Table:
    rows = [
        (
            Cell(text=study_hash(each.study_uid), kind="code"),
            Cell(text=each.ae_title),
            Cell(text=each.state, kind="state"),
            Cell(text=str(each.instances), kind="number"),
            Cell(text=str(each.conflicts), kind="number"),
            Cell(text=_shown(each.received), kind="time"),
        )
        for each in studies
    ]
    headings = ("study", "sent to", "state", "instances", "in conflict", "last received")
    return Table(key="studies", title="Studies", headings=headings, rows=rows, more=max(0, more))


def _worst(states: Mapping[str, int]) -> str:
    return next((each for each in ("dead", "waiting", "uncommitted", *_THERE) if each in states), "cancelled")


def found_in(report: Path) -> str:
    """Return in a few words what a job's report says: its labels by name, and how many warnings it has.

    Parameters
    ----------
    report
        The file of the report.
    """
    try:
        content = job_files.read_object(report)
        labels = [f"{each['name']} {each['volume_ml']:.1f} ml" for each in content["findings"]]
        warnings = len(content["warnings"])
    except (ValueError, KeyError, TypeError):  # also what is no file (`JobFileError`)
        return ""
    more = [f"{len(labels) - _MOST_LABELS} more labels"] if len(labels) > _MOST_LABELS else []
    warned = [f"{warnings} warning{'s' if warnings > 1 else ''}"] if warnings else []
    return ", ".join([*labels[:_MOST_LABELS], *more, *warned])


def _page_of(context: AdapterContext, job: JobRecord) -> Path:
    return context.config().storage.payloads / job.id / "publish" / PAGE


def _shown(time: str) -> str:
    return f"{time[:10]} {time[11:19]} UTC"
