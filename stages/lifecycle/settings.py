"""What a stage is given from outside, read once into one frozen object.

The environment variables begin with ``NVIDIA_CLARA_``; the defaults are the folders a stage finds in
its container.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stages.errors import SettingsError
from stages.volume.labels import Label
from stages.volume.labels_file import labels_from_json

PREFIX = "NVIDIA_CLARA_"
INPUT_LOCK = "input.lock"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LOCK_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.lock")
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """The folders, locks and times of one stage in one job.

    Attributes
    ----------
    job_id, stage_name
        Which job this is, and which of its stages.
    input_dirs
        Folders to read, in the workflow's order; at least one.
    source_dir
        The job's original input, read only.
    output_dir
        The folder this stage writes, and nobody else.
    publish_dir
        Where pictures and reports for people go; None when nobody asks for them.
    log_file
        A file that gets the log besides standard error; None for none.
    lock_dir, lock_name
        The job's lock folder, and the lock this stage publishes.
    wait_locks
        The locks this stage waits for.
    timeout_s
        Longest wait without a sign of life upstream, and longest time for `execute`, seconds.
    triton_url
        ``host:port`` of the inference server; None when none was named.
    use_locks
        False to run once, at once, without reading or writing a lock.
    arguments
        The arguments that the workflow gives, which the lock records; None where they are the command line.
    termination_log
        A file that gets the reason of a failure, for whoever runs the container; None for none.
    labels
        What the workflow says of the labels of masks that do not say it themselves.
    """

    job_id: str = "by-hand"
    stage_name: str = "stage"
    input_dirs: tuple[Path, ...] = (Path("/app/input"),)
    source_dir: Path = Path("/app/source")
    output_dir: Path = Path("/app/output")
    publish_dir: Path | None = None
    log_file: Path | None = None
    lock_dir: Path = Path("/app/locks")
    lock_name: str = "stage.lock"
    wait_locks: tuple[str, ...] = (INPUT_LOCK,)
    timeout_s: float = 300.0
    triton_url: str | None = None
    use_locks: bool = True
    arguments: tuple[str, ...] | None = None
    termination_log: Path | None = None
    labels: tuple[Label, ...] = ()

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], *, stage_name: str = "stage") -> StageSettings:
        """Read the settings from environment variables.

        Parameters
        ----------
        environ
            Usually `os.environ`.
        stage_name
            The name of the stage where ``NVIDIA_CLARA_STAGENAME`` is not set.

        Raises
        ------
        SettingsError
            If a name could lead out of the job's folder, or the timeout is no positive number.
        """

        def given(key: str, default: str) -> str:
            return environ.get(PREFIX + key, "").strip() or default

        name = _checked(
            _NAME, given("STAGENAME", stage_name), "STAGENAME", "a DNS label such as dicom-reader"
        )
        locks = [lock.strip() for lock in given("WAITLOCKS", INPUT_LOCK).split(",")]
        return cls(
            job_id=_checked(_JOB_ID, given("JOBID", "by-hand"), "JOBID", "letters, digits, - and _"),
            stage_name=name,
            input_dirs=tuple(Path(p) for p in given("INPUT", "/app/input").split(os.pathsep)),
            source_dir=Path(given("SOURCE", "/app/source")),
            output_dir=Path(given("OUTPUT", "/app/output")),
            publish_dir=_optional_path(given("PUBLISHING", "")),
            log_file=_optional_path(given("LOGS", "")),
            lock_dir=Path(given("LOCKDIR", "/app/locks")),
            lock_name=checked_lock_name(given("LOCKNAME", f"{name}.lock"), "LOCKNAME"),
            wait_locks=tuple(checked_lock_name(lock or INPUT_LOCK, "WAITLOCKS") for lock in locks),
            timeout_s=_positive_seconds(given("TIMEOUT", "300")),
            triton_url=given("TRTISURI", "") or None,
            use_locks=given("NOSYNCLOCK", "").lower() not in ("true", "1", "yes"),
            arguments=_arguments(given("ARGUMENTS", "")),
            termination_log=_optional_path(given("TERMINATIONLOG", "")),
            labels=labels_from_json(given("LABELS", ""), f"{PREFIX}LABELS"),
        )


def is_in_job(environ: Mapping[str, str], *, lock_dir: Path = StageSettings.lock_dir) -> bool:
    """Return whether a workflow has started this program, rather than a person.

    Parameters
    ----------
    environ
        Usually `os.environ`; the address of an inference server alone says nothing.
    lock_dir
        The folder that a container of a job has even where nothing is set.
    """
    given = {key for key, value in environ.items() if key.startswith(PREFIX) and value.strip()}
    return bool(given - {f"{PREFIX}TRTISURI"}) or lock_dir.is_dir()


def checked_lock_name(name: str, where: str) -> str:
    """Return the name of a lock if it stays inside the lock folder.

    Parameters
    ----------
    name
        The name to check.
    where
        The setting it comes from, without ``NVIDIA_CLARA_``.

    Raises
    ------
    SettingsError
        If it is not ``<stage>.lock`` with a DNS label for the stage.
    """
    return _checked(_LOCK_NAME, name, where, "<stage>.lock")


def _checked(pattern: re.Pattern[str], value: str, key: str, expected: str) -> str:
    if not pattern.fullmatch(value):
        raise SettingsError(f"{PREFIX}{key}={value!r}: expected {expected}")
    return value


def _optional_path(text: str) -> Path | None:
    return Path(text) if text else None


def _arguments(text: str) -> tuple[str, ...] | None:
    if not text:
        return None
    try:
        arguments = json.loads(text)
    except ValueError:
        arguments = None
    if not isinstance(arguments, list) or not all(isinstance(each, str) for each in arguments):
        raise SettingsError(f"{PREFIX}ARGUMENTS={text!r}: expected a JSON list of texts")
    return tuple(arguments)


def _positive_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise SettingsError(f"{PREFIX}TIMEOUT={text!r}: expected a positive number of seconds")
    return seconds
