"""The configuration and the database that a command works on, whether the adapter runs or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from stages.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from dicom_adapter.config.blocks import Config
    from dicom_adapter.database.store import Store


@dataclass(frozen=True, kw_only=True)
class OpenStore:
    """The database of an adapter, whether it runs or not."""

    config: Config
    store: Store


@contextmanager
def open_store(context: typer.Context) -> Iterator[OpenStore]:
    """Open the database of the adapter that the configuration is of."""
    from dicom_adapter.database.faults import damaged
    from dicom_adapter.database.integrity import require_there
    from dicom_adapter.database.store import Store
    from dicom_adapter.storage.paths import AdapterPaths

    config = config_of(context)
    paths = AdapterPaths(root=config.storage.root)
    file = paths.database
    with permitted():
        require_there(file, studies=paths.studies)
        if file.exists() and not file.is_file():
            raise damaged(file, "it is no file")
        if not file.is_file():
            raise SettingsError(f"there is no database in {file.parent}; no adapter has run there")
        store = Store(file, migrates=False)  # an adapter of another release may run on it
    try:
        yield OpenStore(config=config, store=store)
    finally:
        store.close()


@contextmanager
def permitted() -> Iterator[None]:
    """Raise an error that says who may read what is not permitted to us."""
    try:
        yield
    except PermissionError as error:
        raise OutputError(
            f"{error.filename} cannot be read: {error.strerror}; be the adapter's user"
        ) from error


def config_of(context: typer.Context) -> Config:
    """Return the configuration that ``--config`` names."""
    from dicom_adapter.config.load import load_config

    assert context.parent is not None, "the group has the option"
    return load_config(named(context.parent.params["config"]))


def named(config: Path | None) -> Path:
    """Return the file of the configuration.

    Parameters
    ----------
    config
        What ``--config`` says; None where it is not given.

    Raises
    ------
    SettingsError
        If none is named.
    """
    if config is None:
        raise SettingsError("name the configuration: clara-wf adapter --config FILE")
    return config
