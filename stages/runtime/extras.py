"""The extras of the distribution: which packages each brings, and what is said where one is missing.

Listed is what a part cannot do without, not what only makes it better, such as a decoder beside pydicom's.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from stages.errors import SettingsError

EXTRAS: Mapping[str, Sequence[str]] = {
    "reader": ("pydicom",),
    "writer": ("pydicom", "highdicom", "scipy", "PIL", "imagecodecs", "reportlab", "pypdf"),
    "cli": (
        "typer",
        "rich",
        "jinja2",
        "markupsafe",
        "PIL",
        "pydicom",
        "scipy",
        "kubernetes",
        "urllib3",
        "websocket",
    ),
    "adapter": ("pynetdicom", "prometheus_client", "python_multipart"),
    "import": ("onnx",),
    "import-torch": ("torch", "monai", "onnxruntime"),
}
"""By the name of the extra: what is imported of the packages that it brings."""

_NOT_ALWAYS: Mapping[str, Sequence[str]] = {"cli": ("google",)}
"""Likewise, of what only some commands import, which an image may do without: not asked for at the start."""

EXTRA_OF: Mapping[str, str] = {
    "dicom_files": "reader",
    "dicom_reader": "reader",
    "dicom_writer": "writer",
    "clara_wf": "cli",
    "dicom_adapter": "adapter",
}
"""By package of this distribution: the extra that it needs."""


_PACKAGES: Mapping[str, str] = {
    "PIL": "pillow",
    "google": "protobuf",
    "prometheus_client": "prometheus-client",
    "python_multipart": "python-multipart",
    "websocket": "websocket-client",
}
"""By what is imported: the name of its package, where that is another one."""


class MissingExtraError(SettingsError, ImportError):
    """A package is not installed that belongs to an extra of this distribution."""


def require_extra(extra: str) -> None:
    """Return if the packages of an extra are installed.

    Parameters
    ----------
    extra
        Its name, such as ``"reader"``.

    Raises
    ------
    MissingExtraError
        Naming the first package that is missing, and the command that installs the extra.
    """
    for name in EXTRAS[extra]:
        if find_spec(name) is None:
            raise MissingExtraError(_advice(name, extra))


def report_missing_extra(extra: str) -> int:
    """Print to standard error which extra has to be installed, if it has to.

    Parameters
    ----------
    extra
        Its name, such as ``"reader"``.

    Returns
    -------
    int
        The exit code for the program: 0 if all is there.
    """
    try:
        require_extra(extra)
    except MissingExtraError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def explain(error: ModuleNotFoundError) -> MissingExtraError | None:
    """Return the error to show instead of a failed import, or None if no extra has what is missing.

    Parameters
    ----------
    error
        What a statement ``import`` has raised.
    """
    missing = (error.name or "").partition(".")[0]
    brought = {extra: (*names, *_NOT_ALWAYS.get(extra, ())) for extra, names in EXTRAS.items()}
    extra = next((extra for extra, names in brought.items() if missing in names), None)
    return MissingExtraError(_advice(missing, extra)) if extra else None


def front_door(package: str, homes: Mapping[str, str]) -> Any:
    """Return a package's ``__getattr__`` (PEP 562): what it offers is imported when it is first asked for.

    Where the packages of its extra are missing, that is a `MissingExtraError`.

    Parameters
    ----------
    package
        Name of the package, one of ``EXTRA_OF``.
    homes
        By each name that it offers, the module that has it.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        require_extra(EXTRA_OF[package])
        found = getattr(importlib.import_module(homes[name]), name)
        vars(sys.modules[package])[name] = found
        return found

    return find


def _advice(name: str, extra: str) -> str:
    return (
        f'{_PACKAGES.get(name, name)} is not installed; install it with: pip install "clara-stages[{extra}]"'
    )
