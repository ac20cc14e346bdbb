"""The DICOM adapter: run it, look at what it has to do, replay dead letters, release held studies."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clara_wf.commands.lazy import SETTINGS
from clara_wf.commands.options import AsJson, command_context, print_line
from dicom_adapter.cli.open_store import config_of, named, open_store, permitted
from dicom_adapter.cli.rows import ASIDE, aside_row, dead_result_rows, job_row, show_rows
from dicom_adapter.cli.serve import serve
from stages.errors import InputError, SettingsError, StageError
from stages.runtime.extras import require_extra

if TYPE_CHECKING:
    from dicom_adapter.database.store import Store

require_extra("adapter")

app = typer.Typer(**SETTINGS, invoke_without_command=True)


_SHOWN = ("queued", "running", "dead")


WaitSeconds = Annotated[
    float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="Longest wait for an answer.")
]


@app.callback()
def run(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", envvar="CLARA_ADAPTER_CONFIG", help="The dicom-server-config.yaml."
        ),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Log more, for the person repairing it.")
    ] = False,
) -> None:
    """Receive studies by DICOM, run published workflows on them, send the results.

    Without a command it runs until SIGTERM or Ctrl-C; what was received or ran goes on at the next start.
    SIGHUP reads the file again; one with a mistake changes nothing. The log is one JSON object a line.
    """
    if context.invoked_subcommand is None:
        from dicom_adapter.observability import json_logs

        json_logs.configure(logging.DEBUG if verbose else logging.INFO)
        serve(named(config), command_context(context).environ)


@app.command("status")
def show_status(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Also the jobs that have come to their end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show jobs and results that are not at their end.

    Jobs that wait, run or are dead letters, what each destination has not taken, and what is set aside since
    nothing could be done with it.
    """
    from dicom_adapter.database.counts import counts_by_destination, last_messages
    from dicom_adapter.database.set_aside import all_items
    from dicom_adapter.status.unconfigured import unconfigured

    with open_store(context) as opened:
        left = unconfigured(opened.store, opened.config)
        jobs = [job_row(opened, job) for job in opened.store.jobs(*(() if every else _SHOWN))]
        counted, _ = counts_by_destination(opened.store)
        messages = last_messages(opened.store)
        aside = [aside_row(each) for each in all_items(opened.store)]
    destinations = [
        {"destination": name, "state": state, "results": count, "last failure": messages.get(name, "")}
        for (name, state), count in counted.items()
        if every or state not in ("delivered", "unchanged", "cancelled")
    ]
    if as_json:
        print_line(
            json.dumps(
                {"jobs": jobs, "deliveries": destinations, "set aside": aside, "unconfigured": left}, indent=2
            )
        )
        return
    show_rows(jobs, "no job waits, runs or is a dead letter")
    show_rows(destinations, "no result waits for a destination")
    if aside:
        print_line("Set aside, until clara-wf adapter replay tries it again:")
        show_rows(aside, "nothing is set aside")
    for each in left:
        print_line(each)


@app.command("replay")
def replay(
    context: typer.Context,
    job: Annotated[
        str | None,
        typer.Argument(
            metavar="[JOB]",
            help="ID of a job, or how it begins; or what is set aside, such as aside-3. Without one: all.",
        ),
    ] = None,
) -> None:
    """Restart dead letters, and what is set aside.

    Dead letters are jobs that failed, and results that could not be delivered; what is set aside is what the
    adapter could do nothing with, such as an instance. The adapter may run meanwhile.
    """
    with open_store(context) as opened:
        if job is None or job.startswith(ASIDE):
            _replay_aside(opened.store, job)
        if job is not None and job.startswith(ASIDE):
            return
        found = _dead_letters(opened.store)
        chosen = _chosen(found, job, "is a dead letter")
        for each in chosen:
            opened.store.replay(each)
            print_line(f"job {each} starts again" if len(chosen) < 2 else f"{each} starts again")
        if not chosen:
            print_line("there are no dead letters")


@app.command("dead-letters")
def show_dead_letters(context: typer.Context, as_json: AsJson = False) -> None:
    """Show dead letters, and why they are.

    They are jobs that failed, and results that could not be delivered. Nothing of them is removed; `replay`
    lets them start again.
    """
    with open_store(context) as opened:
        jobs = [job_row(opened, job) for job in opened.store.jobs("dead")]
        results = dead_result_rows(opened.store)
    if as_json:
        print_line(json.dumps({"jobs": jobs, "results": results}, indent=2))
        return
    show_rows(jobs, "no job is a dead letter")
    show_rows(results, "no result is a dead letter")


@app.command("commit")
def commit(
    context: typer.Context,
    job: Annotated[
        str | None, typer.Argument(metavar="[JOB]", help="ID of a job, or how it begins. Without one: all.")
    ] = None,
) -> None:
    """Ask destinations at once for storage commitment.

    They are those that have taken results and have not committed themselves to keep them. The adapter that
    runs asks; one that does not asks at its start.
    """
    from dicom_adapter.database.commitments import ask_again

    with open_store(context) as opened:
        found = list(dict.fromkeys(each.job_id for each in opened.store.deliveries("uncommitted")))
        for each in _chosen(found, job, "waits for storage commitment"):
            print_line(f"{ask_again(opened.store, each)} results of job {each} are asked for")
        if not found:
            print_line("no result waits for storage commitment")


