"""Lock files: what they say, how one is published whole, and when one is still worth something.

One folder a job. ``<stage>.lock`` means success, ``<stage>.failed`` failure, ``<stage>.running`` is
refreshed while the stage lives (`stages.lifecycle.heartbeat`). The existence of a lock is what counts, so a
foreign stage may write an empty one; ours are one JSON object each. A file is written under another
name, synced, renamed, and its folder synced: it is seen whole or not at all. What is no regular file is
refused (`stages.runtime.job_files`).
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from stages.errors import OutputError, printable
from stages.lifecycle.model_record import ModelRecord, knows_weights, records_in, why_changed
from stages.runtime import atomic, job_files
from stages.volume.labels import Label
from stages.volume.labels_file import stored_labels

HOST = socket.gethostname()
_LARGEST_FAILURE, _LONGEST_MESSAGE = 1 << 20, 16 << 10  # bytes, characters
MODELS = "models.json"
"""Beside the locks: what the models are that a job's stages are served with, said by whoever runs the job."""


@dataclass(frozen=True, kw_only=True)
class OutputFile:
    """A file that a lock vouches for: path inside the output folder, size in bytes, SHA-256.

    Attributes
    ----------
    path
        Relative to the output folder, with slashes.
    size
        Bytes.
    sha256
        Hexadecimal.
    """

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Lock:
    """A stage's success.

    Attributes
    ----------
    job, stage, host
        Who succeeded, and where.
    started, finished
        ISO 8601, UTC, of `execute`; for people, never compared.
    inputs
        SHA-256 of each awaited lock file as it was, by name: a stage that ran on other inputs is
        seen by it.
    arguments
        The stage's command line.
    files
        SHA-256 of each file that the command line names, such as one of labels, by its absolute path.
    labels
        SHA-256 of what the workflow said of labels, where the stage takes that (`Stage.takes_labels`).
    models
        The models that it was made with.
    outputs
        Every file of the output folder.
    peak_memory_bytes
        Most resident memory that the stage's own process has had; 0 where that is not known.
    """

    job: str
    stage: str
    host: str = HOST
    started: str = ""
    finished: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    labels: str = ""
    models: tuple[ModelRecord, ...] = ()
    outputs: tuple[OutputFile, ...] = ()
    peak_memory_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A stage's failure, and the stage that began it (itself, or one upstream).

    Attributes
    ----------
    job, stage, host
        Who failed, and where.
    started, finished
        ISO 8601, UTC, of the driver; for people, never compared.
    error
        The name of the exception's class.
    exit_code
        Of the stage's process, 1 to 255 (`stages.errors`).
    message
        What went wrong, a sentence.
    retryable
        Whether the same run might succeed later.
    root_stage, root_message
        The stage that began it, and its message.
    peak_memory_bytes
        Most resident memory that the stage's own process has had; 0 where that is not known.
    """

    job: str
    stage: str
    host: str = HOST
    started: str = ""
    finished: str = ""
    error: str
    exit_code: int
    message: str
    retryable: bool = False
    root_stage: str
    root_message: str
    peak_memory_bytes: int = 0


def now() -> str:
    """Return the time as ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def stage_of(lock_name: str) -> str:
    """Return the stage (or ``input``) that publishes a lock.

    Parameters
    ----------
    lock_name
        ``<stage>.lock``.
    """
    return lock_name.removesuffix(".lock")


def failure_path(lock_dir: Path, lock_name: str) -> Path:
    """Return where the stage that owns this lock publishes its failure.

    Parameters
    ----------
    lock_dir
        The job's lock folder.
    lock_name
        The lock that the stage publishes, ``<stage>.lock``.
    """
    return lock_dir / f"{stage_of(lock_name)}.failed"


def running_path(lock_dir: Path, lock_name: str) -> Path:
    """Return where the stage that owns this lock shows that it lives.

    Parameters
    ----------
    lock_dir
        The job's lock folder.
    lock_name
        The lock that the stage publishes, ``<stage>.lock``.
    """
    return lock_dir / f"{stage_of(lock_name)}.running"


