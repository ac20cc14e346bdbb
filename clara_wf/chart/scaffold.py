"""A stage to begin with: a module, its image, a test."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from clara_wf.definitions.blocks import name_fault
from stages import __version__
from stages.errors import OutputError, SettingsError

_TEMPLATES = {
    "stage.py": "stage.py.txt",
    "Dockerfile": "Dockerfile.txt",
    "test_stage.py": "test_stage.py.txt",
}

_FILES = ("stage.py", "Dockerfile", "test_stage.py")


def scaffold(name: str, folder: Path) -> list[Path]:
    """Make a stage that runs, builds and passes its test, in a folder that has none.

    Parameters
    ----------
    name, folder
        The stage's name and the folder to make.

    Raises
    ------
    SettingsError
        If the name is no DNS label, is taken, or one of the files is there already.
    OutputError
        If the files cannot be written.
    """
    if fault := name_fault(name):
        raise SettingsError(f"{name!r} cannot be a stage: it {fault[0]}; {fault[1]}")
    there = [file for file in _FILES if (folder / file).exists()]
    if there:
        raise SettingsError(f"{folder} has {', '.join(there)} already; choose an empty folder")
    made = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in _FILES:
            text = (
                files("clara_wf.chart").joinpath("scaffold_files", f"{file}.txt").read_text(encoding="utf-8")
            )
            made.append(folder / file)
            made[-1].write_text(
                text.replace("STAGE-NAME", name).replace("STAGES-VERSION", __version__), encoding="utf-8"
            )
    except OSError as error:
        raise OutputError(f"cannot make a stage in {folder}: {error}") from error
    return made
