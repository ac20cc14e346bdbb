"""The life of a stage: startup, prepare, wait for its locks, execute, cleanup, release its own lock.

::

    startup ─▶ prepare ─▶ (wait for the locks of the stages before) ─▶ execute ─▶ cleanup
                                                                         │
                                               output synced, <stage>.lock published

All stages of a job are started at once, so whatever `prepare` does (imports, CUDA context, model
load) overlaps the work of the stages before. When anything fails, ``<stage>.failed`` is published
instead of the lock, and `main` returns the exit code of the error (`stages.errors`).
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from stages.errors import InputError, OutputError, SettingsError, StageError, UpstreamError, printable
from stages.lifecycle import locks, models_file, outputs, validity
from stages.lifecycle.heartbeat import HEARTBEAT_S, Heartbeat, sole_owner, wait_for_locks
from stages.lifecycle.model_record import ModelRecord
from stages.lifecycle.settings import PREFIX, StageSettings, is_in_job
from stages.lifecycle.signals import StopSignals
from stages.runtime import extras, job_files, logs
from stages.runtime.processes import peak_memory_bytes
from stages.volume.labels import Label

if TYPE_CHECKING:
    from stages.lifecycle.residence import ResidentJob

logger = logging.getLogger(__name__)

_SHORTEST_BEAT_S = 0.2
_RESIDENT = f"{PREFIX}RESIDENT"
_LONGEST_REASON = 4096  # bytes; Kubernetes keeps no more
_NOT_IN_A_JOB = (
    f"No job has started this stage: no {PREFIX}... is set, and there is no lock folder. "
    "To run it by hand give --input DIR and --output DIR; --help shows the rest."
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a stage needs to know of the job it works on.

    Attributes
    ----------
    job_id, stage_name
        Which job this is, and which of its stages.
    input_dirs, input_dir
        Folders to read; `input_dir` is the first of them.
    source_dir
        The job's original input, read only.
    output_dir
        The folder to write; it exists, and is empty unless the stage is run by hand.
    publish_dir
        Where pictures and reports for people go; None when nobody asks for them.
    triton_url
        ``host:port`` of the inference server, or None.
    arguments
        The stage's own options, as `Stage.add_arguments` declared them.
    labels
        What the workflow says of the labels of masks that do not say it themselves.
    timeout_s
        Longest time that `execute` may take, seconds; run by hand, longest time that it may wait for others.
    """

    job_id: str
    stage_name: str
    input_dirs: tuple[Path, ...]
    source_dir: Path
    output_dir: Path
    publish_dir: Path | None
    triton_url: str | None
    arguments: argparse.Namespace
    labels: tuple[Label, ...] = ()
    timeout_s: float = 300.0

    @property
    def input_dir(self) -> Path:
        """The first input folder."""
        return self.input_dirs[0]