def publish(path: Path, content: Lock | Failure | Mapping[str, Any], *, durable: bool = True) -> None:
    """Write one JSON object so that others see all of it or nothing.

    Parameters
    ----------
    path
        The file.
    content
        What it holds then.
    durable
        Whether it is on disk when this returns.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    record = content if isinstance(content, Mapping) else asdict(content)
    text = as_json(record)
    if len(text) > job_files.LARGEST_RECORD:
        raise OutputError(
            f"cannot publish {printable(path)}: it would have {len(text)} bytes, and nobody reads more than "
            f"{job_files.LARGEST_RECORD}; put the files of the output together"
        )
    job_files.write_whole(path, text, durable=durable)


def as_json(record: Mapping[str, Any]) -> bytes:
    """Return a record as it is written.

    Parameters
    ----------
    record
        What JSON can hold.
    """
    return json.dumps(record, indent=1).encode()


def read_lock(path: Path) -> Lock | None:
    """Read a lock; None if it is not one of ours (a foreign stage may write anything).

    Parameters
    ----------
    path
        The lock.

    Raises
    ------
    JobFileError
        If what is there is no regular file, or too large for a lock.
    """
    record = job_files.read_object(path)
    try:
        outputs = tuple(OutputFile(**file) for file in record["outputs"])
        models = tuple(records_in(record.get("models")))
        arguments = tuple(record["arguments"])
        lock = Lock(**{**record, "outputs": outputs, "arguments": arguments, "models": models})
    except (KeyError, TypeError):
        return None
    return lock if _is_lock(lock) else None


def read_failure(path: Path) -> Failure | None:
    """Read a failure; None if there is none. A foreign one still counts, with its text as message.

    Parameters
    ----------
    path
        The failure, ``<stage>.failed``.

    Raises
    ------
    JobFileError
        If what is there is no regular file, or too large for a failure.
    """
    if not job_files.is_there(path):
        return None
    record = job_files.read_object(path, most_bytes=_LARGEST_FAILURE)
    with suppress(TypeError):
        failure = Failure(**record)
        if _is_failure(failure):
            return replace(
                failure,
                message=failure.message[:_LONGEST_MESSAGE],
                root_message=failure.root_message[:_LONGEST_MESSAGE],
            )
    stage = path.name.removesuffix(".failed")
    message = str(record.get("message", "failed without a message"))[:_LONGEST_MESSAGE]
    return Failure(
        job="",
        stage=stage,
        error="",
        exit_code=1,
        message=message,
        root_stage=stage,
        root_message=message,
    )


def _is_lock(lock: Lock) -> bool:
    """Return whether all of a lock is of the kind that it should be; a file may say anything."""
    named = (lock.job, lock.stage, lock.host, lock.started, lock.finished, lock.labels)
    outputs = (text for file in lock.outputs for text in (file.path, file.sha256))
    return (
        _are(str, [*named, *lock.arguments, *outputs])
        and _are(int, [file.size for file in lock.outputs])
        and _is_size(lock.peak_memory_bytes)
        and _are(Mapping, [lock.inputs, lock.files])
        and _are(str, [*lock.inputs.values(), *lock.files.values()])
    )


def _is_failure(failure: Failure) -> bool:
    values = dict(vars(failure))
    retryable, code, peak_bytes = (values.pop(key) for key in ("retryable", "exit_code", "peak_memory_bytes"))
    is_code = type(code) is int and 0 < code < 256
    return _are(str, values.values()) and is_code and isinstance(retryable, bool) and _is_size(peak_bytes)


def _is_size(value: object) -> bool:
    return type(value) is int and value >= 0


def _are(kind: type, values: Iterable[object]) -> bool:
    return all(isinstance(value, kind) for value in values)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal.

    Parameters
    ----------
    path
        The file.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_files(folder: Path, digest_of: Callable[[Path], str] = file_sha256) -> tuple[OutputFile, ...]:
    """Return path, size and SHA-256 of every file below a folder, sorted by path.

    Parameters
    ----------
    folder
        The folder.
    digest_of
        Returns the SHA-256 of a file.
    """
    return tuple(
        OutputFile(path=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=digest_of(path))
        for path in sorted(p for p in folder.rglob("*") if p.is_file())
    )


def sync_tree(folder: Path) -> None:
    """Sync every file below a folder, then every folder, so that a lock never outlives its output.

    Parameters
    ----------
    folder
        The folder.

    Raises
    ------
    OutputError
        If something cannot be synced.
    """
    try:
        atomic.sync_tree(folder)
    except OSError as error:
        raise OutputError(f"cannot sync the output in {printable(folder)} to disk: {error}") from error


def digests_of(lock_dir: Path, lock_names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of each lock file, by name; an absent one has an empty digest.

    Parameters
    ----------
    lock_dir
        The job's lock folder.
    lock_names
        The locks.
    """
    return {name: _lock_sha256(lock_dir / name) for name in lock_names}


def _lock_sha256(lock: Path) -> str:
    content = job_files.read(lock)
    return "" if content is None else hashlib.sha256(content).hexdigest()


