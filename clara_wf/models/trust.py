"""Whether a model from elsewhere may be taken: what it would run has to be trusted by somebody.

A model server runs what a model brings along: Python, libraries, pickles, configurations that name functions.
So a model from elsewhere is looked at first, as it lies there and without running it. What leads out of its
folder is refused always; what would run is listed with its SHA-256, and taken only when somebody says that it
is trusted. That is recorded beside the model, and counts as long as the files are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from clara_wf.models.repository import TRUSTED
from clara_wf.models.runnable_files import code_in
from stages.errors import InputError, printable
from stages.lifecycle import locks
from stages.runtime import job_files


def require_trust(
    folder: Path, *, trusted: bool, print_line: Callable[[str], None], advice: str, is_ours: bool = True
) -> None:
    """Return if a model runs nothing, or nothing but what somebody trusts.

    Parameters
    ----------
    folder
        The model's folder.
    trusted
        Whether somebody says so now; then it is printed and recorded.
    print_line
        Called with a line for each thing that is trusted.
    advice
        What to do, at the end of the message.
    is_ours
        Whether it lies in a repository of ours: then what was trusted before counts, and trust is recorded.

    Raises
    ------
    InputError
        If it would run what nobody trusts; the message names each.
    """
    code = code_in(folder)
    known = _trusted(folder) if is_ours else set()
    unknown = [each for each in code if (each.path, each.sha256) not in known]
    if unknown and not trusted:
        lines = "\n".join(f"  {each}" for each in unknown)
        raise InputError(f"{printable(folder)} would run programs of its own; {advice}\n{lines}")
    for each in unknown:
        print_line(f"trusted, and will run: {each}")
    if unknown and is_ours:
        record = {"trusted": locks.now(), "files": [asdict(each) for each in code]}
        job_files.write_whole(folder / TRUSTED, locks.as_json(record))


def _trusted(folder: Path) -> set[tuple[str, str]]:
    recorded = job_files.read_object(folder / TRUSTED).get("files")
    files = recorded if isinstance(recorded, list) else []
    return {(str(each.get("path")), str(each.get("sha256"))) for each in files if isinstance(each, dict)}