class Stage:
    """The callbacks of a stage, in the order they are called; each may be left out but `execute`.

    Attributes
    ----------
    takes_labels
        Whether what it writes depends on `Job.labels`: then it runs again when
        the workflow says something else.
    may_stay
        Whether one process may serve as the beginning of many jobs (`stages.lifecycle.residence`).
    """

    takes_labels = False
    may_stay = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the stage's own options.

        Parameters
        ----------
        parser
            It has the options that every stage has.
        """

    def may_write_nothing(self, arguments: argparse.Namespace) -> bool:
        """Return whether these arguments ask for no output, so that ``--input`` needs no ``--output``.

        Parameters
        ----------
        arguments
            The stage's own options, as `add_arguments` declared them.
        """
        return False

    def warm_up(self) -> None:
        """Load what any job may need, in a process that stays for many; none that is for one job calls it.

        It is called once, before `startup`, and each job's process is forked from what is there then. So it
        must neither start a thread that stays nor touch a GPU.
        """

    def startup(self) -> None:
        """Begin; nothing is known of the job yet. In a process that stays it is called once for all jobs."""

    def prepare(self, job: Job) -> None:
        """Get ready while the stages before still work: the job is known, its inputs are not there.

        Parameters
        ----------
        job
            Its folders; the input may not be there yet.
        """

    def execute(self, job: Job) -> None:
        """Do the work: read `job.input_dir`, write `job.output_dir`.

        Parameters
        ----------
        job
            Its folders, and the stage's options.
        """
        raise SettingsError(f"{type(self).__name__} does not say what to execute")

    def models_used(self) -> Sequence[ModelRecord]:
        """Return the models that `execute` has used, for the lock: the stage runs again if one changes."""
        return ()

    def cleanup(self) -> None:
        """Release what was taken; called always, also after a failure."""


class _FunctionStage(Stage):
    takes_labels = True  # nobody knows

    def __init__(self, function: Callable[[Job], None]) -> None:
        self._function = function

    def execute(self, job: Job) -> None:
        self._function(job)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; {self.format_usage().strip()}")


def main(
    stage: Stage | Callable[[Job], None],
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    name: str = "stage",
) -> int:
    """Run a stage as a container's entry point does; log what goes wrong.

    Parameters
    ----------
    stage
        A `Stage`, or a function that does what `Stage.execute` does.
    argv
        The arguments after the program's name. With ``--input`` the stage runs once, at once, and
        without locks; without it, and where no job has started it, the usage is printed.
    environ
        ``NVIDIA_CLARA_*`` settings, see `stages.lifecycle.settings`. Where they name a folder of orders the
        stage stays, and this returns in the process of each job (`stages.lifecycle.residence`).
    name
        The stage's name where the environment gives none.

    Returns
    -------
    int
        The exit code: 0, or that of the error.
    """
    logs.configure()
    own = stage if isinstance(stage, Stage) else _FunctionStage(stage)
    if not environ.get(_RESIDENT):
        return _run(own, argv, environ, name, None)
    try:
        resident = _stay(own, environ)
    except Exception as error:  # a border: see `_run`
        return _told(error)
    if resident is None:
        return 0
    code = _run(own, argv, resident.environ, name, resident)
    resident.leave(code)
    return code


def _run(
    stage: Stage, argv: Sequence[str], environ: Mapping[str, str], name: str, resident: ResidentJob | None
) -> int:
    try:
        parser = _parser(stage, name)
        by_hand = any(a in ("-h", "--help", "--input") or a.startswith("--input=") for a in argv)
        if not by_hand and not is_in_job(environ):
            parser.parse_args(argv)
            sys.stderr.write(f"{parser.format_usage()}\n{_NOT_IN_A_JOB}\n")
            return SettingsError.exit_code
        settings = StageSettings.from_environ(environ, stage_name=name)
        if by_hand or not settings.use_locks:
            return _run_once(stage, parser, argv, settings)
        return _run_in_job(stage, parser, argv, settings, resident)
    except Exception as error:  # a border: what goes wrong is an exit code
        return _told(error)


def _told(error: Exception) -> int:
    """Log an error, and return its exit code."""
    known = extras.explain(error) if isinstance(error, ModuleNotFoundError) else error
    if isinstance(known, StageError):
        logger.error("%s", known)
        return known.exit_code
    logger.error("an error that this stage did not foresee", exc_info=error)
    return StageError.exit_code


def _stay(stage: Stage, environ: Mapping[str, str]) -> ResidentJob | None:
    """Return in the process of each job, with the log of a new process; None in the host, at its end."""
    from stages.lifecycle import residence

    if not stage.may_stay:
        raise SettingsError(f"{type(stage).__name__} does not stay for more than one job")
    job = residence.serve(stage.warm_up, stage.startup, environ)
    logs.configure()
    return job


def _parser(stage: Stage, name: str) -> _Parser:
    parser = _Parser(
        prog=f"python -m {name.replace('-', '_')}", description=_what_it_is(stage), allow_abbrev=False
    )
    parser.add_argument("--input", type=Path, metavar="DIR", help="folder to read; run once, without locks")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder to write")
    parser.add_argument("--source", type=Path, metavar="DIR", help="folder with the original DICOM files")
    parser.add_argument("--publish", type=Path, metavar="DIR", help="folder for pictures and reports")
    parser.add_argument("--verbose", action="store_true", help="log what helps to repair")
    stage.add_arguments(parser)
    return parser


def _what_it_is(stage: Stage) -> str:
    """Return the docstring of a stage's class as far as its first numpydoc section."""
    return (stage.__doc__ or "").partition("\n    Parameters\n")[0]


