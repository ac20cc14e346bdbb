"""Whether a lock still stands: same job, inputs, arguments, labels and models, and its output as it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from stages.errors import printable
from stages.lifecycle.locks import read_lock
from stages.lifecycle.models_file import why_models_differ
from stages.lifecycle.outputs import file_sha256, why_outputs_differ
from stages.runtime import job_files
from stages.volume.labels import Label
from stages.volume.labels_file import stored_labels


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
        return why_models_differ(lock_dir, lock_name)
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
    return why_models_differ(lock_dir, lock_name) or why_outputs_differ(lock.outputs, output_dir, digest_of)
