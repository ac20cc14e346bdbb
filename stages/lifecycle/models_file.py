"""``models.json`` beside the locks: what the models are that a job's stages are served with.

Whoever runs the job writes it; a lock whose stage has used another model no longer stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from stages.lifecycle.locks import publish
from stages.lifecycle.model_record import ModelRecord, knows_weights, records_in, why_changed
from stages.runtime import job_files

MODELS = "models.json"


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


def why_models_differ(lock_dir: Path, lock_name: str) -> str | None:
    """Return which model a lock's stage has used that is another one now; None where there is none.

    Parameters
    ----------
    lock_dir
        The job's lock folder.
    lock_name
        The lock.
    """
    now = read_models(lock_dir)
    for used in models_of(lock_dir, lock_name):
        if used.name in now and (changed := why_changed(used, now[used.name])):
            return f"model {used.name} has changed ({changed})"
    return None