def _job(parser: _Parser, argv: Sequence[str], settings: StageSettings) -> Job:
    arguments = parser.parse_args(argv)
    level = logging.DEBUG if arguments.verbose else logging.INFO
    logs.configure(settings.log_file if settings.use_locks else None, level=level)
    return Job(
        job_id=settings.job_id,
        stage_name=settings.stage_name,
        input_dirs=(arguments.input,) if arguments.input else settings.input_dirs,
        source_dir=arguments.source or settings.source_dir,
        output_dir=arguments.output or settings.output_dir,
        publish_dir=arguments.publish or settings.publish_dir,
        triton_url=settings.triton_url,
        arguments=arguments,
        labels=settings.labels,
        timeout_s=settings.timeout_s,
    )


def _run_once(stage: Stage, parser: _Parser, argv: Sequence[str], settings: StageSettings) -> int:
    job = _job(parser, argv, replace(settings, use_locks=False))
    writes = bool(job.arguments.output or not job.arguments.input)
    if not writes and not stage.may_write_nothing(job.arguments):
        raise SettingsError("--input needs --output: the folder to write the result to")
    with StopSignals() as signals:
        try:
            stage.startup()
            stage.prepare(job)
            if writes:
                _make_output_folder(job.output_dir)
            stage.execute(job)
            signals.raise_swallowed()
        finally:
            signals.ignore()
            _clean_up(stage)
    return 0


def _run_in_job(
    stage: Stage,
    parser: _Parser,
    argv: Sequence[str],
    settings: StageSettings,
    resident: ResidentJob | None,
) -> int:
    job_files.make_folder(settings.lock_dir)
    _require_own_lock_files(settings)
    with sole_owner(settings.lock_dir, settings.stage_name):
        started = locks.now()
        heartbeat = Heartbeat(
            settings.lock_dir,
            settings.lock_name,
            job=settings.job_id,
            every_s=min(HEARTBEAT_S, max(_SHORTEST_BEAT_S, settings.timeout_s / 4)),  # others wait as long
        )

        def fail(error: BaseException) -> None:
            heartbeat.end()
            _publish_failure(error, settings, started)

        job_files.remove(locks.failure_path(settings.lock_dir, settings.lock_name))
        with StopSignals(on_forced_exit=fail) as signals:
            try:
                with heartbeat:
                    given = argv if settings.arguments is None else settings.arguments
                    _live(stage, _job(parser, argv, settings), given, settings, signals, resident)
            except BaseException as error:
                signals.ignore()
                fail(error)
                raise
            finally:
                signals.ignore()
                _clean_up(stage)
    return 0


def _live(
    stage: Stage,
    job: Job,
    arguments: Sequence[str],
    settings: StageSettings,
    signals: StopSignals,
    resident: ResidentJob | None,
) -> None:
    _require_own_output_folder(job, settings)
    awaited = [settings.lock_dir / name for name in settings.wait_locks]
    had_lock = job_files.is_there(settings.lock_dir / settings.lock_name)
    if all(map(job_files.is_there, awaited)) and _is_done(job, arguments, settings):
        return
    if resident is None or not resident.has_started:
        stage.startup()
    stage.prepare(job)
    signals.raise_swallowed()
    logger.info("job %s: waiting for %s", job.job_id, ", ".join(settings.wait_locks))
    wait_for_locks(
        settings.lock_dir,
        settings.wait_locks,
        timeout_s=settings.timeout_s,
        check=signals.raise_swallowed,  # logging, for one, goes on after an error
    )
    if had_lock and _is_done(job, arguments, settings):
        return
    if resident is not None:
        resident.turn()
    if not had_lock and job_files.is_there(settings.lock_dir / settings.lock_name):
        logger.warning("%s was published by another; it counts for nothing", settings.lock_name)
    job_files.remove(settings.lock_dir / settings.lock_name)
    _empty(job.output_dir)
    _require_inputs(job)
    inputs = validity.digests_of(settings.lock_dir, settings.wait_locks)
    started, clock = locks.now(), time.monotonic()
    with signals.time_limit(settings.timeout_s):
        stage.execute(job)
    signals.raise_swallowed()
    logger.info("done in %.1f s", time.monotonic() - clock)
    models = _with_files(stage.models_used(), settings.lock_dir)
    lock = _success(job, inputs=inputs, arguments=arguments, models=models, started=started)
    if stage.takes_labels:
        lock = replace(lock, labels=validity.labels_sha256(job.labels))
    signals.ignore()
    locks.publish(settings.lock_dir / settings.lock_name, lock)