@app.command("release")
def release(
    context: typer.Context,
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="Hash of the study, as the status page has it.")
    ],
) -> None:
    """Run the workflows on a study that is held.

    One is whose late instances wait for somebody (`late: wait`), or of which an instance is set aside.
    """
    from dicom_adapter.observability.pseudonym import study_hash
    from dicom_adapter.storage.study_locks import StudyLocks
    from dicom_adapter.studies.tracker import StudyTracker

    with open_store(context) as opened:
        held = {study_hash(each.study_uid): each.id for each in opened.store.studies("held")}
        if study not in held:
            raise InputError(f"no study {study!r} is held; there are: {', '.join(held) or 'none'}")
        studies = StudyTracker(
            opened.store, lambda: opened.config, on_jobs=lambda of, jobs: None, study_locks=StudyLocks()
        )
        for job in studies.release(held[study]):
            print_line(f"job {job.id} ({job.rule}) is queued")


@app.command("audit")
def check_audit(context: typer.Context) -> None:
    """Check the audit trail.

    No line was changed or taken out; lines that a full disk or a crash has cut off are told.
    """
    from dicom_adapter.observability.audit_chain import check_chain
    from dicom_adapter.storage.paths import AdapterPaths

    file = AdapterPaths(root=config_of(context).storage.root).audit
    with permitted():
        if file.exists() and not file.is_file():
            raise SettingsError(f"the audit trail {file} is no regular file; put it back, or move this away")
        if not file.is_file():
            raise SettingsError(f"there is no audit trail {file}; no adapter has run there")
        found = check_chain(file)
    for place in found.cut:
        print_line(f"{place} was cut off by a full disk or a crash; it is part of the chain")
    if not found.is_whole:
        print_line("older files of the trail are not there; it was checked from the oldest that is")
    if found.broken:
        raise InputError(f"{found.broken} does not follow the one before, which was changed or is gone")
    print_line(f"{file}: every line follows the one before; there are {found.lines}")


@app.command("rebuild")
def rebuild_database(context: typer.Context) -> None:
    """Make a new database where the one there is damaged or gone.

    The adapter must not run. The damaged one is moved aside and kept. What was received is taken from its
    files; jobs and results from what can still be read, the payloads and the audit trail. A result of which
    nothing tells whether its destination has it becomes a dead letter.
    """
    from dicom_adapter.rebuild import rebuild

    rebuilt = rebuild(config_of(context))
    for line in rebuilt.unreadable:
        print_line(f"left where it is: {line}")
    if rebuilt.aside is not None:
        print_line(f"the database that was there is kept in {rebuilt.aside}")
    for table, count in rebuilt.salvaged.rows.items():
        part = ", not all of them" if table in rebuilt.salvaged.incomplete else ""
        print_line(f"read of it: {count} {table}{part}")
    print_line(f"found beside it: {rebuilt.instances} instances, {_counted(rebuilt.jobs)} jobs")
    print_line(f"found beside it: {_counted(rebuilt.deliveries)} results")
    print_line(
        "start the adapter; `status` and its page show what is dead or held, `replay` and `release` go on"
    )


def _counted(states: Mapping[str, int]) -> str:
    parts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    return f"{sum(states.values())} ({parts})" if parts else "0"


@app.command("health")
def show_health(context: typer.Context, timeout: WaitSeconds = 5.0) -> None:
    """Ask the adapter on this machine whether it can take a study."""
    from dicom_adapter.status.probes import ask_ready

    print_line(ask_ready(config_of(context).http, timeout_s=timeout))


@app.command("echo")
def send_echo(
    context: typer.Context,
    host: Annotated[str, typer.Option("--host", help="Where the adapter is called.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option("--port", help="Default: the configuration's.")] = None,
    timeout: WaitSeconds = 10.0,
) -> None:
    """Call the adapter by C-ECHO, as one of its sources."""
    from dicom_adapter.status.probes import echo

    scp = config_of(context).dicom.scp
    print_line(echo(scp, host, port or scp.port, timeout_s=timeout))


def _dead_letters(store: Store) -> list[str]:
    """Return the IDs of jobs that are dead letters, or have results that are."""
    jobs = [each.id for each in store.jobs("dead")]
    return list(dict.fromkeys([*jobs, *(each.job_id for each in store.deliveries("dead"))]))


def _replay_aside(store: Store, name: str | None) -> None:
    """Queue what is set aside to be worked on again: one item by its name, or all."""
    from clara_wf.report.logs import without_uids
    from dicom_adapter.database.set_aside import all_items
    from dicom_adapter.studies.recovery import replay_item

    items = all_items(store)
    found = [each for each in items if name in (None, f"{ASIDE}{each.id}")]
    if name is not None and not found:
        known = ", ".join(f"{ASIDE}{each.id}" for each in items) or "nothing"
        raise InputError(f"nothing is set aside as {name!r}; there is: {known}")
    for each in found:
        try:
            replay_item(store, each)
            print_line(f"{ASIDE}{each.id} ({each.kind}) is worked on again")
        except StageError as error:
            print_line(f"{ASIDE}{each.id} ({each.kind}) stays set aside: {without_uids(str(error))}")


def _chosen(found: list[str], job: str | None, what: str) -> list[str]:
    """Return the jobs that are meant: the one that begins so, or all.

    Raises
    ------
    InputError
        If none begins so, or several do.
    """
    chosen = found if job is None else [each for each in found if each.startswith(job)]
    if job is not None and len(chosen) != 1:
        known = ", ".join(found) or "none"
        raise InputError(f"no job, or more than one, that begins {job!r} {what}; there are: {known}")
    return chosen
