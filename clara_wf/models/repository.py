"""A model repository as files: versions, and the hashes by which a changed model is noticed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from clara_wf.files.digests import Digests
from stages.lifecycle.model_record import DESCRIPTION, ModelRecord

logger = logging.getLogger(__name__)

KEPT = ".previous"
"""Folder of a model's folder that holds what it replaced."""

GOLDEN = "golden.npz"
"""File of a model's folder with what it made of a phantom."""

TRUSTED = "trusted-code.json"
"""File of a model's folder that says what it may run, see `clara_wf.models.trust`."""

_COMPILED = "__pycache__"  # which a server writes itself
_HASHES = "model-hashes.json"


def versions_in(folder: Path) -> tuple[int, ...]:
    """Return the numbers that name folders of a folder, rising."""
    if not folder.is_dir():
        return ()
    return tuple(sorted(int(path.name) for path in folder.iterdir() if path.is_dir() and path.name.isdigit()))


def model_records(repository: Path, cache: Path) -> list[ModelRecord]:
    """Return each model of a repository: the version that a server answers with, and the hashes of its files.

    Parameters
    ----------
    repository
        Folders with a ``config.pbtxt`` each; it may be missing.
    cache
        Where hashes are kept, so that a file is read again only when it has changed.
    """
    digests = Digests(cache / _HASHES)
    records = []
    for config in sorted(repository.glob(f"*/{DESCRIPTION}")):
        folder = config.parent
        version = _served_version(folder)
        files = {
            path.relative_to(folder).as_posix(): _digest(path, digests) for path in _read(folder, version)
        }
        records.append(ModelRecord(name=folder.name, version=version, files=files))
    digests.save()
    return records


def _served_version(folder: Path) -> str:
    """Return the version that answers who names none: the highest that the configuration allows."""
    versions = versions_in(folder)
    allowed = _specific_versions(folder / DESCRIPTION)
    served = [version for version in versions if not allowed or version in allowed]
    return str(max(served)) if served else ""


def _specific_versions(config: Path) -> frozenset[int]:
    """Return the versions that a configuration names; none where it names none, or cannot be read."""
    with suppress(OSError, UnicodeDecodeError):
        text = config.read_text(encoding="utf-8")
        if "version_policy" in text:
            from google.protobuf import text_format
            from tritonclient.grpc import model_config_pb2

            with suppress(text_format.ParseError):
                parsed = text_format.Parse(text, model_config_pb2.ModelConfig())
                return frozenset(parsed.version_policy.specific.versions)
    return frozenset()


def _read(folder: Path, version: str) -> Iterator[Path]:
    """Yield the files that a server may read of a model: not other versions, notes, and what is hidden."""
    for path in sorted(folder.rglob("*")):
        top, *inside = path.relative_to(folder).parts
        is_hidden = any(part.startswith(".") or part == _COMPILED for part in (top, *inside))
        is_note = not inside and (path.suffix == ".md" or top in (GOLDEN, TRUSTED))
        if not is_hidden and not is_note and (top == version or not top.isdigit()) and path.is_file():
            yield path


def _digest(path: Path, digests: Digests) -> str:
    """Return the SHA-256 of a file; empty where it cannot be read."""
    try:
        return digests(path)
    except OSError as error:
        logger.warning("cannot read %s of the model repository: %s", path, error.strerror or error)
        return ""
