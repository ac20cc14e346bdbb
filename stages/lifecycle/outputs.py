"""The files of a stage's output, as its lock vouches for them: path, size and SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stages.errors import OutputError, printable
from stages.runtime import atomic


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


def why_outputs_differ(
    outputs: Iterable[OutputFile], folder: Path, digest_of: Callable[[Path], str]
) -> str | None:
    """Return which file of an output is not as its lock says; None if all are.

    Parameters
    ----------
    outputs
        What the lock says.
    folder
        The stage's output folder.
    digest_of
        Returns the SHA-256 of a file.
    """
    for file in outputs:
        if PurePosixPath(file.path).is_absolute() or ".." in PurePosixPath(file.path).parts:
            return f"its lock vouches for {printable(file.path)}, which is no file of its output"
        path = folder / file.path
        if not path.is_file() or path.stat().st_size != file.size or digest_of(path) != file.sha256:
            return f"its output {printable(file.path)} is missing or was changed"
    return None
