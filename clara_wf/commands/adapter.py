"""The DICOM adapter: run it, look at what it has to do, replay dead letters, release held studies."""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from clara_wf.commands.lazy import SETTINGS
from clara_wf.commands.options import AsJson, print_table, say, surroundings
from stages.errors import InputError, SettingsError

if TYPE_CHECKING:
    from dicom_adapter.books.records import Job
    from dicom_adapter.books.store import Store
    from dicom_adapter.config_blocks import Config

app = typer.Typer(**SETTINGS, invoke_without_command=True)

_POLL_S = 0.2
_SHOWN = ("queued", "running", "dead")
_LIBRARIES = ("pynetdicom", "urllib3", "pydicom")


@dataclass(frozen=True, kw_only=True)
class _Books:
    """The books of an adapter, whether it runs or not."""

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
        _log_json(logging.DEBUG if verbose else logging.INFO)
        _serve(_named(config), surroundings(context).environ)


@app.command("status")
def show_status(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Also the jobs that have come to their end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show jobs and results that are not at their end.

    Jobs that wait, run or are dead letters, and what each destination has not taken.
    """
    from dicom_adapter.books.delivery_books import counts_by_destination, last_messages

    with _books(context) as books:
        jobs = [_row(books, job) for job in books.store.jobs(*(() if every else _SHOWN))]
        counted, _ = counts_by_destination(books.store)
        messages = last_messages(books.store)
    destinations = [
        {"destination": name, "state": state, "results": count, "last failure": messages.get(name, "")}
        for (name, state), count in counted.items()
        if every or state not in ("delivered", "unchanged", "cancelled")
    ]
    if as_json:
        say(json.dumps({"jobs": jobs, "deliveries": destinations}, indent=2))
        return
    _show(jobs, "no job waits, runs or is a dead letter")
    _show(destinations, "no result waits for a destination")


@app.command("replay")
def replay(
    context: typer.Context,
    job: Annotated[
        str | None, typer.Argument(metavar="[JOB]", help="ID of a job, or how it begins. Without one: all.")
    ] = None,
) -> None:
    """Let dead letters start again.

    They are jobs that failed, and results that could not be delivered. The adapter may run meanwhile.
    """
    with _books(context) as books:
        found = _dead_letters(books.store)
        chosen = found if job is None else [each for each in found if each.startswith(job)]
        if job is not None and len(chosen) != 1:
            known = ", ".join(found) or "none"
            raise InputError(f"{job!r} is no dead letter, or the beginning of several; there are: {known}")
        for each in chosen:
            books.store.replay(each)
            say(f"job {each} starts again" if len(chosen) < 2 else f"{each} starts again")
        if not chosen:
            say("there are no dead letters")


@app.command("release")
def release(
    context: typer.Context,
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="Hash of the study, as the status page has it.")
    ],
) -> None:
    """Run the workflows on a study that is held.

    Its late instances are, where the configuration says `late: wait`.
    """
    from dicom_adapter.receiving.claims import Claims
    from dicom_adapter.running.studies import Studies
    from dicom_adapter.watching.pseudonym import study_hash

    with _books(context) as books:
        held = {study_hash(each.study_uid): each.id for each in books.store.studies("held")}
        if study not in held:
            raise InputError(f"no study {study!r} is held; there are: {', '.join(held) or 'none'}")
        studies = Studies(books.store, lambda: books.config, on_jobs=lambda of, jobs: None, claims=Claims())
        for job in studies.release(held[study]):
            say(f"job {job.id} ({job.rule}) is queued")


@app.command("audit")
def check_audit(context: typer.Context) -> None:
    """Check the audit trail: no line was changed or taken out."""
    from dicom_adapter.config import load_config
    from dicom_adapter.places import AdapterPlaces
    from dicom_adapter.watching.audit import first_break

    assert context.parent is not None, "the group has the option"
    file = AdapterPlaces(root=load_config(_named(context.parent.params["config"])).storage.root).audit
    if not file.is_file():
        raise SettingsError(f"there is no audit trail {file}; no adapter has run there")
    broken = first_break(file)
    if broken is not None:
        raise InputError(
            f"{file}: line {broken} does not follow the one before, which was changed or is gone"
        )
    say(f"{file}: every line follows the one before")


@contextmanager
def _books(context: typer.Context) -> Iterator[_Books]:
    """Open the books of the adapter that the configuration is of."""
    from dicom_adapter.books.store import Store
    from dicom_adapter.config import load_config
    from dicom_adapter.places import AdapterPlaces

    assert context.parent is not None, "the group has the option"
    config = load_config(_named(context.parent.params["config"]))
    file = AdapterPlaces(root=config.storage.root).books
    if not file.is_file():
        raise SettingsError(f"there are no books in {file.parent}; no adapter has run there")
    store = Store(file)
    try:
        yield _Books(config=config, store=store)
    finally:
        store.close()


def _named(config: Path | None) -> Path:
    if config is None:
        raise SettingsError("name the configuration: clara-wf adapter --config FILE")
    return config


def _dead_letters(store: Store) -> list[str]:
    """Return the IDs of jobs that are dead letters, or have results that are."""
    jobs = [each.id for each in store.jobs("dead")]
    return list(dict.fromkeys([*jobs, *(each.job_id for each in store.deliveries("dead"))]))


def _row(books: _Books, job: Job) -> dict[str, object]:
    from dicom_adapter.running.payload import why_pending
    from dicom_adapter.watching.pseudonym import study_hash

    pending = why_pending(job, books.config.storage.payloads)
    return {
        "job": job.id,
        "workflow": job.rule,
        "study": study_hash(books.store.study(job.study_id).study_uid),
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
    print_table(list(rows[0]), cells, whole=("job", "study"))


def _log_json(level: int) -> None:
    from dicom_adapter.watching.json_logs import JsonFormatter

    root = logging.getLogger()
    root.setLevel(level)
    for handler in root.handlers:
        handler.setFormatter(JsonFormatter())
    for library in _LIBRARIES:
        logging.getLogger(library).setLevel(logging.WARNING)


def _serve(config: Path, environ: Mapping[str, str]) -> None:
    """Run until a signal says stop."""
    from dicom_adapter.service import running

    stopping, reloading = threading.Event(), threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    def reload(number: int, frame: FrameType | None) -> None:
        reloading.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    signal.signal(signal.SIGHUP, reload)
    logger = logging.getLogger(__name__)
    with running(config.resolve(), environ=environ) as adapter:
        logger.info("listening: DICOM on port %d, HTTP on port %d", adapter.dicom_port, adapter.http_port)
        while not stopping.wait(_POLL_S):
            if reloading.is_set():
                reloading.clear()
                adapter.reload()
        logger.info("stopping")