def files_named(arguments: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of each file that a command line names, by its absolute path.

    Parameters
    ----------
    arguments
        A command line; a file is an argument by itself or what follows ``=`` in one.
    """
    named = (Path(part) for each in arguments for part in {each, each.partition("=")[2]} if part)
    with suppress(OSError, ValueError):  # what is no path at all
        return {str(path.absolute()): file_sha256(path) for path in named if path.is_file()}
    return {}


def labels_sha256(labels: Iterable[Label]) -> str:
    """Return the SHA-256 of what a workflow says of labels.

    Parameters
    ----------
    labels
        The labels, in the workflow's order.
    """
    return hashlib.sha256(json.dumps(stored_labels(labels)).encode()).hexdigest()


def publish_models(lock_dir: Path, models: Iterable[ModelRecord]) -> None:
    """Write what the models are now; with none, nothing is known of them.

    Parameters
    ----------
    lock_dir
        The job's lock folder.
    models
        The models, each name once.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    found = {model.name: asdict(model) for model in models}
    path = lock_dir / MODELS
    if not found:
        job_files.remove(path)
    elif job_files.read_object(path) != {"models": list(found.values())}:
        publish(path, {"models": list(found.values())})


def read_models(lock_dir: Path) -> dict[str, ModelRecord]:
    """Return what the models are now, by name.

    Parameters
    ----------
    lock_dir
        The job's lock folder.
    """
    return {model.name: model for model in records_in(job_files.read_object(lock_dir / MODELS).get("models"))}


def models_of(lock_dir: Path, lock_name: str) -> tuple[ModelRecord, ...]:
    """Return the models that a lock, also a foreign one, says its stage has used.

    Parameters
    ----------
    lock_dir
        The job's lock folder.
    lock_name
        The lock.
    """
    return tuple(records_in(job_files.read_object(lock_dir / lock_name).get("models")))


def models_of_unknown_weights(lock_dir: Path, lock_name: str) -> list[str]:
    """Return the names of a lock's models whose weights could have changed without being noticed.

    Parameters
    ----------
    lock_dir
        The job's lock folder.
    lock_name
        The lock.
    """
    now = read_models(lock_dir)
    return [
        used.name for used in models_of(lock_dir, lock_name) if not knows_weights(used, now.get(used.name))
    ]


def why_invalid(
    lock_dir: Path,
    lock_name: str,
    *,
    job: str,
    output_dir: Path,
    wait_locks: Sequence[str],
    arguments: Sequence[str],
    labels: Iterable[Label] = (),
    digest_of: Callable[[Path], str] = file_sha256,
) -> str | None:
    """Return why the stage of this lock has to run (again); None if its result still stands.

    A foreign lock stands as long as it exists and names no model that has changed since.

    Parameters
    ----------
    lock_dir
        The job's lock folder.
    lock_name
        The lock that the stage publishes, ``<stage>.lock``.
    job
        The job's ID.
    output_dir
        The stage's output folder.
    wait_locks
        The locks that the stage waits for.
    arguments
        The stage's command line.
    labels
        What the workflow says of labels.
    digest_of
        Returns the SHA-256 of a file.
    """
    path = lock_dir / lock_name
    if not job_files.is_there(path):
        return "it has not finished before"
    lock = read_lock(path)
    if lock is None:
        return _why_models_differ(lock_dir, lock_name)
    if lock.job != job:
        return f"its lock is of job {lock.job}"
    if lock.inputs != digests_of(lock_dir, wait_locks):
        return "its inputs have changed"
    if list(lock.arguments) != list(arguments):
        return f"its arguments were {list(lock.arguments)}, now {list(arguments)}"
    if lock.labels and lock.labels != labels_sha256(labels):
        return "what the workflow says of labels has changed"
    for name, digest in lock.files.items():
        path = Path(name)  # of a container it may not be here
        if path.is_file() and digest_of(path) != digest:
            return f"the file {printable(path)}, which its arguments name, has changed"
    return _why_models_differ(lock_dir, lock_name) or _why_outputs_differ(lock.outputs, output_dir, digest_of)


def _why_models_differ(lock_dir: Path, lock_name: str) -> str | None:
    now = read_models(lock_dir)
    for used in models_of(lock_dir, lock_name):
        if used.name in now and (changed := why_changed(used, now[used.name])):
            return f"model {used.name} has changed ({changed})"
    return None


def _why_outputs_differ(
    outputs: Iterable[OutputFile], folder: Path, digest_of: Callable[[Path], str]
) -> str | None:
    for file in outputs:
        if PurePosixPath(file.path).is_absolute() or ".." in PurePosixPath(file.path).parts:
            return f"its lock vouches for {printable(file.path)}, which is no file of its output"
        path = folder / file.path
        if not path.is_file() or path.stat().st_size != file.size or digest_of(path) != file.sha256:
            return f"its output {printable(file.path)} is missing or was changed"
    return None
