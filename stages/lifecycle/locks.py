"""Lock files: what they say, and how one is published whole.

One folder a job. ``<stage>.lock`` means success, ``<stage>.failed`` failure, ``<stage>.running`` is
refreshed while the stage lives (`stages.lifecycle.heartbeat`). The existence of a lock is what counts, so a
foreign stage may write an empty one; ours are one JSON object each. A file is written under another
name, synced, renamed, and its folder synced: it is seen whole or not at all. What is no regular file is
refused (`stages.runtime.job_files`). Whether a lock is still worth something: `stages.lifecycle.validity`.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stages.errors import OutputError, printable
from stages.lifecycle.model_record import ModelRecord, records_in
from stages.lifecycle.outputs import OutputFile
from stages.runtime import job_files

HOST = socket.gethostname()
_LARGEST_FAILURE, _LONGEST_MESSAGE = 1 << 20, 16 << 10  # bytes, characters


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
