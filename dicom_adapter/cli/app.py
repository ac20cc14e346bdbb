"""The DICOM adapter: run it, look at what it has to do, replay dead letters, release held studies."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from clara_wf.commands.lazy import SETTINGS
from clara_wf.commands.options import AsJson, print_table, say, surroundings
from stages.errors import InputError, OutputError, SettingsError, StageError
from stages.runtime.extras import require_extra

if TYPE_CHECKING:
    from dicom_adapter.config.blocks import Config
    from dicom_adapter.database.records import JobRecord
    from dicom_adapter.database.set_aside import SetAside
    from dicom_adapter.database.store import Store

require_extra("adapter")

app = typer.Typer(**SETTINGS, invoke_without_command=True)

_POLL_S = 0.1
_STOP_S, _RESERVE_S = 9.0, 0.6
_ASIDE = "aside-"
_SHOWN = ("queued", "running", "dead")


WaitSeconds = Annotated[
    float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="Longest wait for an answer.")
]


@dataclass(frozen=True, kw_only=True)
class _OpenStore:
    """The database of an adapter, whether it runs or not."""

    config: Config
    store: Store


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
        _serve(_named(config), surroundings(context).environ)


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

    with _opened(context) as opened:
        left = unconfigured(opened.store, opened.config)
        jobs = [_row(opened, job) for job in opened.store.jobs(*(() if every else _SHOWN))]
        counted, _ = counts_by_destination(opened.store)
        messages = last_messages(opened.store)
        aside = [_aside_row(each) for each in all_items(opened.store)]
    destinations = [
        {"destination": name, "state": state, "results": count, "last failure": messages.get(name, "")}
        for (name, state), count in counted.items()
        if every or state not in ("delivered", "unchanged", "cancelled")
    ]
    if as_json:
        say(
            json.dumps(
                {"jobs": jobs, "deliveries": destinations, "set aside": aside, "unconfigured": left}, indent=2
            )
        )
        return
    _show(jobs, "no job waits, runs or is a dead letter")
    _show(destinations, "no result waits for a destination")
    if aside:
        say("Set aside, until clara-wf adapter replay tries it again:")
        _show(aside, "nothing is set aside")
    for each in left:
        say(each)


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
    """Let dead letters start again, and what is set aside.

    Dead letters are jobs that failed, and results that could not be delivered; what is set aside is what the
    adapter could do nothing with, such as an instance. The adapter may run meanwhile.
    """
    with _opened(context) as opened:
        if job is None or job.startswith(_ASIDE):
            _replay_aside(opened.store, job)
        if job is not None and job.startswith(_ASIDE):
            return
        found = _dead_letters(opened.store)
        chosen = _chosen(found, job, "is a dead letter")
        for each in chosen:
            opened.store.replay(each)
            say(f"job {each} starts again" if len(chosen) < 2 else f"{each} starts again")
        if not chosen:
            say("there are no dead letters")


@app.command("dead-letters")
def show_dead_letters(context: typer.Context, as_json: AsJson = False) -> None:
    """Show dead letters, and why they are.

    They are jobs that failed, and results that could not be delivered. Nothing of them is removed; `replay`
    lets them start again.
    """
    with _opened(context) as opened:
        jobs = [_row(opened, job) for job in opened.store.jobs("dead")]
        results = _dead_results(opened.store)
    if as_json:
        say(json.dumps({"jobs": jobs, "results": results}, indent=2))
        return
    _show(jobs, "no job is a dead letter")
    _show(results, "no result is a dead letter")


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

    with _opened(context) as opened:
        found = list(dict.fromkeys(each.job_id for each in opened.store.deliveries("uncommitted")))
        for each in _chosen(found, job, "waits for storage commitment"):
            say(f"{ask_again(opened.store, each)} results of job {each} are asked for")
        if not found:
            say("no result waits for storage commitment")


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

    with _opened(context) as opened:
        held = {study_hash(each.study_uid): each.id for each in opened.store.studies("held")}
        if study not in held:
            raise InputError(f"no study {study!r} is held; there are: {', '.join(held) or 'none'}")
        studies = StudyTracker(
            opened.store, lambda: opened.config, on_jobs=lambda of, jobs: None, study_locks=StudyLocks()
        )
        for job in studies.release(held[study]):
            say(f"job {job.id} ({job.rule}) is queued")


@app.command("audit")
def check_audit(context: typer.Context) -> None:
    """Check the audit trail.

    No line was changed or taken out; lines that a full disk or a crash has cut off are told.
    """
    from dicom_adapter.observability.audit_chain import check_chain
    from dicom_adapter.storage.paths import AdapterPaths

    file = AdapterPaths(root=_config(context).storage.root).audit
    with _permitted():
        if file.exists() and not file.is_file():
            raise SettingsError(f"the audit trail {file} is no regular file; put it back, or move this away")
        if not file.is_file():
            raise SettingsError(f"there is no audit trail {file}; no adapter has run there")
        found = check_chain(file)
    for place in found.cut:
        say(f"{place} was cut off by a full disk or a crash; it is part of the chain")
    if not found.is_whole:
        say("older files of the trail are not there; it was checked from the oldest that is")
    if found.broken:
        raise InputError(f"{found.broken} does not follow the one before, which was changed or is gone")
    say(f"{file}: every line follows the one before; there are {found.lines}")


@app.command("rebuild")
def rebuild_database(context: typer.Context) -> None:
    """Make a new database where the one there is damaged or gone.

    The adapter must not run. The damaged one is moved aside and kept. What was received is taken from its
    files; jobs and results from what can still be read, the payloads and the audit trail. A result of which
    nothing tells whether its destination has it becomes a dead letter.
    """
    from dicom_adapter.rebuild import rebuild

    told = rebuild(_config(context))
    for line in told.unreadable:
        say(f"left where it is: {line}")
    if told.aside is not None:
        say(f"the database that was there is kept in {told.aside}")
    for table, count in told.salvaged.rows.items():
        part = ", not all of them" if table in told.salvaged.incomplete else ""
        say(f"read of it: {count} {table}{part}")
    say(f"found beside it: {told.instances} instances, {_counted(told.jobs)} jobs")
    say(f"found beside it: {_counted(told.deliveries)} results")
    say("start the adapter; `status` and its page show what is dead or held, `replay` and `release` go on")


def _counted(states: Mapping[str, int]) -> str:
    parts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    return f"{sum(states.values())} ({parts})" if parts else "0"


@app.command("health")
def show_health(context: typer.Context, timeout: WaitSeconds = 5.0) -> None:
    """Ask the adapter on this machine whether it can take a study."""
    from dicom_adapter.status.health import ask_ready

    say(ask_ready(_config(context).http, timeout_s=timeout))


@app.command("echo")
def send_echo(
    context: typer.Context,
    host: Annotated[str, typer.Option("--host", help="Where the adapter is called.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option("--port", help="Default: the configuration's.")] = None,
    timeout: WaitSeconds = 10.0,
) -> None:
    """Call the adapter by C-ECHO, as one of its sources."""
    from dicom_adapter.status.echo import echo

    scp = _config(context).dicom.scp
    say(echo(scp, host, port or scp.port, timeout_s=timeout))


@contextmanager
def _opened(context: typer.Context) -> Iterator[_OpenStore]:
    """Open the database of the adapter that the configuration is of."""
    from dicom_adapter.database.faults import damaged
    from dicom_adapter.database.integrity import require_there
    from dicom_adapter.database.store import Store
    from dicom_adapter.storage.paths import AdapterPaths

    config = _config(context)
    places = AdapterPaths(root=config.storage.root)
    file = places.database
    with _permitted():
        require_there(file, studies=places.studies)
        if file.exists() and not file.is_file():
            raise damaged(file, "it is no file")
        if not file.is_file():
            raise SettingsError(f"there is no database in {file.parent}; no adapter has run there")
        store = Store(file, migrates=False)  # an adapter of another release may run on it
    try:
        yield _OpenStore(config=config, store=store)
    finally:
        store.close()


@contextmanager
def _permitted() -> Iterator[None]:
    """Say of what may not be read who may."""
    try:
        yield
    except PermissionError as error:
        raise OutputError(
            f"{error.filename} cannot be read: {error.strerror}; be the adapter's user"
        ) from error


def _config(context: typer.Context) -> Config:
    from dicom_adapter.config.load import load_config

    assert context.parent is not None, "the group has the option"
    return load_config(_named(context.parent.params["config"]))


def _named(config: Path | None) -> Path:
    if config is None:
        raise SettingsError("name the configuration: clara-wf adapter --config FILE")
    return config


def _dead_letters(store: Store) -> list[str]:
    """Return the IDs of jobs that are dead letters, or have results that are."""
    jobs = [each.id for each in store.jobs("dead")]
    return list(dict.fromkeys([*jobs, *(each.job_id for each in store.deliveries("dead"))]))


def _replay_aside(store: Store, name: str | None) -> None:
    """Let what is set aside be worked on again: one item by its name, or all."""
    from clara_wf.report.logs import without_uids
    from dicom_adapter.database.set_aside import all_items
    from dicom_adapter.studies.replay import replay_item

    items = all_items(store)
    found = [each for each in items if name in (None, f"{_ASIDE}{each.id}")]
    if name is not None and not found:
        known = ", ".join(f"{_ASIDE}{each.id}" for each in items) or "nothing"
        raise InputError(f"nothing is set aside as {name!r}; there is: {known}")
    for each in found:
        try:
            replay_item(store, each)
            say(f"{_ASIDE}{each.id} ({each.kind}) is worked on again")
        except StageError as error:
            say(f"{_ASIDE}{each.id} ({each.kind}) stays set aside: {without_uids(str(error))}")


def _aside_row(item: SetAside) -> dict[str, object]:
    from clara_wf.report.logs import without_uids

    return {
        "item": f"{_ASIDE}{item.id}",
        "kind": item.kind,
        "what": without_uids(item.item),
        "study": item.study,
        "since": item.since,
        "reason": without_uids(item.reason),
    }


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


def _dead_results(store: Store) -> list[dict[str, object]]:
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


def _row(opened: _OpenStore, job: JobRecord) -> dict[str, object]:
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


def _show(rows: list[dict[str, object]], nothing: str) -> None:
    if not rows:
        say(nothing)
        return
    cells = [["" if cell is None else str(cell) for cell in row.values()] for row in rows]
    print_table(list(rows[0]), cells, whole=("job", "study", "item"))


@dataclass
class _SignalFlags:
    """What signals have asked for, as plain flags: a handler must wait for no lock."""

    to_stop: bool = False
    to_reload: bool = False
    stop_s: Callable[[], float] = lambda: _STOP_S


def _serve(config: Path, environ: Mapping[str, str]) -> None:
    """Run until a signal says stop."""
    from dicom_adapter.service import running

    asked = _SignalFlags()

    def stop(number: int, frame: FrameType | None) -> None:
        asked.to_stop = True

    def reload(number: int, frame: FrameType | None) -> None:
        asked.to_reload = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    signal.signal(signal.SIGHUP, reload)
    threading.Thread(target=_end_in_time, args=(asked,), name="last resort", daemon=True).start()
    logger = logging.getLogger(__name__)
    with running(config.resolve(), environ=environ) as adapter:
        asked.stop_s = adapter.stop_s
        logger.info("listening: DICOM on port %d, HTTP on port %d", adapter.dicom_port, adapter.http_port)
        while not asked.to_stop:
            if asked.to_reload:
                asked.to_reload = False
                adapter.reload()
            time.sleep(_POLL_S)
        logger.info("stopping")
    if adapter.left_over:
        _end_by_force()


def _end_in_time(asked: _SignalFlags) -> None:
    """Wait until the end is asked for, and end by force if it takes too long."""
    while not asked.to_stop:
        time.sleep(_POLL_S)
    time.sleep(asked.stop_s() + _RESERVE_S)
    _end_by_force()


def _end_by_force() -> None:
    """End although a thread hangs, which would keep the interpreter from its end: as safe as a crash is."""
    logging.getLogger(__name__).warning("ended by force; what was not finished goes on at the next start")
    logging.shutdown()
    os._exit(0)