def _is_done(job: Job, arguments: Sequence[str], settings: StageSettings) -> bool:
    """Return whether an earlier run did all there is to do."""
    reason = validity.why_invalid(
        settings.lock_dir,
        settings.lock_name,
        job=job.job_id,
        output_dir=job.output_dir,
        wait_locks=settings.wait_locks,
        arguments=arguments,
        labels=settings.labels,
    )
    if reason is None:
        logger.info("already done, nothing to do")
    return reason is None


def _with_files(models: Sequence[ModelRecord], lock_dir: Path) -> Iterator[ModelRecord]:
    """Yield the models with the hashes of their files, where whoever runs the job has said them."""
    now = models_file.read_models(lock_dir)
    for used in models:
        found = now.get(used.name)
        known = found is not None and found.version in ("", used.version)
        yield replace(used, files=found.files) if found is not None and known else used


def _success(
    job: Job,
    *,
    inputs: Mapping[str, str],
    arguments: Sequence[str],
    models: Iterable[ModelRecord],
    started: str,
) -> locks.Lock:
    """Sync the output to disk and describe it."""
    outputs.sync_tree(job.output_dir)
    return locks.Lock(
        job=job.job_id,
        stage=job.stage_name,
        started=started,
        finished=locks.now(),
        inputs=inputs,
        arguments=tuple(arguments),
        files=validity.files_named(arguments),
        models=tuple(models),
        outputs=outputs.describe_files(job.output_dir),
        peak_memory_bytes=peak_memory_bytes(),
    )


def _publish_failure(error: BaseException, settings: StageSettings, started: str) -> None:
    message = str(error) or type(error).__name__
    root = error.root if isinstance(error, UpstreamError) and error.root else (settings.stage_name, message)
    failure = locks.Failure(
        job=settings.job_id,
        stage=settings.stage_name,
        started=started,
        finished=locks.now(),
        error=type(error).__name__,
        exit_code=error.exit_code if isinstance(error, StageError) else 1,
        message=message,
        retryable=isinstance(error, StageError) and error.retryable,
        root_stage=root[0],
        root_message=root[1],
        peak_memory_bytes=peak_memory_bytes(),
    )
    try:
        locks.publish(locks.failure_path(settings.lock_dir, settings.lock_name), failure)
    except OutputError as unpublished:
        logger.error("%s", unpublished)
    _write_termination_log(message, settings.termination_log)


def _write_termination_log(message: str, file: Path | None) -> None:
    """Write the reason where Kubernetes looks for it when the container has ended."""
    if file is not None:
        try:
            whole = message.encode()[:_LONGEST_REASON].decode(errors="ignore")
            file.write_text(whole, encoding="utf-8")
        except OSError as error:
            logger.warning("the reason could not be left in %s: %s", file, error.strerror)


def _clean_up(stage: Stage) -> None:
    try:
        stage.cleanup()
    except Exception:
        logger.exception("cleanup failed; the result of the stage is not touched by it")


def _require_own_lock_files(settings: StageSettings) -> None:
    """Refuse a lock folder in which something else stands where this stage's files belong."""
    folder, name = settings.lock_dir, settings.lock_name
    for path in (folder / name, locks.failure_path(folder, name), locks.running_path(folder, name)):
        job_files.is_there(path)


def _require_own_output_folder(job: Job, settings: StageSettings) -> None:
    """Refuse an output folder that holds what must survive, since it is emptied before `execute`."""
    output = job.output_dir.resolve()
    for folder in (*job.input_dirs, job.source_dir, settings.lock_dir):
        if folder.resolve().is_relative_to(output):
            raise SettingsError(
                f"the output folder {printable(output)} holds {printable(folder)}; a stage's output is its "
                "own folder"
            )


def _require_inputs(job: Job) -> None:
    for folder in job.input_dirs:
        if not folder.is_dir():
            raise InputError(
                f"the input folder {printable(folder)} does not exist though the stages before are done"
            )


def _make_output_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {printable(folder)}: {error}") from error


def _empty(folder: Path) -> None:
    """Remove what an earlier, unfinished run left in the stage's own output folder."""
    _make_output_folder(folder)
    try:
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    except OSError as error:
        raise OutputError(f"cannot empty the output folder {printable(folder)}: {error}") from error
