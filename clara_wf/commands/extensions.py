"""Commands that other packages add to clara-wf, which knows none of them by an import."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clara_wf.commands.lazy import load
from stages.errors import SettingsError

if TYPE_CHECKING:
    from clara_wf.run.archives import Archives

GROUP = "clara_wf.commands"
"""The group of entry points, each of which stands for an `Extension`."""

_IN_A_CHECKOUT = ("dicom_adapter.cli:EXTENSION",)
"""What pyproject.toml registers, for where nothing is installed."""


@dataclass(frozen=True, kw_only=True)
class Extension:
    """What a package adds; the module that defines it imports nothing heavy.

    Attributes
    ----------
    commands
        By name: ``module:name`` of a function or a `typer.Typer`, and what the list of commands says of it.
    checks
        By the key at the top of a YAML file that shows whose it is: ``module:name`` of a function that takes
        the file's path and returns a list of `clara_wf.yaml.findings.Finding`.
    archives
        ``module:name`` of what takes the path of a dicom-server-config.yaml and returns
        `clara_wf.run.archives.Archives`; "" if it knows none.
    """

    commands: Mapping[str, tuple[str, str]]
    checks: Mapping[str, str]
    archives: str = ""


def extensions() -> Iterator[Extension]:
    """Yield what each installed package adds; in a checkout, what the packages in it add."""
    from importlib.metadata import entry_points

    installed = entry_points(group=GROUP)
    yield from (entry.load() for entry in installed)
    if not installed:
        yield from (load(place) for place in _IN_A_CHECKOUT if _is_there(place.partition(":")[0]))


def added_commands() -> dict[str, tuple[str, str]]:
    """Return the commands of every extension, as `Extension.commands` has them."""
    return {name: place for extension in extensions() for name, place in extension.commands.items()}


def open_archives(config: Path) -> Archives:
    """Return the archives that a dicom-server-config.yaml names.

    Raises
    ------
    SettingsError
        If there is a mistake in it, or no extension knows archives.
    """
    for extension in extensions():
        if extension.archives:
            found: Archives = load(extension.archives)(config)
            return found
    raise SettingsError("nothing here speaks with archives; install clara-stages[adapter]")


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package
        return False
